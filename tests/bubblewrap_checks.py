"""What the bubblewrap driver promises beside the contract: how it fails, and what is left when it is tampered with."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from driver_checks import SLEEP, Check, refuses
from driver_rig import ENVIRONMENT, Rig, wait_until
from hyperhive.core.limits import Limits
from hyperhive.host.drivers.container_log import KEEP_BYTES, LIMIT_BYTES
from hyperhive.host.drivers.protocol import ContainerState, ExitCause, Mount
from hyperhive.system.cgroups import Groups
from hyperhive.system.pids import ProcessId, find_parent, find_process, find_program_name, is_alive, list_children


async def nothing_is_left_whichever_of_its_processes_is_killed(rig: Rig) -> None:
    # Its first process, its command, what watches it; as root there is more around, which it can do without.
    for victim in range(3):
        processes = await _start_and_list(rig)
        os.kill(processes[victim].pid, 9)
        await rig.wait_state(ContainerState.EXITED)
        await _wait_gone(processes)
        await rig.driver.stop("alice", 1)
        assert (await rig.driver.observe("alice")).state is ContainerState.STOPPED


async def whatever_else_of_it_is_killed_it_runs_and_can_be_stopped_or_is_gone(rig: Rig) -> None:
    for victim in range(3, len(await _start_and_list(rig))):
        processes = await _start_and_list(rig)
        os.kill(processes[victim].pid, 9)
        if os.geteuid() == 0:
            await rig.ask("true")
            assert (await rig.driver.observe("alice")).state is ContainerState.RUNNING
        await rig.driver.stop("alice", 5)
        await _wait_gone(processes)
        assert (await rig.driver.observe("alice")).state is ContainerState.STOPPED


async def nothing_is_left_after_a_stop(rig: Rig) -> None:
    processes = await _start_and_list(rig)
    await rig.driver.stop("alice", 5)
    assert not any(is_alive(process) for process in processes)


async def none_of_its_processes_is_a_child_of_the_daemon(rig: Rig) -> None:
    for process in await _start_and_list(rig):
        parent = find_parent(process.pid)
        assert parent is None or parent.pid != os.getpid()
    await rig.driver.stop("alice", 5)
    assert [child for child in list_children(os.getpid()) if find_program_name(child) in {"bwrap", "setsid"}] == []


async def a_container_held_by_its_own_debugger_still_ends(rig: Rig) -> None:
    # Attaches to the first process of the namespace, which then neither ends nor reports.
    hold = "import ctypes, time; assert ctypes.CDLL(None).ptrace(16, 1, 0, 0) == 0; print(flush=True); time.sleep(999)"
    await rig.run(f'setsid {sys.executable} -c "{hold}" >/state/held 2>&1 & {SLEEP}')
    await rig.wait_file("held")
    assert (rig.state() / "held").read_text() == "\n"
    processes = await _list_processes(rig)
    await rig.driver.stop("alice", 0.3)
    assert not any(is_alive(process) for process in processes)


async def an_end_that_is_reported_late_is_told_as_it_was(rig: Rig) -> None:
    await rig.run(SLEEP)
    pid = (await rig.driver.observe("alice")).pid
    watcher = None if pid is None else find_parent(pid)
    assert watcher is not None
    # As on a machine under load, where it gets no time for a while.
    os.kill(watcher.pid, signal.SIGSTOP)
    await rig.driver.exec("alice", ("sh", "-c", "kill -KILL -1"), 10)
    asyncio.get_running_loop().call_later(0.3, os.kill, watcher.pid, signal.SIGCONT)
    seen = await rig.wait_state(ContainerState.EXITED)
    assert (seen.cause, seen.exit_code, seen.reason) == (ExitCause.SIGNAL, 137, "its command was ended by SIGKILL")


async def an_end_that_is_never_reported_is_told_as_unknown(rig: Rig) -> None:
    await rig.run(SLEEP)
    pid = (await rig.driver.observe("alice")).pid
    watcher = None if pid is None else find_parent(pid)
    assert watcher is not None
    os.kill(watcher.pid, signal.SIGSTOP)
    try:
        await rig.driver.exec("alice", ("sh", "-c", "kill -KILL -1"), 10)
        seen = await rig.wait_state(ContainerState.EXITED)
        assert (seen.cause, seen.exit_code) == (ExitCause.UNKNOWN, None)
    finally:
        os.kill(watcher.pid, signal.SIGCONT)


async def what_an_earlier_daemon_had_only_just_launched_is_found(rig: Rig) -> None:
    await rig.run(SLEEP)
    seen = await rig.driver.observe("alice")
    record = rig.folder / "containers/alice/container.json"
    # As it is when a daemon ends between the launch and writing down whom it launched.
    record.write_text(json.dumps({**json.loads(record.read_text()), "init": None}))
    assert await rig.another.observe("alice") == seen
    await rig.another.stop("alice", 5)
    assert (await rig.another.observe("alice")).state is ContainerState.STOPPED


async def a_process_that_got_the_same_number_is_not_taken_for_the_container(rig: Rig) -> None:
    await rig.run("exit 0")
    await rig.wait_state(ContainerState.EXITED)
    other = await asyncio.create_subprocess_exec("sleep", "1000")
    try:
        folder = rig.folder / "containers/alice"
        record = json.loads((folder / "container.json").read_text())
        for init in ({"pid": other.pid, "started_ticks": 1}, None):
            (folder / "container.json").write_text(json.dumps({**record, "init": init}))
            (folder / "report").write_text(json.dumps({"child-pid": other.pid, "pid-namespace": 1}) + "\n")
            assert (await rig.driver.observe("alice")).state is ContainerState.EXITED
            await rig.driver.stop("alice", 0.1)
        assert other.returncode is None and find_process(other.pid) is not None
    finally:
        other.kill()
        await other.wait()


async def what_ran_before_the_machine_was_started_anew_is_exited(rig: Rig) -> None:
    await rig.run(SLEEP)
    record = rig.folder / "containers/alice/container.json"
    original = record.read_text()
    record.write_text(json.dumps({**json.loads(original), "boot_id": "another"}))
    seen = await rig.driver.observe("alice")
    assert (seen.state, seen.reason) == (ContainerState.EXITED, "the machine was started anew")
    record.write_text(original)


async def a_record_that_cannot_be_read_is_unknown_and_destroy_ends_it_all_the_same(rig: Rig) -> None:
    for damage in ("", "{", "[]", '{"uid": 1}'):
        processes = await _start_and_list(rig)
        (rig.folder / "containers/alice/container.json").write_text(damage)
        seen = await rig.driver.observe("alice")
        assert seen.state is ContainerState.UNKNOWN and seen.reason
        await refuses(rig.driver.start(rig.spec("true")))
        await rig.driver.destroy("alice")
        assert not any(is_alive(process) for process in processes)
        assert (await rig.driver.observe("alice")).state is ContainerState.ABSENT


async def its_folder_and_its_log_are_closed_to_others(rig: Rig) -> None:
    await rig.run_to_end("echo said")
    folder = rig.folder / "containers"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "alice/log").stat().st_mode & 0o777 == 0o600
    assert (folder / "alice/container.json").stat().st_mode & 0o777 == 0o600


async def a_long_log_gives_back_its_beginning_and_keeps_its_offsets(rig: Rig) -> None:
    count = LIMIT_BYTES // 10 + 100_000
    await rig.run(f"seq 100000000 {100_000_000 + count - 1}; echo >/state/ready; {SLEEP}")
    await rig.wait_file("ready")
    log = rig.folder / "containers/alice/log"
    piece, following = await rig.driver.logs("alice", (count - 1) * 10, 100)
    assert (piece, following) == (b"%d\n" % (100_000_000 + count - 1), count * 10)
    assert log.stat().st_blocks * 512 <= KEEP_BYTES + 64 * 1024
    piece, following = await rig.driver.logs("alice", 0, 1000)
    assert piece and b"\0" not in piece
    assert following - len(piece) >= count * 10 - KEEP_BYTES - 64 * 1024
    await rig.ask("sh", "-c", "echo more >/proc/2/fd/1")
    assert (await rig.driver.logs("alice", count * 10, 100))[0] in {b"more\n", b""}


async def a_log_that_nobody_reads_is_bounded_by_looking_at_its_container(rig: Rig) -> None:
    log = rig.folder / "containers/alice/log"
    for _ in range(3):
        (rig.state() / "said").unlink(missing_ok=True)
        await rig.run(f"head -c {2 * LIMIT_BYTES} /dev/zero | tr '\\0' x; echo >/state/said; {SLEEP}")
        await rig.wait_file("said")
        await rig.driver.observe("alice")
        assert log.stat().st_blocks * 512 <= KEEP_BYTES + 64 * 1024
        # Space that is only reserved, in the file and behind its end; the container has a handle of its log.
        for option in ("--length", "--keep-size --length"):
            await rig.ask("sh", "-c", f"fallocate {option} {4 * LIMIT_BYTES} /proc/2/fd/1")
            assert log.stat().st_blocks * 512 > LIMIT_BYTES
            await rig.driver.observe("alice")
            assert log.stat().st_blocks * 512 <= KEEP_BYTES + 64 * 1024
        await rig.driver.stop("alice", 1)


async def the_environment_is_in_no_process_table(rig: Rig) -> None:
    secret = f"canary-{os.getpid()}"
    spec = rig.spec("sh", "-c", SLEEP, environment={**ENVIRONMENT, "SECRET": secret})
    await rig.driver.create(spec)
    await rig.driver.start(spec)
    await rig.driver.exec("alice", ("true",), 5)
    for process in await _list_processes(rig):
        assert secret not in Path(f"/proc/{process.pid}/cmdline").read_text()


async def a_mount_may_not_replace_a_part_of_the_sandbox(rig: Rig) -> None:
    spec = rig.spec("true")
    await rig.driver.create(spec)
    targets = ("/", "/usr", "/etc/passwd", "/proc/sys", "/dev", "/tmp", "/home/agent", "/state/inner", "x", "/a/../etc")
    for target in targets:
        bad = replace(spec, mounts=(*spec.mounts, Mount(rig.folder, Path(target), writable=True)))
        await refuses(rig.driver.start(bad))
    assert (await rig.driver.observe("alice")).state is ContainerState.STOPPED


async def a_container_without_a_uid_of_its_own_is_refused(rig: Rig) -> None:
    wrong = (None, 0) if os.geteuid() == 0 else (0, os.geteuid() + 1)
    for uid in wrong:
        await refuses(rig.driver.create(replace(rig.spec("true"), uid=uid)))


async def it_leaks_no_handle(rig: Rig) -> None:
    async def once() -> int:
        await rig.run(SLEEP)
        await rig.driver.exec("alice", ("true",), 5)
        await rig.driver.stop("alice", 5)
        await refuses(rig.driver.start(rig.spec("no-such-program")))
        return len(list(Path("/proc/self/fd").iterdir()))

    first = await once()
    for _ in range(3):
        assert await once() <= first


async def _start_and_list(rig: Rig) -> list[ProcessId]:
    await rig.run(SLEEP)
    return await _list_processes(rig)


async def _list_processes(rig: Rig) -> list[ProcessId]:
    """All processes of alice's container that the driver started: those that watch it, its first and its command."""
    first = (await rig.driver.observe("alice")).pid
    assert first is not None
    found = [first, *list_children(first)[:1]]
    parent = find_parent(first)
    while parent is not None and find_program_name(parent.pid) in {"bwrap", "setsid"}:
        found.append(parent.pid)
        parent = find_parent(parent.pid)
    processes = [process for pid in found if (process := find_process(pid))]
    assert len(processes) == len(found) >= 4
    return processes


async def _wait_gone(processes: list[ProcessId]) -> None:
    async def gone() -> bool:
        return not any(is_alive(process) for process in processes)

    await wait_until(gone, "no process of the container is left")


async def what_is_executed_in_a_container_is_in_its_control_groups(rig: Rig) -> None:
    await rig.run(SLEEP)
    asking = asyncio.create_task(rig.driver.exec("alice", ("sh", "-c", "echo >/state/here; sleep 1000"), 60))
    await rig.wait_file("here")
    pid = (await rig.driver.observe("alice")).pid
    assert pid is not None
    groups = {tuple(_read_groups(member)) for member in _list_members(pid)}
    assert len(groups) == 1, groups
    await rig.driver.stop("alice", 5)
    await asyncio.wait([asking])


async def its_control_group_goes_with_it_and_a_forgotten_one_at_the_next_start(rig: Rig) -> None:
    groups = Groups.observe(rig.folder / "containers", as_root=os.geteuid() == 0)
    limited = bool(groups.make("forgotten", Limits()).places)
    groups.remove_others([])
    await rig.run(SLEEP)
    assert groups.list_names() == (["alice"] if limited else [])
    await rig.driver.stop("alice", 5)
    assert groups.list_names() == []
    await rig.run("exit 1")
    await rig.driver.destroy("alice")
    assert groups.list_names() == []
    groups.make("forgotten", Limits())
    await rig.run(SLEEP)
    await rig.another.prepare()
    assert groups.list_names() == (["alice"] if limited else [])
    assert (await rig.driver.observe("alice")).state is ContainerState.RUNNING


async def what_has_left_the_namespaces_ends_with_the_container_all_the_same(rig: Rig) -> None:
    groups = Groups.observe(rig.folder / "containers", as_root=os.geteuid() == 0)
    ends: list[Callable[[], Awaitable[object]]] = [
        lambda: rig.driver.stop("alice", 5),
        lambda: rig.driver.destroy("alice"),
    ]
    for end in ends:
        await rig.run(SLEEP)
        group = groups.find("alice")
        if group is None:
            assert groups.unlimited
            return
        # As one that found a way out would be: of no namespace of the container's.
        escaped = await asyncio.create_subprocess_exec(*group.wrap(["sh", "-c", "echo in; exec sleep 1000"]), stdout=-1)
        assert escaped.stdout is not None and await escaped.stdout.readline() == b"in\n"
        await end()
        assert await asyncio.wait_for(escaped.wait(), 10) == -signal.SIGKILL


def _list_members(first: int) -> list[int]:
    """The processes of the pid namespace of `first`."""
    namespace = Path(f"/proc/{first}/ns/pid").readlink()
    found: list[int] = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and (folder / "ns/pid").readlink() == namespace:
                found.append(int(folder.name))
    return found


def _read_groups(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    # Those that limit it, and version 2.
    return [line for line in lines if line.split(":")[1] in {"", "memory", "pids", "cpu", "cpu,cpuacct"}]


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        nothing_is_left_whichever_of_its_processes_is_killed,
        whatever_else_of_it_is_killed_it_runs_and_can_be_stopped_or_is_gone,
        nothing_is_left_after_a_stop,
        none_of_its_processes_is_a_child_of_the_daemon,
        a_container_held_by_its_own_debugger_still_ends,
        an_end_that_is_reported_late_is_told_as_it_was,
        an_end_that_is_never_reported_is_told_as_unknown,
        what_an_earlier_daemon_had_only_just_launched_is_found,
        a_process_that_got_the_same_number_is_not_taken_for_the_container,
        what_ran_before_the_machine_was_started_anew_is_exited,
        a_record_that_cannot_be_read_is_unknown_and_destroy_ends_it_all_the_same,
        its_folder_and_its_log_are_closed_to_others,
        a_long_log_gives_back_its_beginning_and_keeps_its_offsets,
        a_log_that_nobody_reads_is_bounded_by_looking_at_its_container,
        the_environment_is_in_no_process_table,
        a_mount_may_not_replace_a_part_of_the_sandbox,
        a_container_without_a_uid_of_its_own_is_refused,
        it_leaks_no_handle,
        what_is_executed_in_a_container_is_in_its_control_groups,
        its_control_group_goes_with_it_and_a_forgotten_one_at_the_next_start,
        what_has_left_the_namespaces_ends_with_the_container_all_the_same,
    )
}
