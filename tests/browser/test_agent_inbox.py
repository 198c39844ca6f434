"""The messages of an agent on its page, in Chromium on a real hive: live, folded out, on a phone, light and dark."""

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from axe import find_violations
from browser.conftest import PHONE, WIDE
from browser.test_messages import say
from browser.test_needs import asker, kill_letter
from hive_process import HiveProcess, wait_for

HOSTILE = "<img src=x onerror=alert(1)> \u202egnp.exe\n" + "w" * 500


def open_inbox(page: Page, hive: HiveProcess, name: str) -> Locator:
    page.goto(f"{hive.origin}/agent/{name}/#inbox")
    inbox = page.get_by_test_id("agent-inbox")
    expect(inbox).to_be_visible(timeout=30_000)
    return inbox


def spawn_paused(hive: HiveProcess, name: str) -> None:
    hive.post("/api/agents", {"name": name})
    hive.wait_state(name, "idle")
    hive.post(f"/api/agents/{name}/pause")


def row(page: Page, message: int) -> Locator:
    return page.get_by_test_id(f"agent-message-{message}")


def test_what_waits_is_counted_and_followed_until_it_is_done(page: Page, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    spawn_paused(hive, "alice")
    say(hive, "%% say not hers", to="manager")
    first = say(hive, "%% say one\nand the rest of it", to="alice")
    page.goto(f"{hive.origin}/agent/alice/")
    toggle = page.get_by_test_id("inbox-toggle")
    expect(toggle.locator(".count")).to_have_text("1", timeout=30_000)
    toggle.click()
    expect(row(page, first)).to_have_attribute("data-state", "queued", timeout=30_000)
    row(page, first).locator("summary").click()
    expect(row(page, first)).to_contain_text("and the rest of it")

    # What is written below waits, and moves nothing that is read.
    page.get_by_test_id("prompt-text").fill("%% say two")
    page.get_by_test_id("prompt-text").press("Enter")
    expect(toggle.locator(".count")).to_have_text("2", timeout=30_000)
    fresh = page.get_by_test_id("agent-inbox-fresh")
    expect(fresh).to_contain_text("1 new", timeout=30_000)
    expect(page.locator("[data-testid=agent-inbox] .flow-row")).to_have_count(1)
    fresh.click()
    expect(page.locator("[data-testid=agent-inbox] .flow-row").first).to_contain_text("say two")

    hive.post("/api/agents/alice/resume")
    expect(row(page, first)).to_have_attribute("data-state", "acked", timeout=60_000)
    expect(row(page, first).locator("details")).to_have_attribute("open", "")
    expect(row(page, first).get_by_test_id("receipt-state")).to_have_attribute("data-state", "acked")
    expect(toggle.locator(".count")).to_have_count(0, timeout=30_000)
    row(page, first).get_by_test_id("thread-link").click()
    expect(page.get_by_test_id("thread")).to_contain_text("and the rest of it", timeout=30_000)


def test_one_that_waits_is_found_behind_many_and_older_ones_are_loaded(page: Page, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    spawn_paused(hive, "alice")
    oldest = say(hive, "the oldest one", to="alice")
    for number in range(60):
        say(hive, f"for a moment {number}", to="alice", ttl_s=1)
    waiting = "/api/messages?recipient=alice&state=queued"
    wait_for(lambda: len(hive.get(waiting)) == 1, "all but the oldest to have expired", hive=hive)
    rows = open_inbox(page, hive, "alice").locator(".flow-row")
    expect(rows).to_have_count(51, timeout=30_000)
    expect(rows.first).to_contain_text("the oldest one")
    page.get_by_test_id("agent-inbox-older").click()
    expect(rows).to_have_count(61, timeout=30_000)
    expect(page.get_by_test_id("agent-inbox-older")).to_have_count(0)
    assert row(page, oldest).count() == 1


def test_a_dead_one_is_dismissed_or_queued_again_where_it_stands(page: Page, hive: HiveProcess) -> None:
    with asker(hive) as link:
        again, never = kill_letter(hive, link, "again"), kill_letter(hive, link, "never")
        inbox = open_inbox(page, hive, "manager")
        expect(row(page, never).get_by_test_id("message-note")).to_contain_text("the turn failed", timeout=30_000)
        row(page, never).get_by_test_id("dismiss").focus()
        page.keyboard.press("Enter")
        # The focus goes to the row, and what it was on stays until it leaves.
        expect(row(page, never)).to_be_focused(timeout=30_000)
        page.get_by_test_id("prompt-text").focus()
        expect(row(page, never).get_by_test_id("dismiss")).to_have_count(0, timeout=30_000)
        row(page, again).get_by_test_id("requeue").click()
        expect(row(page, again)).to_have_attribute("data-state", "queued", timeout=30_000)
        expect(page.get_by_test_id("inbox-toggle").locator(".count")).to_have_text("1", timeout=30_000)
        page.mouse.move(0, 0)
        page.get_by_test_id("prompt-text").focus()
        expect(inbox.locator(".flow-row").last).to_have_attribute("data-state", "dead", timeout=30_000)
        assert hive.get("/api/needs") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_by_everybody_on_a_phone_too(chromium: Browser, hive: HiveProcess, scheme: str) -> None:
    hive.wait_state("manager", "idle")
    spawn_paused(hive, "alice")
    dead = say(hive, HOSTILE, to="alice", priority="high")
    with hive.client() as client:
        client.delete("/api/agents/alice?purge=true").raise_for_status()
    spawn_paused(hive, "alice")
    queued = say(hive, HOSTILE, to="alice", ttl_s=3600)
    login = hive.post("/api/login-links")["url"]
    context = chromium.new_context(viewport=WIDE, color_scheme="light" if scheme == "light" else "dark")
    page = context.new_page()
    page.goto(login)
    page.get_by_test_id("containers").wait_for()
    for size in (WIDE, PHONE):
        page.set_viewport_size(size)
        inbox = open_inbox(page, hive, "alice")
        page.reload()
        expect(row(page, dead)).to_be_visible(timeout=30_000)
        assert find_violations(page) == []
        for message in (dead, queued):
            row(page, message).locator("summary").click()
        expect(inbox.get_by_test_id("receipt")).to_have_count(2)
        assert find_violations(page) == []
        assert inbox.locator("img").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    context.close()
