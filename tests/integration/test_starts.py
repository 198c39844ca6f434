"""Starts and restarts on the real driver: what an agent is told of, what is a crash, what is retried."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from hyperhive.core.events import EventName
from hyperhive.core.names import MANAGER, OPERATOR
from hyperhive.core.parking import ParkKind
from hyperhive.host.drivers.protocol import ContainerSpec, ContainerState, Driver, DriverError
from hyperhive.testing.bad_drivers import kill
from lifecycle_rig import BadDriver, Hive, Wrap, make_place, open_hive

CRASHED = "your container ended unasked (its command was ended by SIGKILL), and was started again"


@contextlib.asynccontextmanager
async def open_quick(
    place: Path | None = None, wrap: Wrap = lambda driver: driver, *, reconcile: bool = False
) -> AsyncGenerator[Hive]:
    """A hive that looks often and waits for nothing. Its agent is parked: what it is told stays to be read."""
    async with open_hive(wrap, place=place, look_every_s=0.05, reconcile=reconcile) as hive:
        hive.parts.lifecycle.pace.retry_s = lambda _: 0.05
        yield hive


async def start_experienced(hive: Hive) -> None:
    await hive.insert_experienced()
    await hive.parts.parking.park("alice", ParkKind.PAUSED, "a test")
    hive.parts.lifecycle.converge_soon("alice")
    await hive.wait_state("parked", "idle")


async def wait_started(hive: Hive, count: int) -> None:
    await hive.wait_event(EventName.AGENT_STARTED, count)
    await hive.wait_state("parked", "idle")


async def wait_ended(driver: Driver) -> None:
    async with asyncio.timeout(20):
        while (await driver.observe("alice")).state is not ContainerState.EXITED:
            await asyncio.sleep(0.02)


async def list_reasons(hive: Hive) -> list[str]:
    bodies = [json.loads(kick.body) for kick in await hive.list_kicks()]
    reasons = [body.pop("reason") for body in bodies]
    assert all(body == {"event": "started", "notes": "/state/notes.md"} for body in bodies)
    return reasons


class Fails(BadDriver):
    """Starts nothing as long as `failing`."""

    failing = False
    failed = 0

    async def start(self, spec: ContainerSpec) -> None:
        if self.failing:
            self.failed += 1
            raise DriverError("the machine is on fire", "put it out")
        await super().start(spec)


# -- the kick ------------------------------------------------------------------------------------------------


async def test_the_first_start_of_a_new_agent_is_not_told() -> None:
    async with open_quick() as hive:
        await hive.agents.spawn("alice")
        await hive.wait_state("idle")
        await hive.agents.restart("alice", OPERATOR)
        await wait_started(hive, 2)
        # It was never given a message: there is nothing that it could have been at.
        assert await list_reasons(hive) == []


@pytest.mark.parametrize(("by", "name"), [(OPERATOR, "the operator"), (MANAGER, "the manager")])
async def test_a_restart_and_a_start_after_a_stop_are_told_with_who_asked(by: str, name: str) -> None:
    async with open_quick() as hive:
        await start_experienced(hive)
        assert await list_reasons(hive) == []
        await hive.agents.restart("alice", by)
        await wait_started(hive, 2)
        assert await list_reasons(hive) == [f"{name} restarted your container"]
        await hive.agents.stop("alice", by)
        await hive.wait_state("stopped")
        await hive.agents.start("alice", by)
        await wait_started(hive, 3)
        # Never two: the one that waits unread tells of the newest.
        assert await list_reasons(hive) == [f"{name} started your container again after it had been stopped"]


async def test_starting_what_runs_is_not_told() -> None:
    async with open_quick() as hive:
        await start_experienced(hive)
        await hive.agents.start("alice", OPERATOR)
        await hive.parts.lifecycle.wake("alice")
        assert (await hive.record()).generation == 1
        assert await list_reasons(hive) == []


async def test_a_crash_is_told_with_its_cause_and_a_crash_loop_only_once() -> None:
    async with open_quick() as hive:
        await start_experienced(hive)
        await kill(hive.honest, "alice")
        await wait_started(hive, 2)
        assert await list_reasons(hive) == [CRASHED]
        # It is read, and the container crashes again and again.
        await hive.parts.store.write(lambda tx: tx.list("bury_messages", recipient="alice", at=0, reason="a test"))
        for count in (3, 4):
            await kill(hive.honest, "alice")
            await wait_started(hive, count)
        assert await list_reasons(hive) == [CRASHED]
        causes = [event.body["cause"] for event in hive.list_events(EventName.AGENT_CRASHED)]
        assert causes == ["signal"] * 3


async def test_a_kick_that_was_leased_when_the_container_died_comes_again_and_alone() -> None:
    async with open_quick() as hive:
        await start_experienced(hive)
        await hive.agents.restart("alice", OPERATOR)
        await wait_started(hive, 2)
        [kick] = await hive.list_kicks()
        await hive.parts.store.write(
            lambda tx: tx.list("lease_messages", recipient="alice", generation=2, at=0, max=8, bytes=10000)
        )
        await kill(hive.honest, "alice")
        await wait_started(hive, 3)
        await hive.wait_event(EventName.MESSAGE_REQUEUED)
        assert [again.id for again in await hive.list_kicks()] == [kick.id]


async def test_the_next_hive_tells_of_its_own_start_and_says_nothing_of_what_ran_on() -> None:
    async with make_place() as place:
        async with open_quick(place) as hive:
            await start_experienced(hive)
        async with open_quick(place, reconcile=True) as hive:
            await hive.wait_state("parked", "idle")
            # A look or two: nothing follows.
            await hive.parts.lifecycle.wake("alice")
            assert await list_reasons(hive) == []
            assert await hive.parts.lifecycle.halt() == []
        async with open_quick(place, reconcile=True) as hive:
            await hive.wait_state("parked", "idle")
            assert await list_reasons(hive) == ["the hive was started again, and your container was started again"]
            assert hive.list_events(EventName.AGENT_CRASHED) == []


# -- crashes -------------------------------------------------------------------------------------------------


async def test_what_ended_before_the_first_look_is_no_crash_but_is_started_and_told() -> None:
    async with make_place() as place:
        async with open_quick(place) as hive:
            await start_experienced(hive)
            driver = hive.honest
        await kill(driver, "alice")
        await wait_ended(driver)
        async with open_quick(place, reconcile=True) as hive:
            await wait_started(hive, 1)
            assert hive.list_events(EventName.AGENT_CRASHED) == []
            [reason] = await list_reasons(hive)
            assert "ended while nobody watched it (its command was ended by SIGKILL)" in reason


async def test_what_was_adopted_and_ends_later_is_a_crash() -> None:
    async with make_place() as place:
        async with open_quick(place) as hive:
            await start_experienced(hive)
        async with open_quick(place, reconcile=True) as hive:
            await hive.wait_state("parked", "idle")
            await kill(hive.honest, "alice")
            crashed = await hive.wait_event(EventName.AGENT_CRASHED)
            assert crashed.body == {"reason": "its command was ended by SIGKILL", "cause": "signal"}
            await wait_started(hive, 1)


# -- starts that fail ----------------------------------------------------------------------------------------


async def test_a_start_that_was_asked_for_and_fails_stays_failed() -> None:
    async with open_quick(wrap=Fails) as hive:
        driver = hive.driver
        assert isinstance(driver, Fails)
        driver.failing = True
        await hive.agents.spawn("alice")
        await hive.wait_state("failed")
        for count in range(2, 4):
            await hive.agents.start("alice", OPERATOR)
            await hive.wait_event(EventName.AGENT_FAILED, count)
        await asyncio.gather(*(hive.agents.rows() for _ in range(20)))
        assert driver.failed == 3


async def test_a_start_after_a_crash_that_fails_is_tried_again_until_it_succeeds() -> None:
    async with open_quick(wrap=Fails) as hive:
        driver = hive.driver
        assert isinstance(driver, Fails)
        await start_experienced(hive)
        driver.failing = True
        await kill(hive.honest, "alice")
        row = await hive.wait_state("failed")
        assert row.reason.startswith("not running: the machine is on fire (put it out); next try at ")
        await hive.wait_event(EventName.AGENT_FAILED, 3)
        driver.failing = False
        await wait_started(hive, 2)
        assert await list_reasons(hive) == [CRASHED]
        assert len(hive.list_events(EventName.AGENT_CRASHED)) == 1


async def test_after_so_many_tries_it_is_given_up_and_resuming_tries_anew() -> None:
    async with open_quick(wrap=Fails) as hive:
        driver = hive.driver
        assert isinstance(driver, Fails)
        hive.parts.lifecycle.pace.tries = 4
        await hive.agents.spawn("alice")
        await hive.wait_state("idle")
        driver.failing = True
        await kill(hive.honest, "alice")
        row = await hive.wait_row(lambda row: row.park is not None and row.state == "failed")
        assert row.park is not None and row.park.kind is ParkKind.FAILING
        assert row.reason == "not running: given up after 4 tries: the machine is on fire (put it out)"
        # One crash and three starts.
        assert driver.failed == 3
        driver.failing = False
        await hive.parts.parking.release("alice", ParkKind.FAILING)
        await hive.wait_state("idle")


async def test_a_container_that_crashes_at_each_start_is_given_up_too() -> None:
    async with open_quick() as hive:
        hive.parts.lifecycle.pace.tries = 3
        await hive.agents.spawn("alice")
        for count in range(1, 4):
            await hive.wait_event(EventName.AGENT_STARTED, count)
            await hive.wait_state("idle")
            await kill(hive.honest, "alice")
            await hive.wait_event(EventName.AGENT_CRASHED, count)
        row = await hive.wait_row(lambda row: row.park is not None and row.state == "failed")
        assert "given up after 3 tries" in row.reason
        # An operator's start is an act: it begins anew.
        await hive.agents.start("alice", OPERATOR)
        row = await hive.wait_state("idle")
        assert row.park is None


async def test_a_start_with_the_hive_that_fails_is_tried_again() -> None:
    drivers: list[Fails] = []

    def wrap(driver: Driver) -> Driver:
        drivers.append(Fails(driver))
        drivers[-1].failing = True
        return drivers[-1]

    async with make_place() as place:
        async with open_quick(place) as hive:
            await start_experienced(hive)
            await hive.parts.lifecycle.halt()
        async with open_quick(place, wrap, reconcile=True) as hive:
            await hive.wait_event(EventName.AGENT_FAILED, 2)
            drivers[0].failing = False
            await wait_started(hive, 1)
            assert await list_reasons(hive) == ["the hive was started again, and your container was started again"]
