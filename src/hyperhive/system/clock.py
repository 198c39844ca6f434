"""The one door for the time of day. Deadlines inside a process use the event loop's monotonic clock instead."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

# A clock that is set by less than this is followed at once.
JUMP_S = 5.0


class SteadyClock:
    """The time of day, moved on by a clock that is never set: of jumps of the machine's clock it knows, and keeps on.

    May be read in any thread. `wall_s` is the machine's clock, `elapsed_s` one that goes on while the machine sleeps.
    """

    def __init__(
        self,
        wall_s: Callable[[], float] = time.time,
        elapsed_s: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._wall_s = wall_s
        self._elapsed_s = elapsed_s
        self._began_s = wall_s() - elapsed_s()

    def read_s(self) -> float:
        """Seconds since the epoch."""
        elapsed_s = self._elapsed_s()
        began_s = self._wall_s() - elapsed_s
        if abs(began_s - self._began_s) < JUMP_S:
            self._began_s = began_s
        return self._began_s + elapsed_s

    def find_jump_s(self) -> float:
        """By how much the machine's clock was set, forward or back; 0 if it was not."""
        jump_s = self._wall_s() - self._elapsed_s() - self._began_s
        return jump_s if abs(jump_s) >= JUMP_S else 0.0

    def move(self, by_s: float) -> None:
        """Sets this clock, as the machine's was."""
        self._began_s += by_s


_read_s: Callable[[], float] = time.time


def read_time_from(read_s: Callable[[], float]) -> None:
    """Has `now` of this process read another clock than the machine's: `read_s` gives seconds since the epoch."""
    global _read_s
    _read_s = read_s


def now() -> datetime:
    """The present instant, aware, in UTC."""
    return datetime.fromtimestamp(_read_s(), UTC)


def to_millis(instant: datetime) -> int:
    """An aware instant as whole milliseconds since the epoch, the form in which it is stored."""
    return int(instant.timestamp() * 1000)


def from_millis(millis: int) -> datetime:
    """The inverse of `to_millis`."""
    return datetime.fromtimestamp(millis / 1000, UTC)
