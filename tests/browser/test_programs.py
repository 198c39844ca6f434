"""The page of webhooks and tokens in Chromium, with a receiver that is a real web server."""

import hashlib
import hmac
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from axe import find_violations
from browser.conftest import PHONE, choose
from hive_process import HiveProcess, end_hive, wait_for
from hook_receiver import Receiver, run_receiver

SOON_MS = 30_000


@pytest.fixture
def hive() -> Iterator[HiveProcess]:
    """A rehearsal that may also send to this machine."""
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        hive = HiveProcess(Path(folder) / "data", environment={"HIVE_WEBHOOK_PRIVATE": "1"}).start()
        try:
            hive.wait_state("manager", "idle")
            yield hive
        finally:
            end_hive(hive)


@pytest.fixture
def receiver() -> Generator[Receiver]:
    with run_receiver() as receiver:
        yield receiver


def open_programs(page: Page) -> Locator:
    page.get_by_role("link", name="programs").click()
    webhooks = page.get_by_test_id("webhooks")
    expect(webhooks.get_by_test_id("webhook-form")).to_be_visible(timeout=SOON_MS)
    return webhooks


def add(page: Page, url: str, events: str) -> str:
    """Adds a webhook by keyboard alone. Returns its secret, and puts that away."""
    page.get_by_label("address", exact=True).focus()
    page.keyboard.type(url)
    page.keyboard.press("Tab")
    page.keyboard.type(events)
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.get_by_test_id("webhook-bodies")).to_be_checked()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    secret = page.get_by_test_id("webhook-secret-text")
    expect(secret).to_be_visible(timeout=SOON_MS)
    text = secret.input_value()
    page.get_by_test_id("webhook-secret-close").click()
    expect(secret).to_have_count(0)
    return text


def pause(hive: HiveProcess, reason: str) -> None:
    """Something that a webhook for agent.* is told, with a text of the operator's in it."""
    hive.post("/api/agents/manager/pause", {"reason": reason})
    hive.post("/api/agents/manager/resume")


def test_a_webhook_is_added_tested_blocked_freed_and_removed(page: Page, hive: HiveProcess, receiver: Receiver) -> None:
    webhooks = open_programs(page)
    secret = add(page, receiver.url, "agent.parked, agent.resumed")
    row = webhooks.get_by_test_id("webhook-1")
    expect(row).to_contain_text(f"http://127.0.0.1:{receiver.port}")
    assert "s3cret" not in page.content()
    assert secret not in page.content()

    row.get_by_test_id("webhook-test").click()
    expect(page.get_by_test_id("toast-done").last).to_contain_text("the test was taken", timeout=SOON_MS)
    headers, body = receiver.requests[0]
    signed = f"{headers['x-hive-timestamp']}.".encode() + body
    assert headers["x-hive-signature"] == f"v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"

    pause(hive, "one")
    expect(row).to_have_attribute("data-state", "delivered", timeout=SOON_MS)
    wait_for(lambda: len(receiver.taken) == 3, "both events to come", hive=hive)

    receiver.status = 503
    pause(hive, "two")
    pause(hive, "three")
    expect(row).to_have_attribute("data-state", "failing", timeout=SOON_MS)
    expect(row.get_by_test_id("webhook-error")).to_contain_text("127.0.0.1 answered 503")
    expect(row.get_by_test_id("webhook-fault")).to_contain_text("agent.parked of manager", timeout=SOON_MS)
    expect(row.get_by_test_id("webhook-fault")).to_contain_text("with 3 behind it", timeout=SOON_MS)
    assert find_violations(page) == []
    row.get_by_test_id("webhook-retry").click()
    expect(page.get_by_test_id("toast-error").last).to_contain_text("it was not taken", timeout=SOON_MS)
    row.get_by_test_id("webhook-drop").click()
    row.get_by_test_id("webhook-drop-no").click()
    assert hive.get("/api/webhooks")[0]["dead"] == 0

    receiver.statuses = [503]
    row.get_by_test_id("webhook-drop").click()
    row.get_by_test_id("webhook-drop-yes").click()
    expect(row.get_by_test_id("webhook-dead")).to_have_text("1 given up", timeout=SOON_MS)
    expect(row.get_by_test_id("webhook-dead-reason")).to_contain_text("dropped by the operator: 127.0.0.1 answered 503")
    receiver.status = 200
    row.get_by_test_id("webhook-retry").click()
    expect(row).to_have_attribute("data-state", "delivered", timeout=SOON_MS)
    wait_for(lambda: len(receiver.taken) == 6, "what was behind it to come", hive=hive)
    names = [event["name"] for event in receiver.taken]
    assert names == [
        "webhook.test",
        *["agent.parked", "agent.resumed"],
        "agent.resumed",
        "agent.parked",
        "agent.resumed",
    ]

    row.get_by_test_id("webhook-remove").click()
    row.get_by_test_id("webhook-remove-yes").click()
    expect(row).to_have_count(0, timeout=SOON_MS)
    assert hive.get("/api/webhooks") == []


def test_what_is_typed_outlives_updates(page: Page, hive: HiveProcess, receiver: Receiver) -> None:
    webhooks = open_programs(page)
    page.get_by_test_id("webhook-url").fill("https://nowhere.example/")
    # Another page, or the command, adds one meanwhile.
    hive.post("/api/webhooks", {"url": receiver.url, "events": ["agent.*"]})
    expect(webhooks.get_by_test_id("webhook-1")).to_be_visible(timeout=SOON_MS)
    expect(page.get_by_test_id("webhook-url")).to_have_value("https://nowhere.example/")
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0


def test_the_palette_and_the_address_lead_there_and_tokens_are_made_by_the_command(
    page: Page, hive: HiveProcess
) -> None:
    choose(page, "webhooks", "programs")
    expect(page).to_have_url(f"{hive.origin}/programs/")
    expect(page).to_have_title("programs · hyperhive")
    page.reload()
    expect(page.get_by_test_id("tokens")).to_contain_text("hive token create")
