"""The lifecycle on drivers that misbehave: whatever they do, the row of an agent tells the truth.

The store, the feed, the roster and the sockets are the real ones, and inside each bad driver is a good one that runs
the real harness.
"""

import asyncio

import pytest

from hyperhive.core.events import EventName
from hyperhive.host.drivers.protocol import ContainerSpec, ContainerState, Driver, DriverError, Observation
from hyperhive.testing.bad_drivers import DiesAtStart, DiesLater, LeavesRunning, Lies, NeverStarts, Slow, kill
from hyperhive.wire.operator.agents import AgentRow
from lifecycle_rig import BadDriver, open_hive, wait_for

RUNNING = Observation(ContainerState.RUNNING, pid=1)
STOPPED = Observation(ContainerState.STOPPED)
# What a state word claims about the harness: none of them may be shown without one.
AWAKE = {"idle", "thinking", "compacting", "parked", "needs_login"}


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
        assert row.reason == "not running: the machine is on fire (put it out)"
        event = await hive.wait_event(EventName.AGENT_FAILED)
        assert row.reason == f"not running: {event.body['reason']}"
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
            # That it ended is seen a moment before it is known that it will not be tried again.
            seen.add(row.state)
            return row.state == "failed"

        row = await hive.wait_row(settled)
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
