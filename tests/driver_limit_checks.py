"""What every driver has to do about limits: it keeps them, or says of each that it cannot and why.

Part of `driver_checks`: a check that meets a driver without a limit asserts the reason, and that containers run.
"""

import contextlib
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from driver_rig import DEADLINE_S, MOMENT_S, Rig, wait_until
from hyperhive.core.limits import Limits
from hyperhive.host.drivers.protocol import ContainerState, DriverError, ExitCause
from hyperhive.system.cgroups import Usage

_GOES_ON = "trap 'exit 0' TERM; sleep 1000 & wait"
# tail keeps what may be the last lines: here all of one that never ends.
_HOG = "exec tail </dev/zero"
# Each has a session of its own, and the output of the first; none ends when there is no room for more.
_BOMB = """
import os
while True:
    try:
        if os.fork() == 0:
            os.setsid()
    except OSError:
        with open("/state/full", "w") as file:
            file.write("\\n")
"""
_HOG_LIMIT_BYTES = 64 * 1024 * 1024
_TASKS = 60
_CPUS, _CPU_SPAN_S = 0.4, 3
_CPU_TOLERANCE = 0.3

_marks = iter(range(1, 1_000_000))


async def the_limits_that_cannot_be_set_are_told_with_a_reason(rig: Rig) -> None:
    assert set(rig.driver.unlimited) <= {"memory", "cpu", "tasks"}
    for reason in rig.driver.unlimited.values():
        assert len(reason) > 10 and "\n" not in reason
    # Whatever can be set, a container that is to have all of them starts.
    await _run(rig, "exit 0", Limits(256 * 1024 * 1024, 1.0, 100))
    assert (await rig.wait_state(ContainerState.EXITED)).exit_code == 0


async def what_a_container_uses_is_told_where_it_is_counted(rig: Rig) -> None:
    assert await rig.driver.find_usage("alice") == Usage()
    limits = Limits(memory_bytes=256 * 1024 * 1024, tasks=100)
    await _run(rig, _GOES_ON, limits)
    usage = await rig.driver.find_usage("alice")
    if "memory" in rig.driver.unlimited:
        assert (usage.memory_bytes, usage.memory_limit_bytes) == (None, None)
    else:
        assert usage.memory_bytes is not None and 0 < usage.memory_bytes < 256 * 1024 * 1024
        assert usage.memory_limit_bytes == limits.memory_bytes
    if "tasks" in rig.driver.unlimited:
        assert (usage.tasks, usage.tasks_limit) == (None, None)
    else:
        assert usage.tasks is not None and 1 < usage.tasks < 100
        assert usage.tasks_limit == 100
    await rig.driver.stop("alice", 1)
    assert await rig.driver.find_usage("alice") == Usage()


async def a_memory_hog_is_ended_and_told_and_another_container_goes_on(rig: Rig) -> None:
    if await _cannot(rig, "memory", Limits(memory_bytes=_HOG_LIMIT_BYTES)):
        return
    await _run(rig, _GOES_ON, Limits(memory_bytes=_HOG_LIMIT_BYTES), name="bob")
    bob = await rig.driver.observe("bob")
    await _run(rig, _HOG, Limits(memory_bytes=_HOG_LIMIT_BYTES))
    seen = await rig.wait_state(ContainerState.EXITED)
    # With a kernel of its own it is that one that is killed: there is nobody then to tell of the command.
    assert (seen.cause, seen.exit_code) == (ExitCause.OUT_OF_MEMORY, None if rig.has_own_kernel else 137), seen
    assert seen.reason == "the kernel killed it: out of memory"
    assert await rig.driver.observe("bob") == bob
    assert await rig.ask("echo", "well", name="bob") == "well\n"


async def temporary_files_count_as_memory(rig: Rig) -> None:
    if await _cannot(rig, "memory", Limits(memory_bytes=_HOG_LIMIT_BYTES)):
        return
    write = "head -c 200000000 /dev/zero >/tmp/large; echo $? >/state/status; "
    await _run(rig, write + _GOES_ON, Limits(memory_bytes=_HOG_LIMIT_BYTES))

    async def refused_or_ended() -> bool:
        # Whom the kernel takes is its choice: the writer, or what is larger.
        file = rig.state() / "status"
        over = (await rig.driver.observe("alice")).state is ContainerState.EXITED
        return over or (file.exists() and file.read_text() not in {"", "0\n"})

    await wait_until(refused_or_ended, "what is too large for its memory is not written")


async def a_fork_bomb_ends_at_its_limit_and_another_container_starts_processes(rig: Rig) -> None:
    limits = Limits(tasks=_TASKS)
    if await _cannot(rig, "tasks", limits):
        return
    mark = f"{os.getpid()}{next(_marks):04}.75"
    # The inner shell goes on until it cannot start another.
    await _run(rig, f"(while :; do sleep {mark} & done) 2>/dev/null; echo >/state/full; exec sleep 1000", limits)
    await _run(rig, _GOES_ON, limits, name="bob")
    for _ in range(5):
        assert await rig.ask("sh", "-c", "true | echo well", name="bob") == "well\n"
    await rig.wait_file("full")
    assert _TASKS // 2 < _count_processes(mark) <= _TASKS
    assert await rig.ask("sh", "-c", "true | echo well", name="bob") == "well\n"
    await rig.driver.stop("alice", 1)
    assert _count_processes(mark) == 0


async def a_bomb_that_goes_on_starting_processes_can_be_stopped(rig: Rig) -> None:
    limits = Limits(cpus=0.5, tasks=_TASKS)
    if await _cannot(rig, "tasks", limits):
        return
    await _run(rig, "bomb() { bomb | bomb & }; bomb; echo >/state/lit; while :; do bomb; done 2>/dev/null", limits)
    await rig.wait_file("lit")
    await rig.driver.stop("alice", 0.1)
    assert (await rig.driver.observe("alice")).state is ContainerState.STOPPED
    await rig.driver.start(replace(rig.spec("true"), limits=limits))
    assert (await rig.wait_state(ContainerState.EXITED)).exit_code == 0


async def exec_returns_at_its_deadline_while_a_bomb_holds_its_output(rig: Rig) -> None:
    limits = Limits(cpus=1.0, tasks=_TASKS)
    if await _cannot(rig, "tasks", limits):
        return
    mark = f"{os.getpid()}{next(_marks):04}.75"
    await _run(rig, _GOES_ON, limits)
    await _run(rig, _GOES_ON, limits, name="bob")
    bomb = (sys.executable, "-c", _BOMB, mark)
    assert await _fails_in_time(rig, bomb, 4.0)
    await rig.wait_file("full")
    assert _count_processes(mark) > _TASKS // 2
    # Now there is no room for another process, and still it is told within its time.
    assert await _fails_in_time(rig, ("echo", "well"), 4.0)
    assert await rig.ask("echo", "well", name="bob") == "well\n"
    await rig.driver.stop("alice", 0.1)
    assert _count_processes(mark) == 0


async def _fails_in_time(rig: Rig, command: tuple[str, ...], timeout_s: float) -> bool:
    """Whether what is run in alice's container is refused, or ended at its deadline; in either case not later."""
    started_s = time.monotonic()
    try:
        await rig.driver.exec("alice", command, timeout_s)
    except DriverError:
        return True
    finally:
        assert time.monotonic() - started_s < timeout_s + MOMENT_S
    return False


async def a_share_of_a_processor_is_kept(rig: Rig) -> None:
    limits = Limits(cpus=_CPUS)
    if await _cannot(rig, "cpu", limits):
        return
    # Two that spin could use two processors. The second line of times is what they used.
    spin = f"timeout {_CPU_SPAN_S} sh -c 'while :; do :; done'"
    if rig.has_own_kernel:
        # That one counts by the clock: from outside is seen what it was given.
        started_s = time.monotonic()
        await _run(rig, f"{spin} & {spin}; wait; echo >/state/spun; {_GOES_ON}", limits)
        await rig.wait_file("spun")
        used_s, most_s = await _sum_used_s(rig), _CPUS * (time.monotonic() - started_s)
        assert most_s * 0.2 < used_s < most_s * (1 + _CPU_TOLERANCE), used_s
        return
    await _run(rig, f"{spin} & {spin}; wait; times", limits)
    await rig.wait_state(ContainerState.EXITED)
    used_s = sum(_parse_minutes(text) for text in (await rig.log()).splitlines()[-1].split())
    most_s = _CPUS * _CPU_SPAN_S
    # A machine under load may give less, but not that much less.
    assert most_s * 0.2 < used_s < most_s * (1 + _CPU_TOLERANCE), used_s


async def another_start_takes_the_changed_limits(rig: Rig) -> None:
    if await _cannot(rig, "memory", Limits(memory_bytes=_HOG_LIMIT_BYTES)):
        return
    await _run(rig, _GOES_ON, Limits(memory_bytes=8 * _HOG_LIMIT_BYTES))
    await rig.driver.stop("alice", DEADLINE_S)
    await _run(rig, _HOG, Limits(memory_bytes=_HOG_LIMIT_BYTES))
    assert (await rig.wait_state(ContainerState.EXITED)).cause is ExitCause.OUT_OF_MEMORY
    # And nothing of that end is told of the next.
    await _run(rig, "kill -9 $$", Limits(memory_bytes=_HOG_LIMIT_BYTES))
    assert (await rig.wait_state(ContainerState.EXITED)).cause is ExitCause.SIGNAL


async def _run(rig: Rig, script: str, limits: Limits, name: str = "alice") -> None:
    spec = replace(rig.spec("sh", "-c", script, name=name), limits=limits)
    await rig.driver.create(spec)
    await rig.driver.start(spec)


async def _cannot(rig: Rig, key: str, limits: Limits) -> bool:
    """Whether the driver cannot set the limit here: then it says why, and a container starts without it."""
    if key not in rig.driver.unlimited:
        return False
    assert rig.driver.unlimited[key]
    await _run(rig, _GOES_ON, limits)
    assert (await rig.driver.observe("alice")).state is ContainerState.RUNNING
    return True


async def _sum_used_s(rig: Rig) -> float:
    """The processor time of all processes of this machine that are in the control group of alice's container."""
    first = (await rig.driver.observe("alice")).pid
    group, ticks = Path(f"/proc/{first}/cgroup").read_text(), 0
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and (folder / "cgroup").read_text() == group:
                # Of itself and of its children that have ended, as user and as system.
                ticks += sum(int(text) for text in (folder / "stat").read_text().rpartition(")")[2].split()[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def _count_processes(mark: str) -> int:
    """The processes on this machine that have `mark` as an argument of their own."""
    count = 0
    for folder in Path("/proc").iterdir():
        try:
            count += folder.name.isdigit() and mark in (folder / "cmdline").read_bytes().decode().split("\0")
        except (OSError, UnicodeDecodeError):
            continue
    return count


def _parse_minutes(text: str) -> float:
    """Seconds of what the shell writes as 1m2.5s."""
    minutes, _, seconds = text.rstrip("s").partition("m")
    return 60 * int(minutes) + float(seconds)


LIMIT_CHECKS: dict[str, Callable[[Rig], Awaitable[None]]] = {
    check.__name__: check
    for check in (
        the_limits_that_cannot_be_set_are_told_with_a_reason,
        what_a_container_uses_is_told_where_it_is_counted,
        a_memory_hog_is_ended_and_told_and_another_container_goes_on,
        temporary_files_count_as_memory,
        a_fork_bomb_ends_at_its_limit_and_another_container_starts_processes,
        a_bomb_that_goes_on_starting_processes_can_be_stopped,
        exec_returns_at_its_deadline_while_a_bomb_holds_its_output,
        a_share_of_a_processor_is_kept,
        another_start_takes_the_changed_limits,
    )
}
