"""What the operator is told outside of the pages, and when: by mail, chat, push services. Pure.

A need is told on each channel once, if it still waits after a while (dwell), and once more if it goes on waiting.
Messages keep a distance (cooldown); what comes meanwhile goes into the next one. In quiet hours nothing is said, and
what waits when they end is told in one message. What is answered first is never told.

All instants that are remembered lie in the past: `settle` takes back those that a clock set back has left in the
future, so that no jump of the clock silences anything or has it told twice.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from hyperhive.core.needs import Need, NeedKind
from hyperhive.core.quiet_hours import QuietHours

# What comes nearly at once is told at once: the first of three approvals waits for the other two.
GATHER = timedelta(seconds=10)
# A tool call hangs until it is answered, and is refused after ten minutes.
URGENT_DWELL = timedelta(seconds=15)
# Of the time there is to answer, at most this part passes in silence.
SILENT_SHARE = 4
# What cannot wait for the cooldown keeps this distance, and so often an hour: an agent could ask without end.
RUSH_GAP = timedelta(seconds=60)
RUSHES_PER_HOUR = 6
# What is gone and comes again within this time, the same as before, is not new: a restart, an agent that flaps.
RETURN_LIMIT = timedelta(minutes=10)
BACKOFF_FIRST_S = 30
BACKOFF_LIMIT_S = 1800

_HOUR = timedelta(hours=1)
# Stored instants are cut to milliseconds.
_SAME = timedelta(seconds=1)
# What is lost at its deadline. A budget's is when it goes on by itself.
_LOST_AT_DEADLINE = frozenset({NeedKind.QUESTION, NeedKind.PERMISSION, NeedKind.NOTES})


class Reason(StrEnum):
    NEW = "new"
    # it was told, and still waits
    REMINDER = "reminder"


class Hold(StrEnum):
    DWELL = "dwell"
    COOLDOWN = "cooldown"
    QUIET = "quiet"
    # the channel did not take the last message
    BACKOFF = "backoff"


@dataclass(frozen=True, slots=True)
class Rules:
    """`remind_s` 0: never. `quiet_deadlines`: what would be lost before the quiet hours end is told all the same."""

    dwell_s: float = 60
    cooldown_s: float = 300
    remind_s: float = 4 * 3600
    quiet: QuietHours | None = None
    quiet_deadlines: bool = False


@dataclass(frozen=True, slots=True)
class Sighting:
    """A need from its first sight on. `id` is 0 until it is stored; a need that came anew has another one."""

    id: int
    key: str
    since: datetime
    seen_at: datetime
    gone_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Told:
    told_at: datetime
    reminded_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ChannelRecord:
    """What is remembered of a channel: what it was told, by the sighting's id, and how the last messages went.

    `rushed_at` are those of the last hour that did not wait for the cooldown.
    """

    told: Mapping[int, Told] = field(default_factory=dict[int, Told])
    last_sent_at: datetime | None = None
    rushed_at: tuple[datetime, ...] = ()
    failures: int = 0
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """Something to tell. It may go from `due_at` on; from `rush_at` on it does not wait for the cooldown."""

    need: Need
    sighting: Sighting
    reason: Reason
    due_at: datetime
    rush_at: datetime | None


@dataclass(frozen=True, slots=True)
class Held:
    """What is not told yet, why, and until when at most."""

    item: Item
    by: Hold
    until: datetime


@dataclass(frozen=True, slots=True)
class Plan:
    """`items` go out now, in one message; `rushed` if that is within the cooldown. `wake_at`: when to look again."""

    items: tuple[Item, ...]
    rushed: bool
    held: tuple[Held, ...]
    wake_at: datetime | None


def reduce_sightings(
    known: Mapping[str, Sighting], needs: Iterable[Need], left: Collection[str], at: datetime
) -> dict[str, Sighting]:
    """What is remembered once `needs` wait; `left` are the keys of those that were seen to go since the last look.

    A sighting with the id 0 is a new one, also where `known` has one of that key. One that is missing is to be
    forgotten, with all that was told of it.
    """
    seen: dict[str, Sighting] = {}
    for need in needs:
        before = known.get(need.key)
        if before is None or _came_anew(before, need, left):
            seen[need.key] = Sighting(0, need.key, need.since, at)
        else:
            since = before.since if abs(before.since - need.since) < _SAME else need.since
            seen[need.key] = replace(before, since=since, seen_at=min(before.seen_at, at), gone_at=None)
    for key, before in known.items():
        gone_at = min(before.gone_at or at, at)
        if key not in seen and at - gone_at < RETURN_LIMIT:
            seen[key] = replace(before, seen_at=min(before.seen_at, at), gone_at=gone_at)
    return seen


def _came_anew(before: Sighting, need: Need, left: Collection[str]) -> bool:
    was_away = before.gone_at is not None or need.key in left
    return was_away and abs(before.since - need.since) >= _SAME


def settle(record: ChannelRecord, at: datetime) -> ChannelRecord:
    """`record` with nothing in the future but the next try, and that no farther than the back-off says."""
    told = {
        id_: Told(min(told.told_at, at), told.reminded_at and min(told.reminded_at, at))
        for id_, told in record.told.items()
    }
    return ChannelRecord(
        told=told,
        last_sent_at=record.last_sent_at and min(record.last_sent_at, at),
        rushed_at=tuple(min(rushed, at) for rushed in record.rushed_at),
        failures=record.failures,
        retry_at=record.retry_at and min(record.retry_at, at + plan_backoff(record.failures)),
    )


def plan_backoff(failures: int) -> timedelta:
    """How long a channel is left alone after so many failures in a row."""
    return timedelta(seconds=min(BACKOFF_FIRST_S * 2 ** max(min(failures, 20) - 1, 0), BACKOFF_LIMIT_S))


def decide_message(
    rules: Rules, needs: Sequence[Need], sightings: Mapping[str, Sighting], record: ChannelRecord, at: datetime
) -> Plan:
    """What one channel is told now of `needs`, all of which are in `sightings`; `record` is settled at `at`."""
    items = [item for need in needs if (item := _view_item(rules, need, sightings[need.key], record)) is not None]
    held: list[Held] = []
    free: list[Item] = []
    quiet_end = rules.quiet.find_end(at) if rules.quiet is not None and items else at
    for item in items:
        hold = _find_hold(rules, item, record, quiet_end, at)
        if hold is None:
            free.append(item)
        else:
            held.append(hold)
    rushing = [item for item in free if item.rush_at is not None and item.rush_at <= at]
    wait = _plan_wait(rules, free, bool(rushing), held, record, at) if free else None
    if wait is not None:
        by, until = wait
        held += [Held(item, by, until) for item in free]
        free = []
    rushed = bool(free) and at < _find_cooldown_end(rules, record, at)
    return Plan(tuple(free), rushed, tuple(held), min((hold.until for hold in held), default=None))


def _view_item(rules: Rules, need: Need, sighting: Sighting, record: ChannelRecord) -> Item | None:
    """What is left to tell of a need; None: nothing ever."""
    told = record.told.get(sighting.id)
    if told is not None:
        if not rules.remind_s or told.reminded_at is not None:
            return None
        return Item(need, sighting, Reason.REMINDER, told.told_at + timedelta(seconds=rules.remind_s), None)
    dwell = timedelta(seconds=rules.dwell_s)
    if need.kind is NeedKind.PERMISSION:
        dwell = min(dwell, URGENT_DWELL)
    if need.deadline is None or need.kind not in _LOST_AT_DEADLINE:
        return Item(need, sighting, Reason.NEW, sighting.seen_at + dwell, None)
    silent = max((need.deadline - sighting.seen_at) / SILENT_SHARE, timedelta())
    due_at = sighting.seen_at + min(dwell, silent)
    return Item(need, sighting, Reason.NEW, due_at, due_at if _is_urgent(need) else sighting.seen_at + silent)


def _is_urgent(need: Need) -> bool:
    return need.kind is NeedKind.PERMISSION


def _find_hold(rules: Rules, item: Item, record: ChannelRecord, quiet_end: datetime, at: datetime) -> Held | None:
    """What keeps this item, whatever else there is to tell."""
    if at < item.due_at:
        return Held(item, Hold.DWELL, item.due_at)
    if record.retry_at is not None and at < record.retry_at:
        return Held(item, Hold.BACKOFF, record.retry_at)
    if at < quiet_end and not _is_excepted(rules, item.need, quiet_end):
        return Held(item, Hold.QUIET, quiet_end)
    return None


def _is_excepted(rules: Rules, need: Need, quiet_end: datetime) -> bool:
    lost = need.deadline is not None and need.kind in _LOST_AT_DEADLINE and need.deadline <= quiet_end
    return rules.quiet_deadlines and lost


def _plan_wait(
    rules: Rules, free: Sequence[Item], rushing: bool, held: Iterable[Held], record: ChannelRecord, at: datetime
) -> tuple[Hold, datetime] | None:
    """Why a message with all of `free` waits, and until when at most; None: it goes now."""
    cooldown_end = _find_cooldown_end(rules, record, at)
    rush_end = min(_find_rush_end(record, at), cooldown_end)
    if at < cooldown_end:
        if rushing and at >= rush_end:
            return None
        rushes = [max(item.rush_at, rush_end) for item in free if item.rush_at is not None]
        return Hold.COOLDOWN, min([cooldown_end, *rushes])
    if rushing:
        return None
    first = min(item.due_at for item in free)
    coming = [hold.until for hold in held if hold.by is Hold.DWELL and hold.until <= first + GATHER]
    return (Hold.DWELL, max(coming)) if coming else None


def _find_cooldown_end(rules: Rules, record: ChannelRecord, at: datetime) -> datetime:
    return at if record.last_sent_at is None else record.last_sent_at + timedelta(seconds=rules.cooldown_s)


def _find_rush_end(record: ChannelRecord, at: datetime) -> datetime:
    """When something may go out before the cooldown has ended."""
    recent = sorted(rushed for rushed in record.rushed_at if at - rushed < _HOUR)
    end = at if record.last_sent_at is None else record.last_sent_at + RUSH_GAP
    return end if len(recent) < RUSHES_PER_HOUR else max(end, recent[-RUSHES_PER_HOUR] + _HOUR)
