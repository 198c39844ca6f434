"""Stats: 18 series of many agents over seven days, beside one row for each (agent, ts, key, value)."""

import asyncio
import random
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.measure import Context, Rounds, Row
from hyperhive.core.stats import Slot
from hyperhive.host.agent_records import insert_agent
from hyperhive.host.stats.blocks import DAY_S, HALF_HOURS
from hyperhive.host.stats.stats import Stats
from hyperhive.host.store.store import Store
from hyperhive.system.sqlite import connect

_DAYS = 7
_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)
_US = 1_000_000
_MS = 1000
_MIB = 1024 * 1024

# Added up, highest, newest: in the page of the naive table they are summed, as that costs the same.
_KEYS = (
    "turns",
    "tool_calls",
    "outcome.ok",
    "outcome.cancelled",
    "in.operator",
    "in.manager",
    "in.peer",
    "out.operator",
    "out.peer",
    "handled",
    "inbox",
    "inbox_max",
    "notes_bytes",
    "context_tokens",
    "input_tokens",
    "output_tokens",
    "work_tokens",
    "model_requests",
)
_NAIVE_SCHEMA = """
create table stats (agent text not null, ts integer not null, key text not null, value real not null);
create index stats_by_agent on stats (agent, key, ts);
"""
_NAIVE_PAGE = "select key, ts / ?, sum(value) from stats where agent = ? and ts >= ? group by 1, 2"
_NAIVE_LATEST = "select agent, value, max(ts) from stats where key = ? group by agent"


@dataclass
class _Clock:
    at: datetime = _BEGAN

    def __call__(self) -> datetime:
        return self.at


def measure(context: Context) -> list[Row]:
    return asyncio.run(_measure(context))


async def _measure(context: Context) -> list[Row]:
    agents = [f"agent-{number}" for number in range(context.choose(100, 30))]
    hive_file, ours_file, naive_file = (context.folder / name for name in ("hive", "stats", "naive"))
    clock = _Clock()
    with (
        closing(Store(hive_file, "hive")) as store,
        closing(Store(ours_file, "telemetry")) as telemetry,
        closing(connect(naive_file, "NORMAL")) as naive,
    ):
        naive.executescript(_NAIVE_SCHEMA)
        for agent in agents:
            await store.write(lambda tx, agent=agent: insert_agent(tx, agent, None))
        stats = Stats(store, telemetry, dict, clock)
        await stats.load()
        rounds = Rounds()
        await _fill(rounds, stats, naive, clock, agents)
        await stats.save()
        await _query(rounds, stats, naive, clock, agents, context.choose(15, 5))
    for name, file in (("ours size", ours_file), ("naive size", naive_file)):
        rounds.add(name, _measure_file(file))
    return _list_rows(rounds, len(agents))


async def _fill(rounds: Rounds, stats: Stats, naive: sqlite3.Connection, clock: _Clock, agents: Sequence[str]) -> None:
    """A turn of each agent each minute, a transaction each minute; the contenders change each day."""
    values = random.Random(4)
    pool = [_make_slot(values) for _ in range(20_000)]
    for day in range(_DAYS):
        began_at = _BEGAN + timedelta(days=day)
        minutes = [(began_at + minute * _MINUTE, [values.choice(pool) for _ in agents]) for minute in range(1440)]
        turns = len(minutes) * len(agents)
        began = time.perf_counter()
        for at, slots in minutes:
            clock.at = at
            for agent, slot in zip(agents, slots, strict=True):
                stats.count(agent, slot)
            await stats.save()
        rounds.add("ours insert", (time.perf_counter() - began) * _US / turns)
        began = time.perf_counter()
        for at, slots in minutes:
            _insert_naively(naive, agents, int(at.timestamp()), slots)
        rounds.add("naive insert", (time.perf_counter() - began) * _US / turns)


def _insert_naively(naive: sqlite3.Connection, agents: Sequence[str], at_s: int, slots: Sequence[Slot]) -> None:
    rows = [(agent, at_s, *item) for agent, slot in zip(agents, slots, strict=True) for item in slot.items()]
    naive.execute("begin")
    naive.executemany("insert into stats values (?, ?, ?, ?)", rows)
    naive.execute("commit")


def _make_slot(values: random.Random) -> Slot:
    """A busy minute: none of the 18 is 0, and no minute is like the one before it."""
    few = {key: values.randint(1, 9) for key in _KEYS}
    many = {key: max(1, int(values.gauss(8000, 3000))) for key in _KEYS if key.endswith(("_tokens", "_bytes"))}
    return {**few, **many}


async def _query(
    rounds: Rounds, stats: Stats, naive: sqlite3.Connection, clock: _Clock, agents: Sequence[str], count: int
) -> None:
    asked = random.Random(5)

    async def ask(name: str, ours: Callable[[], Awaitable[object]], sql: str, *values: object) -> None:
        began = time.perf_counter()
        await ours()
        between = time.perf_counter()
        naive.execute(sql, values).fetchall()
        rounds.add(f"naive {name}", (time.perf_counter() - between) * _MS)
        rounds.add(f"ours {name}", (between - began) * _MS)

    week, day, hour = (clock.at - timedelta(seconds=span_s) for span_s in (_DAYS * DAY_S, DAY_S, 3600))
    for _ in range(count):
        agent = asked.choice(agents)
        since_s = int(day.timestamp())
        await ask("day", lambda agent=agent: stats.read(agent, day, _KEYS, 400), _NAIVE_PAGE, 300, agent, since_s)
        await ask(
            "week", lambda agent=agent: stats.read(agent, week, _KEYS, 400), _NAIVE_PAGE, HALF_HOURS.step_s, agent, 0
        )
        began = time.perf_counter()
        await stats.read("*", week, _KEYS_OF_HIVE, 400)
        rounds.add("ours hive", (time.perf_counter() - began) * _MS)
    for _ in range(3):
        await ask("latest", lambda: stats.compare(hour, ["inbox"]), _NAIVE_LATEST, "inbox")


_KEYS_OF_HIVE = [key for key in _KEYS if key not in ("notes_bytes", "context_tokens")]


def _measure_file(file: Path) -> float:
    """MiB in use, without what is to be written over."""
    with closing(sqlite3.connect(file)) as connection:
        pages, free, size = (
            connection.execute(f"pragma {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    return (pages - free) * size / _MIB


def _list_rows(rounds: Rounds, agents: int) -> list[Row]:
    span = f"18 series, {agents} agents, {_DAYS} days"

    def compare(what: str, name: str, unit: str, digits: int, goal: str = "") -> Row:
        ours, naive = rounds.median(f"ours {name}"), rounds.median(f"naive {name}")
        against = f"a row for each value: {naive:.{digits}f} {unit}"
        return Row(
            what, f"{ours:.{digits}f} {unit}", against, rounds.render_ratio(f"naive {name}", f"ours {name}"), goal
        )

    return [
        compare(f"stats, {span}: counting and storing a turn", "insert", "µs", 1, "≥ 8"),
        compare("stats of an agent, 7 days", "week", "ms", 2, "≥ 100"),
        compare("stats of an agent, 24 hours", "day", "ms", 2),
        Row("stats of the hive, 7 days", f"{rounds.median('ours hive'):.2f} ms"),
        compare("the newest of one series of all agents", "latest", "ms", 1),
        compare("stats on the disk", "size", "MiB", 1, "≥ 5"),
    ]
