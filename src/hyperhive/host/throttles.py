"""Tells the operator that an agent is at one of its bounds: an event, once in a while for each agent and bound."""

import time
from collections.abc import Callable

from hyperhive.core.events import EventName
from hyperhive.core.quotas import Quota
from hyperhive.host.background import Background
from hyperhive.host.store.store import Store

TOLD_EVERY_S = 60.0


class Throttles:
    def __init__(self, store: Store, background: Background, clock_s: Callable[[], float] = time.monotonic) -> None:
        """`clock_s` is a clock that never goes back."""
        self._store = store
        self._background = background
        self._clock_s = clock_s
        self._told_at_s: dict[tuple[str, Quota], float] = {}

    def note(self, agent: str, quota: Quota, detail: str) -> None:
        """An agent was refused something, or slowed. `detail` is the hive's own words."""
        at_s = self._clock_s()
        if at_s - self._told_at_s.get((agent, quota), -TOLD_EVERY_S) < TOLD_EVERY_S:
            return
        self._told_at_s[agent, quota] = at_s
        body = {"quota": quota.value, "detail": detail}
        self._background.soon(self._store.write(lambda tx: tx.emit(EventName.AGENT_THROTTLED, agent, body)))

    def forget(self, agent: str) -> None:
        for key in [key for key in self._told_at_s if key[0] == agent]:
            del self._told_at_s[key]
