"""The queue of what needs the operator, in Chromium: each is asked in one place, and everything else stays as it is."""

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from browser.conftest import PHONE
from hive_process import HiveProcess, wait_for
from hyperhive.core.messages import DELIVERY_ATTEMPTS
from hyperhive.wire.agent_link import PROTOCOL_VERSION
from link_lines import Link

HALF = "half an ans"


@contextmanager
def asker(hive: HiveProcess) -> Generator[Link]:
    """A harness of the test's in the place of the manager's container."""
    hive.wait_state("manager", "idle")
    hive.post("/api/agents/manager/stop")
    hive.wait_state("manager", "stopped")
    with Link(hive, "manager") as link:
        link.call("hello", protocol=PROTOCOL_VERSION, generation=1, holding=[])
        yield link


def ask(link: Link, question: str, ttl_s: int = 3600, **more: Any) -> int:
    answer = link.call(
        "ask_operator", question=question, ttl_seconds=ttl_s, idempotency_key=f"key of {question[:40]}", **more
    )
    return answer["result"]["id"]


def kill_letter(hive: HiveProcess, link: Link, body: str) -> int:
    """A message to the manager whose every turn failed."""
    id_ = hive.post("/api/messages", {"to": "manager", "body": body})["id"]
    for _ in range(DELIVERY_ATTEMPTS):
        link.call("recv", max=8, wait_s=0)
        link.call("requeue", ids=[id_], reason="the turn failed", failed=True)
    return id_


def need(page: Page, key: str) -> Locator:
    return page.get_by_test_id(f"need-{key}")


def question(page: Page, id_: int) -> Locator:
    """Where it is answered."""
    return page.get_by_test_id(f"question-{id_}")


def leave(page: Page) -> None:
    """Nobody is at the lists any more: what ended goes."""
    page.evaluate("document.activeElement.blur()")
    page.mouse.move(5, 5)


def type_half(page: Page, id_: int) -> Locator:
    """Half an answer, and an option; the focus stays there."""
    row = question(page, id_)
    row.get_by_label("two").check()
    field = row.get_by_test_id("answer-text")
    field.press_sequentially(HALF)
    return field


def check_half(page: Page, id_: int) -> None:
    row = question(page, id_)
    field = row.get_by_test_id("answer-text")
    expect(field).to_have_value(HALF)
    expect(field).to_be_focused()
    expect(row.get_by_label("two")).to_be_checked()


def test_a_question_with_options_free_text_and_a_countdown_is_answered_by_keyboard_from_the_queue(
    page: Page, hive: HiveProcess
) -> None:
    expect(page.get_by_test_id("needs")).to_contain_text("nothing needs you")
    expect(page).to_have_title("hyperhive")
    with asker(hive) as link:
        id_ = ask(link, "which colour should it have?", ttl_s=120, options=["amber", "mauve"])
        row = need(page, f"question-{id_}")
        expect(row).to_contain_text("which colour should it have?")
        expect(row).to_contain_text("if you do nothing: it expires")
        expect(page).to_have_title("(1) hyperhive")
        expect(page.get_by_test_id("needs-count")).to_have_text("1 needs you")
        # Asked once: the queue has a line of it, with the way to its one form.
        expect(row.locator("input, textarea")).to_have_count(0)
        place = question(page, id_)
        expect(page.locator(".answer")).to_have_count(1)
        for shown in (row, place):
            timer = shown.get_by_role("timer")
            first = timer.inner_text()
            assert first.endswith(" left")
            expect(timer).not_to_have_text(first)
        expect(place.get_by_test_id("answer")).to_have_attribute("aria-disabled", "true")
        row.get_by_test_id("need-go").focus()
        page.keyboard.press("Enter")
        expect(place.get_by_label("amber")).to_be_focused()
        expect(place.get_by_label("amber")).to_be_in_viewport()
        page.keyboard.press("ArrowDown")
        expect(place.get_by_label("mauve")).to_be_checked()
        page.keyboard.press("Tab")
        page.keyboard.type("but a dark one")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(place).to_have_attribute("data-status", "answered")
        expect(place).to_be_focused()
        expect(row).to_have_attribute("data-gone", "true")
        expect(page).to_have_title("hyperhive")
        expect(page.get_by_test_id("needs-count")).to_have_text("")
        leave(page)
        expect(row).to_have_count(0)
        expect(page.locator(".answer")).to_have_count(0)
        expect(page.get_by_test_id("needs")).to_contain_text("nothing needs you")
        [told] = [m for m in hive.get("/api/messages") if m["recipient"] == "manager" and m["sender"] == "operator"]
        assert "mauve" in told["body"]
        assert "but a dark one" in told["body"]


def cancel_by_operator(hive: HiveProcess, link: Link, id_: int) -> None:
    hive.post(f"/api/questions/{id_}/cancel")


def cancel_by_asker(hive: HiveProcess, link: Link, id_: int) -> None:
    assert "result" in link.call("cancel_question", id=id_)


def wait_for_its_end(hive: HiveProcess, link: Link, id_: int) -> None:
    """It expires by itself."""


@pytest.mark.parametrize(
    ("ttl_s", "end", "status"),
    [(3600, cancel_by_operator, "cancelled"), (3600, cancel_by_asker, "cancelled"), (4, wait_for_its_end, "expired")],
)
def test_one_question_ends_while_half_an_answer_to_another_stays(
    page: Page, hive: HiveProcess, ttl_s: int, end: Callable[[HiveProcess, Link, int], None], status: str
) -> None:
    with asker(hive) as link:
        kept = ask(link, "this one?", options=["one", "two"])
        expect(need(page, f"question-{kept}")).to_be_visible()
        type_half(page, kept)
        ending = ask(link, "or that one?", ttl_s=ttl_s)
        expect(need(page, f"question-{ending}")).to_be_visible()
        expect(page).to_have_title("(2) hyperhive")
        expect(page.locator(".answer")).to_have_count(2)
        above, below = page.get_by_test_id("needs"), question(page, ending)
        places = above.bounding_box(), (below.bounding_box() or {}).get("height")
        end(hive, link, ending)
        expect(need(page, f"question-{ending}")).to_have_attribute("data-gone", "true", timeout=15_000)
        expect(question(page, ending)).to_have_attribute("data-status", status)
        expect(page).to_have_title("(1) hyperhive")
        check_half(page, kept)
        # What ended keeps its place, in the queue above and where it was answered: nothing moves under the hand.
        assert (above.bounding_box(), (below.bounding_box() or {}).get("height")) == places
        page.keyboard.type("wer")
        leave(page)
        expect(need(page, f"question-{ending}")).to_have_count(0)
        expect(page.locator(".answer")).to_have_count(1)
        expect(question(page, kept).get_by_test_id("answer-text")).to_have_value(f"{HALF}wer")


def test_half_an_answer_survives_a_crash_of_the_daemon(page: Page, hive: HiveProcess) -> None:
    with asker(hive) as link:
        kept = ask(link, "this one?", options=["one", "two"])
        type_half(page, kept)
    hive.kill()
    hive.start()
    expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "up", timeout=30_000)
    check_half(page, kept)
    expect(page).to_have_title("(1) hyperhive")


def test_an_address_with_a_questions_name_goes_to_its_form_also_when_that_comes_after_its_line(
    page: Page, hive: HiveProcess
) -> None:
    with asker(hive) as link:
        first = ask(link, "first?")
        page.goto(f"{hive.origin}/agent/manager/")
        expect(page).to_have_title(re.compile(r"\(1\) manager"))
        # The dashboard loads everything anew: the questions are answered before the second is asked, the queue after.
        with page.expect_response("**/api/questions?*"):
            page.route("**/api/needs", lambda _: None)
            page.get_by_test_id("needs-count").get_by_role("link").click()
        page.goto(f"{hive.origin}/#need-question-{first + 1}")
        second = ask(link, "second?")
        page.unroute("**/api/needs")
        expect(question(page, second).get_by_test_id("answer-text")).to_be_focused(timeout=20_000)


def test_an_address_with_a_questions_name_goes_to_its_form_also_when_it_comes_later(
    page: Page, hive: HiveProcess
) -> None:
    page.set_viewport_size(PHONE)
    with asker(hive) as link:
        first = ask(link, "first?")
        page.goto(f"{hive.origin}/agent/manager/")
        expect(page).to_have_title(re.compile(r"\(1\) manager"))
        page.get_by_test_id("needs-count").get_by_role("link").click()
        expect(page.locator("#needs")).to_be_focused()
        expect(need(page, f"question-{first}")).to_be_in_viewport()

        page.goto(f"{hive.origin}/#need-question-{first + 1}")
        expect(need(page, f"question-{first}")).to_be_visible()
        second = ask(link, "second?")
        assert second == first + 1
        field = question(page, second).get_by_test_id("answer-text")
        expect(field).to_be_focused()
        expect(field).to_be_in_viewport()
        page.keyboard.type("at once")
        expect(field).to_have_value("at once")
        # And from one to the other, from the queue.
        need(page, f"question-{first}").get_by_test_id("need-go").click()
        expect(question(page, first).get_by_test_id("answer-text")).to_be_focused()
        expect(field).to_have_value("at once")


def test_an_approval_is_gone_to_from_the_queue_and_decided_in_its_one_place(page: Page, hive: HiveProcess) -> None:
    with asker(hive) as link:
        link.call("request_spawn", name="scribe", description="writes things down")
        link.call("request_spawn", name="noise", description="makes noise")
        row = need(page, "approval-2")
        expect(row).to_contain_text("a new agent noise waits for approval")
        expect(page.get_by_test_id("needs").get_by_role("button")).to_have_count(0)
        expect(page.locator(".decision")).to_have_count(2)
        row.get_by_test_id("need-go").click()
        place = page.get_by_test_id("approval-2")
        # A key that was meant for something else decides nothing.
        expect(place).to_be_focused()
        expect(place).to_be_in_viewport()
        place.get_by_test_id("deny-open").click()
        place.get_by_test_id("deny-reason").fill("no noise")
        place.get_by_test_id("deny").click()
        expect(place).to_have_attribute("data-status", "denied")
        leave(page)
        expect(row).to_have_count(0)
        expect(page.locator(".decision")).to_have_count(1)
        row = need(page, "approval-1")
        place = page.get_by_test_id("approval-1")
        place.get_by_test_id("review-toggle").click()
        expect(place.get_by_test_id("review-1")).to_have_count(0)
        row.get_by_test_id("need-go").click()
        expect(place.get_by_test_id("review-1")).to_contain_text("with the default config")
        place.get_by_test_id("approve").click()
        expect(page.get_by_test_id("agent-scribe")).to_be_visible()
        leave(page)
        expect(row).to_have_count(0)
        expect(page.get_by_test_id("approval-1")).to_have_attribute("data-status", "deployed", timeout=60_000)
        expect(page).to_have_title("hyperhive")


def test_dead_letters_are_queued_again_or_dismissed_and_by_keyboard(page: Page, hive: HiveProcess) -> None:
    with asker(hive) as link:
        first, second = kill_letter(hive, link, "one"), kill_letter(hive, link, "two")
        row = need(page, f"dead_letter-{first}")
        expect(row).to_contain_text("the turn failed")
        row.get_by_test_id("need-requeue").focus()
        page.keyboard.press("Enter")
        # The focus goes on with the row that ended, and the keyboard with it.
        expect(need(page, f"dead_letter-{second}")).to_be_focused()
        page.keyboard.press("Tab")
        while page.evaluate("document.activeElement.dataset.testid") != "need-dismiss":
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("#needs")).to_be_focused()
        expect(page).to_have_title("hyperhive")
        states = {message["id"]: message["state"] for message in hive.get("/api/messages")}
        assert (states[first], states[second]) == ("queued", "dead")


def test_a_needed_login_leads_to_the_login_box_of_the_agent(page: Page, hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    with Link(hive, "manager") as link:
        link.call("hello", protocol=PROTOCOL_VERSION, generation=1, holding=[])
        park = (
            '{"jsonrpc": "2.0", "id": 7, "method": "park", "params": {"kind": "login", "until": "", "reason": "401"}}'
        )
        link.send(park.encode() + b"\n")
        row = need(page, "login-manager")
        expect(row).to_contain_text("manager needs a login")
        row.get_by_role("link", name="log manager in").click()
        expect(page.get_by_test_id("login-box")).to_be_visible()
        expect(page.locator("#login")).to_be_focused()
    wait_for(lambda: hive.agent("manager")["park"], "the park", hive=hive)


def test_the_queue_fits_a_phone(page: Page, hive: HiveProcess) -> None:
    page.set_viewport_size(PHONE)
    with asker(hive) as link:
        ask(link, "x" * 300 + " and " + "words " * 60, options=["an option that goes on " * 6, "y" * 150])
        link.call("request_spawn", name="scribe-of-the-very-long-name", description="d" * 300)
        kill_letter(hive, link, "z" * 400)
        expect(page.get_by_test_id("needs").locator("li")).to_have_count(3)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
