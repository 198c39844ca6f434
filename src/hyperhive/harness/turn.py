"""One turn: what it began with, how it ended, and what of claude's events the transcript keeps."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hyperhive.core.turns import TurnOutcome, classify_result
from hyperhive.harness.engine_wire import TurnResult

_REASON_LIMIT_CHARS = 500
# Events that the harness acts on, or that repeat what others say.
_UNRECORDED_TYPES = frozenset({"command_lifecycle", "tool_progress"})
_UNRECORDED_SUBTYPES = frozenset({"session_state_changed", "thinking_tokens"})


@dataclass(slots=True)
class Turn:
    """A turn under way. `cancelled` says that the operator asked to end it."""

    prompt: str
    message_ids: list[int]
    started_at_s: float
    cancelled: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """How a turn ended. `reason` says why if it did not end well; `result` is claude's, empty if there is none."""

    outcome: TurnOutcome
    reason: str = ""
    result: Mapping[str, Any] | None = None

    def render_event(self, duration_ms: int) -> dict[str, Any]:
        """The body of the transcript's `turn.ended`."""
        result = self.result or {}
        return {
            "outcome": str(self.outcome),
            "reason": self.reason,
            "duration_ms": duration_ms,
            "usage": result.get("usage"),
            "total_cost_usd": result.get("total_cost_usd"),
            "session_id": result.get("session_id"),
        }


def read_turn_end(answer: TurnResult, cancelled: bool) -> TurnEnd:
    """The end that claude told, from structured fields only."""
    result = answer["result"]
    outcome = classify_result(result, cancelled)
    if outcome is TurnOutcome.API_ERROR and answer["api_error"] == "authentication_failed":
        # Without any credentials claude makes no request, so that there is no status to tell.
        outcome = TurnOutcome.LOGIN
    if outcome is TurnOutcome.OK:
        return TurnEnd(outcome, result=result)
    if outcome is TurnOutcome.CANCELLED:
        return TurnEnd(outcome, "cancelled by the operator", result)
    return TurnEnd(outcome, _find_reason(result), result)


def is_recorded(event: Mapping[str, Any]) -> bool:
    """Whether an event of claude belongs in the transcript."""
    return event.get("type") not in _UNRECORDED_TYPES and event.get("subtype") not in _UNRECORDED_SUBTYPES


def _find_reason(result: Mapping[str, Any]) -> str:
    """What claude says of a failure, for people to read."""
    errors = result.get("errors")
    text = result.get("result") or (errors[0] if isinstance(errors, list) and errors else "")  # pyright: ignore[reportUnknownVariableType]
    return str(text or result.get("terminal_reason") or "no reason given")[:_REASON_LIMIT_CHARS]  # pyright: ignore[reportUnknownArgumentType]
