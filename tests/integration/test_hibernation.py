"""Hibernation on the real driver: an idle agent has no process, and whatever needs it has it started again, once."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

from hyperhive.core.events import EventName
from hyperhive.core.messages import Message, MessageState
from hyperhive.core.names import OPERATOR
from hyperhive.core.parking import EVERYONE, ParkKind
from hyperhive.host.drivers.protocol import ContainerState, DriverError
from hyperhive.host.message_records import queue_message
from hyperhive.host.store.store import Transaction
from hyperhive.testing.bad_drivers import kill
from lifecycle_rig import BadDriver, Hive, Wrap, make_place, open_hive, wait_for

SOON_S = 0.2
NEVER_S = 1000.0
UNHAPPY = (EventName.AGENT_CRASHED, EventName.AGENT_FAILED, EventName.AGENT_STOPPED)


@contextlib.asynccontextmanager
async def open_drowsy(place: Path | None = None, wrap: Wrap = lambda driver: driver) -> AsyncGenerator[Hive]:
    """A hive whose agents hibernate at once. What waits for them is held by a park where a test wants no turns."""
    async with open_hive(wrap, place=place, hibernate_s=SOON_S, look_every_s=0.05) as hive:
        yield hive


async def fall_asleep(hive: Hive) -> None:
    await hive.agents.spawn("alice")
    await hive.wait_state("hibernated")


async def is_empty(hive: Hive) -> bool:
    return await hive.list_processes() == []


async def test_an_idle_agent_has_no_process_and_is_shown_as_hibernated() -> None:
    async with open_drowsy() as hive:
        await hive.agents.spawn("alice")
        await hive.wait_state("idle")
        assert await hive.list_processes() != []
        row = await hive.wait_state("hibernated")
        assert row.reason == ""
        assert await is_empty(hive)
        record = await hive.record()
        assert (record.desired, record.hibernated) == ("running", True)
        assert (await hive.honest.observe("alice")).state is ContainerState.STOPPED
        assert len(hive.list_events(EventName.AGENT_HIBERNATED)) == 1
        assert hive.list_events(*UNHAPPY) == []
        told = await hive.parts.broker.list_messages("manager", 2**53, 50)
        assert told == []


async def test_many_messages_at_once_wake_it_once_and_are_delivered() -> None:
    async with open_drowsy() as hive:
        await fall_asleep(hive)
        sent = await asyncio.gather(*(hive.send(f"%% {number}") for number in range(20)))
        await hive.wait_event(EventName.AGENT_WOKEN)

        async def leased() -> bool | None:
            states = {m.state for m in await hive.parts.broker.list_messages("alice", 2**53, 50) if m.id == sent[0].id}
            return states == {MessageState.LEASED} or None

        await wait_for(leased, 20, hive)
        assert (await hive.record()).generation == 2
        assert len(hive.list_events(EventName.AGENT_STARTED)) == 2
        assert len(hive.list_events(EventName.AGENT_WOKEN)) == 1
        # Waking is nothing that an agent has to be told of.
        assert await hive.list_kicks() == []


async def test_what_waits_for_a_parked_agent_wakes_it_when_it_is_released() -> None:
    async with open_drowsy() as hive:
        await hive.agents.spawn("alice")
        await hive.wait_state("idle")
        await hive.parts.parking.park("alice", ParkKind.PAUSED, "a test")
        await hive.send()
        # It cannot be leased: no reason to run.
        await hive.wait_state("hibernated")
        await hive.send()
        await hive.parts.parking.park(EVERYONE, ParkKind.PAUSED, "a test")
        await hive.parts.parking.release("alice")
        row = await hive.wait_row(lambda row: row.park is not None and row.park.hive)
        assert (row.state, row.waiting) == ("hibernated", 2)
        assert hive.list_events(EventName.AGENT_WOKEN) == []
        await hive.parts.parking.release(EVERYONE)
        await hive.wait_event(EventName.AGENT_WOKEN)
        await hive.wait_row(lambda row: row.waiting == 0)


async def test_an_operator_starts_stops_and_restarts_it() -> None:
    async with open_drowsy() as hive:
        await fall_asleep(hive)
        await hive.agents.start("alice", OPERATOR)
        await hive.wait_event(EventName.AGENT_WOKEN)
        await hive.wait_event(EventName.AGENT_HIBERNATED, count=2)
        await hive.wait_state("hibernated")
        await hive.agents.restart("alice", OPERATOR)
        await hive.wait_event(EventName.AGENT_WOKEN, count=2)
        await hive.wait_event(EventName.AGENT_HIBERNATED, count=3)
        await hive.wait_state("hibernated")
        await hive.agents.stop("alice", OPERATOR)
        await hive.wait_state("stopped")
        assert not (await hive.record()).hibernated
        await hive.send()
        assert (await hive.row()).state == "stopped"


async def test_an_act_that_needs_the_harness_has_it_there_and_keeps_it_awake() -> None:
    async with open_drowsy() as hive:
        await fall_asleep(hive)
        await hive.parts.lifecycle.wake("alice")
        assert hive.parts.links.get_connection("alice")
        before = (await hive.record()).generation
        await asyncio.gather(*(hive.parts.lifecycle.wake("alice") for _ in range(5)))
        # As long as it took to fall asleep, several times over: an operator is at it.
        looks = 20
        seen: list[str] = []

        async def looked() -> bool | None:
            seen.append((await hive.row()).state)
            await asyncio.sleep(SOON_S / 4)
            return len(seen) >= looks or None

        await wait_for(looked, 20, hive)
        assert set(seen) == {"idle"}
        assert (await hive.record()).generation == before == 2


async def test_a_message_that_comes_in_the_moment_of_the_stop_has_it_started_again() -> None:
    class Interrupted(BadDriver):
        """Somebody sends while the container is being stopped."""

        hive: Hive | None = None

        async def stop(self, name: str, timeout_s: float) -> None:
            hive, self.hive = self.hive, None
            if hive is not None:
                await hive.send("%% say one")
            await super().stop(name, timeout_s)
            if hive is not None:
                await hive.send("%% say two")

    async with open_drowsy(wrap=Interrupted) as hive:
        assert isinstance(hive.driver, Interrupted)
        hive.driver.hive = hive
        await hive.agents.spawn("alice")
        await hive.wait_event(EventName.AGENT_HIBERNATED)
        await hive.wait_event(EventName.AGENT_WOKEN)
        await hive.wait_row(lambda row: row.waiting == 0)
        assert hive.list_events(*UNHAPPY) == []
        # Nothing that was handed out to the container that was stopped counts as a failure.
        rows = await hive.parts.store.read(lambda view: view.list("list_messages", agent="alice", before=99, limit=9))
        assert [row["failures"] for row in rows] == [0, 0]


async def test_a_container_that_cannot_be_stopped_is_not_shown_as_hibernated_and_is_tried_again() -> None:
    class Refuses(BadDriver):
        refusing = True
        refused = 0

        async def stop(self, name: str, timeout_s: float) -> None:
            if self.refusing:
                self.refused += 1
                raise DriverError(f"{name} cannot be killed", "see `ps`")
            await super().stop(name, timeout_s)

    async with open_drowsy(wrap=Refuses) as hive:
        driver = hive.driver
        assert isinstance(driver, Refuses)
        await hive.agents.spawn("alice")

        async def refused() -> bool | None:
            return driver.refused >= 2 or None

        await wait_for(refused, 20, hive)
        assert (await hive.row()).state != "hibernated"
        driver.refusing = False
        await hive.wait_state("hibernated")
        assert await is_empty(hive)
        assert len(hive.list_events(EventName.AGENT_HIBERNATED)) == 1


async def test_a_killed_container_of_an_agent_that_is_awake_is_still_a_crash() -> None:
    async with open_hive(hibernate_s=1000, look_every_s=0.05) as hive:
        await hive.agents.spawn("alice")
        await hive.wait_state("idle")
        await kill(hive.honest, "alice")
        await hive.wait_event(EventName.AGENT_CRASHED)
        await hive.wait_state("idle")


async def test_it_stays_hibernated_over_a_restart_of_the_hive_until_something_waits() -> None:
    async with make_place() as place:
        async with open_drowsy(place) as hive:
            await fall_asleep(hive)
        async with open_drowsy(place) as hive:
            await hive.parts.reconcile()
            await hive.wait_state("hibernated")
            assert await is_empty(hive)
            assert (await hive.record()).generation == 1
            # And as if it had ended right after the message was stored.
            await hive.parts.parking.park("alice", ParkKind.PAUSED, "a test")
            await hive.send()
            await hive.parts.store.write(lambda tx: tx.list("delete_parks_of", agent="alice"))
        async with open_drowsy(place) as hive:
            await hive.parts.reconcile()
            await hive.wait_event(EventName.AGENT_WOKEN)
            await hive.wait_row(lambda row: row.waiting == 0)
            assert await hive.list_kicks() == []


async def test_a_hive_that_ended_between_the_mark_and_the_stop_stops_what_still_runs() -> None:
    async with make_place() as place:
        async with open_hive(place=place, look_every_s=NEVER_S) as hive:
            await hive.agents.spawn("alice")
            await hive.wait_state("idle")
            await hive.parts.store.write(lambda tx: set_flag(tx))
            assert await hive.list_processes() != []
        async with open_hive(place=place, look_every_s=0.05, reconcile=True) as hive:
            await hive.wait_state("hibernated")
            assert await is_empty(hive)
            assert hive.list_events(*UNHAPPY) == []


async def test_a_hive_that_ended_between_the_mark_and_the_stop_adopts_what_is_needed_again() -> None:
    async with make_place() as place:
        async with open_hive(place=place, look_every_s=NEVER_S) as hive:
            await hive.agents.spawn("alice")
            await hive.wait_state("idle")
            # What is flagged gets nothing any more.
            message = await hive.parts.store.write(lambda tx: flag_and_send(tx))
            [queued] = await hive.parts.broker.list_messages("alice", 2**53, 9)
            assert (queued.id, queued.state) == (message.id, MessageState.QUEUED)
        async with open_hive(place=place, look_every_s=0.05, reconcile=True) as hive:
            await hive.wait_event(EventName.AGENT_WOKEN)
            await hive.wait_row(lambda row: row.waiting == 0)
            assert (await hive.record()).generation == 1


async def test_what_a_hive_that_ended_in_the_stop_had_handed_out_has_it_started_again() -> None:
    async with make_place() as place:
        async with open_drowsy(place) as hive:
            await fall_asleep(hive)
            await hive.parts.parking.park("alice", ParkKind.PAUSED, "a test")
            await hive.send()
            await hive.parts.store.write(lambda tx: lease_unseen(tx))
        async with open_drowsy(place) as hive:
            await hive.parts.reconcile()
            await hive.wait_event(EventName.AGENT_WOKEN)
            requeued = await hive.wait_event(EventName.MESSAGE_REQUEUED)
            assert requeued.body["state"] == "queued"


def set_flag(tx: Transaction) -> None:
    tx.list("set_hibernated", name="alice", hibernated=1)


def flag_and_send(tx: Transaction) -> Message:
    set_flag(tx)
    return queue_message(tx, OPERATOR, "alice", "hello")


def lease_unseen(tx: Transaction) -> None:
    tx.list("delete_parks_of", agent="alice")
    assert tx.list("lease_messages", recipient="alice", generation=1, at=0, max=8, bytes=10000)
