"""Notifications in Chromium: of a page, and by web push with every page closed; deciding from them.

`pushManager.subscribe` itself asks the vendor's push service, which no test can reach. What follows from it is tested
from both ends: a subscription of the push stand-in is stored through the API and gets real pushes; and the worker is
handed a push by the browser's own machinery (`ServiceWorker.deliverPushMessage`).
"""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from playwright.sync_api import Browser, BrowserContext, CDPSession, Page, Worker, expect

from browser.conftest import WIDE
from hive_process import HiveProcess, end_hive, wait_for
from hyperhive.wire.agent_link import PROTOCOL_VERSION
from link_lines import Link
from push_rig import PushService, run_push_service

# With the worker's own lock: a notification that is listed while it is being shown is lost, see service_worker.ts.
LIST = """() => navigator.locks.request("notifications", async () => {
  const registration = self.registration ?? (await navigator.serviceWorker.ready);
  const shown = await registration.getNotifications();
  return shown.map(({ title, tag, actions }) => ({ title, tag, actions: actions.map(({ action }) => action) }));
})"""
# As a click of the operator arrives in the worker. `action` is "" for the notification itself.
CLICK = """async ({ tag, action, times }) => {
  const [notification] = await self.registration.getNotifications({ tag });
  const done = [];
  for (let click = 0; click < times; click += 1) {
    const event = new NotificationEvent("notificationclick", { notification, action });
    event.waitUntil = (work) => done.push(work);
    self.dispatchEvent(event);
  }
  await Promise.allSettled(done);
}"""


@pytest.fixture(scope="module")
def push_service() -> Iterator[PushService]:
    yield from run_push_service()


@pytest.fixture(scope="module")
def hive_of_module() -> Iterator[HiveProcess]:
    """A rehearsal that may also push to this machine; in the manager's place is the test."""
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        hive = HiveProcess(Path(folder) / "data", ("--rehearsal", "--push-private")).start()
        try:
            hive.wait_state("manager", "idle")
            hive.post("/api/agents/manager/stop")
            hive.wait_state("manager", "stopped")
            yield hive
        finally:
            end_hive(hive)


@pytest.fixture
def hive(hive_of_module: HiveProcess) -> Iterator[HiveProcess]:
    """Nothing waits in it when a test begins."""
    yield hive_of_module
    for row in hive_of_module.get("/api/approvals?status=pending"):
        hive_of_module.post(f"/api/approvals/{row['id']}/deny")
    for row in hive_of_module.get("/api/questions?status=open"):
        hive_of_module.post(f"/api/questions/{row['id']}/cancel")
    with hive_of_module.client() as client:
        for row in hive_of_module.get("/api/devices"):
            client.delete(f"/api/devices/{row['id']}").raise_for_status()


@pytest.fixture
def context(chromium: Browser, hive: HiveProcess) -> Iterator[BrowserContext]:
    """A browser that is logged in and lets the hive show notifications."""
    context = chromium.new_context(viewport=WIDE)
    context.grant_permissions(["notifications"], origin=hive.origin)
    yield context
    context.close()


def open_page(context: BrowserContext, hive: HiveProcess) -> Page:
    page = context.new_page()
    page.goto(hive.post("/api/login-links")["url"])
    # With all that was there: what comes before that is nobody's news.
    page.get_by_test_id("agent-manager").wait_for()
    return page


def enable(page: Page) -> None:
    page.get_by_test_id("notifications-enable").click()
    expect(page.get_by_test_id("notifications")).to_have_attribute("data-state", "on", timeout=20_000)


def ask_for(hive: HiveProcess, name: str) -> int:
    """Has the manager ask for an agent; the approval's id."""
    with Link(hive, "manager") as link:
        link.call("hello", protocol=PROTOCOL_VERSION, generation=1, holding=[])
        link.call("request_spawn", name=name, description="obey <b>me</b>")
    [row] = [row for row in hive.get("/api/approvals?status=pending") if row["agent"] == name]
    return int(row["id"])


def ask_question(hive: HiveProcess, question: str, **more: Any) -> int:
    """Has the manager ask the operator; the question's id."""
    with Link(hive, "manager") as link:
        link.call("hello", protocol=PROTOCOL_VERSION, generation=1, holding=[])
        key = f"key of {question}"
        answer = link.call("ask_operator", question=question, ttl_seconds=3600, idempotency_key=key, **more)
    return int(answer["result"]["id"])


def add_device(hive: HiveProcess, push_service: PushService) -> None:
    """What the page does once the browser has subscribed."""
    key = hive.get("/api/push-key")["public_key"]
    with hive.browser_session() as client:
        made = client.post("/api/devices", json={**push_service.subscribe(key), "name": "a phone"})
        assert made.status_code == 201, made.text


def shown(page: Page | Worker) -> list[dict[str, Any]]:
    return page.evaluate(LIST)


def wait_shown(page: Page, *tags: str) -> list[dict[str, Any]]:
    wait_for(lambda: sorted(row["tag"] for row in shown(page)) == sorted(tags), f"notifications {tags}")
    return shown(page)


def click(context: BrowserContext, approval: int, action: str = "", times: int = 1) -> None:
    click_need(context, f"approval-{approval}", action, times)


def click_need(context: BrowserContext, key: str, action: str = "", times: int = 1) -> None:
    worker_of(context).evaluate(CLICK, {"tag": f"need-{key}", "action": action, "times": times})


def status_of(hive: HiveProcess, approval: int) -> str:
    return str(hive.get(f"/api/approvals/{approval}")["status"])


def test_a_notification_is_shown_for_a_new_approval_and_none_for_those_at_page_load(
    context: BrowserContext, hive: HiveProcess
) -> None:
    first = ask_for(hive, "early")
    page = open_page(context, hive)
    enable(page)
    expect(page.get_by_test_id(f"need-approval-{first}")).to_be_visible(timeout=20_000)
    second = ask_for(hive, "late")
    [row] = wait_shown(page, f"need-approval-{second}")
    assert row["title"] == "a new agent late waits for approval"
    assert row["actions"] == ["approve", "deny"]
    # What is there when a page loads is nobody's news, and what is shown of it stays.
    page.reload()
    expect(page.get_by_test_id(f"need-approval-{first}")).to_be_visible(timeout=20_000)
    third = ask_for(hive, "last")
    wait_shown(page, f"need-approval-{second}", f"need-approval-{third}")
    # Decided elsewhere, it is taken back.
    hive.post(f"/api/approvals/{second}/deny")
    wait_shown(page, f"need-approval-{third}")


def test_a_notification_shown_while_another_is_taken_back_is_not_lost(
    context: BrowserContext, hive: HiveProcess
) -> None:
    page = open_page(context, hive)
    enable(page)
    keys = [f"approval-{number}" for number in range(900, 920)]
    page.evaluate(
        """async (keys) => {
          const { active } = await navigator.serviceWorker.ready;
          const tell = (notice) => active.postMessage({ type: "notice", notice });
          for (const key of keys) {
            tell({ kind: "need", key, need: "approval", title: key, acts: ["deny"] });
            tell({ kind: "gone", key: "approval-800" });
            await new Promise((resolve) => setTimeout(resolve, 50));
          }
        }""",
        keys,
    )
    wait_shown(page, *(f"need-{key}" for key in keys))


def test_nothing_is_shown_while_they_are_muted_and_again_once_they_are_not(
    context: BrowserContext, hive: HiveProcess
) -> None:
    page = open_page(context, hive)
    enable(page)
    page.get_by_test_id("notifications-mute").click()
    expect(page.get_by_test_id("notifications")).to_have_attribute("data-state", "muted")
    page.reload()
    expect(page.get_by_test_id("notifications")).to_have_attribute("data-state", "muted")
    first = ask_for(hive, "quiet")
    expect(page.get_by_test_id(f"need-approval-{first}")).to_be_visible(timeout=20_000)
    page.get_by_test_id("notifications-unmute").click()
    second = ask_for(hive, "loud")
    wait_shown(page, f"need-approval-{second}")


def test_a_click_brings_the_open_page_to_the_item_and_opens_no_other(
    context: BrowserContext, hive: HiveProcess
) -> None:
    page = open_page(context, hive)
    enable(page)
    approval = ask_for(hive, "clicked")
    wait_shown(page, f"need-approval-{approval}")
    page.get_by_test_id("flow-text").fill("half a sentence")
    page.get_by_role("link", name="manager", exact=True).first.click()
    expect(page.get_by_test_id("agent-state")).to_be_visible()
    click(context, approval)
    # Where it is decided, not its line in the queue.
    expect(page.get_by_test_id(f"approval-{approval}")).to_be_focused(timeout=20_000)
    assert page.url == f"{hive.origin}/#need-approval-{approval}"
    assert len(context.pages) == 1
    expect(page.get_by_test_id("flow-text")).to_have_value("half a sentence")
    assert shown(page) == []
    # Somebody who types there is taken along, too.
    second = ask_for(hive, "again")
    wait_shown(page, f"need-approval-{second}")
    page.get_by_test_id("flow-text").focus()
    click(context, second)
    expect(page.get_by_test_id(f"approval-{second}")).to_be_focused(timeout=20_000)
    assert {status_of(hive, approval), status_of(hive, second)} == {"pending"}


def test_a_click_on_a_question_brings_the_focus_into_its_form_and_half_an_answer_to_another_stays(
    context: BrowserContext, hive: HiveProcess
) -> None:
    page = open_page(context, hive)
    enable(page)
    first = ask_question(hive, "first?")
    wait_shown(page, f"need-question-{first}")
    field = page.get_by_test_id(f"question-{first}").get_by_test_id("answer-text")
    field.fill("half an answer")
    field.focus()
    second = ask_question(hive, "second?", options=["yes", "no"])
    wait_shown(page, f"need-question-{first}", f"need-question-{second}")
    click_need(context, f"question-{second}")
    place = page.get_by_test_id(f"question-{second}")
    expect(place.get_by_label("yes")).to_be_focused(timeout=20_000)
    expect(place.get_by_label("yes")).to_be_in_viewport()
    page.keyboard.press("Space")
    expect(place.get_by_label("yes")).to_be_checked()
    # From another page, too.
    page.goto(f"{hive.origin}/agent/manager/")
    expect(page.get_by_test_id("agent-state")).to_be_visible()
    click_need(context, f"question-{first}")
    expect(field).to_be_focused(timeout=20_000)
    expect(field).to_be_in_viewport()
    expect(field).to_have_value("half an answer")
    assert len(context.pages) == 1


def test_an_approval_is_denied_and_approved_from_its_notification_once_however_often_it_is_clicked(
    context: BrowserContext, hive: HiveProcess
) -> None:
    page = open_page(context, hive)
    enable(page)
    denied, approved = ask_for(hive, "unwanted"), ask_for(hive, "wanted")
    wait_shown(page, f"need-approval-{denied}", f"need-approval-{approved}")
    url = page.url
    click(context, denied, "deny", times=2)
    assert status_of(hive, denied) == "denied"
    assert hive.get(f"/api/approvals/{denied}")["reason"] == "denied from a notification"
    click(context, approved, "approve", times=2)
    wait_for(lambda: status_of(hive, approved) == "deployed", "the agent to be spawned", hive=hive)
    wait_shown(page)
    # Nothing had to be shown for it.
    assert page.url == url
    facts = [row["name"] for row in hive.get("/api/agents")]
    assert "wanted" in facts
    assert "unwanted" not in facts


def test_what_cannot_be_done_from_a_notification_opens_the_page_and_decides_nothing(
    context: BrowserContext, hive: HiveProcess
) -> None:
    page = open_page(context, hive)
    enable(page)
    approval = ask_for(hive, "torn")
    wait_shown(page, f"need-approval-{approval}")
    worker = worker_of(context)
    worker.evaluate("() => { self.realFetch = self.fetch; self.fetch = () => Promise.reject(new TypeError('gone')); }")
    click(context, approval, "deny")
    worker.evaluate("() => { self.fetch = self.realFetch; }")
    expect(page.get_by_test_id(f"approval-{approval}")).to_be_focused(timeout=20_000)
    assert status_of(hive, approval) == "pending"
    # Without a session the hive takes nothing.
    second = ask_for(hive, "locked")
    wait_shown(page, f"need-approval-{second}")
    context.clear_cookies()
    click(context, second, "approve")
    expect(page).to_have_url(re.compile(f"#need-approval-{second}$"))
    assert status_of(hive, second) == "pending"


def test_a_push_arrives_at_the_push_service_while_no_page_is_open(
    context: BrowserContext, hive: HiveProcess, push_service: PushService
) -> None:
    add_device(hive, push_service)
    before = len(push_service.list_contents())
    approval = ask_for(hive, "pushed")
    [content] = wait_for(lambda: push_service.list_contents()[before:], "a push", hive=hive)
    assert (content["kind"], content["key"]) == ("need", f"approval-{approval}")
    assert "obey" not in json.dumps(content)
    hive.post(f"/api/approvals/{approval}/deny")
    gone = wait_for(lambda: push_service.list_contents()[before + 1 :], "the withdrawal", hive=hive)
    assert gone == [{"kind": "gone", "key": f"approval-{approval}"}]


def test_a_push_makes_a_notification_with_every_page_closed_and_deciding_from_it_needs_none(
    context: BrowserContext, hive: HiveProcess, push_service: PushService
) -> None:
    page = open_page(context, hive)
    enable(page)
    page.close()
    # A page of nobody's: the hive has none open.
    session = context.new_cdp_session(context.new_page())
    registration = find_registration(session, hive)
    add_device(hive, push_service)
    before = len(push_service.list_contents())

    def pushed(key: str) -> list[dict[str, Any]]:
        return [content for content in push_service.list_contents()[before:] if content["key"] == key]

    approval, other = ask_for(hive, "closed"), ask_for(hive, "still")
    [first] = wait_for(lambda: pushed(f"approval-{approval}"), "a push", hive=hive)
    [second] = wait_for(lambda: pushed(f"approval-{other}"), "another push", hive=hive)
    deliver(session, hive, registration, first)
    deliver(session, hive, registration, second)
    wait_for(lambda: len(shown(worker_of(context))) == 2, "the notifications")
    # In whatever order the browser got round to them.
    assert {
        "title": "a new agent closed waits for approval",
        "tag": f"need-approval-{approval}",
        "actions": ["approve", "deny"],
    } in shown(worker_of(context))
    click(context, approval, "deny")
    assert status_of(hive, approval) == "denied"
    assert len(context.pages) == 1
    # Decided elsewhere: what stands there goes.
    hive.post(f"/api/approvals/{other}/deny")
    [gone] = wait_for(lambda: pushed(f"approval-{other}")[1:], "the withdrawal", hive=hive)
    deliver(session, hive, registration, gone)
    wait_for(lambda: shown(worker_of(context)) == [], "the notification to be closed")
    # What is no notice of ours shows nothing and breaks nothing.
    for odd in ({}, {"kind": "need"}, {"kind": "later", "key": "x", "title": "y"}):
        deliver(session, hive, registration, odd)
    deliver(session, hive, registration, {"kind": "test", "key": "test", "title": "seen"})
    # The browser may say that something came in the background, for those pushes that showed nothing.
    wait_for(lambda: "seen" in [row["title"] for row in shown(worker_of(context))], "the test")


def test_a_device_is_tried_out_muted_and_removed_in_the_page(
    context: BrowserContext, hive: HiveProcess, push_service: PushService
) -> None:
    add_device(hive, push_service)
    before = len(push_service.list_contents())
    page = open_page(context, hive)
    page.get_by_test_id("devices-toggle").click()
    row = page.get_by_test_id("devices").get_by_role("listitem")
    expect(row).to_contain_text("a phone")
    row.get_by_test_id("device-test").click()
    assert wait_for(lambda: push_service.list_contents()[before:], "the push")[0]["kind"] == "test"
    row.get_by_test_id("device-mute").click()
    expect(row).to_have_attribute("data-muted", "true")
    [device] = hive.get("/api/devices")
    assert device["muted"] is True
    assert "endpoint" not in device
    row.get_by_test_id("device-remove").click()
    row.get_by_test_id("device-remove-yes").click()
    expect(row).to_have_count(0)
    assert hive.get("/api/devices") == []


def worker_of(context: BrowserContext) -> Worker:
    [worker] = context.service_workers
    return worker


def command(session: CDPSession, method: str, **params: str) -> None:
    """One command of the browser's own protocol."""
    # Playwright does not say what its answers are.
    session.send(method, cast("Any", params))  # pyright: ignore[reportUnknownMemberType]


def find_registration(session: CDPSession, hive: HiveProcess) -> str:
    """The browser's name of the hive's worker."""
    found: list[str] = []

    def note(event: dict[str, Any]) -> None:
        found.extend(row["registrationId"] for row in event["registrations"] if row["scopeURL"].startswith(hive.origin))

    def look() -> list[str]:
        # Events come while a command is waited for.
        command(session, "Browser.getVersion")
        return found

    session.on("ServiceWorker.workerRegistrationUpdated", note)
    command(session, "ServiceWorker.enable")
    return str(wait_for(look, "the worker's registration")[0])


def deliver(session: CDPSession, hive: HiveProcess, registration: str, content: dict[str, Any]) -> None:
    """Has the browser treat `content` as a push that it has decrypted."""
    data = json.dumps(content)
    command(session, "ServiceWorker.deliverPushMessage", origin=hive.origin, registrationId=registration, data=data)
