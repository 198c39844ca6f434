"""Every page, wide and on a phone, light and dark: axe finds nothing, letters can be read and twice as large."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from axe import find_violations
from browser.conftest import PHONE, WIDE
from browser.test_config_story import call, order
from hive_process import HiveProcess, wait_for

Scheme = Literal["light", "dark"]

EDIT = """
cd /agents/alice/config
printf 'allowed_recipients = ["operator"]\\n[bash]\\nallow = ["git *"]\\n' > agent.toml
printf 'be brief\\n' > prompt.md
git add -A
git -c user.name=m -c user.email=m@hive commit -qm change
"""
ASK = 'tool ask_operator {"question": "blue or green?", "options": ["blue", "green"], "ttl_seconds": 86400}'


@pytest.fixture(scope="module")
def lived_in(shared_hive: HiveProcess) -> HiveProcess:
    """A hive in which something of everything is to be seen."""
    hive = shared_hive
    hive.wait_state("manager", "idle")
    for name in ("alice", "bob", "gone"):
        hive.post("/api/agents", {"name": name})
        hive.wait_state(name, "idle")
    with hive.client() as client:
        client.delete("/api/agents/gone").raise_for_status()
    order(
        hive,
        "manager",
        call("Bash", command=EDIT),
        call("request_apply_commit", agent="alice", description="it may use git"),
        ASK,
        call("send", to="operator", body="two things wait for you"),
        call("send", to="alice", body="good morning"),
        "say done",
    )
    hive.post("/api/messages", {"to": "bob", "body": "%% fail 400"})
    hive.wait_inbox("two things wait for you")
    wait_for(lambda: hive.get("/api/approvals"), "the approval", hive=hive)
    hive.post("/api/webhooks", {"url": "https://hooks.example.com/hive", "events": ["token.*"]})
    hive.post("/api/agents/bob/pause")
    hive.wait_state("manager", "idle")
    return hive


@dataclass
class Look:
    """A page in one size and one colour, and what was found wrong with it so far."""

    page: Page
    hive: HiveProcess
    found: dict[str, list[object]] = field(default_factory=dict[str, list[object]])

    def at(self, path: str, ready: str) -> Page:
        self.page.goto(self.hive.origin + path)
        expect(self.page.get_by_test_id(ready).first).to_be_visible(timeout=20_000)
        return self.page

    def check(self, name: str) -> None:
        violations = find_violations(self.page)
        if violations:
            self.found[name] = list(violations)
        width = self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        if width > 0:
            self.found[f"{name}: scrolls sideways"] = [width]


@pytest.fixture(params=["wide-dark", "wide-light", "phone-dark", "phone-light"])
def look(request: pytest.FixtureRequest, chromium: Browser, lived_in: HiveProcess) -> Iterator[Look]:
    size, _, scheme = str(request.param).partition("-")
    viewport: ViewportSize = WIDE if size == "wide" else PHONE
    context = chromium.new_context(viewport=viewport, color_scheme="light" if scheme == "light" else "dark")
    page = context.new_page()
    page.goto(lived_in.post("/api/login-links")["url"])
    expect(page.get_by_test_id("containers")).to_be_visible()
    yield Look(page, lived_in)
    context.close()


def test_axe_finds_nothing_on_any_page(look: Look) -> None:
    page = look.at("/", "approval-1")
    expect(page.get_by_test_id("meaning-1")).to_be_visible(timeout=20_000)
    look.check("dashboard")
    open_all(page)
    look.check("dashboard, all of it open")
    page.get_by_test_id("palette-open").click()
    look.check("palette")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_test_id("keys")).to_be_visible()
    look.check("keys")
    page.keyboard.press("Escape")
    look.at("/agent/manager/", "agent-state")
    expect(page.get_by_role("log").get_by_text("done").first).to_be_visible(timeout=20_000)
    look.check("agent")
    open_panels(page)
    look.check("agent, all of it open")
    look.at("/approvals/1", "approval-1")
    expect(page.get_by_test_id("meaning-1")).to_be_visible(timeout=20_000)
    look.check("approval")
    look.at("/questions/1", "question-1")
    look.check("question")
    root = next(m["id"] for m in look.hive.get("/api/inbox") if "two things" in m["body"])
    look.at(f"/threads/{root}", f"inbox-{root}")
    look.check("thread")
    look.at("/stats/", "stats")
    expect(page.get_by_test_id("usage").first).to_be_visible(timeout=30_000)
    look.check("stats")
    look.at("/programs/", "webhook-1")
    page.get_by_test_id("webhook-remove").click()
    look.check("programs")
    look.at("/audit/", "audit-rows")
    look.check("audit")
    for path, ready in (
        ("/agent/nobody/", "agent-missing"),
        ("/approvals/99", "fetch-failed"),
        ("/threads/999", "thread"),
    ):
        look.at(path, ready)
        look.check(path)
    page.goto(look.hive.origin + "/approvals/nothing")
    expect(page.get_by_text("there is nothing here")).to_be_visible()
    look.check("no page")
    page.goto(look.hive.origin + "/offline.html")
    look.check("offline")
    page.context.clear_cookies()
    look.at("/", "login")
    look.check("login")
    assert look.found == {}, json.dumps(look.found, indent=1, default=str)


def test_axe_finds_nothing_in_a_terminal_and_in_a_journal(look: Look) -> None:
    page = look.at("/agent/alice/#journal", "agent-state")
    journal = page.get_by_test_id("journal-alice")
    expect(journal.get_by_text("linked as").first).to_be_visible(timeout=60_000)
    look.check("journal")
    journal.get_by_test_id("journal-filter").fill("in no line")
    expect(journal.get_by_text("no line has that")).to_be_visible(timeout=60_000)
    look.check("journal, narrowed to nothing")
    page.get_by_test_id("terminal-toggle").click()
    expect(page.get_by_test_id("terminal-new")).to_be_visible()
    look.check("terminals, none open here")
    page.get_by_test_id("terminal-new").click()
    view = page.locator(".terminal-view:visible")
    expect(view).to_have_attribute("data-state", "up", timeout=60_000)
    expect(view.locator(".xterm-helper-textarea")).to_be_focused()
    page.keyboard.type("printf '\\033[31mred \\033[32mgreen \\033[34mblue \\033[90mgrey\\033[0m\\n'; echo re''ady")
    page.keyboard.press("Enter")
    expect(view.locator(".xterm-rows.xterm-focus")).to_contain_text("ready", timeout=60_000)
    look.check("terminal")
    page.get_by_test_id("terminal-search-toggle").click()
    look.check("terminal, searched")
    view.get_by_test_id("terminal-close").click()
    look.check("terminal, about to be ended")
    view.get_by_test_id("terminal-close-yes").click()
    expect(view).to_have_attribute("data-state", "ended", timeout=60_000)
    assert look.found == {}, json.dumps(look.found, indent=1, default=str)


def open_all(page: Page) -> None:
    """Unfolds what can be unfolded on the dashboard."""
    alice = page.get_by_test_id("agent-alice")
    alice.get_by_test_id("config-toggle-alice").click()
    expect(page.get_by_test_id("config-alice")).to_be_visible()
    alice.get_by_test_id("journal-toggle").click()
    alice.get_by_test_id("stop").click()
    page.get_by_test_id("approval-1").get_by_test_id("deny-open").click()
    page.get_by_test_id("thread-toggle").first.click()
    expect(page.get_by_test_id("conversation").first).to_be_visible()
    page.get_by_test_id("devices-toggle").click()
    page.get_by_test_id("flow-more").locator("summary").click()
    page.locator(".flow-body summary").first.click()
    expect(page.get_by_text("loading")).to_have_count(0, timeout=60_000)


def open_panels(page: Page) -> None:
    """Unfolds what can be unfolded on the page of an agent."""
    toggles = page.locator(".panel-toggles button[aria-expanded=false]")
    for _ in range(toggles.count()):
        toggles.first.click()
    expect(page.get_by_text("loading")).to_have_count(0, timeout=60_000)


def test_letters_twice_as_large_hide_nothing(look: Look) -> None:
    for path, ready in (("/", "approval-1"), ("/agent/manager/", "agent-state"), ("/questions/1", "question-1")):
        page = look.at(path, ready)
        page.evaluate("document.documentElement.style.fontSize = '175%'")
        hidden = page.evaluate(FIND_CUT)
        assert hidden == [], f"{path}: {hidden}"


# What scrolls within the page can be got at; words for screen readers alone have no size.
FIND_CUT = """() => {
  const shown = [...document.querySelectorAll('main button, main a, main label, main h2, header button, header a')];
  return shown.filter((element) => {
    const box = element.getBoundingClientRect();
    for (let around = element.parentElement; around !== null; around = around.parentElement)
      if (['auto', 'scroll'].includes(getComputedStyle(around).overflowX)) return false;
    if (box.width <= 1 || element.closest('[inert], .visually-hidden')) return false;
    return box.right > window.innerWidth + 1 || box.left < -1 || element.scrollWidth > element.clientWidth + 2
      && getComputedStyle(element).overflowX === 'hidden';
  }).map((element) => element.outerHTML.slice(0, 120));
}"""


def test_the_colours_follow_the_system_until_they_are_chosen(look: Look) -> None:
    page = look.at("/", "containers")

    def background() -> str:
        return page.evaluate("getComputedStyle(document.documentElement).backgroundColor")

    page.emulate_media(color_scheme="light")
    light = background()
    page.emulate_media(color_scheme="dark")
    dark = background()
    assert light != dark
    page.get_by_test_id("theme").select_option("light")
    assert background() == light
    page.reload()
    expect(page.get_by_test_id("theme")).to_have_value("light")
    assert background() == light
    page.get_by_test_id("theme").select_option("system")
    assert background() == dark


def test_whoever_wants_no_motion_sees_none(look: Look) -> None:
    page = look.at("/", "containers")
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate("document.getAnimations().length") == 0
    moving = "[...document.querySelectorAll('*')].filter(e => getComputedStyle(e).animationName !== 'none').length"
    assert page.evaluate(moving) == 0


def test_assistive_technology_has_plain_titles_whatever_is_shown(look: Look) -> None:
    page = look.at("/", "containers")
    for name in ("containers", "operator inbox", "message flow"):
        expect(page.get_by_role("heading", name=name)).to_have_count(1)
    expect(page.get_by_text("C0NTAINERS")).to_be_visible()
    page.get_by_test_id("plain-titles").check()
    expect(page.get_by_text("C0NTAINERS")).to_have_count(0)
    expect(page.locator("[data-leet]")).to_have_count(0)
    page.reload()
    expect(page.get_by_test_id("plain-titles")).to_be_checked()
    expect(page.get_by_text("C0NTAINERS")).to_have_count(0)
