"""Reminders: what an agent wants to be told later, and when that may be."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from hyperhive.core.errors import InvalidInputError

NOTE_LIMIT_CHARS = 4000
AHEAD_LIMIT_DAYS = 366
# Of one agent; who wants more is better served by notes.
WAITING_LIMIT = 100

_AHEAD_LIMIT = timedelta(days=AHEAD_LIMIT_DAYS)
_EXAMPLE = "2026-11-21T19:30:00Z"


class ReminderState(StrEnum):
    WAITING = "waiting"
    SENT = "sent"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Reminder:
    id: int
    agent: str
    note: str
    due_at: datetime
    created_at: datetime
    state: ReminderState


def parse_note(note: str) -> str:
    """`note` if an agent can be reminded of it. Raises InvalidInputError."""
    if not note.strip() or len(note) > NOTE_LIMIT_CHARS:
        raise InvalidInputError(
            f"a note has 1 to {NOTE_LIMIT_CHARS:,} characters", "keep what is longer in a file, and name that"
        )
    if any("\ud800" <= char <= "\udfff" for char in note):
        raise InvalidInputError("the note is not valid text (lone surrogates)", "write valid UTF-8")
    return note


def parse_due(at: str | None, in_seconds: float | None, present: datetime) -> datetime:
    """When a reminder is due: at an instant (RFC 3339), or so many seconds after `present`.

    Raises InvalidInputError unless exactly one is given, and it lies ahead, by AHEAD_LIMIT_DAYS at most.
    """
    if (at is None) == (in_seconds is None):
        raise InvalidInputError("give either at or in_seconds", f"at: {_EXAMPLE!r}, or in_seconds: 600")
    if in_seconds is not None:
        # Not a number is no such number either.
        if not 0 < in_seconds <= _AHEAD_LIMIT.total_seconds():
            raise InvalidInputError(
                f"in_seconds is more than 0 and at most {_AHEAD_LIMIT.total_seconds():.0f}",
                f"that is {AHEAD_LIMIT_DAYS} days; use recv or end your turn if you only wait for messages",
            )
        return present + timedelta(seconds=in_seconds)
    return _parse_instant(at or "", present)


def _parse_instant(text: str, present: datetime) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is None:
            raise InvalidInputError(f"{text[:40]!r} has no offset from UTC", f"write it like {_EXAMPLE!r}")
        due_at = instant.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(f"{text[:40]!r} is no instant", f"write it like {_EXAMPLE!r}") from error
    shown = present.isoformat(timespec="seconds")
    if due_at <= present:
        raise InvalidInputError(f"{text[:40]} is past", f"it is {shown} now; in_seconds counts from now")
    if due_at > present + _AHEAD_LIMIT:
        raise InvalidInputError(f"{text[:40]} is more than {AHEAD_LIMIT_DAYS} days ahead", f"it is {shown} now")
    return due_at
