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


class TurnPurpose(StrEnum):
    """What a turn is for: messages, writing down what matters before a compaction, or the compaction itself."""

    MESSAGES = "messages"
    CHECKPOINT = "checkpoint"
    COMPACT = "compact"


class TurnOutcome(StrEnum):
    """How a turn ended. Only OK acks its messages; CANCELLED acks them too, as the operator ended the work.

    COMPACT_RETRY: the prompt was too long; the conversation is made shorter and the turn run again.
    """

    OK = "ok"
    COMPACT_RETRY = "compact_retry"
    CANCELLED = "cancelled"
    API_ERROR = "api_error"
    LIMIT = "limit"
    LOGIN = "login"
    CRASH = "crash"
    TIMEOUT = "timeout"


SETTLING_OUTCOMES = frozenset({TurnOutcome.OK, TurnOutcome.CANCELLED})
# Why claude was interrupted, and what a turn is then that ends by it.
_ABORTED = frozenset({"aborted_streaming", "aborted_tools"})
_TOO_LONG = frozenset({"prompt_too_long", "blocking_limit"})
# 402: no money left, by the hive's own budget or by the service. 429: a usage limit, or too many requests.
_BY_STATUS = {401: TurnOutcome.LOGIN, 402: TurnOutcome.LIMIT, 429: TurnOutcome.LIMIT}
# What claude marks an answer with that it made up since it could not ask, where there was no status to tell.
_BY_API_ERROR = {"authentication_failed": TurnOutcome.LOGIN, "billing_error": TurnOutcome.LIMIT}


def classify_result(
    result: Mapping[str, Any], interrupted: TurnOutcome | None = None, api_error: str = ""
) -> TurnOutcome:
    """The outcome that a `result` event of claude tells, from its structured fields only.

    An API failure has `subtype: "success"` with `is_error: true`; the words of a conversation prove nothing.
    `interrupted` is why claude was interrupted during the turn, if it was; `api_error` is what it marked its last
    answer with.
    """
    reason = str(result.get("terminal_reason"))
    if reason in _ABORTED and interrupted is not None:
        return interrupted
    if not result.get("is_error"):
        return TurnOutcome.OK
    if reason in _TOO_LONG:
        return TurnOutcome.COMPACT_RETRY
    if reason in _ABORTED:
        return TurnOutcome.CRASH
    status = result.get("api_error_status")
    known = _BY_STATUS.get(status) if isinstance(status, int) else None
    return known or _BY_API_ERROR.get(api_error, TurnOutcome.API_ERROR)


def is_outage(outcome: TurnOutcome, result: Mapping[str, Any]) -> bool:
    """Whether a failed turn says nothing but that the service cannot serve now, `result` being claude's, if any."""
    if outcome is not TurnOutcome.API_ERROR or result.get("terminal_reason") != "api_error":
        return False
    status = result.get("api_error_status")
    return not isinstance(status, int) or not 400 <= status < 500 or status in _PASSING_STATUS


def is_messages_fault(outcome: TurnOutcome, result: Mapping[str, Any]) -> bool:
    """Whether a failed turn counts against the messages it was given, `result` being claude's, if there is one.

    A service that is down or overloaded says nothing about them: waiting through a night of it must not make them
    dead. Nor does a model that does not exist (404). Refusing this very request does.
    """
    if outcome in {TurnOutcome.LOGIN, TurnOutcome.LIMIT} or is_outage(outcome, result):
        return False
    return outcome is not TurnOutcome.API_ERROR or result.get("api_error_status") != 404


# Request timeout, conflict, too many requests: what the service itself asks to repeat.
_PASSING_STATUS = frozenset({408, 409, 429})

# Ten tries of what fails by itself take about a quarter of an hour. An outage of the service is waited for longer: each
# of these tries is ten of claude's own, so they are about a day.
GIVE_UP_FAILURES = 10
GIVE_UP_OUTAGES = 200


@dataclass(frozen=True, slots=True)
class Failures:
    """How many turns failed in a row, since the last one that ended well: nothing else resets it."""

    own: int = 0
    outages: int = 0

    def count(self, outcome: TurnOutcome, result: Mapping[str, Any]) -> "Failures":
        """With one more turn. A usage limit, a missing login or a cancel is no failure, and no progress."""
        if outcome is TurnOutcome.OK:
            return Failures()
        if outcome in {TurnOutcome.CANCELLED, TurnOutcome.LIMIT, TurnOutcome.LOGIN}:
            return self
        if is_outage(outcome, result):
            return Failures(self.own, self.outages + 1)
        return Failures(self.own + 1, self.outages)

    @property
    def are_enough(self) -> bool:
        """Whether trying on by itself makes no sense any more."""
        return self.own >= GIVE_UP_FAILURES or self.outages >= GIVE_UP_OUTAGES

    @property
    def retry_s(self) -> float:
        """Seconds to wait before the next turn."""
        return plan_retry_s(self.own + self.outages)


def plan_retry_s(failures: int) -> float:
    """Seconds to wait after `failures` failed tries in a row: 2 s doubling up to 5 minutes."""
    return min(2.0 * 2 ** (min(failures, 20) - 1), 300.0) if failures > 0 else 0.0
