"""What an agent may have the daemon write down by its link: so much a minute, and nothing while the disk is full.

Sending has rates of its own (`protection`). What only reads or ends something is always answered.
"""

import time
from collections.abc import Callable

from hyperhive.core.errors import TooManyError
from hyperhive.core.quotas import Quota, Unit, Use
from hyperhive.core.rates import Bucket, Rate
from hyperhive.host.throttles import Throttles
from hyperhive.wire import agent_link as wire

# Questions, reminders, proposals and all else that leaves a row: a busy agent does some of that an hour.
ACTS = Rate(burst=600, per_minute=120)
# A harness that was alone for long has up to 50,000 events to tell.
EVENTS = Rate(burst=60_000, per_minute=6_000)
EVENT_BYTES = Rate(burst=128 * 1024 * 1024, per_minute=16 * 1024 * 1024)

# These make nothing that stays.
_PLAIN = frozenset(
    {
        wire.RECV,
        wire.ACK,
        wire.REQUEUE,
        wire.MESSAGE_STATUS,
        wire.TURN_STATE,
        wire.TERMINAL_ENDED,
        wire.LIST_REMINDERS,
        wire.LIST_AGENTS,
    }
)
# These have rates of their own.
_COUNTED = frozenset({wire.SEND, wire.EVENTS_APPEND})
# These make room, or are needed to.
_ALWAYS = frozenset({wire.PARK, wire.CANCEL_QUESTION, wire.CANCEL_REMINDER, wire.KILL})

_UNITS = {Quota.ACTS: Unit.PER_MINUTE, Quota.EVENTS: Unit.PER_MINUTE, Quota.EVENT_BYTES: Unit.BYTES_PER_MINUTE}
_RATES = {Quota.ACTS: ACTS, Quota.EVENTS: EVENTS, Quota.EVENT_BYTES: EVENT_BYTES}


class LinkQuotas:
    """`check_room` raises a HiveError while nothing may be stored for agents."""

    def __init__(
        self, throttles: Throttles, check_room: Callable[[], None], clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._throttles = throttles
        self._check_room = check_room
        self._clock_s = clock_s
        self._buckets: dict[tuple[str, Quota], Bucket] = {}

    def check(self, agent: str, method: str) -> None:
        """Asked before each request of an agent. Raises TooManyError, and StorageError while the disk is full."""
        if method in _PLAIN:
            return
        if method not in _ALWAYS:
            self._check_room()
        if method in _COUNTED:
            return
        wait_s = self._find_bucket(agent, Quota.ACTS).take(self._clock_s())
        if wait_s:
            raise self._refuse(agent, Quota.ACTS, f"over {ACTS.per_minute:,} requests a minute", wait_s)

    def check_events(self, agent: str, count: int) -> None:
        """Asked before so many events of its transcript are stored. Raises TooManyError."""
        at_s = self._clock_s()
        events, size = self._find_bucket(agent, Quota.EVENTS), self._find_bucket(agent, Quota.EVENT_BYTES)
        if wait_s := events.find_wait_s(at_s):
            raise self._refuse(agent, Quota.EVENTS, f"over {EVENTS.per_minute:,} events a minute", wait_s)
        if wait_s := size.find_wait_s(at_s):
            detail = f"over {EVENT_BYTES.per_minute // 2**20:,} MiB of events a minute"
            raise self._refuse(agent, Quota.EVENT_BYTES, detail, wait_s)
        events.charge(count)

    def note_stored(self, agent: str, size_bytes: int) -> None:
        """So much of its transcript was stored."""
        self._find_bucket(agent, Quota.EVENT_BYTES).charge(size_bytes)

    def list_uses(self, agent: str) -> list[Use]:
        at_s = self._clock_s()
        return [
            Use(quota, unit, self._find_bucket(agent, quota).find_taken(at_s), _RATES[quota].per_minute)
            for quota, unit in _UNITS.items()
        ]

    def forget(self, agent: str) -> None:
        for quota in _RATES:
            self._buckets.pop((agent, quota), None)

    def _find_bucket(self, agent: str, quota: Quota) -> Bucket:
        bucket = self._buckets.get((agent, quota))
        if bucket is None:
            bucket = self._buckets[agent, quota] = Bucket(_RATES[quota], self._clock_s())
        return bucket

    def _refuse(self, agent: str, quota: Quota, detail: str, wait_s: float) -> TooManyError:
        self._throttles.note(agent, quota, detail)
        return TooManyError(f"too much at once ({detail}); the next in {wait_s:.0f} s", "wait, and ask for less")
