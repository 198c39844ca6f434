"""How many rows of the audit one agent brings about: nothing in it is ever deleted, and agents may ask without end."""

import threading
import time
from collections import Counter
from collections.abc import Callable

from hyperhive.core.rates import Bucket, Rate

# An agent that works brings about some dozens an hour; these are five megabytes a day.
AGENT_ROWS = Rate(burst=600, per_minute=10)
_AGENT = "agent "


class AuditGate:
    """Used by the writer's thread and by the event loop's."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._buckets: dict[str, Bucket] = {}
        self._left_out: Counter[str] = Counter()

    def admits(self, actor: str) -> bool:
        """Whether one more row of `actor` is written; else it is counted. Only agents' are ever left out."""
        if not actor.startswith(_AGENT):
            return True
        with self._lock:
            at_s = self._clock_s()
            bucket = self._buckets.get(actor)
            if bucket is None:
                bucket = self._buckets[actor] = Bucket(AGENT_ROWS, at_s)
            if not bucket.take(at_s):
                return True
            self._left_out[actor] += 1
            return False

    def take_left_out(self) -> dict[str, int]:
        """How many rows of which agents were left out since the last time."""
        with self._lock:
            taken, self._left_out = self._left_out, Counter()
        return {actor.removeprefix(_AGENT): count for actor, count in taken.items()}
