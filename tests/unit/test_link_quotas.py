"""What an agent may have written down: so much a minute, then an error that says when, and nothing on a full disk."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from hyperhive.core.errors import StorageError, TooManyError
from hyperhive.core.events import Event, EventName
from hyperhive.core.quotas import Quota
from hyperhive.host.background import Background
from hyperhive.host.link_quotas import ACTS, EVENT_BYTES, EVENTS, LinkQuotas
from hyperhive.host.store.store import Store
from hyperhive.host.throttles import TOLD_EVERY_S, Throttles
from hyperhive.wire import agent_link as wire


class Desk:
    def __init__(self, store: Store) -> None:
        self.at_s = 1000.0
        self.is_full = False
        self.background = Background()
        self.throttles = Throttles(store, self.background, lambda: self.at_s)
        self.quotas = LinkQuotas(self.throttles, self.check_room, lambda: self.at_s)

    def check_room(self) -> None:
        if self.is_full:
            raise StorageError("the hive's disk is nearly full", "free some space")

    async def settle(self) -> None:
        async with asyncio.timeout(20):
            while self.background.count():
                await asyncio.sleep(0.01)


@pytest.fixture
async def events() -> list[Event]:
    return []


@pytest.fixture
async def store(tmp_path: Path, events: list[Event]) -> AsyncIterator[Store]:
    with closing(Store(tmp_path / "hive.sqlite", "hive", events.extend)) as store:
        yield store


async def test_acts_are_bounded_by_the_minute_and_the_operator_is_told_once(store: Store, events: list[Event]) -> None:
    desk = Desk(store)
    for _ in range(ACTS.burst):
        desk.quotas.check("alice", wire.REMIND_ME)
    for _ in range(5):
        with pytest.raises(TooManyError, match="120 requests a minute"):
            desk.quotas.check("alice", wire.ASK_OPERATOR)
    desk.quotas.check("bob", wire.ASK_OPERATOR)
    # What makes nothing that stays is answered all the same.
    for method in (wire.RECV, wire.ACK, wire.TURN_STATE, wire.SEND, wire.EVENTS_APPEND):
        desk.quotas.check("alice", method)
    desk.at_s += 1
    desk.quotas.check("alice", wire.ASK_OPERATOR)
    await desk.settle()
    assert [(event.name, event.agent, event.body["quota"]) for event in events] == [
        (EventName.AGENT_THROTTLED, "alice", "acts")
    ]
    desk.at_s += TOLD_EVERY_S
    for _ in range(ACTS.burst + 1):
        try:
            desk.quotas.check("alice", wire.PARK)
        except TooManyError:
            break
    await desk.settle()
    assert len(events) == 2


async def test_events_are_bounded_in_number_and_in_bytes(store: Store, events: list[Event]) -> None:
    desk = Desk(store)
    for _ in range(EVENTS.burst // 1000):
        desk.quotas.check_events("alice", 1000)
    with pytest.raises(TooManyError, match="6,000 events a minute"):
        desk.quotas.check_events("alice", 1)
    desk.quotas.check_events("bob", 1)
    desk.quotas.note_stored("bob", EVENT_BYTES.burst + 2**20)
    with pytest.raises(TooManyError, match="16 MiB of events a minute"):
        desk.quotas.check_events("bob", 1)
    desk.at_s += 60
    desk.quotas.check_events("bob", 1)
    desk.quotas.check_events("alice", 1)
    await desk.settle()
    assert {(event.agent, event.body["quota"]) for event in events} == {("alice", "events"), ("bob", "event_bytes")}


async def test_on_a_full_disk_nothing_is_stored_but_what_ends_something_may_be_done(store: Store) -> None:
    desk = Desk(store)
    desk.is_full = True
    for method in (wire.SEND, wire.EVENTS_APPEND, wire.ASK_OPERATOR, wire.REMIND_ME, wire.REQUEST_SPAWN):
        with pytest.raises(StorageError, match="nearly full"):
            desk.quotas.check("alice", method)
    for method in (wire.RECV, wire.ACK, wire.PARK, wire.CANCEL_QUESTION, wire.CANCEL_REMINDER, wire.KILL):
        desk.quotas.check("alice", method)


async def test_what_is_used_is_told_and_forgotten_with_the_agent(store: Store) -> None:
    desk = Desk(store)
    desk.quotas.check("alice", wire.REMIND_ME)
    desk.quotas.check_events("alice", 7)
    uses = {use.quota: use.used for use in desk.quotas.list_uses("alice")}
    assert uses == {Quota.ACTS: 1, Quota.EVENTS: 7, Quota.EVENT_BYTES: 0}
    desk.quotas.forget("alice")
    assert {use.used for use in desk.quotas.list_uses("alice")} == {0}
