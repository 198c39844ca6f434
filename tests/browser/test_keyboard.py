"""The story of a day without a mouse: from the login link to the last thread read, and what keys must not do."""

import re

from playwright.sync_api import Browser, Locator, Page, expect

from browser.conftest import WIDE, choose
from browser.test_config_story import call, order
from hive_process import HiveProcess

TAB_LIMIT = 60
ASK = 'tool ask_operator {"question": "tea or coffee?", "options": ["tea", "coffee"]}'


def tab_to(page: Page, wanted: Locator) -> None:
    """Presses Tab until `wanted` has the focus. Fails when it is never reached, or when the focus cannot be seen."""
    for _ in range(TAB_LIMIT):
        if wanted.evaluate("element => element === document.activeElement"):
            assert page.evaluate("document.activeElement.matches(':focus-visible')")
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not get to {wanted}")


def test_a_day_of_work_needs_no_mouse(chromium: Browser, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    context = chromium.new_context(viewport=WIDE)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))

    # Logs in with a pasted link.
    page.goto(hive.origin)
    tab_to(page, page.get_by_label("link or token"))
    page.keyboard.insert_text(hive.post("/api/login-links")["url"])
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("agent-manager")).to_be_visible(timeout=20_000)

    # The first Tab offers the way past the header.
    page.keyboard.press("Tab")
    expect(page.get_by_text("skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()

    # Asks the manager for an agent, and approves it.
    choose(page, "send manager", "send-manager")
    expect(page.get_by_test_id("palette-text")).to_be_focused()
    page.keyboard.type("we need a researcher")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("palette")).to_have_count(0)
    approval = page.get_by_test_id("approval-1")
    expect(approval).to_contain_text("researcher", timeout=30_000)
    page.keyboard.press("g")
    page.keyboard.press("a")
    expect(page.get_by_test_id("approvals")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(approval).to_be_focused()
    tab_to(page, approval.get_by_test_id("approve"))
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("agent-researcher")).to_have_attribute(
        "data-state", re.compile("idle|thinking"), timeout=60_000
    )
    hive.wait_inbox("hello, i am researcher")

    # Answers a question on its own page.
    order(hive, "manager", ASK, "say asked")
    question = page.get_by_test_id("question-1")
    expect(question).to_be_visible(timeout=30_000)
    choose(page, "question 1", "question-1")
    expect(page).to_have_url(f"{hive.origin}/questions/1")
    tab_to(page, page.get_by_label("tea"))
    page.keyboard.press("Space")
    tab_to(page, question.get_by_test_id("answer"))
    page.keyboard.press("Enter")
    expect(question).to_have_attribute("data-status", "answered", timeout=20_000)

    # Pauses one agent; stopping it is asked about, and no is what Enter says.
    choose(page, "pause research", "pause-researcher")
    page.keyboard.press("g")
    page.keyboard.press("h")
    row = page.get_by_test_id("agent-researcher")
    expect(row.get_by_test_id("park")).to_have_attribute("data-kind", "paused", timeout=20_000)
    choose(page, "stop research", "stop-researcher")
    expect(page.get_by_test_id("palette-confirm-no")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("palette")).to_have_count(0)
    assert hive.agent("researcher")["state"] not in {"stopped", "stopping"}
    choose(page, "stop research", "stop-researcher")
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_test_id("palette-confirm-yes")).to_be_focused()
    page.keyboard.press("Enter")
    expect(row).to_have_attribute("data-state", "stopped", timeout=30_000)

    # Reads a thread, and marks it as read.
    page.keyboard.press("g")
    page.keyboard.press("i")
    expect(page.get_by_test_id("inbox")).to_be_focused()
    page.keyboard.press("j")
    card = page.locator("li[data-testid^=thread-]:focus")
    expect(card).to_have_count(1)
    tab_to(
        page, card.get_by_test_id("thread-link").or_(page.locator("li:focus-within [data-testid=thread-link]")).first
    )
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/threads/\d+$"))
    tab_to(page, page.get_by_test_id("mark-read").first)
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("mark-read")).to_have_count(0, timeout=20_000)
    assert problems == []
    context.close()


def test_keys_typed_into_a_field_are_only_letters(page: Page, hive: HiveProcess) -> None:
    field = page.get_by_test_id("flow-text")
    field.focus()
    page.keyboard.type("g a? jk go")
    expect(field).to_have_value("g a? jk go")
    expect(field).to_be_focused()
    expect(page.locator("dialog")).to_have_count(0)
    # The palette gives the field back as it was.
    page.keyboard.press("Control+k")
    expect(page.get_by_test_id("palette-query")).to_be_focused()
    page.keyboard.press("Escape")
    expect(field).to_be_focused()
    expect(field).to_have_value("g a? jk go")


def test_single_keys_can_be_switched_off_and_stay_off(page: Page, hive: HiveProcess) -> None:
    page.keyboard.press("?")
    expect(page.get_by_test_id("keys")).to_be_visible()
    page.get_by_test_id("keys").get_by_test_id("shortcuts").uncheck()
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("keys")).to_have_count(0)
    page.reload()
    page.get_by_test_id("containers").wait_for()
    for key in ("?", "g", "i", "j"):
        page.keyboard.press(key)
    expect(page.locator("dialog")).to_have_count(0)
    assert page.evaluate("document.activeElement === document.body")
    page.keyboard.press("Control+k")
    expect(page.get_by_test_id("palette")).to_be_visible()


def test_what_has_a_page_is_found_again_after_a_reload(page: Page, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    order(hive, "manager", call("request_spawn", name="tester"), call("ask_operator", question="why?"), "say done")
    expect(page.get_by_test_id("approval-1")).to_be_visible(timeout=30_000)
    page.get_by_test_id("approval-1").get_by_test_id("approval-link").click()
    expect(page).to_have_url(f"{hive.origin}/approvals/1")
    page.get_by_test_id("deny-open").click()
    page.get_by_test_id("deny-reason").fill("not now")
    page.get_by_test_id("deny").click()
    approval = page.get_by_test_id("approval-1")
    expect(approval).to_have_attribute("data-status", "denied", timeout=20_000)
    page.reload()
    expect(approval).to_have_attribute("data-status", "denied", timeout=20_000)
    expect(approval).to_contain_text("not now")
    page.goto(f"{hive.origin}/questions/1")
    page.get_by_test_id("answer-text").fill("because")
    page.get_by_test_id("answer").click()
    expect(page.get_by_test_id("question-1")).to_have_attribute("data-status", "answered", timeout=20_000)
    page.reload()
    expect(page.get_by_test_id("question-1")).to_contain_text("because", timeout=20_000)
    message = min(m["id"] for m in hive.get("/api/messages") if m["recipient"] == "manager")
    page.goto(f"{hive.origin}/threads/{message}")
    expect(page.get_by_test_id("conversation")).to_contain_text("request_spawn", timeout=20_000)
    page.get_by_text("where it stands in the hive").click()
    expect(page.locator(f"#message-{message}")).to_be_focused(timeout=20_000)
