"""Parks: why an agent runs no turns, until a known moment or until somebody acts.

An agent can be parked for several reasons at once, and with it the whole hive (agent EVERYONE). The daemon keeps them:
while one holds, no message is leased to the agent.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from random import Random

EVERYONE = "*"


class ParkKind(StrEnum):
    """`paused`: by the operator · `budget`: spent · `limit`: the service's usage limit · `login`: none, or a dead one ·
    `failing`: too many failed turns in a row."""

    PAUSED = "paused"
    BUDGET = "budget"
    LOGIN = "login"
    LIMIT = "limit"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Park:
    """One reason. `until` is when it ends by itself; None: only by an act."""

    agent: str
    kind: ParkKind
    since: datetime
    until: datetime | None
    reason: str


# What a harness may report of its own agent; the rest is the operator's and the gateway's to say.
REPORTED = frozenset({ParkKind.LIMIT, ParkKind.LOGIN, ParkKind.FAILING})
# What the operator ends with "go on": a budget is ended by money alone.
RESUMABLE = frozenset(ParkKind) - {ParkKind.BUDGET}

# The service's longest window is a week: a reset later than this is nothing to believe.
RESET_LIMIT = timedelta(days=8)
# All agents that share a limit would come back in the same instant.
JITTER_S = (5.0, 60.0)
BACKOFF_FIRST_S = 60.0
BACKOFF_LIMIT_S = 1800.0
# A later report moves the end of a limit only if it differs by more than the jitter does.
SAME_END = timedelta(seconds=60)
REASON_LIMIT_CHARS = 300

_WORDS = {
    ParkKind.PAUSED: "paused",
    ParkKind.BUDGET: "its budget is spent",
    ParkKind.LOGIN: "login needed",
    ParkKind.LIMIT: "usage limit",
    ParkKind.FAILING: "keeps failing",
}

# What the operator should hear of first: their own wish, then what they can do something about.
_ORDER = list(ParkKind)


def decide_park(parks: Iterable[Park], at: datetime) -> Park | None:
    """The one of `parks` that tells the operator most, of those that still hold at `at`; None: nothing holds."""
    holding = [park for park in parks if park.until is None or park.until > at]
    return min(holding, key=lambda park: (_ORDER.index(park.kind), park.agent != EVERYONE), default=None)


def describe_park(park: Park, at: datetime) -> str:
    """A park on one line for people, to follow the word *parked*: until when, what for, and what was said of it."""
    words = ("the whole hive: " if park.agent == EVERYONE else "") + _WORDS[park.kind]
    told = f"{words} ({park.reason})" if park.reason else words
    if park.until is None:
        return told
    is_today = park.until.astimezone(UTC).date() == at.astimezone(UTC).date()
    return f"until {park.until.astimezone(UTC):{'%H:%M' if is_today else '%Y-%m-%d %H:%M'}} UTC: {told}"


def parse_reset(text: str, at: datetime) -> datetime | None:
    """When a usage limit ends, as RFC 3339 with an offset. None for anything else, for what is past or too far off."""
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is None:
            return None
        instant = instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return check_reset(instant, at)


def check_reset(instant: datetime, at: datetime) -> datetime | None:
    """`instant` if a usage limit seen at `at` can end then, or None."""
    return instant if at < instant <= at + RESET_LIMIT else None


def plan_limit_end(reset_at: datetime | None, at: datetime, times: int, rng: Random) -> datetime:
    """Until when to wait for the end of a usage limit that was hit at `at`.

    With a reset time: that, and some seconds of `rng` on top. Without one: a minute, doubling up to half an hour
    with `times`, how often in a row it was hit (1 for the first).
    """
    if reset_at is not None:
        return reset_at + timedelta(seconds=rng.uniform(*JITTER_S))
    doublings = min(max(times, 1) - 1, 16)
    return at + timedelta(seconds=min(BACKOFF_FIRST_S * 2**doublings, BACKOFF_LIMIT_S))


def is_same_limit(held: Park, until: datetime | None) -> bool:
    """Whether a limit that is reported again, to end at `until`, tells nothing new: it does not end clearly later."""
    if held.until is None or until is None:
        return held.until is None
    return until <= held.until + SAME_END
