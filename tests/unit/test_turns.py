"""How a turn's end is read: from structured fields, never from words. The recordings are of the real CLI."""

import json
from pathlib import Path
from typing import Any

import pytest

from hyperhive.core.turns import TRANSITIONS, TurnOutcome, TurnState, classify_result, is_messages_fault, plan_retry_s

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
        ("ptl-always", TurnOutcome.PROMPT_TOO_LONG),
        ("max-turns", TurnOutcome.API_ERROR),
    ],
)
def test_recorded_results_are_classified(recording: str, outcome: TurnOutcome) -> None:
    assert classify_result(last_result(recording), cancelled=False) is outcome


def test_an_interrupt_is_cancelled_only_if_it_was_asked_for() -> None:
    result = {"is_error": True, "terminal_reason": "aborted_streaming"}
    assert classify_result(result, cancelled=True) is TurnOutcome.CANCELLED
    assert classify_result(result, cancelled=False) is TurnOutcome.CRASH


def test_a_cancel_that_came_too_late_leaves_a_good_turn_good() -> None:
    assert classify_result({"is_error": False, "terminal_reason": "completed"}, cancelled=True) is TurnOutcome.OK


def test_words_in_the_answer_prove_nothing() -> None:
    result = {"is_error": False, "result": "429 rate limit reached, please log in"}
    assert classify_result(result, cancelled=False) is TurnOutcome.OK


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
        ("login", 401, False),
        ("limit", 429, False),
        ("prompt_too_long", 400, True),
        ("crash", None, True),
    ],
)
def test_an_outage_does_not_count_against_the_messages(outcome: str, status: int | None, fault: bool) -> None:
    result = {"is_error": True, "terminal_reason": "api_error", "api_error_status": status}
    assert is_messages_fault(TurnOutcome(outcome), result) is fault
