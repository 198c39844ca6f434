"""A thousand updates while somebody is in the middle of things: nothing they have in hand moves."""

import json
from typing import Any

from playwright.sync_api import Page, expect

from browser.test_config_story import order
from hive_process import HiveProcess, wait_for

UPDATES = 1_000
ASK = 'tool ask_operator {"question": "blue or green?", "options": ["blue", "green"], "ttl_seconds": 86400}'

# What a person has in hand, as the page has it.
HANDS = """() => ({
  scrolled: window.scrollY,
  listScrolled: document.querySelector('.journal-text').scrollTop,
  selected: String(getSelection()),
  focused: document.activeElement.dataset.testid ?? '',
  caret: [document.activeElement.selectionStart, document.activeElement.selectionEnd],
  typed: [...document.querySelectorAll('textarea, input[type=text], input[type=search]')].map((field) => field.value),
  checked: [...document.querySelectorAll('input[type=radio]')].map((field) => field.checked),
  open: [...document.querySelectorAll('[aria-expanded=true], details[open]')].map((one) => one.dataset.testid),
  at: document.activeElement.getBoundingClientRect().top,
  same: window.held.every((element) => element.isConnected),
})"""


def make_hands_full(page: Page) -> None:
    """Half fills a form, opens viewers, scrolls one of them, and leaves the caret in the middle of a word."""
    manager = page.get_by_test_id("agent-manager")
    manager.get_by_test_id("journal-toggle").click()
    journal = page.locator(".journal-text")
    expect(journal.get_by_text("linked as")).to_be_visible(timeout=20_000)
    page.get_by_test_id("agent-alice").get_by_test_id("config-toggle-alice").click()
    # With what it shows, which moves everything below it.
    expect(page.get_by_test_id("config-alice").get_by_test_id("config-file-agent.toml")).to_be_visible(timeout=20_000)
    question = page.get_by_test_id("question-1")
    question.get_by_label("green").check()
    question.get_by_test_id("answer-text").fill("green, but only if")
    page.get_by_test_id("flow-text").fill("half a thou")
    page.get_by_test_id("spawn-name").fill("half-a-na")
    journal.evaluate("element => { element.scrollTop = 5 }")
    field = question.get_by_test_id("answer-text")
    field.focus()
    field.evaluate("field => field.setSelectionRange(3, 9)")
    page.evaluate(
        """() => {
          const held = ['question-1', 'agent-alice', 'spawn-name', 'flow-text', 'config-alice'];
          window.held = [document.activeElement, document.querySelector('.journal-text'),
            ...held.map((id) => document.querySelector(`[data-testid=${id}]`))];
        }"""
    )


def send_updates(hive: HiveProcess, count: int) -> None:
    """Messages to an agent that is paused: each is an event and changes a row."""
    with hive.client() as client:
        for number in range(count):
            body: dict[str, Any] = {"to": "bob", "body": f"update {number}"}
            client.post("/api/messages", json=body).raise_for_status()


def test_a_thousand_updates_move_nothing_that_somebody_has_in_hand(page: Page, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    for name in ("alice", "bob"):
        hive.post("/api/agents", {"name": name})
        hive.wait_state(name, "idle")
    hive.post("/api/agents/bob/pause")
    order(hive, "manager", ASK, "say asked")
    expect(page.get_by_test_id("question-1")).to_be_visible(timeout=30_000)
    hive.wait_state("manager", "idle")
    make_hands_full(page)
    page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
    before = page.evaluate(HANDS)
    assert before["focused"] == "answer-text"
    page.evaluate(
        """() => { window.changes = 0; new MutationObserver((found) => { window.changes += found.length })
          .observe(document.body, {subtree: true, childList: true, characterData: true}) }"""
    )

    send_updates(hive, UPDATES)
    expect(page.get_by_test_id("flow").get_by_text(f"update {UPDATES - 1}")).to_be_visible(timeout=60_000)
    wait_for(lambda: hive.agent("bob")["waiting"] == UPDATES, "all messages to wait", hive=hive)
    expect(page.get_by_test_id("agent-bob").get_by_test_id("waiting")).to_have_text(
        f"{UPDATES} waiting", timeout=60_000
    )

    after = page.evaluate(HANDS)
    assert page.evaluate("window.changes") > UPDATES / 10
    assert after == before, json.dumps([before, after], indent=1)
    # The list holds no more than it shows.
    assert page.locator("[data-testid=flow] .flow > li").count() <= 400


def test_text_that_is_selected_stays_selected(page: Page, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    hive.post("/api/agents", {"name": "bob"})
    hive.wait_state("bob", "idle")
    hive.post("/api/agents/bob/pause")
    first = hive.post("/api/messages", {"to": "bob", "body": "the heron stands in the reeds"})["id"]
    row = page.get_by_test_id(f"message-{first}")
    expect(row).to_be_visible(timeout=20_000)
    row.locator("summary").evaluate("element => getSelection().selectAllChildren(element)")
    selected = page.evaluate("String(getSelection())")
    assert "heron" in selected
    send_updates(hive, 100)
    expect(page.get_by_test_id("flow").get_by_text("update 99")).to_be_visible(timeout=60_000)
    assert page.evaluate("String(getSelection())") == selected


def test_a_press_counts_for_what_it_began_on_when_that_moves_away_meanwhile(page: Page, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    hive.post("/api/agents", {"name": "alice"})
    hive.wait_state("alice", "idle")
    approval = hive.post("/api/egress/proposals", {"agent": "alice", "entry": "example.org"})
    expect(page.get_by_test_id(f"meaning-{approval['id']}")).to_be_visible(timeout=30_000)
    need = page.get_by_test_id("needs").locator("li")
    expect(need).to_have_count(1, timeout=30_000)
    toggle = page.get_by_test_id("config-toggle-alice")
    box = toggle.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    # What needed the operator goes, above, and all below it moves up.
    hive.post(f"/api/approvals/{approval['id']}/deny", {"reason": "no"})
    expect(need).to_have_count(0, timeout=30_000)
    moved = toggle.bounding_box()
    assert moved is not None
    assert moved["y"] + moved["height"] < box["y"]
    page.mouse.up()
    expect(page.get_by_test_id("config-alice")).to_be_visible(timeout=30_000)
