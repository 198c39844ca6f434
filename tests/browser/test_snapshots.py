"""Snapshots in Chromium, by an operator who uses them: taken before a risk, brought back after it, and forked."""

from pathlib import Path

from playwright.sync_api import Page, expect

from browser.test_config_story import call, order, spawn
from hive_process import HiveProcess, wait_for

WAIT_MS = 60_000


def plan_of(hive: HiveProcess, agent: str) -> Path:
    return hive.data / f"agents/{agent}/state/plan.txt"


def write_plan(hive: HiveProcess, text: str) -> None:
    """Alice writes it herself, in a turn."""
    order(hive, "alice", call("Bash", command=f"echo '{text}' > /state/plan.txt"), "say written")
    path = plan_of(hive, "alice")
    wait_for(lambda: path.exists() and path.read_text() == f"{text}\n", text, 60, hive)
    hive.wait_state("alice", "idle")


def expect_refused(page: Page, address: str) -> None:
    """A name that is taken is refused with the reason, and stays to be changed. On a page whose console may say so."""
    page.goto(address)
    page.get_by_test_id("snapshot-fork").last.click()
    page.get_by_test_id("fork-name").fill("alice")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("toast-error")).to_contain_text("alice", timeout=WAIT_MS)
    expect(page.get_by_test_id("fork-name")).to_have_value("alice")
    page.close()


def test_what_went_wrong_since_a_snapshot_is_undone_and_an_agent_goes_two_ways_from_it(
    page: Page, hive: HiveProcess
) -> None:
    spawn(hive, "alice")
    write_plan(hive, "the good plan")
    page.goto(f"{hive.origin}/agent/alice/#snapshots")
    panel = page.get_by_test_id("snapshots")
    expect(panel).to_contain_text("none yet", timeout=WAIT_MS)
    panel.get_by_test_id("snapshot-note").fill("before the risk")
    page.keyboard.press("Enter")
    first = panel.get_by_test_id("snapshot-1")
    expect(first).to_contain_text("before the risk", timeout=WAIT_MS)
    expect(first).to_contain_text("1 turn")
    expect(panel.get_by_test_id("snapshot-note")).to_have_value("")

    write_plan(hive, "the bad plan")
    first.get_by_test_id("snapshot-restore").click()
    expect(first.get_by_test_id("snapshot-restore-no")).to_be_focused()
    first.get_by_test_id("snapshot-restore-yes").click()
    expect(page.get_by_test_id("toast-done").last).to_contain_text("what was there is snapshot 2", timeout=WAIT_MS)
    expect(panel.get_by_test_id("snapshot-2")).to_contain_text("made by the hive", timeout=WAIT_MS)
    assert plan_of(hive, "alice").read_text() == "the good plan\n"
    hive.wait_state("alice", "idle")

    expect_refused(page.context.new_page(), f"{hive.origin}/agent/alice/#snapshots")
    first.get_by_test_id("snapshot-fork").click()
    name = first.get_by_test_id("fork-name")
    expect(name).to_be_focused()
    name.fill("alice-two")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("toast-done").last).to_contain_text("alice-two", timeout=WAIT_MS)
    expect(name).to_have_count(0)
    hive.wait_state("alice-two", "idle")
    assert plan_of(hive, "alice-two").read_text() == "the good plan\n"

    first.get_by_test_id("snapshot-remove").click()
    first.get_by_test_id("snapshot-remove-yes").click()
    expect(first).to_have_count(0, timeout=WAIT_MS)
    expect(panel.get_by_test_id("snapshot-2")).to_be_visible()

    # The newest of what was done stands in the audit.
    page.goto(f"{hive.origin}/audit/")
    page.get_by_test_id("audit-name").fill("snapshot.*")
    rows = page.get_by_test_id("audit-rows").locator("li")
    expect(rows).to_have_count(1, timeout=WAIT_MS)
    expect(rows).to_contain_text("snapshot=1")
