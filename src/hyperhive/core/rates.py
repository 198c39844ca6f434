"""How much one may send, and when two talk to each other without end. Pure: instants are seconds of any clock."""

from collections import deque
from dataclasses import dataclass

# Two agents that answer each other this often, with nobody else taking part, within so long, are running away.
EXCHANGE_LIMIT = 40
EXCHANGE_WINDOW_S = 600.0


@dataclass(frozen=True, slots=True)
class Rate:
    """So many at once, and then so many a minute. 0 a minute: no limit, and no bucket is to be asked."""

    burst: int
    per_minute: float


class Bucket:
    """What is left of a rate: a token bucket. It is full in the beginning."""

    __slots__ = ("_at_s", "_left", "_rate")

    def __init__(self, rate: Rate, at_s: float) -> None:
        self._rate = rate
        self._left = float(rate.burst)
        self._at_s = at_s

    def take(self, at_s: float) -> float:
        """Takes one and returns 0; with none left takes none and returns in how many seconds there is one."""
        wait_s = self.find_wait_s(at_s)
        if not wait_s:
            self._left -= 1
        return wait_s

    def find_wait_s(self, at_s: float) -> float:
        """In how many seconds there is one to be had; 0 if there is now. Takes none."""
        # A clock that went back gives nothing and takes nothing.
        passed_s = max(0.0, at_s - self._at_s)
        self._at_s = at_s
        self._left = min(float(self._rate.burst), self._left + passed_s * self._rate.per_minute / 60)
        return 0.0 if self._left >= 1 else (1 - self._left) * 60 / self._rate.per_minute

    def charge(self, amount: float) -> None:
        """Takes so many, more than are left, too: then nothing is to be had for longer."""
        self._left -= amount

    def find_taken(self, at_s: float) -> float:
        """How many of those that may come at once are taken now."""
        self.find_wait_s(at_s)
        return self._rate.burst - self._left

    def is_full(self, at_s: float) -> bool:
        """Whether it is as new: nothing is lost if it is forgotten."""
        return self._left + max(0.0, at_s - self._at_s) * self._rate.per_minute / 60 >= self._rate.burst


class Exchange:
    """What two say to each other: how often the direction changed of late."""

    __slots__ = ("_last", "_turned_at_s")

    def __init__(self) -> None:
        self._last = ""
        self._turned_at_s: deque[float] = deque(maxlen=EXCHANGE_LIMIT)

    def note(self, sender: str, at_s: float) -> bool:
        """Takes note of a message of one to the other. Returns whether they are running away now."""
        if sender == self._last:
            return False
        self._last = sender
        self._turned_at_s.append(at_s)
        return len(self._turned_at_s) == EXCHANGE_LIMIT and at_s - self._turned_at_s[0] <= EXCHANGE_WINDOW_S

    def is_over(self, at_s: float) -> bool:
        """Whether nothing of it counts any more."""
        return not self._turned_at_s or at_s - self._turned_at_s[-1] > EXCHANGE_WINDOW_S
