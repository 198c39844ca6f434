"""What requests to the model service used and cost, by agent, by day (UTC) and by model: for tables, not for charts.

Read from the records of the gateway, a day at a time, so that a long span holds up nobody else.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta

from hyperhive.core.stats import HIVE, OTHER
from hyperhive.host.agent_records import get_any_agent
from hyperhive.host.store.rows import AgentRecord
from hyperhive.host.store.store import Store, View
from hyperhive.system.clock import now, to_millis

# Names of models are agents' words: so many are shown, the others together as OTHER.
ROWS_LIMIT = 200
# So many are told apart while they are added up, the first to come.
_NAMES_LIMIT = 2000

PURGED = "(purged)"
"""Stands for agents that are gone with their state: the hive did what they did."""
NO_MODEL = "(none)"
"""Stands for the model of requests that used no tokens."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Sums over requests. `work` is what counts against budgets, `unpriced` how many requests have no known price."""

    requests: int = 0
    failures: int = 0
    unpriced: int = 0
    work: int = 0
    input: int = 0
    output: int = 0
    cache_write: int = 0
    cache_read: int = 0
    micro_usd: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*(getattr(self, name) + getattr(other, name) for name in _COUNTS))


_COUNTS = tuple(field.name for field in fields(Usage))


@dataclass(frozen=True, slots=True)
class UsageTables:
    """The same requests three times. Agents and models are ordered by tokens, the most first; days by date."""

    agents: Mapping[str, Usage]
    days: Mapping[str, Usage]
    models: Mapping[str, Usage]
    total: Usage


class UsageReader:
    def __init__(self, store: Store, telemetry: Store, clock: Callable[[], datetime] = now) -> None:
        self._store = store
        self._telemetry = telemetry
        self._clock = clock

    async def read(self, agent: str, since: datetime) -> UsageTables:
        """The tables of an agent, or of the HIVE, from `since` until now.

        Raises NotFoundError for an agent that never was or was purged.
        """
        if agent != HIVE:
            record = await self._store.read(lambda view: get_any_agent(view, agent))
            return await self._add_up(_start_of(record, since), agent, {agent})
        rows = await self._store.read(lambda view: view.list("list_agent_names"))
        return await self._add_up(since, HIVE, {row["name"] for row in rows})

    async def _add_up(self, since: datetime, agent: str, known: set[str]) -> UsageTables:
        agents: dict[str, Usage] = {}
        days: dict[str, Usage] = {}
        models: dict[str, Usage] = {}
        for begin, end in list_days(since, self._clock()):
            for row in await self._read_day(agent, begin, end):
                usage = _to_usage(row)
                _add(agents, row["agent"] if row["agent"] in known else PURGED, usage)
                _add(days, begin.date().isoformat(), usage)
                _add(models, row["used_model"] or NO_MODEL, usage)
        return UsageTables(_keep_largest(agents), days, _keep_largest(models), _sum(days.values()))

    async def _read_day(self, agent: str, begin: datetime, end: datetime) -> list[sqlite3.Row]:
        span = {"since": to_millis(begin), "until": to_millis(end)}

        def look(view: View) -> list[sqlite3.Row]:
            if agent == HIVE:
                return view.list("sum_usage", **span)
            return view.list("sum_usage_of", agent=agent, **span)

        return await self._telemetry.read(look)


def _start_of(record: AgentRecord, since: datetime) -> datetime:
    """Before it was spawned, one of the same name may have been purged."""
    return max(since, record.spawned_at)


def list_days(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The days (UTC) from `since` to `until`, each with its start and end; the first one may begin in the day."""
    begin = since.astimezone(UTC)
    while begin <= until:
        end = begin.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        yield begin, end
        begin = end


def _to_usage(row: sqlite3.Row) -> Usage:
    return Usage(*(int(row[name]) for name in _COUNTS))


def _add(into: dict[str, Usage], name: str, usage: Usage) -> None:
    key = name if name in into or len(into) < _NAMES_LIMIT else OTHER
    into[key] = into.get(key, Usage()) + usage


def _sum(usages: Iterable[Usage]) -> Usage:
    return sum(usages, Usage())


def _keep_largest(rows: Mapping[str, Usage]) -> dict[str, Usage]:
    ranked = sorted((name for name in rows if name != OTHER), key=lambda name: (-rows[name].work, name))
    if len(rows) <= ROWS_LIMIT:
        return {name: rows[name] for name in [*ranked, *(OTHER for _ in range(OTHER in rows))]}
    kept = {name: rows[name] for name in ranked[: ROWS_LIMIT - 1]}
    return kept | {OTHER: _sum(usage for name, usage in rows.items() if name not in kept)}
