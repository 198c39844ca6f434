"""The operator's side of messages, in Chromium on a real hive: threads, the flow, its filters, receipts, links."""

import json
from typing import Any

from playwright.sync_api import Locator, Page, expect

from browser.conftest import PHONE
from hive_process import HiveProcess, wait_for


def say(hive: HiveProcess, body: str, to: str = "manager", **fields: Any) -> int:
    return hive.post("/api/messages", {"to": to, "body": body, **fields})["id"]


def have_sent(hive: HiveProcess, body: str, **fields: Any) -> dict[str, Any]:
    """Has the manager write to the operator. Returns the message once it is there."""
    say(hive, "%% tool send " + json.dumps({"to": "operator", "body": body, **fields}))
    return hive.wait_inbox(body)


def thread(page: Page, key: int) -> Locator:
    return page.get_by_test_id(f"thread-{key}")


def test_a_thread_is_answered_in_place_and_read_as_a_whole(page: Page, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    root = have_sent(hive, "shall i begin?")["id"]
    card = thread(page, root)
    expect(card).to_have_attribute("data-unread", "1", timeout=20_000)
    card.get_by_test_id("reply-toggle").click()
    field = card.get_by_test_id("reply-text")
    expect(field).to_be_focused()
    answer = {"to": "operator", "body": "then i begin", "in_reply_to": root}
    field.fill("%% tool send " + json.dumps(answer))
    field.press("Enter")
    # What is answered has been read; what comes then has not.
    expect(card.get_by_test_id("conversation")).to_contain_text("then i begin", timeout=20_000)
    second = hive.wait_inbox("then i begin")
    assert second["thread"] == root
    expect(card.get_by_test_id(f"inbox-{root}")).to_have_attribute("data-state", "acked", timeout=20_000)
    expect(card).to_have_attribute("data-unread", "1")
    reply = next(m for m in hive.get("/api/messages") if m["in_reply_to"] == root and m["sender"] == "operator")
    expect(card.get_by_test_id(f"said-{reply['id']}").get_by_test_id("receipt-state")).to_have_attribute(
        "data-state", "acked", timeout=20_000
    )
    card.get_by_test_id(f"inbox-{second['id']}").get_by_test_id("mark-read").click()
    expect(card).to_have_attribute("data-unread", "0", timeout=20_000)
    expect(field).to_have_value("")
    expect(page.get_by_test_id("inbox").locator("li[data-testid^=thread-]")).to_have_count(1)


def test_what_is_typed_and_open_stays_over_the_daemons_end_and_what_was_missed_shows(
    page: Page, hive: HiveProcess
) -> None:
    hive.wait_state("manager", "idle")
    root = have_sent(hive, "before")["id"]
    card = thread(page, root)
    card.get_by_test_id("reply-toggle").click()
    card.get_by_test_id("reply-text").fill("half an ans")
    page.get_by_test_id("flow-search").fill("missed")
    expect(page.get_by_test_id("flow").get_by_text("no message is like that")).to_be_visible(timeout=20_000)
    hive.kill()
    expect(page.get_by_test_id("banner-lost")).to_be_visible(timeout=30_000)
    page.context.set_offline(True)
    hive.start()
    hive.post("/api/pause")
    missed = say(hive, "this was missed")
    hive.post(f"/api/inbox/{root}/ack")
    page.context.set_offline(False)
    expect(page.get_by_test_id(f"message-{missed}")).to_be_visible(timeout=30_000)
    expect(card).to_have_attribute("data-unread", "0")
    expect(card.get_by_test_id("reply-text")).to_have_value("half an ans")
    expect(page.get_by_test_id("flow-search")).to_have_value("missed")
    page.reload()
    expect(card.get_by_test_id("reply-text")).to_have_value("half an ans", timeout=20_000)


def test_the_flow_is_searched_and_narrowed_live_and_never_shows_the_whole_log(page: Page, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    hive.post("/api/pause")
    first = say(hive, "the heron stands in the reeds")
    for number in range(120):
        say(hive, f"filler {number}")
    rows = page.locator("[data-testid=flow] .flow > li")
    expect(page.get_by_test_id("flow").get_by_text("filler 119")).to_be_visible(timeout=20_000)
    page.reload()
    expect(rows).to_have_count(50, timeout=20_000)
    page.get_by_test_id("flow-older").click()
    expect(rows).to_have_count(100, timeout=20_000)

    # A search reaches what no page holds, and goes on finding.
    page.get_by_test_id("flow-search").fill("heron")
    expect(rows).to_have_count(1, timeout=20_000)
    expect(page.get_by_test_id(f"message-{first}").locator("mark")).to_have_text("heron")
    second = say(hive, "another heron")
    expect(page.get_by_test_id(f"message-{second}")).to_be_visible(timeout=20_000)
    page.get_by_test_id("flow-clear").click()
    expect(page.get_by_test_id("flow-search")).to_have_value("")
    expect(rows).to_have_count(101, timeout=20_000)

    page.get_by_test_id("flow-kind").select_option("operator")
    page.get_by_test_id("flow-state").select_option("expired")
    expect(page.get_by_test_id("flow").get_by_text("no message is like that")).to_be_visible(timeout=20_000)
    gone = say(hive, "for a moment only", ttl_s=1, priority="high")
    row = page.get_by_test_id(f"message-{gone}")
    expect(row).to_have_attribute("data-state", "expired", timeout=20_000)
    expect(row.get_by_test_id("message-priority")).to_have_text("high")


def test_a_message_to_all_is_asked_about_and_its_receipts_follow(page: Page, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    hive.post("/api/agents", {"name": "tester"})
    hive.wait_state("tester", "idle")
    page.get_by_test_id("flow-to").select_option("*")
    field = page.get_by_test_id("flow-text")
    field.fill("%% say understood")
    field.press("Enter")
    expect(page.get_by_test_id("flow-send-no")).to_be_focused()
    page.get_by_test_id("flow-send-yes").click()
    expect(field).to_have_value("", timeout=20_000)
    row = page.locator("[data-testid^=broadcast-]")
    expect(row.get_by_test_id("tally-acked")).to_contain_text("2", timeout=30_000)
    row.locator("summary").click()
    ids = [m["id"] for m in hive.get("/api/messages") if m["broadcast"] is not None]
    assert len(ids) == 2
    for id_ in ids:
        expect(page.get_by_test_id(f"message-{id_}")).to_have_attribute("data-state", "acked")


def test_a_dead_message_tells_why_and_is_delivered_after_all(page: Page, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    hive.post("/api/agents", {"name": "tester"})
    hive.wait_state("tester", "idle")
    hive.post("/api/agents/tester/pause")
    dead = say(hive, "%% say late", to="tester")
    with hive.client() as client:
        client.delete("/api/agents/tester?purge=true").raise_for_status()
    row = page.get_by_test_id(f"message-{dead}")
    expect(row).to_have_attribute("data-state", "dead", timeout=20_000)
    expect(row.get_by_test_id("message-note")).not_to_be_empty()
    # One of that name is there again.
    hive.post("/api/agents", {"name": "tester"})
    hive.wait_state("tester", "idle")
    row.get_by_test_id("requeue").click()
    expect(row).to_have_attribute("data-state", "acked", timeout=30_000)
    expect(row.get_by_test_id("requeue")).to_have_count(0)


def test_a_link_leads_to_a_message_that_is_not_in_the_page(page: Page, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    inbox = have_sent(hive, "long ago")["id"]
    wait_for(lambda: hive.agent("manager")["state"] == "idle", "the manager to be idle", hive=hive)
    hive.post("/api/pause")
    early = say(hive, "an early one")
    for number in range(60):
        say(hive, f"filler {number}")
    page.goto(f"{hive.origin}/#message-{early}")
    page.reload()
    expect(page.get_by_test_id(f"message-{early}")).to_be_focused(timeout=20_000)
    expect(page.get_by_test_id(f"message-{early}")).to_be_in_viewport()
    page.goto(f"{hive.origin}/#message-{inbox}")
    expect(page.get_by_test_id(f"inbox-{inbox}")).to_be_focused(timeout=20_000)
    page.goto(f"{hive.origin}/#message-99999")
    expect(page.get_by_text("there is no message #99999")).to_be_visible(timeout=20_000)


def test_threads_and_the_flow_fit_on_a_phone(page: Page, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    root = have_sent(hive, "w" * 500)["id"]
    hive.post("/api/pause")
    say(hive, "x" * 500, priority="high", ttl_s=3600)
    page.set_viewport_size(PHONE)
    page.goto(hive.origin)
    thread(page, root).get_by_test_id("reply-toggle").click()
    page.get_by_test_id("flow-more").locator("summary").click()
    page.get_by_test_id("flow-to").select_option("*")
    page.get_by_test_id("flow-text").fill("w" * 100)
    page.get_by_test_id("flow-text").press("Enter")
    expect(page.get_by_test_id("flow-send-yes")).to_be_visible()
    for summary in page.locator(".flow-body > summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
