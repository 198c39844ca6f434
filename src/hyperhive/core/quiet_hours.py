"""Hours of the day in which nobody is to be disturbed, by the clock on the wall where the operator is."""

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo

from hyperhive.core.errors import InvalidInputError

_FORM = re.compile(r"([01]\d|2[0-3]):([0-5]\d)\s*[-\N{EN DASH}]\s*([01]\d|2[0-3]):([0-5]\d)")
_MINUTE = timedelta(minutes=1)
# A day may be an hour longer than others, or more where a zone moves over the date line.
_LONGEST = timedelta(hours=49)


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `start` to before `end`, each day, over midnight if `end` is not after `start`."""

    start: time
    end: time
    zone: tzinfo

    def is_quiet(self, at: datetime) -> bool:
        local = at.astimezone(self.zone).time()
        if self.start < self.end:
            return self.start <= local < self.end
        return local >= self.start or local < self.end

    def find_end(self, at: datetime) -> datetime:
        """The first moment from `at` on that is not quiet; `at` itself if it is not.

        Minute by minute on purpose: the clock on the wall jumps twice a year, and this says what `is_quiet` says.
        """
        if not self.is_quiet(at):
            return at
        moment = at.replace(second=0, microsecond=0)
        limit = at + _LONGEST
        while moment < limit:
            moment += _MINUTE
            if not self.is_quiet(moment):
                break
        return moment

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"


def parse_quiet_hours(text: str, zone: tzinfo) -> QuietHours | None:
    """`22:00-08:00`; nothing for an empty text. Raises InvalidInputError, also for hours without a beginning."""
    if not text.strip():
        return None
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise InvalidInputError(f"{text!r} are no quiet hours", "write them as 22:00-08:00")
    start_hour, start_minute, end_hour, end_minute = map(int, found.groups())
    start, end = time(start_hour, start_minute), time(end_hour, end_minute)
    if start == end:
        raise InvalidInputError("quiet hours that never end would tell nothing", "leave them out, or set another end")
    return QuietHours(start, end, zone)
