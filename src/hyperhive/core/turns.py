"""The turn: its states, what may follow what, and how a turn's end is classified."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class TurnState(StrEnum):
    OFFLINE = "offline"
    NEEDS_LOGIN = "needs_login"
    IDLE = "idle"
    THINKING = "thinking"
    COMPACTING = "compacting"
    PARKED = "parked"


_ONLINE = frozenset({TurnState.IDLE, TurnState.NEEDS_LOGIN, TurnState.PARKED, TurnState.OFFLINE})

TRANSITIONS: dict[TurnState, frozenset[TurnState]] = {
    TurnState.OFFLINE: frozenset(TurnState) - {TurnState.OFFLINE},
    TurnState.NEEDS_LOGIN: _ONLINE | {TurnState.THINKING},
    TurnState.IDLE: _ONLINE | {TurnState.THINKING, TurnState.COMPACTING},
    TurnState.THINKING: _ONLINE | {TurnState.COMPACTING},
    TurnState.COMPACTING: _ONLINE | {TurnState.THINKING},
    TurnState.PARKED: _ONLINE | {TurnState.THINKING},
}


@dataclass(frozen=True, slots=True)
class TurnStatus:
    """What the harness is doing, since when, and why if that is not plain."""

    state: TurnState
    since: datetime
    reason: str = ""


class TurnOutcome(StrEnum):
    """How a turn ended. Only OK acks its messages; CANCELLED acks them too, as the operator ended the work."""

    OK = "ok"
    CANCELLED = "cancelled"
    API_ERROR = "api_error"
    LIMIT = "limit"
    LOGIN = "login"
    PROMPT_TOO_LONG = "prompt_too_long"
    CRASH = "crash"
    TIMEOUT = "timeout"


SETTLING_OUTCOMES = frozenset({TurnOutcome.OK, TurnOutcome.CANCELLED})


def classify_result(result: Mapping[str, Any], cancelled: bool) -> TurnOutcome:
    """The outcome that a `result` event of claude tells, from its structured fields only.

    An API failure has `subtype: "success"` with `is_error: true`; the words of a conversation prove nothing.
    `cancelled` says whether an interrupt was asked for during the turn.
    """
    reason = result.get("terminal_reason")
    if cancelled and reason in {"aborted_streaming", "aborted_tools"}:
        return TurnOutcome.CANCELLED
    if not result.get("is_error"):
        return TurnOutcome.OK
    if reason in {"prompt_too_long", "blocking_limit"}:
        return TurnOutcome.PROMPT_TOO_LONG
    status = result.get("api_error_status")
    if status == 401:
        return TurnOutcome.LOGIN
    if status == 429:
        return TurnOutcome.LIMIT
    if reason in {"aborted_streaming", "aborted_tools"}:
        return TurnOutcome.CRASH
    return TurnOutcome.API_ERROR


def is_messages_fault(outcome: TurnOutcome, result: Mapping[str, Any]) -> bool:
    """Whether a failed turn counts against the messages it was given, `result` being claude's, if there is one.

    A service that is down or overloaded says nothing about them: waiting through a night of it must not make them
    dead. Refusing this very request does.
    """
    if outcome in {TurnOutcome.LOGIN, TurnOutcome.LIMIT}:
        return False
    if outcome is TurnOutcome.API_ERROR and result.get("terminal_reason") == "api_error":
        status = result.get("api_error_status")
        return isinstance(status, int) and 400 <= status < 500 and status not in _PASSING_STATUS
    return True


# Request timeout, conflict, too many requests: what the service itself asks to repeat.
_PASSING_STATUS = frozenset({408, 409, 429})


def plan_retry_s(failures: int) -> float:
    """Seconds to wait before the next turn after `failures` failed ones in a row: 2 s doubling up to 5 minutes."""
    return min(2.0 * 2 ** (failures - 1), 300.0) if failures > 0 else 0.0
