"""What an operator decides on and what an agent runs with, in a real Chromium: shown as it is, on any screen."""

import json

import pytest
from playwright.sync_api import Locator, Page, expect

from browser.conftest import PHONE
from hive_process import HiveProcess

HOSTILE = "<img src=x onerror=alert(1)><script>alert(1)</script>\\342\\200\\256\\033]0;x\\007 ${1}"
FILES = f"""
cd /agents/alice/config
printf 'allowed_recipients = ["operator"]\\n[bash]\\nallow = ["git *"]\\n' > agent.toml
printf '{HOSTILE}\\n%0500d\\n' 7 > prompt.md
seq 1 2000 > list.csv
printf '\\000\\001' > logo.bin
git add -A
git -c user.name=m -c user.email=m@hive commit -qm change
"""


def order(hive: HiveProcess, *steps: str) -> None:
    hive.post("/api/messages", {"to": "manager", "body": "\n".join(f"%% {step}" for step in steps)})


def call(tool: str, **arguments: str) -> str:
    return f"tool {tool} {json.dumps(arguments)}"


@pytest.fixture
def proposal(page: Page, hive: HiveProcess) -> Locator:
    """The row of a change of alice's config that the manager proposed, with its meaning shown."""
    hive.wait_state("manager", "idle")
    hive.post("/api/agents", {"name": "alice"})
    hive.wait_state("alice", "idle")
    order(
        hive,
        call("Bash", command=FILES),
        call("request_apply_commit", agent="alice", description="<b>please</b>"),
        "say proposed",
    )
    expect(page.get_by_test_id("meaning-1")).to_be_visible(timeout=30_000)
    return page.get_by_test_id("approval-1")


def test_a_hostile_change_is_shown_and_never_run(page: Page, proposal: Locator) -> None:
    prompt = proposal.get_by_test_id("diff-file-prompt.md")
    expect(prompt).to_contain_text("onerror=alert(1)")
    expect(prompt.locator("mark").first).to_contain_text("⟨U+202E⟩")
    assert proposal.locator("img, script, b").count() == 0
    text = proposal.inner_text()
    assert "\u202e" not in text
    assert "\x1b" not in text
    expect(proposal.get_by_test_id("diff-file-list.csv")).to_contain_text("show 2000 lines")
    expect(proposal.get_by_test_id("diff-file-list.csv")).not_to_contain_text("1999")
    expect(proposal.get_by_test_id("diff-file-logo.bin")).to_contain_text("binary")


def test_the_way_to_show_a_diff_is_remembered_and_a_phone_has_only_one(page: Page, proposal: Locator) -> None:
    mode = proposal.get_by_test_id("diff-mode")
    mode.focus()
    page.keyboard.press("Enter")
    expect(proposal.locator(".diff-split").first).to_be_visible()
    page.reload()
    expect(proposal.locator(".diff-split").first).to_be_visible(timeout=20_000)
    page.set_viewport_size(PHONE)
    expect(proposal.locator(".diff-split")).to_have_count(0)
    expect(mode).to_have_count(0)
    page.get_by_test_id("config-toggle-alice").click()
    expect(page.get_by_test_id("history-alice")).to_contain_text("first config")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_an_open_config_and_what_is_typed_in_it_outlive_its_change(page: Page, proposal: Locator) -> None:
    page.get_by_test_id("config-toggle-alice").click()
    config = page.get_by_test_id("config-alice")
    asked = config.get_by_test_id("check-input")
    asked.fill("git status; curl x")
    asked.press("Enter")
    expect(config.get_by_test_id("check-result")).to_contain_text("allow")
    asked.evaluate("field => field.setSelectionRange(3, 6)")
    proposal.get_by_test_id("approve").evaluate("button => button.click()")
    expect(proposal).to_have_attribute("data-status", "deployed", timeout=30_000)
    expect(config.get_by_test_id("check-result")).to_contain_text("deny — bash.allow", timeout=20_000)
    expect(config.get_by_test_id("permissions-alice")).to_contain_text("git *")
    expect(config.get_by_test_id("history-alice")).to_contain_text("#1")
    expect(asked).to_be_focused()
    assert asked.evaluate("field => [field.selectionStart, field.selectionEnd]") == [3, 6]


def test_a_draft_is_listed_discarded_and_gone(page: Page, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    order(hive, call("request_spawn_draft", name="tester"), "say drafted")
    draft = page.get_by_test_id("draft-tester")
    expect(draft).to_contain_text("manager", timeout=20_000)
    draft.get_by_test_id("discard").click()
    draft.get_by_test_id("discard-yes").click()
    expect(draft).to_have_count(0, timeout=20_000)
    assert hive.get("/api/drafts") == []


def test_what_is_left_of_a_destroyed_agent_is_brought_back(page: Page, hive: HiveProcess) -> None:
    hive.post("/api/agents", {"name": "alice"})
    hive.wait_state("alice", "idle")
    row = page.get_by_test_id("agent-alice")
    row.get_by_test_id("destroy").click()
    row.get_by_test_id("destroy-yes").click()
    kept = page.get_by_test_id("kept-alice")
    expect(kept.get_by_test_id("credentials")).to_have_text("no login", timeout=30_000)
    kept.get_by_test_id("revive").click()
    expect(kept).to_have_count(0, timeout=20_000)
    hive.wait_state("alice", "idle")
    expect(row).to_be_visible()
