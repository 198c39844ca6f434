"""What was spent within the last 24 hours, of each agent and of all together, by the minute and in memory.

It is right the moment a request ends. A minute counts until 24 hours after its end: never too little.
"""

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from hyperhive.core.budgets import NOTHING, Amount, Limit, Tokens
from hyperhive.core.parking import EVERYONE
from hyperhive.core.prices import PriceTable
from hyperhive.host.store.store import Store
from hyperhive.system.clock import now

DAY_MINUTES = 24 * 60
_MINUTE_MS = 60_000


class Ledger:
    """`clock` gives the time. EVERYONE stands for all agents, those that were destroyed included."""

    def __init__(self, clock: Callable[[], datetime] = now) -> None:
        self._clock = clock
        self._minutes: dict[str, deque[tuple[int, Amount]]] = {}
        self._totals: dict[str, Amount] = {}

    def add(self, agent: str, spent: Amount) -> None:
        if spent == NOTHING:
            return
        self._add(agent, self._minute(), spent)

    def total(self, name: str) -> Amount:
        self._drop_old(name)
        return self._totals.get(name, NOTHING)

    def list_agents(self) -> list[str]:
        """Who spent anything within the window."""
        return sorted(name for name in list(self._minutes) if name != EVERYONE and self.total(name) != NOTHING)

    def find_free_at(self, name: str, limit: Limit) -> datetime | None:
        """When spending will be below `limit` again if nothing more is spent; None: never, or it is already."""
        left = self.total(name)
        free_at: datetime | None = None
        minutes = iter(self._minutes.get(name, ()))
        while any(value >= most for most, value in limit.pair(left)):
            found = next(minutes, None)
            if found is None:
                return None
            minute, spent = found
            left -= spent
            free_at = datetime.fromtimestamp((minute + DAY_MINUTES + 1) * 60, UTC)
        return free_at

    async def load(self, telemetry: Store, prices: PriceTable) -> None:
        """Takes over what was recorded within the window. Raises StorageError."""
        since_ms = (self._minute() - DAY_MINUTES) * _MINUTE_MS
        rows = await telemetry.read(lambda view: view.list("list_spending", since=since_ms))
        for row in rows:
            cost = row["micro_usd"]
            if row["unpriced"] and row["tokens"] + row["cache_read"]:
                # The price may have been unknown only then; a row of an earlier version has none.
                tokens = Tokens(row["input"], row["output"], row["cache_write"], row["cache_read"])
                cost = prices.find_cost(row["model"], tokens)
            amount = Amount(row["tokens"], cost or 0, row["requests"] if cost is None else 0)
            self._add(row["agent"], row["minute"], amount)

    def _add(self, agent: str, minute: int, spent: Amount) -> None:
        for name in (agent, EVERYONE):
            minutes = self._minutes.setdefault(name, deque())
            # A clock that was set back must not put what is new behind what is old.
            if minutes and minutes[-1][0] >= minute:
                last, before = minutes.pop()
                minutes.append((last, before + spent))
            else:
                minutes.append((minute, spent))
            self._totals[name] = self._totals.get(name, NOTHING) + spent

    def _drop_old(self, name: str) -> None:
        minutes = self._minutes.get(name)
        if minutes is None:
            return
        oldest = self._minute() - DAY_MINUTES
        while minutes and minutes[0][0] < oldest:
            self._totals[name] -= minutes.popleft()[1]
        if not minutes:
            del self._minutes[name], self._totals[name]

    def _minute(self) -> int:
        return int(self._clock().timestamp()) // 60
