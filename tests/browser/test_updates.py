"""Updating what is stale, in Chromium on a real hive: a badge, one button that asks once, and rows that change."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from hive_process import KEEP_ROOT, REHEARSAL, HiveProcess, end_hive, wait_for

ROOT = Path(__file__).parents[2]
OLD_HIVE = (str(ROOT / "tests/old_hive.py"),)
HIVE = ("-m", "hyperhive.host.main")
TIMEOUT_MS = 60_000


@pytest.fixture
def hive(tmp_path: Path) -> Iterator[HiveProcess]:
    """A hive whose two agents run the harness of an older one."""
    hive = HiveProcess(tmp_path / "data", KEEP_ROOT, program=OLD_HIVE, fresh=True).start()
    try:
        hive.post("/api/agents", {"name": "alice"})
        for name in ("manager", "alice"):
            hive.wait_state(name, "idle")
        assert hive.stop() == 0
        hive.program, hive.flags = HIVE, REHEARSAL
        hive.start()
        for name in ("manager", "alice"):
            wait_for(lambda name=name: hive.agent(name)["needs_update"], f"{name} to be stale", 60, hive)
        yield hive
    finally:
        end_hive(hive)


def test_what_is_stale_is_shown_and_updated_by_one_button(page: Page, hive: HiveProcess) -> None:
    alice = page.get_by_test_id("agent-alice")
    expect(alice.get_by_test_id("needs-update")).to_have_text("needs update")
    expect(alice.get_by_test_id("update-reason")).to_contain_text("its harness is of hyperhive 0.0.9")
    button = page.get_by_test_id("update-all")
    expect(button).to_have_text("update all (2)")
    button.click()
    # It asks once, and no is the answer that has the focus.
    expect(page.get_by_test_id("update-all-no")).to_be_focused()
    page.get_by_test_id("update-all-no").click()
    assert hive.agent("alice")["needs_update"]
    button.click()
    page.get_by_test_id("update-all-yes").click()
    expect(page.get_by_text("built anew after their turns: manager, alice")).to_be_visible(timeout=TIMEOUT_MS)
    expect(page.get_by_test_id("needs-update")).to_have_count(0, timeout=TIMEOUT_MS)
    expect(button).to_have_count(0, timeout=TIMEOUT_MS)
    for name in ("manager", "alice"):
        hive.wait_state(name, "idle")
        assert hive.agent(name)["needs_update"] == ""


def test_the_page_of_an_agent_says_that_it_needs_an_update_and_rebuilds_it(page: Page, hive: HiveProcess) -> None:
    page.goto(f"{hive.origin}/agent/alice/")
    state = page.get_by_test_id("agent-state")
    expect(state.get_by_test_id("needs-update")).to_have_text("needs update", timeout=TIMEOUT_MS)
    state.get_by_test_id("rebuild").click()
    expect(state.get_by_test_id("needs-update")).to_have_count(0, timeout=TIMEOUT_MS)
    expect(state).to_have_attribute("data-state", "idle", timeout=TIMEOUT_MS)
    assert hive.agent("manager")["needs_update"]
