"""Parks on a real store: who holds what, who is told, and that the broker hands out nothing meanwhile."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperhive.core.events import Event, EventName
from hyperhive.core.names import MANAGER
from hyperhive.core.parking import (
    EVERYONE,
    RESET_LIMIT,
    Park,
    ParkKind,
    decide_park,
    is_same_limit,
    parse_reset,
    plan_limit_end,
)
from hyperhive.core.policy import Policy
from hyperhive.host.agent_records import insert_agent, mark_destroyed
from hyperhive.host.broker import Broker
from hyperhive.host.feed import Feed
from hyperhive.host.parking import Parking
from hyperhive.host.store.store import Store
from hyperhive.system.clock import now

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
CLOSE_S = 5
FAR = timedelta(hours=1)


# -- rules -------------------------------------------------------------------------------------------------


def park(kind: ParkKind, until: datetime | None = None, agent: str = "alice") -> Park:
    return Park(agent, kind, AT, until, "")


def test_the_operators_own_wish_is_told_before_what_happened_by_itself() -> None:
    limit, paused = park(ParkKind.LIMIT), park(ParkKind.PAUSED)
    assert decide_park([limit, paused], AT) is paused
    hive = park(ParkKind.PAUSED, agent=EVERYONE)
    assert decide_park([paused, hive], AT) is hive


def test_what_has_passed_its_time_holds_no_more() -> None:
    assert decide_park([park(ParkKind.LIMIT, AT)], AT) is None
    assert decide_park([park(ParkKind.LIMIT, AT + timedelta(milliseconds=1))], AT) is not None


@pytest.mark.parametrize(
    ("text", "after_s"),
    [
        ("2026-01-01T12:01:00Z", 60),
        ("2026-01-01T13:01:00+01:00", 60),
        ("2026-01-09T12:00:00Z", RESET_LIMIT.total_seconds()),
        ("2026-01-09T12:00:01Z", None),
        ("2026-01-01T12:00:00Z", None),
        ("2025-12-31T12:00:00Z", None),
        ("2026-01-01T12:01:00", None),
        ("9999-12-31T23:59:59-23:59", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("tomorrow", None),
        ("1767268860", None),
        ("", None),
    ],
)
def test_only_a_reset_time_that_can_be_true_is_believed(text: str, after_s: float | None) -> None:
    assert parse_reset(text, AT) == (None if after_s is None else AT + timedelta(seconds=after_s))


@given(st.text(max_size=40))
def test_no_text_of_a_harness_makes_a_reset_time_out_of_bounds(text: str) -> None:
    reset_at = parse_reset(text, AT)
    assert reset_at is None or AT < reset_at <= AT + RESET_LIMIT


@given(st.integers())
def test_after_a_known_reset_agents_come_back_one_by_one(seed: int) -> None:
    late_s = (plan_limit_end(AT + FAR, AT, 3, Random(seed)) - (AT + FAR)).total_seconds()
    assert 5 <= late_s <= 60


def test_without_a_reset_time_the_wait_doubles_from_a_minute_to_half_an_hour() -> None:
    ends = [plan_limit_end(None, AT, times, Random(1)) for times in (0, 1, 2, 3, 5, 6, 7, 10**9)]
    waits = [(end - AT).total_seconds() for end in ends]
    assert waits == [60, 60, 120, 240, 960, 1800, 1800, 1800]


def test_a_limit_tells_something_new_only_if_it_ends_clearly_later() -> None:
    held = park(ParkKind.LIMIT, AT + FAR)
    assert is_same_limit(held, AT + FAR + timedelta(seconds=60))
    assert is_same_limit(held, AT)
    assert not is_same_limit(held, AT + FAR + timedelta(seconds=61))
    assert not is_same_limit(held, None)
    for_good = park(ParkKind.LIMIT)
    assert is_same_limit(for_good, None)
    assert is_same_limit(for_good, AT + FAR)


# -- the service -------------------------------------------------------------------------------------------


async def get_policy(name: str) -> Policy:
    return Policy()


@dataclass
class Yard:
    """A store with agents, parking and a broker. `changed` is what listeners were told."""

    store: Store
    parking: Parking
    broker: Broker
    events: list[Event] = field(default_factory=list[Event])
    changed: list[str] = field(default_factory=list[str])

    async def list_facts(self) -> list[tuple[str, str, str]]:
        """The manager's facts: event, agent, and the kinds it is about, if it says."""
        rows = await self.store.read(lambda view: view.list("list_messages", agent=MANAGER, before=2**62, limit=100))
        bodies = [json.loads(row["body"]) for row in reversed(rows) if row["sender"] == "system"]
        return [(body["event"], body["agent"], body.get("kind") or body.get("kinds", "")) for body in bodies]

    def list_names(self) -> list[EventName]:
        return [event.name for event in self.events if event.name.startswith("agent.")]


@contextlib.asynccontextmanager
async def open_yard(folder: Path) -> AsyncGenerator[Yard]:
    """Opened again on the same folder it is the daemon's next start."""
    feed = Feed()
    store = Store(folder / "hive.sqlite", "hive", feed.publish_events)
    try:
        parking = Parking(store)
        await parking.load()
        yard = Yard(store, parking, Broker(store, get_policy))
        for listener in (parking.on_event, yard.broker.on_event, yard.events.append):
            feed.listen(listener)
        parking.on_change(yard.changed.append)
        yield yard
    finally:
        store.close()


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with open_yard(tmp_path) as yard:
        await spawn_all(yard)
        yield yard


async def spawn_all(yard: Yard) -> None:
    for name in ("alice", "bob", MANAGER):
        await yard.store.write(lambda tx, name=name: insert_agent(tx, name, None))
    yard.events.clear()


async def test_a_park_holds_until_it_is_released_and_the_hives_holds_for_all(yard: Yard) -> None:
    await yard.parking.park("alice", ParkKind.PAUSED, "lunch")
    held = yard.parking.find("alice")
    assert held is not None
    assert (held.agent, held.kind, held.until, held.reason) == ("alice", ParkKind.PAUSED, None, "lunch")
    assert yard.parking.find("bob") is None
    assert yard.parking.find(EVERYONE) is None
    await yard.parking.park(EVERYONE, ParkKind.PAUSED, "night")
    for name in ("alice", "bob", MANAGER, EVERYONE):
        assert (found := yard.parking.find(name)) is not None
        assert found.agent == EVERYONE
    assert await yard.parking.release(EVERYONE) == [ParkKind.PAUSED]
    assert yard.parking.find("bob") is None
    assert await yard.parking.release("alice") == [ParkKind.PAUSED]
    assert await yard.parking.release("alice") == []
    assert yard.parking.find("alice") is None
    assert yard.changed == ["alice", EVERYONE, EVERYONE, "alice"]


async def test_a_release_ends_all_but_the_budget_unless_kinds_are_named(yard: Yard) -> None:
    for kind in ParkKind:
        await yard.parking.park("alice", kind, "why")
    assert await yard.parking.release("alice", ParkKind.LOGIN) == [ParkKind.LOGIN]
    assert set(await yard.parking.release("alice")) == {ParkKind.PAUSED, ParkKind.LIMIT, ParkKind.FAILING}
    assert (left := yard.parking.find("alice")) is not None
    assert left.kind is ParkKind.BUDGET
    assert await yard.parking.release("alice", ParkKind.BUDGET) == [ParkKind.BUDGET]


async def test_parks_are_as_they_were_after_a_restart(tmp_path: Path) -> None:
    until = now().replace(microsecond=0) + FAR
    async with open_yard(tmp_path) as yard:
        await spawn_all(yard)
        await yard.parking.park("alice", ParkKind.LIMIT, "five_hour", until)
        await yard.parking.park(EVERYONE, ParkKind.PAUSED, "night")
        before = [yard.parking.find_own("alice", ParkKind.LIMIT), yard.parking.find(EVERYONE)]
    async with open_yard(tmp_path) as yard:
        assert [yard.parking.find_own("alice", ParkKind.LIMIT), yard.parking.find(EVERYONE)] == before
        await yard.parking.release(EVERYONE)
        assert (found := yard.parking.find("alice")) is not None
        assert found.until == until


async def test_a_park_that_ends_by_itself_is_gone_with_an_event_and_listeners_are_told(yard: Yard) -> None:
    work = asyncio.ensure_future(yard.parking.expire_forever())
    woken = asyncio.Event()
    yard.parking.on_change(lambda name: None if yard.parking.find(name) else woken.set())
    try:
        await yard.parking.park("alice", ParkKind.LIMIT, "five_hour", now() + timedelta(milliseconds=50))
        async with asyncio.timeout(CLOSE_S):
            await woken.wait()
    finally:
        work.cancel()
    assert yard.list_names() == [EventName.AGENT_PARKED, EventName.AGENT_RESUMED]
    assert yard.events[-1].body == {"kinds": ["limit"], "hive": False} or yard.events[-1].name is EventName.MESSAGE_SENT
    assert await yard.store.read(lambda view: view.list("list_parks")) == []


async def test_the_manager_is_told_what_happened_to_others_and_once(yard: Yard) -> None:
    parking = yard.parking
    for minutes in (1, 2, 3):
        await parking.park("alice", ParkKind.LIMIT, "five_hour", now() + timedelta(minutes=minutes))
    await parking.park("alice", ParkKind.LOGIN, "401")
    await parking.park("bob", ParkKind.BUDGET, "spent")
    await parking.park(MANAGER, ParkKind.FAILING, "4 turns")
    await parking.park(EVERYONE, ParkKind.PAUSED, "night")
    await parking.release("alice", ParkKind.LOGIN)
    await parking.release("alice")
    await parking.release(EVERYONE)
    await parking.release(MANAGER)
    assert await yard.list_facts() == [
        ("parked", "alice", "limit"),
        ("needs_login", "alice", ""),
        ("budget_exhausted", "bob", ""),
        ("resumed", "alice", "limit"),
    ]
    assert yard.list_names().count(EventName.AGENT_PARKED) == 7


async def test_the_same_park_again_is_nothing_new_and_another_end_keeps_its_beginning(yard: Yard) -> None:
    until = now() + FAR
    await yard.parking.park("alice", ParkKind.LIMIT, "five_hour", until)
    first = yard.parking.find("alice")
    await yard.parking.park("alice", ParkKind.LIMIT, "five_hour", until)
    assert yard.list_names() == [EventName.AGENT_PARKED]
    await yard.parking.park("alice", ParkKind.LIMIT, "five_hour", until + FAR)
    moved = yard.parking.find("alice")
    assert first is not None
    assert moved is not None
    assert (moved.since, moved.until) == (first.since, first.until and first.until + FAR)


async def test_a_destroyed_agent_has_no_parks_and_gets_none(yard: Yard) -> None:
    await yard.parking.park("alice", ParkKind.PAUSED, "lunch")
    await yard.store.write(lambda tx: mark_destroyed(tx, "alice"))
    assert yard.parking.find("alice") is None
    assert yard.changed == ["alice", "alice"]
    for name in ("alice", "nobody"):
        await yard.parking.park(name, ParkKind.BUDGET, "spent")
        assert yard.parking.find(name) is None
    assert await yard.store.read(lambda view: view.list("list_parks")) == []


# -- the broker ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["bob", EVERYONE])
async def test_a_parked_agent_gets_no_message_and_all_of_them_at_once_when_it_is_released(yard: Yard, who: str) -> None:
    await yard.parking.park(who, ParkKind.PAUSED, "lunch")
    sent = await yard.broker.send("alice", "bob", "hello")
    assert await yard.broker.recv("bob", 1, 10, 0) == ([], 0)
    # Far longer than the test may take: only the release can end it.
    waiting = asyncio.ensure_future(yard.broker.recv("bob", 1, 10, 180))
    await yard.broker.send("alice", "bob", "again")
    assert not waiting.done()
    await yard.parking.release(who)
    async with asyncio.timeout(CLOSE_S):
        messages, _ = await waiting
    assert [message.id for message in messages] == [sent.id, sent.id + 1]


async def test_the_end_of_a_park_by_its_time_ends_the_wait(yard: Yard) -> None:
    work = asyncio.ensure_future(yard.parking.expire_forever())
    await yard.parking.park("bob", ParkKind.LIMIT, "five_hour", now() + timedelta(milliseconds=300))
    await yard.broker.send("alice", "bob", "hello")
    async with asyncio.timeout(CLOSE_S):
        messages, _ = await yard.broker.recv("bob", 1, 10, 180)
    work.cancel()
    assert [message.body for message in messages] == ["hello"]


async def test_one_release_of_two_parks_hands_out_nothing(yard: Yard) -> None:
    await yard.broker.send("alice", "bob", "hello")
    await yard.parking.park("bob", ParkKind.PAUSED, "lunch")
    await yard.parking.park(EVERYONE, ParkKind.LIMIT, "five_hour")
    await yard.parking.release("bob")
    assert await yard.broker.recv("bob", 1, 10, 0) == ([], 0)
    await yard.parking.release(EVERYONE)
    assert len((await yard.broker.recv("bob", 1, 10, 0))[0]) == 1


async def test_what_is_held_already_can_be_settled_while_parked(yard: Yard) -> None:
    sent = await yard.broker.send("alice", "bob", "hello")
    await yard.broker.recv("bob", 1, 10, 0)
    await yard.parking.park("bob", ParkKind.PAUSED, "lunch")
    assert await yard.broker.ack("bob", 1, [sent.id]) == 1


async def test_a_park_that_nobody_was_told_of_yet_is_honoured(yard: Yard) -> None:
    deaf = Broker(yard.store, get_policy, lambda _: None)
    await yard.broker.send("alice", "bob", "hello")
    await yard.parking.park("bob", ParkKind.PAUSED, "lunch")
    assert await deaf.recv("bob", 1, 10, 0) == ([], 0)


Act = tuple[str, str, ParkKind, timedelta | None]
ACTS: st.SearchStrategy[Act] = st.tuples(
    st.sampled_from(["park", "release", "resume", "expire", "send", "recv", "recv"]),
    st.sampled_from(["bob", EVERYONE]),
    st.sampled_from(ParkKind),
    st.sampled_from([None, -FAR, FAR]),
)


@settings(deadline=None, max_examples=60)
@given(rounds=st.lists(st.lists(ACTS, min_size=1, max_size=5), max_size=12))
def test_no_order_of_acts_leases_a_message_while_anything_parks(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[list[Act]]
) -> None:
    """The acts of a round overtake one another. What was committed when is read off the numbered events."""

    async def act(yard: Yard, what: str, who: str, kind: ParkKind, after: timedelta | None) -> None:
        if what == "park":
            await yard.parking.park(who, kind, "why", None if after is None else now() + after)
        elif what in {"release", "resume"}:
            await yard.parking.release(who, *([kind] if what == "release" else []))
        elif what == "expire":
            await yard.parking.expire()
        elif what == "send":
            await yard.broker.send("alice", "bob", "hello")
        else:
            messages, _ = await yard.broker.recv("bob", 1, 1, 0)
            await yard.broker.requeue("bob", 1, [message.id for message in messages], "", failed=False)

    async def play(folder: Path) -> None:
        async with open_yard(folder) as yard:
            await spawn_all(yard)
            await yard.broker.send("alice", "bob", "hello")
            for acts in rounds:
                await asyncio.gather(*(act(yard, *planned) for planned in acts))
            check_leases(yard.events)
            await yard.parking.release("bob", *ParkKind)
            await yard.parking.release(EVERYONE, *ParkKind)
            assert (await yard.broker.recv("bob", 1, 1, 0))[0]

    asyncio.run(play(tmp_path_factory.mktemp("yard")))


def check_leases(events: list[Event]) -> None:
    held: dict[tuple[str, str], Park] = {}
    for event in events:
        who = event.agent or EVERYONE
        if event.name is EventName.AGENT_PARKED:
            until = event.body["until"]
            kind = ParkKind(event.body["kind"])
            held[who, kind] = Park(who, kind, event.at, datetime.fromisoformat(until) if until else None, "")
        elif event.name is EventName.AGENT_RESUMED:
            for kind in event.body["kinds"]:
                del held[who, kind]
        elif event.name is EventName.MESSAGE_LEASED and event.agent == "bob":
            assert decide_park(held.values(), event.at) is None
