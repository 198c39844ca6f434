"""How a turn's end is read: from structured fields, never from words. The recordings are of the real CLI."""

import json
from pathlib import Path
from typing import Any

import pytest

from hyperhive.core.turns import (
    GIVE_UP_FAILURES,
    GIVE_UP_OUTAGES,
    TRANSITIONS,
    Failures,
    TurnOutcome,
    TurnState,
    classify_result,
    is_messages_fault,
    plan_retry_s,
)

RECORDINGS = Path(__file__).parents[1] / "data" / "claude-events"


def last_result(name: str) -> dict[str, Any]:
    events = [json.loads(line) for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines()]
    return [event for event in events if event.get("type") == "result"][-1]


@pytest.mark.parametrize(
    ("recording", "outcome"),
    [
        ("hello", TurnOutcome.OK),
        ("parallel", TurnOutcome.OK),
        ("401", TurnOutcome.LOGIN),
        ("oauth-401", TurnOutcome.LOGIN),
        ("ratelimit-rejected", TurnOutcome.LIMIT),
        ("ptl-always", TurnOutcome.COMPACT_RETRY),
        ("max-turns", TurnOutcome.API_ERROR),
    ],
)
def test_recorded_results_are_classified(recording: str, outcome: TurnOutcome) -> None:
    assert classify_result(last_result(recording)) is outcome


def test_an_interrupt_is_what_it_was_asked_for_as() -> None:
    result = {"is_error": True, "terminal_reason": "aborted_streaming"}
    assert classify_result(result, TurnOutcome.CANCELLED) is TurnOutcome.CANCELLED
    assert classify_result(result, TurnOutcome.TIMEOUT) is TurnOutcome.TIMEOUT
    assert classify_result(result) is TurnOutcome.CRASH


def test_a_cancel_that_came_too_late_leaves_a_good_turn_good() -> None:
    assert classify_result({"is_error": False, "terminal_reason": "completed"}, TurnOutcome.CANCELLED) is TurnOutcome.OK


def test_words_in_the_answer_prove_nothing() -> None:
    result = {"is_error": False, "result": "429 rate limit reached, please log in"}
    assert classify_result(result) is TurnOutcome.OK


def test_retries_back_off_to_five_minutes() -> None:
    assert [plan_retry_s(n) for n in (0, 1, 2, 3)] == [0, 2, 4, 8]
    assert plan_retry_s(50) == 300


def test_every_state_may_go_offline_and_come_back() -> None:
    assert set(TRANSITIONS) == set(TurnState)
    assert all(TurnState.OFFLINE in follows for state, follows in TRANSITIONS.items() if state is not TurnState.OFFLINE)


@pytest.mark.parametrize(
    ("outcome", "status", "fault"),
    [
        ("api_error", 529, False),
        ("api_error", 500, False),
        ("api_error", None, False),
        ("api_error", 429, False),
        ("api_error", 400, True),
        ("api_error", 413, True),
        ("api_error", 404, False),
        ("login", 401, False),
        ("limit", 429, False),
        ("limit", 402, False),
        ("compact_retry", 400, True),
        ("crash", None, True),
    ],
)
def test_an_outage_does_not_count_against_the_messages(outcome: str, status: int | None, fault: bool) -> None:
    result = {"is_error": True, "terminal_reason": "api_error", "api_error_status": status}
    assert is_messages_fault(TurnOutcome(outcome), result) is fault


@pytest.mark.parametrize(
    ("status", "api_error", "outcome"),
    [
        (402, "", TurnOutcome.LIMIT),
        (400, "billing_error", TurnOutcome.LIMIT),
        (None, "authentication_failed", TurnOutcome.LOGIN),
        (403, "", TurnOutcome.API_ERROR),
        ([401], "", TurnOutcome.API_ERROR),
        (None, "", TurnOutcome.API_ERROR),
    ],
)
def test_failures_are_told_by_status_or_by_the_mark_on_the_answer(
    status: Any, api_error: str, outcome: TurnOutcome
) -> None:
    result = {"is_error": True, "terminal_reason": "api_error", "api_error_status": status}
    assert classify_result(result, api_error=api_error) is outcome


OUTAGE = {"is_error": True, "terminal_reason": "api_error", "api_error_status": 529}
REFUSED = {"is_error": True, "terminal_reason": "api_error", "api_error_status": 403}


def test_only_a_turn_that_ends_well_resets_the_failures() -> None:
    failures = Failures().count(TurnOutcome.API_ERROR, REFUSED).count(TurnOutcome.CRASH, {})
    for outcome in (TurnOutcome.CANCELLED, TurnOutcome.LIMIT, TurnOutcome.LOGIN):
        assert failures.count(outcome, {}) == failures
    assert failures == Failures(own=2)
    assert failures.count(TurnOutcome.OK, {}) == Failures()


def test_an_outage_is_waited_for_far_longer_than_a_failure_of_ones_own() -> None:
    failures = Failures()
    for _ in range(GIVE_UP_FAILURES):
        assert not failures.are_enough
        failures = failures.count(TurnOutcome.TIMEOUT, {})
    assert failures.are_enough
    outages = Failures()
    for _ in range(GIVE_UP_OUTAGES):
        assert not outages.are_enough
        outages = outages.count(TurnOutcome.API_ERROR, OUTAGE)
    assert outages.are_enough
    assert outages.retry_s == 300
