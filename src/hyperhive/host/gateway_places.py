"""How many requests to the model may be on their way, and how much they may hold: of one agent, and of all.

The last quarter of what all may have goes to agents that have next to nothing, so that no few agents take every place.
"""

from collections import Counter

from hyperhive.core.quotas import MIB, Quota, Unit, Use
from hyperhive.core.rates import Bucket, Rate

# An agent's own requests at once, those that wait for their turn included; sub-agents and retries of one claude stay
# well below.
EACH_LIMIT = 16
ALL_LIMIT = 512
# What the daemon holds of them: one request may have 32 MiB.
EACH_LIMIT_BYTES = 64 * MIB
ALL_LIMIT_BYTES = 512 * MIB
# Each is recorded, also what costs nothing.
RATE = Rate(burst=2_400, per_minute=1_200)
# What one may have when the rest is kept.
_FEW = 2
_KEPT_PART = 0.25


class Places:
    """`take` first, then `hold` as the request comes in, and `give_back` at its end, whatever became of it."""

    def __init__(
        self,
        each_limit: int = EACH_LIMIT,
        all_limit: int = ALL_LIMIT,
        each_limit_bytes: int = EACH_LIMIT_BYTES,
        all_limit_bytes: int = ALL_LIMIT_BYTES,
        rate: Rate = RATE,
    ) -> None:
        self._each_limit = each_limit
        self._all_limit = all_limit
        self._each_limit_bytes = each_limit_bytes
        self._all_limit_bytes = all_limit_bytes
        self._rate = rate
        self._running = Counter[str]()
        self._bytes = Counter[str]()
        self._buckets: dict[str, Bucket] = {}

    def take(self, agent: str, at_s: float) -> tuple[Quota, str] | None:
        """Takes a place for a request that begins. Which quota refuses it and why, in words; None: it was taken."""
        own, total = self._running[agent], self._running.total()
        if own >= self._each_limit:
            return Quota.REQUESTS, f"over {self._each_limit} requests at once"
        if total >= self._all_limit or (own >= _FEW and total >= self._all_limit * (1 - _KEPT_PART)):
            return Quota.REQUESTS, "the hive has too many requests on their way"
        if self._find_bucket(agent, at_s).take(at_s):
            return Quota.REQUEST_RATE, f"over {self._rate.per_minute:,} requests a minute"
        self._running[agent] += 1
        return None

    def hold(self, agent: str, size_bytes: int) -> bool:
        """So much more of its request has come. False: it may not be held, and was not counted."""
        own, total = self._bytes[agent] + size_bytes, self._bytes.total() + size_bytes
        kept_bytes = self._all_limit_bytes * (1 - _KEPT_PART)
        if own > self._each_limit_bytes or total > self._all_limit_bytes:
            return False
        if total > kept_bytes and own > self._each_limit_bytes // _FEW:
            return False
        self._bytes[agent] += size_bytes
        return True

    def give_back(self, agent: str, size_bytes: int) -> None:
        """A request of its that held so much is over."""
        self._running[agent] -= 1
        self._bytes[agent] -= size_bytes
        if not self._running[agent]:
            del self._running[agent], self._bytes[agent]

    def list_uses(self, agent: str, at_s: float) -> list[Use]:
        return [
            Use(Quota.REQUESTS, Unit.COUNT, self._running[agent], self._each_limit),
            Use(Quota.REQUEST_BYTES, Unit.BYTES, self._bytes[agent], self._each_limit_bytes),
            Use(
                Quota.REQUEST_RATE,
                Unit.PER_MINUTE,
                self._find_bucket(agent, at_s).find_taken(at_s),
                self._rate.per_minute,
            ),
        ]

    def forget(self, agent: str) -> None:
        self._buckets.pop(agent, None)

    def _find_bucket(self, agent: str, at_s: float) -> Bucket:
        bucket = self._buckets.get(agent)
        if bucket is None:
            bucket = self._buckets[agent] = Bucket(self._rate, at_s)
        return bucket
