"""Whether agents run turns, with which model, and what became of their notes: steered from the pages, in Chromium."""

import re

from playwright.sync_api import Locator, Page, expect

from browser.conftest import PHONE
from browser.test_config_story import call, deploy, order, spawn
from hive_process import HiveProcess, wait_for
from hyperhive.wire.agent_link import PROTOCOL_VERSION
from link_lines import Link

LONG = "\n".join(f"- on day {day} i looked into the build" for day in range(400)) + "\n"
SHORTER = "\n".join(f"- on day {day} i looked into the build" for day in range(300)) + "\n"


def open_agent(page: Page, hive: HiveProcess, name: str = "manager") -> None:
    page.goto(f"{hive.origin}/agent/{name}/")
    expect(page.get_by_test_id("agent-state")).to_have_attribute(
        "data-state", re.compile("idle|stopped"), timeout=30_000
    )


def prompt(page: Page, text: str) -> Locator:
    field = page.get_by_test_id("prompt-text")
    field.fill(text)
    field.press("Enter")
    return field


def compact_notes(hive: HiveProcess, before: str, after: str) -> str:
    """Tells the daemon of a rewriting, as the manager's harness does, and what was decided. Leaves it stopped."""
    hive.wait_state("manager", "idle")
    hive.post("/api/agents/manager/stop")
    hive.wait_state("manager", "stopped")
    with Link(hive, "manager") as link:
        link.call("hello", protocol=PROTOCOL_VERSION, generation=1, holding=[])
        return link.call("notes.compacted", before=before, after=after)["result"]["decision"]


def test_the_whole_hive_is_paused_and_resumed_in_the_header(page: Page, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    page.evaluate("window.notReloaded = true")
    page.get_by_test_id("flow-text").fill("half a thou")
    page.get_by_test_id("pause-all").click()
    banner = page.get_by_test_id("banner-park")
    expect(banner).to_contain_text("the whole hive is paused since")
    expect(page.get_by_test_id("agent-manager").get_by_test_id("park")).to_contain_text("the whole hive is paused")
    hive.post("/api/messages", {"to": "manager", "body": "%% say awake again"})
    expect(page.get_by_test_id("agent-manager").get_by_test_id("waiting")).to_have_text("1 waiting")

    # It is as paused after a restart of the daemon, and on another page.
    hive.kill()
    hive.start()
    open_paused = page.context.new_page()
    open_paused.goto(f"{hive.origin}/agent/manager/")
    expect(open_paused.get_by_test_id("banner-park")).to_be_visible(timeout=30_000)
    open_paused.close()
    assert hive.agent("manager")["waiting"] == 1

    page.get_by_test_id("resume-all").click()
    expect(banner).to_be_hidden()
    expect(page.get_by_test_id("flow").get_by_text("awake again").first).to_be_visible(timeout=30_000)
    wait_for(lambda: hive.agent("manager")["turns"] == 1, "the turn to have run", hive=hive)
    expect(page.get_by_test_id("pause-all")).to_be_visible()
    expect(page.get_by_test_id("flow-text")).to_have_value("half a thou")
    assert page.evaluate("window.notReloaded") is True


def test_one_agent_is_paused_with_a_reason_and_resumed(page: Page, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    open_agent(page, hive)
    expect(prompt(page, "/pause until the release is out")).to_have_value("")
    expect(page.get_by_test_id("park")).to_contain_text("until the release is out")
    expect(page.get_by_test_id("banner-park")).to_be_hidden()
    assert hive.agent("manager")["park"]["kind"] == "paused"
    page.get_by_test_id("resume").click()
    expect(page.get_by_test_id("park")).to_be_hidden()
    expect(page.get_by_test_id("pause")).to_have_attribute("aria-busy", "false")


def test_a_model_is_chosen_in_the_prompt_line_and_is_that_of_the_next_turn(page: Page, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    open_agent(page, hive)
    field = page.get_by_test_id("prompt-text")
    field.fill("/mo")
    expect(page.get_by_test_id("suggestions")).to_contain_text("/model NAME")
    field.press("Tab")
    expect(field).to_have_value("/model ")
    field.press_sequentially("claude-haiku-4-5")
    field.press("Enter")
    expect(page.get_by_test_id("chosen-model")).to_contain_text("claude-haiku-4-5")
    prompt(page, "%% say as another")
    expect(page.get_by_test_id("model")).to_have_text("claude-haiku-4-5 chosen by hand", timeout=30_000)
    prompt(page, "/model default")
    expect(page.get_by_test_id("chosen-model")).to_be_hidden()


def test_what_is_no_command_is_told_and_what_begins_with_two_slashes_is_sent(page: Page, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    open_agent(page, hive)
    expect(prompt(page, "/clear")).to_have_value("/clear")
    expect(page.get_by_test_id("toast-error")).to_contain_text("there is no command /clear")
    assert hive.get("/api/messages") == []
    expect(prompt(page, "//clear is a word")).to_have_value("")
    wait_for(
        lambda: [m for m in hive.get("/api/messages") if m["body"] == "/clear is a word"], "the message", hive=hive
    )


def test_the_notes_as_they_were_are_brought_back_from_the_page(page: Page, hive: HiveProcess) -> None:
    assert compact_notes(hive, LONG, SHORTER) == "apply"
    notes = hive.data / "agents" / "manager" / "state" / "notes.md"
    open_agent(page, hive)
    page.get_by_test_id("notes-toggle").click()
    panel = page.get_by_test_id("notes")
    kept = panel.locator("[data-kind=kept]")
    expect(kept).to_have_count(1)
    shorter = panel.locator("[data-kind=compacted]")
    shorter.get_by_test_id("notes-change").click()
    expect(panel.locator(".diff-box")).to_contain_text("on day 399")
    kept.get_by_test_id("notes-restore").click()
    assert not notes.exists() or notes.read_text() != LONG
    kept.get_by_test_id("notes-restore-yes").click()
    expect(panel.locator("[data-kind=restored]")).to_have_count(1, timeout=20_000)
    assert notes.read_text() == LONG
    expect(panel.locator(".diff-box").first).to_be_visible()


def test_a_rewriting_that_loses_much_is_asked_about_with_what_it_loses(page: Page, hive: HiveProcess) -> None:
    assert compact_notes(hive, LONG, "gone\n") == "asked"
    page.set_viewport_size(PHONE)
    question = page.get_by_test_id("question-1")
    question.get_by_test_id("asked-notes-toggle").click()
    expect(question.get_by_test_id("asked-notes")).to_contain_text("gone")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    question.get_by_label("keep the old").check()
    question.get_by_test_id("answer").click()
    expect(question).to_have_attribute("data-status", "answered", timeout=20_000)
    notes = hive.data / "agents" / "manager" / "state" / "notes.md"
    assert not notes.exists() or notes.read_text() != "gone\n"


def test_a_spent_budget_is_granted_by_one_click_and_what_waited_is_done(page: Page, hive: HiveProcess) -> None:
    spawn(hive, "tester")
    deploy(hive, "tester", agent_toml="[budget]\ntokens_per_day = 1000")
    hive.wait_state("tester", "idle")
    open_agent(page, hive, "tester")
    prompt(page, "%% usage input=990 output=20\n%% say all of it")
    expect(page.get_by_test_id("park")).to_have_attribute("data-kind", "budget", timeout=30_000)
    expect(page.get_by_test_id("cost")).to_contain_text("101 % of its budget")
    expect(page.get_by_test_id("resume")).to_be_hidden()
    prompt(page, "%% usage input=1 output=1\n%% say after the grant")
    expect(page.get_by_test_id("waiting")).to_have_text("1 waiting")
    assert hive.agent("tester")["turns"] == 1

    page.get_by_test_id("grant").click()
    expect(page.get_by_role("log").get_by_text("after the grant", exact=True)).to_be_visible(timeout=30_000)
    expect(page.get_by_test_id("park")).to_be_hidden()
    expect(page.get_by_test_id("waiting")).to_be_hidden()
    wait_for(lambda: hive.agent("tester")["last_outcome"] == "ok", "the turn to end well", hive=hive)
    assert hive.agent("tester")["budget_tokens"] == 1500


def test_the_budget_of_the_hive_is_set_spent_and_granted_on_the_dashboard(page: Page, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    page.get_by_test_id("budget-edit").click()
    page.get_by_test_id("amount-tokens").fill("1k")
    page.get_by_test_id("budget-submit").click()
    expect(page.get_by_test_id("hive-budget")).to_contain_text("of 1.0k tokens")
    hive.post("/api/messages", {"to": "manager", "body": "%% usage input=990 output=20\n%% say all of it"})
    banner = page.get_by_test_id("banner-park")
    expect(banner).to_contain_text("the hive's budget is spent", timeout=30_000)
    expect(page.get_by_test_id("agent-manager").get_by_test_id("park")).to_have_text("the hive's budget is spent")
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    banner.get_by_test_id("grant-all").click()
    expect(banner).to_be_hidden(timeout=30_000)
    expect(page.get_by_test_id("hive-budget")).to_contain_text("of 1.5k tokens")


def test_reminders_are_seen_to_be_set_and_sent_and_are_cancelled(page: Page, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    open_agent(page, hive)
    page.get_by_test_id("reminders-toggle").click()
    panel = page.get_by_test_id("reminders")
    expect(panel).to_contain_text("none is set")
    order(hive, "manager", call("remind_me", note="look at the nightly build", in_seconds=3600), "say set")
    later = panel.get_by_test_id("reminder-1")
    expect(later).to_contain_text("look at the nightly build", timeout=30_000)
    expect(page.get_by_test_id("reminders-toggle")).to_contain_text("1")

    order(hive, "manager", call("remind_me", note="the kettle boils", in_seconds=5), "say set")
    soon = panel.get_by_test_id("reminder-2")
    expect(soon).to_contain_text("the kettle boils", timeout=30_000)
    expect(soon).to_have_count(0, timeout=30_000)
    told = page.get_by_role("log").locator(".letter-system", has_text="the kettle boils")
    expect(told).to_be_visible(timeout=30_000)

    later.get_by_test_id("reminder-cancel").click()
    later.get_by_test_id("reminder-cancel-yes").click()
    expect(later).to_have_count(0)
    assert hive.get("/api/reminders") == []
