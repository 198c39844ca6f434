"""When an entry of an agent's schedule is due, and what becomes of times that passed while nothing could be sent.

Five fields of cron, in UTC, to the minute. An entry has dealt with all its times up to `done_to`, which only grows.
What comes next follows from that and never from when something was sent: nothing drifts. Of several times that have
passed only the newest counts; one older than LATE_LIMIT is dealt with without being sent.
"""

import functools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from croniter import CroniterBadDateError, croniter

from hyperhive.core.config_values import expand_cron

# News of yesterday's report is worth something, of last month's it is not.
LATE_LIMIT = timedelta(days=7)
# More missed times than these are not counted.
MISSED_LIMIT = 100

_MINUTE = timedelta(minutes=1)
# The 29th of February is at most eight years away.
_SEARCH_YEARS = 9


@dataclass(frozen=True, slots=True)
class Due:
    """The newest time that has come. `missed` counts those before it that were not dealt with, up to MISSED_LIMIT."""

    at: datetime
    missed: int
    too_late: bool = False


def find_next(cron: str, after: datetime) -> datetime | None:
    """The first time of the entry after an instant; None if there is none before the end of the calendar.

    Raises ValueError for what `parse_cron` does not take.
    """
    return _step(_open(cron, after), back=False)


def find_due(cron: str, done_to: datetime, at: datetime) -> Due | None:
    """What is due at `at` of an entry that has dealt with its times up to `done_to`; None: nothing."""
    # The minute of `at` has come: what is looked for lies before the next one.
    times = _open(cron, _floor(at) + _MINUTE)
    newest = _step(times, back=True)
    if newest is None or newest <= done_to:
        return None
    missed = 0
    while missed < MISSED_LIMIT and (earlier := _step(times, back=True)) is not None and earlier > done_to:
        missed += 1
    return Due(newest, missed, too_late=at - newest > LATE_LIMIT)


def _open(cron: str, start: datetime) -> "croniter[float]":
    return croniter(_render_plain(cron), start.timestamp(), max_years_between_matches=_SEARCH_YEARS)


def _step(times: "croniter[float]", *, back: bool) -> datetime | None:
    """The nearest time strictly before or after where `times` is, which goes there."""
    try:
        return datetime.fromtimestamp(times.get_prev(float) if back else times.get_next(float), UTC)
    except (CroniterBadDateError, ValueError, OverflowError):
        # Beyond the years that there are.
        return None


def _floor(instant: datetime) -> datetime:
    return instant.replace(second=0, microsecond=0)


@functools.lru_cache(maxsize=1024)
def _render_plain(cron: str) -> str:
    """The same as plain lists: croniter takes `5-5` for every value and reads some names and ends as others do not."""
    fields = expand_cron(cron)
    sizes = (60, 24, 31, 12, 7)
    return " ".join(
        "*" if len(values) == size else ",".join(map(str, values)) for values, size in zip(fields, sizes, strict=True)
    )
