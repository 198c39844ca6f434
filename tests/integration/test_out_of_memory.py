"""Real out-of-memory kills, in a memory cgroup with a limit: told apart from every other SIGKILL.

Those of containers in their own groups: as root, with the memory controller, they have one.
"""

import contextlib
import json
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from driver_rig import Rig as DriverRig
from driver_rig import open_rig as open_driver_rig
from harness_rig import Rig, eventually, open_rig
from hyperhive.core.events import EventName
from hyperhive.core.limits import Limits
from hyperhive.core.parking import ParkKind
from hyperhive.host.drivers.container_groups import ContainerGroups
from hyperhive.host.drivers.protocol import ContainerState, DriverError, ExitCause
from hyperhive.system.pids import list_children
from lifecycle_rig import open_hive
from memory_group import MemoryGroup, make_memory_group

LIMIT_BYTES = 192 * 1024 * 1024
LIMITS = Limits(memory_bytes=LIMIT_BYTES)
HOG = f"{sys.executable} -I -S -c 'x = bytearray(400 << 20)'"
# Ends itself, or grows until it is ended, once it is told which.
WAIT = "until [ -s /state/go ]; do sleep 0.01; done; read how </state/go"
VICTIM = f'{WAIT}; [ "$how" = kill ] && kill -9 $$; exec {HOG}'
CLAUDE = "--output-format stream-json"
ENGINE = "hyperhive.harness.engine"


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    with make_memory_group(LIMIT_BYTES) as made:
        yield made


@pytest.fixture
async def drivers(tmp_path: Path) -> AsyncIterator[DriverRig]:
    async with open_driver_rig(tmp_path) as rig:
        yield rig


@pytest.fixture
async def rig(tmp_path: Path, group: MemoryGroup) -> AsyncIterator[Rig]:
    """Depends on the group, so that what is left in it ends first."""
    assert group
    async with open_rig(tmp_path) as opened:
        await opened.start_model()
        await opened.start_peer()
        yield opened


def tell(rig: DriverRig, name: str, how: str) -> None:
    (rig.state(name) / "go").write_text(how + "\n")


async def start(rig: DriverRig, name: str = "alice") -> None:
    spec = replace(rig.spec("sh", "-c", VICTIM, name=name), limits=LIMITS)
    await rig.driver.create(spec)
    await rig.driver.start(spec)


async def test_a_container_that_the_kernel_ended_for_memory_says_so_and_keeps_saying_so(drivers: DriverRig) -> None:
    await start(drivers)
    assert (await drivers.driver.observe("alice")).cause is None
    tell(drivers, "alice", "grow")
    for _ in range(2):
        seen = await drivers.wait_state(ContainerState.EXITED)
        assert (seen.cause, seen.exit_code) == (ExitCause.OUT_OF_MEMORY, 137)
        assert seen.reason == "the kernel killed it: out of memory"
    # The next start knows nothing of it.
    (drivers.state() / "go").unlink()
    await start(drivers)
    tell(drivers, "alice", "kill")
    assert (await drivers.wait_state(ContainerState.EXITED)).cause is ExitCause.SIGNAL


async def test_a_container_that_was_killed_while_another_ran_out_of_memory_is_not_taken_for_that(
    drivers: DriverRig,
) -> None:
    await start(drivers)
    await start(drivers, "bob")
    tell(drivers, "bob", "kill")
    tell(drivers, "alice", "grow")
    assert (await drivers.wait_state(ContainerState.EXITED)).cause is ExitCause.OUT_OF_MEMORY
    assert (await drivers.wait_state(ContainerState.EXITED, "bob")).cause is ExitCause.SIGNAL


async def test_a_driver_of_a_later_daemon_knows_it_by_the_group_and_else_does_not_guess(drivers: DriverRig) -> None:
    await start(drivers)
    tell(drivers, "alice", "grow")
    assert (await drivers.wait_state(ContainerState.EXITED)).cause is ExitCause.OUT_OF_MEMORY
    assert (await drivers.another.observe("alice")).cause is ExitCause.OUT_OF_MEMORY
    await ContainerGroups(drivers.folder / "containers", as_root=True).remove("alice")
    assert (await drivers.another.observe("alice")).cause is ExitCause.SIGNAL


async def test_a_driver_of_a_later_daemon_that_saw_it_run_knows(drivers: DriverRig) -> None:
    await start(drivers)
    assert (await drivers.another.observe("alice")).state is ContainerState.RUNNING
    tell(drivers, "alice", "grow")
    assert (await drivers.wait_state(ContainerState.EXITED)).cause is ExitCause.OUT_OF_MEMORY
    assert (await drivers.another.observe("alice")).cause is ExitCause.OUT_OF_MEMORY


async def test_an_agent_whose_harness_was_killed_for_memory_is_told_so_and_so_is_the_manager() -> None:
    async with open_hive(look_every_s=0.05, limits=LIMITS) as hive:
        await hive.insert_experienced()
        await hive.parts.parking.park("alice", ParkKind.PAUSED, "a test")
        hive.parts.lifecycle.converge_soon("alice")
        await hive.wait_state("parked", "idle")
        pid = (await hive.honest.observe("alice")).pid
        assert pid is not None
        # The largest would be taken first, and that is the hog.
        (harness,) = list_children(pid)
        Path(f"/proc/{harness}/oom_score_adj").write_text("1000")
        await hive.send("kept")
        hog = (sys.executable, "-I", "-S", "-c", "x = bytearray(400 << 20)")
        with contextlib.suppress(DriverError):
            # It ends with the container.
            await hive.honest.exec("alice", hog, 30)
        crashed = await hive.wait_event(EventName.AGENT_CRASHED)
        assert crashed.body == {"reason": "the kernel killed it: out of memory", "cause": "out_of_memory"}
        await hive.wait_event(EventName.AGENT_STARTED, 2)
        [kick] = await hive.list_kicks()
        assert "ended unasked (the kernel killed it: out of memory)" in kick.body
        told = await hive.parts.broker.list_messages("manager", 2**53, 10)
        assert '"cause": "out_of_memory"' in "".join(message.body for message in told)


@pytest.mark.parametrize("victim", [CLAUDE, ENGINE])
async def test_a_turn_whose_claude_or_engine_was_killed_for_memory_says_so(
    rig: Rig, group: MemoryGroup, victim: str
) -> None:
    await rig.start_harness()
    call = {"command": f"until [ -e go ]; do sleep 0.05; done; {HOG}", "description": "grow"}
    await rig.put(f"%% tool Bash {json.dumps(call)}\n%% sleep 60")
    await eventually(lambda: rig.processes("until [ -e go ]"))
    (pid, *_) = rig.processes(victim)
    Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
    group.take(rig.processes("until [ -e go ]"))
    group.take([pid])
    (rig.state / "go").touch()
    (ended, *_) = await rig.turns_ended(1)
    assert ended["outcome"] == "crash"
    assert ended["reason"].endswith("killed (SIGKILL): the machine was out of memory")
