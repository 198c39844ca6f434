"""One turn: what it began with, how it ended, and what of claude's events the transcript keeps."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hyperhive.core.claude_events import ClaudeView
from hyperhive.core.turns import TurnOutcome, TurnPurpose, classify_result
from hyperhive.harness.engine_wire import TurnResult
from hyperhive.wire.agent_link import TurnEndedFields

_REASON_LIMIT_CHARS = 500
# Events that the harness acts on, or that repeat what others say.
_UNRECORDED_TYPES = frozenset({"command_lifecycle", "tool_progress"})
_UNRECORDED_SUBTYPES = frozenset({"session_state_changed", "thinking_tokens"})
_COMPACT_COMMAND = "/compact"
_CHECKPOINT_PROMPT = """\
[from the hive, not from anybody who writes to you] Your conversation will be compacted right after this turn: only a \
summary of it stays. Bring /state/notes.md up to date now, so that you could go on from it alone: what you were asked \
for and by whom, what is done, what comes next, decisions and why, names, paths, ids and open questions. Remove what \
is settled. Do nothing else in this turn."""


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What a turn is to be run with. A `command` is one of claude's own, such as /compact; else it is plain text."""

    purpose: TurnPurpose
    prompt: str
    message_ids: Sequence[int] = ()
    command: bool = False


CHECKPOINT = TurnRequest(TurnPurpose.CHECKPOINT, _CHECKPOINT_PROMPT)
COMPACT = TurnRequest(TurnPurpose.COMPACT, _COMPACT_COMMAND, command=True)


@dataclass(slots=True)
class Turn:
    """A turn under way. `interrupted` is why it was asked to end, if it was."""

    request: TurnRequest
    started_at_s: float
    interrupted: TurnOutcome | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """How a turn ended. `reason` says why if it did not end well; `result` is claude's, empty if there is none."""

    outcome: TurnOutcome
    reason: str = ""
    result: Mapping[str, Any] = field(default_factory=dict[str, Any])


_INTERRUPT_REASONS = {
    TurnOutcome.CANCELLED: "cancelled by the operator",
    TurnOutcome.TIMEOUT: "claude said nothing any more and was interrupted",
}


def read_turn_end(
    request: TurnRequest, answer: TurnResult, interrupted: TurnOutcome | None, view: ClaudeView
) -> TurnEnd:
    """The end that claude told, from structured fields only; `view` is what its events told in the turn."""
    result = answer["result"]
    outcome = classify_result(result, interrupted, answer["api_error"])
    if outcome is TurnOutcome.OK and request.purpose is TurnPurpose.COMPACT and not view.compacted:
        return TurnEnd(TurnOutcome.API_ERROR, view.compact_error or "claude did not compact", result)
    if outcome is TurnOutcome.OK:
        return TurnEnd(outcome, result=result)
    if outcome is interrupted:
        return TurnEnd(outcome, _INTERRUPT_REASONS[outcome], result)
    return TurnEnd(outcome, _find_reason(result), result)


def fail_turn(message: str, interrupted: TurnOutcome | None) -> TurnEnd:
    """The end of a turn that claude did not end: it or the engine ended first, or could not be started."""
    if interrupted is not None:
        return TurnEnd(interrupted, f"{_INTERRUPT_REASONS[interrupted]}: {message}"[:_REASON_LIMIT_CHARS])
    return TurnEnd(TurnOutcome.CRASH, message[:_REASON_LIMIT_CHARS])


def render_ended(
    request: TurnRequest, end: TurnEnd, duration_ms: int, view: ClaudeView, notes_bytes: int
) -> TurnEndedFields:
    """The body of the transcript's `turn.ended`."""
    return TurnEndedFields(
        outcome=str(end.outcome),
        purpose=str(request.purpose),
        reason=end.reason,
        duration_ms=duration_ms,
        usage=end.result.get("usage"),
        total_cost_usd=view.session_usd,
        session_id=end.result.get("session_id"),
        context_tokens=view.context_tokens,
        context_limit=view.context_limit,
        tools=view.tools,
        notes_bytes=notes_bytes,
    )


def is_recorded(event: Mapping[str, Any]) -> bool:
    """Whether an event of claude belongs in the transcript."""
    return event.get("type") not in _UNRECORDED_TYPES and event.get("subtype") not in _UNRECORDED_SUBTYPES


def _find_reason(result: Mapping[str, Any]) -> str:
    """What claude says of a failure, for people to read."""
    errors = result.get("errors")
    text = result.get("result") or (errors[0] if isinstance(errors, list) and errors else "")  # pyright: ignore[reportUnknownVariableType]
    return str(text or result.get("terminal_reason") or "no reason given")[:_REASON_LIMIT_CHARS]  # pyright: ignore[reportUnknownArgumentType]
