"""Rates of agents and pairs, and the breaker for two that answer each other without end, on a real store."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hyperhive.core.errors import NotFoundError, RefusedError, TooManyError
from hyperhive.core.events import Event, EventName
from hyperhive.core.names import MANAGER, OPERATOR
from hyperhive.core.policy import Policy
from hyperhive.core.rates import EXCHANGE_LIMIT, Rate
from hyperhive.host.agent_records import insert_agent
from hyperhive.host.background import Background
from hyperhive.host.broker import Broker
from hyperhive.host.feed import Feed
from hyperhive.host.protection import Protection, Rates, plan_rates
from hyperhive.host.store.store import Store

RATES = Rates(agent=Rate(burst=5, per_minute=60), pair=Rate(burst=3, per_minute=60))


@dataclass
class Desk:
    store: Store
    broker: Broker
    protection: Protection
    background: Background
    at_s: float = 0.0
    events: list[Event] = field(default_factory=list[Event])

    def list_refused(self) -> list[str]:
        return [event.body["rule"] for event in self.events if event.name is EventName.MESSAGE_REFUSED]

    async def settle(self) -> None:
        async with asyncio.timeout(5):
            while self.background.count():
                await asyncio.sleep(0.01)


async def get_policy(_: str) -> Policy:
    return Policy()


async def open_desk(path: Path, rates: Rates) -> Desk:
    feed = Feed()
    store = Store(path, "hive", feed.publish_events)
    background = Background()
    protection = Protection(store, background, rates, lambda: desk.at_s)
    broker = Broker(store, get_policy, check_rate=protection.check)
    desk = Desk(store, broker, protection, background)
    for listener in (protection.on_event, broker.on_event, desk.events.append):
        feed.listen(listener)
    await protection.load()
    return desk


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = await open_desk(tmp_path / "hive.sqlite", RATES)
    for name in ("alice", "bob", "carol", MANAGER):
        await desk.store.write(lambda tx, name=name: insert_agent(tx, name, None))
    yield desk
    await desk.settle()
    desk.store.close()


async def talk(desk: Desk, turns: int) -> None:
    for turn in range(turns):
        desk.at_s += 10
        pair = ("alice", "bob") if turn % 2 else ("bob", "alice")
        await desk.broker.send(*pair, f"turn {turn}")
    await desk.settle()


async def test_too_much_to_one_recipient_is_refused_until_there_was_time(desk: Desk) -> None:
    for _ in range(3):
        await desk.broker.send("alice", "bob", "hello")
    with pytest.raises(TooManyError, match=r"to bob; the next can be sent in 1 s"):
        await desk.broker.send("alice", "bob", "hello")
    await desk.broker.send("alice", "carol", "hello")
    desk.at_s += 1
    await desk.broker.send("alice", "bob", "hello")
    await desk.settle()
    assert desk.list_refused() == ["rate.pair"]


async def test_too_much_to_all_together_is_refused(desk: Desk) -> None:
    for recipient in ("bob", "carol", "bob", "carol", MANAGER):
        await desk.broker.send("alice", recipient, "hello")
    with pytest.raises(TooManyError, match="to anyone"):
        await desk.broker.send("alice", OPERATOR, "hello")


async def test_a_refusal_leaves_its_key_free_and_a_repeated_send_counts_once(desk: Desk) -> None:
    for _ in range(9):
        await desk.broker.send("alice", "bob", "hello", idempotency_key="the-first")
    await desk.broker.send("alice", "bob", "hello")
    await desk.broker.send("alice", "bob", "hello")
    with pytest.raises(TooManyError):
        await desk.broker.send("alice", "bob", "late", idempotency_key="the-late-one")
    desk.at_s += 5
    sent = await desk.broker.send("alice", "bob", "late", idempotency_key="the-late-one")
    assert sent.body == "late"


async def test_an_agent_that_tries_on_and_on_does_not_fill_the_disk(desk: Desk) -> None:
    for _ in range(50):
        try:
            await desk.broker.send("alice", "bob", "hello")
        except TooManyError:
            desk.at_s += 0.001
    await desk.settle()
    assert desk.list_refused() == ["rate.pair"]


async def test_the_operator_is_not_limited(desk: Desk) -> None:
    for _ in range(20):
        await desk.broker.send(OPERATOR, "bob", "hello")


async def test_two_who_answer_each_other_without_end_are_held_back_until_the_operator_lets_them(desk: Desk) -> None:
    await talk(desk, EXCHANGE_LIMIT)
    assert [(one, other) for one, other, _ in desk.protection.list_runaways()] == [("alice", "bob")]
    for pair in (("alice", "bob"), ("bob", "alice")):
        with pytest.raises(RefusedError, match="answered each other without end"):
            await desk.broker.send(*pair, "again")
    await desk.broker.send("alice", "carol", "hello")
    [told], _ = await desk.broker.recv(MANAGER, 1, 9, 0)
    assert '"event": "pair_parked"' in told.body

    await desk.protection.release("bob", "alice")
    await desk.broker.send("alice", "bob", "again")
    with pytest.raises(NotFoundError):
        await desk.protection.release("alice", "bob")
    names = [event.name for event in desk.events]
    assert names.count(EventName.PAIR_PARKED) == names.count(EventName.PAIR_RESUMED) == 1


async def test_with_the_operator_among_them_they_may_go_on(desk: Desk) -> None:
    await talk(desk, EXCHANGE_LIMIT - 1)
    await desk.broker.send(OPERATOR, "alice", "well done, go on")
    await talk(desk, EXCHANGE_LIMIT - 1)
    assert desk.protection.list_runaways() == []


async def test_a_pair_is_held_back_over_a_restart(desk: Desk, tmp_path: Path) -> None:
    await talk(desk, EXCHANGE_LIMIT)
    other = await open_desk(tmp_path / "hive.sqlite", RATES)
    with pytest.raises(RefusedError, match="held back"):
        await other.broker.send("alice", "bob", "again")
    other.store.close()


async def test_without_rates_an_agent_may_send_what_it_likes(tmp_path: Path) -> None:
    desk = await open_desk(tmp_path / "hive.sqlite", plan_rates(0, 0))
    for name in ("alice", "bob"):
        await desk.store.write(lambda tx, name=name: insert_agent(tx, name, None))
    for _ in range(300):
        await desk.broker.send("alice", "bob", "hello")
    desk.store.close()
