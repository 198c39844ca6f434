"""Stats on real databases: what was counted is told at every resolution, once, over restarts and wrong clocks."""

import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.core.errors import NotFoundError, StorageError
from hyperhive.core.events import Event, EventName
from hyperhive.core.stats import HIVE, TOOLS_LIMIT, Value
from hyperhive.core.turns import TurnState
from hyperhive.host.agent_records import insert_agent
from hyperhive.host.feed import Feed
from hyperhive.host.link.params import AgentEvent
from hyperhive.host.message_records import queue_message
from hyperhive.host.stats.answers import Answer
from hyperhive.host.stats.blocks import HALF_HOURS, MINUTES, QUARTER_DAYS, Grid, Window, make_columns, plan_grid
from hyperhive.host.stats.collector import MINUTES_LIMIT, Collector
from hyperhive.host.stats.inputs import CALLS_LIMIT, read_turn
from hyperhive.host.stats.stats import LOOK_EVERY_S, Stats
from hyperhive.host.store.store import Store, Transaction

T = TypeVar("T")

BEGAN = datetime(2026, 3, 1, 11, 50, tzinfo=UTC)
KEYS = ("turns", "tool_calls", "inbox", "inbox_max", "idle_s", "turn_p95_s")


def turn(**changes: Any) -> AgentEvent:
    body: dict[str, Any] = {
        "outcome": "ok",
        "purpose": "messages",
        "duration_ms": 60_000,
        "context_tokens": 5000,
        "tools": {"Bash": 2},
        "notes_bytes": 700,
    }
    return AgentEvent(seq=1, at="2026-03-01T11:50:00Z", kind="turn.ended", body=body | changes)


class FillableStore(Store):
    """As if its disk were full, while `full` is set."""

    full = False

    async def write(self, change: Callable[[Transaction], T]) -> T:
        if self.full:
            raise StorageError("the disk is full")
        return await super().write(change)


@dataclass
class Rig:
    """A daemon's stats with a clock of the test's. `restart` makes the ones of the next daemon on the same files."""

    folder: Path
    at: datetime = BEGAN
    online: dict[str, TurnState] = field(default_factory=lambda: {"alice": TurnState.IDLE})

    def open(self) -> None:
        feed = Feed()
        self.store = Store(self.folder / "hive.sqlite", "hive", feed.publish_events)
        self.telemetry = FillableStore(self.folder / "telemetry.sqlite", "telemetry")
        self.stats = Stats(self.store, self.telemetry, lambda: self.online, lambda: self.at)
        feed.listen(self.stats.on_event)

    def close(self) -> None:
        self.store.close()
        self.telemetry.close()

    async def restart(self) -> None:
        self.close()
        self.open()
        await self.stats.load()

    async def move(self, **span: float) -> None:
        """Time passes, as the daemon's own loop sees it."""
        self.at += timedelta(**span)
        await self.stats.save()

    async def ask(self, agent: str = "alice", keys: tuple[str, ...] = KEYS, points: int = 400, **span: float) -> Answer:
        return await self.stats.read(agent, self.at - timedelta(**(span or {"hours": 2})), keys, points)

    async def total(self, key: str, agent: str = "alice", **span: float) -> float | None:
        return (await self.ask(agent, (key,), 400, **span)).totals[key]

    async def count_rows(self, query: str) -> int:
        return len(await self.telemetry.read(lambda view: view.list(query)))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    rig.open()
    for name in ("manager", "alice", "bob"):
        await rig.store.write(lambda tx, name=name: insert_agent(tx, name, None))
    await rig.stats.load()
    yield rig
    rig.close()


# -- what is counted -----------------------------------------------------------------------------------------


async def test_a_turn_counts_for_its_agent_and_for_the_hive_at_once(rig: Rig) -> None:
    rig.stats.note_events("alice", [turn(), turn(outcome="crash", duration_ms=1000)])
    rig.stats.note_events("bob", [turn(tools={})])
    answer = await rig.ask(keys=("turns", "outcome.crash", "tool_calls", "tools_per_turn", "notes_bytes"))
    assert answer.totals == {
        "turns": 2, "outcome.crash": 1, "tool_calls": 4, "tools_per_turn": 2, "notes_bytes": 700,
    }  # fmt: skip
    assert answer.tools == {"Bash": 4}
    assert await rig.total("turns", HIVE) == 3
    assert await rig.total("turn_p95_s") == pytest.approx(60, rel=0.045)


async def test_upkeep_is_no_turn_like_others(rig: Rig) -> None:
    rig.stats.note_events("alice", [turn(purpose="compact"), turn(purpose="notes", notes_bytes=100)])
    answer = await rig.ask(keys=("turns", "upkeep_turns", "tool_calls", "turn_p50_s", "notes_bytes"))
    assert answer.totals == {
        "turns": 0, "upkeep_turns": 2, "tool_calls": 0, "turn_p50_s": None, "notes_bytes": 100,
    }  # fmt: skip


async def test_messages_count_by_who_sent_them_and_whom_they_are_for(rig: Rig) -> None:
    for sender, recipient in [("alice", "bob"), ("operator", "bob"), ("manager", "bob"), ("system", "manager")]:
        await rig.store.write(lambda tx, s=sender, r=recipient: queue_message(tx, s, r, "hello"))
    await rig.store.write(lambda tx: queue_message(tx, "bob", "operator", "hello"))
    received = await rig.ask("bob", ("in.peer", "in.operator", "in.manager", "in.system", "out.operator"))
    assert list(received.totals.values()) == [1, 1, 1, 0, 1]
    assert await rig.total("out.peer", "alice") == 1
    assert await rig.total("in.system", "manager") == 1
    assert await rig.total("in.system", HIVE) == 1
    hive = await rig.ask(HIVE, ("inbox", "operator_inbox", "agents_online"))
    assert hive.totals == {"inbox": 4, "operator_inbox": 1, "agents_online": 1}
    # Nobody is in bob's container, but messages wait for him.
    assert await rig.total("inbox", "bob") == 3
    rig.stats.on_event(Event(1, rig.at, EventName.MESSAGE_ACKED, "bob", {"ids": [1, 2]}))
    rig.stats.on_event(Event(2, rig.at, EventName.MESSAGE_ACKED, "operator", {"ids": [5]}))
    assert await rig.total("handled", HIVE) == 2


async def add_request(rig: Rig, agent: str = "alice", **changes: int | None) -> None:
    values: dict[str, Any] = {
        "agent": agent, "at": 0, "path": "/v1/messages", "model": "m", "status": 200, "first_byte_ms": 1,
        "total_ms": 2, "input_tokens": 10, "output_tokens": 5, "cache_creation_tokens": 3, "cache_read_tokens": 100,
        "charged_tokens": 18, "micro_usd": 2500,
    }  # fmt: skip
    await rig.telemetry.write(lambda tx: tx.list("insert_model_request", **(values | changes)))


async def test_requests_of_the_gateway_count_once_also_after_a_restart(rig: Rig) -> None:
    await add_request(rig)
    await add_request(rig, micro_usd=None)
    await add_request(rig, status=429, charged_tokens=0, input_tokens=0, micro_usd=0)
    keys = ("model_requests", "model_failures", "work_tokens", "cost_usd", "unpriced_requests", "cache_read_tokens")
    expected = [3, 1, 36, 0.0025, 1, 300]
    assert list((await rig.ask(keys=keys)).totals.values()) == expected
    await rig.stats.finish()
    await rig.restart()
    await rig.move(minutes=1)
    assert list((await rig.ask(keys=keys)).totals.values()) == expected
    assert await rig.total("work_tokens", HIVE) == 36


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"outcome": ["ok"], "purpose": {}, "duration_ms": "long", "tools": [1], "notes_bytes": None},
        {"outcome": "x" * 10_000, "duration_ms": -(10**400), "notes_bytes": 10**400, "context_tokens": True},
        {"duration_ms": float("nan"), "tools": {f"t{n}\x1b[2J" * 50: 10**30 for n in range(5000)}},
        {"tools": {"Bash": -1, "Read": 1.5, "Edit": "2", "": 1}},
    ],
)
def test_what_a_hostile_harness_tells_is_bounded(body: dict[str, Any]) -> None:
    slot = read_turn(body, 60)
    assert slot["turns"] == 1
    assert slot["outcome.other"] == 1
    tools = slot.get("tools", {})
    assert isinstance(tools, dict)
    assert len(tools) <= TOOLS_LIMIT
    assert sum(tools.values()) <= CALLS_LIMIT
    assert all(name.isascii() and name.isprintable() and len(name) <= 64 for name in tools)
    assert len(str(slot)) < 6000


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
_fields = ("outcome", "purpose", "duration_ms", "tools", "notes_bytes", "context_tokens")


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(_fields, _json)))
def test_whatever_a_harness_tells_is_a_turn_or_upkeep(body: dict[str, Any]) -> None:
    slot = read_turn(body, 60)
    assert ("turns" in slot) != ("upkeep_turns" in slot)
    assert all(isinstance(value, dict) or 0 <= value < 2**53 for value in slot.values())


async def test_levels_are_told_while_the_agent_is_there(rig: Rig) -> None:
    rig.stats.note_events("alice", [turn()])
    await rig.move(minutes=1)
    del rig.online["alice"]
    await rig.move(minutes=1)
    await rig.move(minutes=1)
    answer = await rig.ask(keys=("inbox", "idle_s", "notes_bytes"), minutes=3)
    assert answer.step_s == 60
    assert answer.columns["inbox"] == [None, 0, None, None]
    assert answer.columns["notes_bytes"] == [700, 700, None, None]
    assert answer.columns["idle_s"] == [60, 120, None, None]


async def test_what_is_asked_is_not_a_minute_old(rig: Rig) -> None:
    await rig.stats.save()
    await rig.store.write(lambda tx: queue_message(tx, "operator", "alice", "hello"))
    await add_request(rig)
    rig.at += timedelta(seconds=LOOK_EVERY_S)
    assert (await rig.total("inbox"), await rig.total("model_requests")) == (1, 1)


# -- restarts ------------------------------------------------------------------------------------------------


async def test_a_graceful_end_in_the_middle_of_a_minute_loses_nothing(rig: Rig) -> None:
    rig.stats.note_events("alice", [turn()])
    await rig.stats.finish()
    await rig.restart()
    rig.stats.note_events("alice", [turn()])
    answer = await rig.ask(minutes=5)
    assert list(answer.columns["turns"])[-1] == 2
    assert answer.totals["turns"] == 2


async def test_a_kill_loses_the_minute_that_was_not_over_and_no_other(rig: Rig) -> None:
    for _ in range(3):
        rig.stats.note_events("alice", [turn()])
        await rig.move(minutes=1)
    rig.stats.note_events("alice", [turn()])
    await rig.restart()
    assert await rig.total("turns") == 3


async def test_a_daemon_that_was_away_while_its_half_hour_ended_ends_it_then(rig: Rig) -> None:
    rig.stats.note_events("alice", [turn()])
    await rig.stats.finish()
    rig.at += timedelta(hours=5)
    await rig.restart()
    assert await rig.count_rows("list_stats_minutes") == 1
    await rig.stats.save()
    # The minute of now is all that is left.
    assert await rig.count_rows("list_stats_minutes") == 1
    assert await rig.total("turns", hours=24) == 1
    assert await rig.total("idle_s") == 5 * 3600


async def test_levels_are_remembered_over_a_restart(rig: Rig) -> None:
    rig.stats.note_events("alice", [turn(notes_bytes=123)])
    await rig.move(days=3)
    await rig.restart()
    await rig.move(minutes=1)
    assert await rig.total("notes_bytes", minutes=5) == 123
    assert await rig.total("idle_s", minutes=5) == 3 * 24 * 3600 + 60


@pytest.mark.parametrize("away", [{"seconds": 20}, {"minutes": 1}, {"hours": 1}])
async def test_what_the_disk_did_not_take_is_written_later(rig: Rig, away: dict[str, float]) -> None:
    rig.stats.note_events("alice", [turn()])
    await add_request(rig)
    rig.telemetry.full = True
    with pytest.raises(StorageError):
        await rig.move(**away)
    rig.stats.note_events("alice", [turn()])
    await rig.stats.finish()
    assert await rig.total("turns") == 2
    rig.telemetry.full = False
    await rig.stats.save()
    await rig.restart()
    assert await rig.total("turns") == 2
    assert await rig.total("work_tokens") == 18


def test_a_disk_that_takes_nothing_does_not_fill_the_memory() -> None:
    collector = Collector()
    for minute in range(2 * MINUTES_LIMIT):
        collector.add("alice", minute * 60, {"turns": 1})
        collector.put_unsaved(collector.take_unsaved())
    assert len(collector.list_slots("alice")) == MINUTES_LIMIT


# -- clocks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("back", [{"minutes": 3}, {"hours": 1}, {"days": 9}])
async def test_a_clock_that_is_put_back_loses_and_doubles_nothing(rig: Rig, back: dict[str, float]) -> None:
    for span in ({"minutes": 20}, {"minutes": 20}, {name: -value for name, value in back.items()}, {"minutes": 45}):
        rig.stats.note_events("alice", [turn()])
        await rig.move(**span)
    await rig.move(days=10)
    assert await rig.total("turns", days=25) == 4
    assert await rig.total("turns", HIVE, days=25) == 4
    assert (await rig.ask(days=25)).tools == {"Bash": 8}


async def test_a_clock_that_jumps_ahead_for_an_hour_does_not_cost_the_past(rig: Rig) -> None:
    for _ in range(6 * 24):
        rig.stats.note_events("alice", [turn()])
        await rig.move(hours=1)
    await rig.move(days=700)
    await rig.move(days=-700)
    counted = await rig.total("turns", days=7)
    assert counted is not None
    assert counted >= 5 * 24


async def test_what_is_in_the_future_is_not_told(rig: Rig) -> None:
    await rig.move(days=2)
    rig.stats.note_events("alice", [turn()])
    await rig.move(hours=1)
    rig.at -= timedelta(days=2)
    assert await rig.total("turns") == 0
    assert await rig.total("turns", days=100) == 0


# -- resolutions and retention -------------------------------------------------------------------------------


async def test_sums_are_the_same_at_every_resolution(rig: Rig) -> None:
    values = random.Random(1)
    turns = calls = 0
    highest = 0
    for _ in range(300):
        for _ in range(values.randrange(3)):
            tools = values.randrange(1, 5)
            rig.stats.note_events("alice", [turn(tools={"Bash": tools}, duration_ms=values.randrange(1, 10**6))])
            turns, calls = turns + 1, calls + tools
        depth = values.randrange(50)
        rig.stats.count("alice", {"inbox_max": depth})
        highest = max(highest, depth)
        await rig.move(minutes=values.choice([1, 2, 7, 31]))
    spans = (BEGAN - timedelta(minutes=1), BEGAN - timedelta(days=8), BEGAN - timedelta(days=80))
    answers = [await rig.stats.read("alice", since, KEYS, points) for since in spans for points in (20, 97, 1000)]
    assert len({answer.step_s for answer in answers}) >= 5
    for answer in answers:
        assert sum(value or 0 for value in answer.columns["turns"]) == turns
        assert (answer.totals["turns"], answer.totals["tool_calls"]) == (turns, calls)
        assert (answer.totals["inbox_max"], answer.tools) == (highest, {"Bash": calls})
        assert answer.totals["turn_p95_s"] == answers[0].totals["turn_p95_s"]


async def test_each_resolution_is_trimmed_in_its_time(rig: Rig) -> None:
    rig.stats.note_events("alice", [turn()])
    await rig.move(hours=1)

    async def count(step_s: int) -> int:
        since = {"agent": "alice", "step_s": step_s, "since": 0, "until": int(BEGAN.timestamp())}
        return len(await rig.telemetry.read(lambda view: view.list("list_stats_blocks", **since)))

    for days, left in [(6, [1, 1, 1]), (2, [0, 1, 1]), (84, [0, 0, 1]), (330, [0, 0, 0])]:
        await rig.move(days=days)
        assert [await count(one.step_s) for one in (MINUTES, HALF_HOURS, QUARTER_DAYS)] == left


@pytest.mark.parametrize("points", [20, 400, 1000])
@pytest.mark.parametrize("span_s", [1, 60, 3600, 86_400, 7 * 86_400, 30 * 86_400, 366 * 86_400])
def test_a_grid_covers_what_is_asked_in_as_many_points_at_most(span_s: int, points: int) -> None:
    now_s = 1_780_000_123
    grid = plan_grid(now_s - span_s, now_s, points)
    assert grid.count <= points
    assert grid.from_s <= now_s - span_s < grid.from_s + grid.step_s
    assert grid.to_s - grid.step_s <= now_s < grid.to_s
    assert span_s <= grid.source.kept_s
    assert grid.step_s % grid.source.step_s == 0


@pytest.mark.parametrize("from_s", [0, 300, 1500, 1800, 2400, 5400])
def test_a_block_lands_where_its_time_is(from_s: int) -> None:
    slots: Mapping[int, dict[str, Value]] = {index: {"turns": 10**index} for index in range(6)}
    minutes = Window(Grid(from_s, 300, 12, MINUTES), ["turns"])
    minutes.add_block(1800, make_columns({5 * index: slot for index, slot in slots.items()}, MINUTES.slots))
    expected = {1800 + 300 * index: 10**index for index in range(6)}
    assert {at: v for at, v in zip(range(from_s, from_s + 3600, 300), minutes.columns["turns"], strict=True) if v} == {
        at: value for at, value in expected.items() if from_s <= at < from_s + 3600
    }


# -- purges --------------------------------------------------------------------------------------------------


async def test_a_purge_deletes_an_agents_stats_and_leaves_the_hives(rig: Rig) -> None:
    for agent in ("alice", "bob"):
        rig.stats.note_events(agent, [turn()])
    await rig.move(hours=1)
    rig.stats.note_events("bob", [turn()])
    await add_request(rig, "bob")
    rig.stats.on_event(Event(1, rig.at, EventName.AGENT_PURGED, "bob", {}))
    await rig.stats.save()
    for _ in range(2):
        assert (await rig.ask("bob")).totals == dict.fromkeys(KEYS) | {"turns": 0, "tool_calls": 0}
        assert await rig.total("turns", "alice") == 1
        assert await rig.total("turns", HIVE) == 3
        await rig.restart()


async def test_a_purge_that_a_kill_cut_short_is_done_at_the_next_start(rig: Rig) -> None:
    rig.stats.note_events("bob", [turn()])
    await rig.move(hours=1)
    await rig.store.write(lambda tx: tx.list("delete_agent", name="bob"))
    await rig.restart()
    await rig.stats.save()
    await rig.store.write(lambda tx: insert_agent(tx, "bob", None))
    assert await rig.total("turns", "bob") == 0
    assert await rig.total("turns", HIVE) == 1


async def test_nobodys_stats_are_not_found(rig: Rig) -> None:
    with pytest.raises(NotFoundError):
        await rig.ask("nobody")


async def test_agents_are_compared_by_what_they_come_to(rig: Rig) -> None:
    rig.stats.note_events("alice", [turn()])
    answers = await rig.stats.compare(rig.at - timedelta(hours=24), ("turns", "tool_calls"))
    assert {name: dict(answer.totals) for name, answer in answers.items()} == {
        "manager": {"turns": 0, "tool_calls": 0},
        "alice": {"turns": 1, "tool_calls": 2},
        "bob": {"turns": 0, "tool_calls": 0},
    }
