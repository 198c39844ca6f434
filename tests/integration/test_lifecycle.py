"""The lifecycle on drivers that misbehave: whatever they do, the row of an agent tells the truth.

The store, the feed, the roster and the sockets are the real ones, and inside each bad driver is a good one that runs
the real harness.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from hyperhive.core.events import Event, EventName
from hyperhive.core.names import MANAGER
from hyperhive.core.paths import Roots
from hyperhive.host.agent_records import insert_agent
from hyperhive.host.agents import Agents
from hyperhive.host.container_spec import HarnessSettings
from hyperhive.host.drivers.bubblewrap import BubblewrapDriver
from hyperhive.host.drivers.protocol import ContainerSpec, ContainerState, Driver, DriverError, Observation
from hyperhive.host.parts import build_parts
from hyperhive.host.store.rows import Desired
from hyperhive.testing.bad_drivers import DiesAtStart, DiesLater, Faithful, LeavesRunning, Lies, NeverStarts, Slow, kill
from hyperhive.wire.operator import AgentRow

T = TypeVar("T")
Wrap = Callable[[Driver], Driver]
BadDriver = Faithful[ContainerSpec, Observation]

RUNNING = Observation(ContainerState.RUNNING, pid=1)
STOPPED = Observation(ContainerState.STOPPED)
# What a state word claims about the harness: none of them may be shown without one.
AWAKE = {"idle", "thinking", "compacting", "parked", "needs_login"}
# Nobody listens there; an idle harness asks for nothing.
UPSTREAM = "http://127.0.0.1:9"


@dataclass
class Hive:
    """What `host.app` assembles, without the dashboard, on a driver of the test's."""

    agents: Agents
    honest: BubblewrapDriver
    driver: Driver
    events: list[Event] = field(default_factory=list[Event])

    async def row(self, name: str = "alice") -> AgentRow:
        return next(row for row in await self.agents.rows() if row.name == name)

    async def wait_row(self, is_so: Callable[[AgentRow], bool], timeout_s: float = 20) -> AgentRow:
        async def seen() -> AgentRow | None:
            row = await self.row()
            return row if is_so(row) else None

        return await wait_for(seen, timeout_s, self)

    async def wait_state(self, *states: str, timeout_s: float = 20) -> AgentRow:
        return await self.wait_row(lambda row: row.state in states, timeout_s)

    def list_events(self, *names: EventName) -> list[Event]:
        return [event for event in self.events if event.agent == "alice" and event.name in names]

    async def wait_event(self, name: EventName, count: int = 1, timeout_s: float = 20) -> Event:
        async def seen() -> Event | None:
            found = self.list_events(name)
            return found[count - 1] if len(found) >= count else None

        return await wait_for(seen, timeout_s, self)


async def wait_for(seen: Callable[[], Awaitable[T | None]], timeout_s: float, hive: Hive) -> T:
    deadline = time.monotonic() + timeout_s
    while (found := await seen()) is None:
        assert time.monotonic() < deadline, (await hive.row(), hive.events)
        await asyncio.sleep(0.02)
    return found


@contextlib.asynccontextmanager
async def open_hive(wrap: Wrap) -> AsyncGenerator[Hive]:
    """A hive whose watch goes on; it has a manager, which nobody starts."""
    async with contextlib.AsyncExitStack() as stack:
        # Short: the path of a socket has at most 107 characters.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hive-")))
        roots = Roots(folder / "data", folder / "run")
        roots.data.mkdir()
        roots.run.mkdir()
        honest = BubblewrapDriver(roots.containers_folder)
        driver = wrap(honest)
        await driver.prepare()

        parts = build_parts(roots, driver, HarnessSettings("api_key", warm_s=0), UPSTREAM, None, stack)
        await parts.prepare()
        stack.push_async_callback(honest.destroy, "alice")
        hive = Hive(parts.agents, honest, driver)
        parts.feed.listen(hive.events.append)
        await parts.store.write(lambda tx: insert_agent(tx, MANAGER, parts.agents.first_uid))
        await parts.store.write(lambda tx: tx.list("set_desired", name=MANAGER, desired=Desired.STOPPED))
        watch = asyncio.create_task(parts.lifecycle.watch_forever())
        try:
            yield hive
            assert not watch.done(), "the watch over the containers has ended"
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)


class Liar(Lies[ContainerSpec, Observation]):
    """Tells the truth until it is given a claim."""


async def test_a_good_driver_is_shown_as_it_is() -> None:
    async with open_hive(lambda driver: driver) as hive:
        await hive.agents.spawn("alice")
        row = await hive.wait_state("idle")
        assert row.reason == ""
        await hive.agents.stop("alice", "operator")
        row = await hive.wait_state("stopped")
        assert row.reason == ""
        assert hive.list_events(EventName.AGENT_CRASHED, EventName.AGENT_FAILED) == []


async def test_a_slow_driver_is_shown_as_starting_and_stopping_meanwhile() -> None:
    async with open_hive(lambda driver: Slow(driver, delay_s=0.3)) as hive:
        await hive.agents.spawn("alice")
        await hive.wait_state("starting")
        await hive.wait_state("idle")
        await hive.agents.stop("alice", "operator")
        await hive.wait_state("stopping")
        await hive.wait_state("stopped")


async def test_an_agent_whose_driver_never_starts_is_failed_with_the_reason() -> None:
    error = DriverError("the machine is on fire", "put it out")
    async with open_hive(lambda driver: NeverStarts(driver, error=error)) as hive:
        await hive.agents.spawn("alice")
        row = await hive.wait_state("failed")
        assert row.reason == "the machine is on fire (put it out)"
        event = await hive.wait_event(EventName.AGENT_FAILED)
        assert event.body["reason"] == row.reason
        assert (await hive.honest.observe("alice")).state is ContainerState.STOPPED
        # The operator may try again, and is told again.
        await hive.agents.start("alice", "operator")
        await hive.wait_event(EventName.AGENT_FAILED, count=2)
        await hive.wait_state("failed")
        assert hive.list_events(EventName.AGENT_STARTED) == []


async def test_an_agent_whose_driver_breaks_in_an_unforeseen_way_is_not_shown_as_awake() -> None:
    async with open_hive(lambda driver: NeverStarts(driver)) as hive:
        await hive.agents.spawn("alice")
        row = await hive.wait_row(lambda row: row.state not in {"starting", "unknown"})
        assert row.state in {"failed", "stopped"}
        assert row.reason


@pytest.mark.slow
async def test_an_agent_whose_container_dies_is_crashed_and_started_again_ever_later() -> None:
    dying: list[DiesLater[ContainerSpec, Observation]] = []

    def wrap(driver: Driver) -> Driver:
        dying.append(DiesLater(driver, life_s=0.5))
        return dying[0]

    async with open_hive(wrap) as hive:
        await hive.agents.spawn("alice")
        row = await hive.wait_state("crashed")
        assert "SIGKILL" in row.reason
        await hive.wait_event(EventName.AGENT_STARTED, count=3, timeout_s=40)
        dying[0].life_s = 1000
        ends = hive.list_events(EventName.AGENT_CRASHED)
        starts = hive.list_events(EventName.AGENT_STARTED)
        waits = [(start.at - end.at).total_seconds() for start, end in zip(starts[1:], ends, strict=False)]
        assert 2 <= waits[0] < 4 <= waits[1] < 8
        assert all("SIGKILL" in end.body["reason"] for end in ends)
        await dying[0].close()


async def test_an_agent_that_the_operator_stops_while_it_waits_to_be_started_again_stays_stopped() -> None:
    class Counts(BadDriver):
        observed = 0
        started = 0

        async def observe(self, name: str) -> Observation:
            self.observed += name == "alice"
            return await super().observe(name)

        async def start(self, spec: ContainerSpec) -> None:
            self.started += 1
            await super().start(spec)

    async with open_hive(Counts) as hive:
        driver = hive.driver
        assert isinstance(driver, Counts)
        await hive.agents.spawn("alice")
        await hive.wait_state("idle")
        await kill(hive.honest, "alice")
        await hive.wait_event(EventName.AGENT_CRASHED)
        await hive.agents.stop("alice", "operator")
        # One for the stop, one 2 s after the crash where the start was due, and the watch's every 2 s.
        enough = driver.observed + 4

        async def looked() -> bool | None:
            return driver.observed >= enough or None

        await wait_for(looked, 20, hive)
        assert driver.started == 1
        assert (await hive.row()).state == "stopped"


async def test_an_agent_whose_container_dies_at_once_is_failed_and_never_shown_as_awake() -> None:
    async with open_hive(DiesAtStart) as hive:
        await hive.agents.spawn("alice")
        seen: set[str] = set()

        def settled(row: AgentRow) -> bool:
            seen.add(row.state)
            return row.state in {"failed", "crashed"}

        row = await hive.wait_row(settled)
        assert row.state == "failed"
        assert "SIGKILL" in row.reason
        assert not seen & AWAKE


async def test_a_liars_container_without_a_harness_is_unknown_and_says_why() -> None:
    async with open_hive(lambda driver: Liar(driver, claim=RUNNING)) as hive:
        await hive.agents.spawn("alice")
        row = await hive.wait_row(lambda row: "harness" in row.reason)
        assert (row.state, row.reason) == ("unknown", "the container runs, but its harness is not connected")
        assert (await hive.honest.observe("alice")).state is ContainerState.ABSENT


async def test_an_agent_that_died_behind_a_liars_back_is_not_shown_as_awake() -> None:
    async with open_hive(Liar) as hive:
        await hive.agents.spawn("alice")
        await hive.wait_state("idle")
        assert isinstance(hive.driver, Liar)
        hive.driver.claim = RUNNING
        await kill(hive.honest, "alice")
        row = await hive.wait_state("unknown")
        assert "not connected" in row.reason
        # When the driver tells the truth again, the agent is brought back.
        hive.driver.claim = None
        await hive.wait_event(EventName.AGENT_CRASHED)
        await hive.wait_state("idle")


async def test_an_agent_that_a_driver_knows_nothing_of_for_a_while_is_unknown_and_comes_back() -> None:
    async with open_hive(Liar) as hive:
        await hive.agents.spawn("alice")
        await hive.wait_state("idle")
        assert isinstance(hive.driver, Liar)
        hive.driver.claim = Observation(ContainerState.UNKNOWN, reason="the disk cannot be read")
        row = await hive.wait_state("unknown")
        assert row.reason == "the disk cannot be read"
        hive.driver.claim = None
        await hive.wait_state("idle")
        assert hive.list_events(EventName.AGENT_CRASHED) == []


async def test_a_driver_that_cannot_be_asked_does_not_end_the_watch() -> None:
    class Stumbles(BadDriver):
        stumbling = False

        async def observe(self, name: str) -> Observation:
            if self.stumbling:
                raise DriverError("too many open files", "close some")
            return await super().observe(name)

    async with open_hive(Stumbles) as hive:
        await hive.agents.spawn("alice")
        await hive.wait_state("idle")
        assert isinstance(hive.driver, Stumbles)
        hive.driver.stumbling = True
        row = await hive.wait_state("unknown")
        assert "too many open files" in row.reason
        hive.driver.stumbling = False
        await hive.wait_state("idle")


async def test_an_agent_that_dies_while_nothing_can_be_seen_is_started_again_afterwards() -> None:
    async with open_hive(Liar) as hive:
        await hive.agents.spawn("alice")
        await hive.wait_state("idle")
        assert isinstance(hive.driver, Liar)
        hive.driver.claim = Observation(ContainerState.UNKNOWN, reason="the disk cannot be read")
        await hive.wait_state("unknown")
        await kill(hive.honest, "alice")
        hive.driver.claim = None
        await hive.wait_event(EventName.AGENT_CRASHED)
        await hive.wait_state("idle")


async def test_a_container_that_a_driver_only_says_it_stopped_is_not_shown_as_stopped() -> None:
    async with open_hive(LeavesRunning) as hive:
        await hive.agents.spawn("alice")
        await hive.wait_state("idle")
        await hive.agents.stop("alice", "operator")
        await hive.wait_event(EventName.AGENT_STOPPED)
        assert (await hive.row()).state != "stopped"


async def test_an_agent_whose_driver_does_not_stop_it_is_not_shown_as_stopped() -> None:
    class Refuses(BadDriver):
        async def stop(self, name: str, timeout_s: float) -> None:
            refused.set()
            raise DriverError(f"{name} cannot be killed", "see `ps`")

    refused = asyncio.Event()
    async with open_hive(Refuses) as hive:
        await hive.agents.spawn("alice")
        await hive.wait_state("idle")
        await hive.agents.stop("alice", "operator")
        async with asyncio.timeout(10):
            await refused.wait()
        row = await hive.wait_row(lambda row: row.state != "stopping")
        assert row.state != "stopped"
        assert (await hive.honest.observe("alice")).state is ContainerState.RUNNING
