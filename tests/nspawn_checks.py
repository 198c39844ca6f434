"""What the nspawn driver promises beside the contract: how it fails, and what is left when it is tampered with."""

import asyncio
import contextlib
import json
import os
import signal
import stat
import sys
from dataclasses import replace
from pathlib import Path

import uvloop

from bubblewrap_checks import (
    a_mount_may_not_replace_a_part_of_the_sandbox,
    it_leaks_no_handle,
    its_folder_and_its_log_are_closed_to_others,
    what_ran_before_the_machine_was_started_anew_is_exited,
)
from driver_checks import SLEEP, Check, refuses
from driver_rig import DEADLINE_S, ENVIRONMENT, Rig, wait_until
from hyperhive.core.uids import FIRST_RANGED_UID, FIRST_UID, INNER_UID, RANGE_WIDTH
from hyperhive.host.drivers.container_groups import ContainerGroups
from hyperhive.host.drivers.nspawn import NspawnDriver
from hyperhive.host.drivers.protocol import ContainerState, ExitCause
from hyperhive.system.pids import ProcessId, find_parent, is_alive
from image_cache import get_images


async def whichever_of_its_processes_is_killed_nothing_is_left(rig: Rig) -> None:
    for victim in ("init", "command", "nspawn"):
        processes = await _start_and_list(rig)
        os.kill(processes[victim].pid, signal.SIGKILL)
        await rig.wait_state(ContainerState.EXITED)
        await _wait_gone(processes)
        await rig.driver.destroy("alice")
        await _assert_nothing_left(rig)


async def without_what_watches_it_a_container_runs_on_and_can_be_ended(rig: Rig) -> None:
    processes = await _start_and_list(rig)
    os.kill(processes["watcher"].pid, signal.SIGKILL)
    assert await rig.ask("echo", "well") == "well\n"
    assert (await rig.driver.observe("alice")).state is ContainerState.RUNNING
    await rig.driver.destroy("alice")
    assert not any(is_alive(process) for process in processes.values())
    await _assert_nothing_left(rig)


async def none_of_its_processes_is_a_child_of_the_daemon(rig: Rig) -> None:
    for process in (await _start_and_list(rig)).values():
        parent = find_parent(process.pid)
        assert parent is None or parent.pid != os.getpid()


async def a_daemon_with_many_handles_starts_one_as_any_other(rig: Rig) -> None:
    # The daemon's loop leaves to what it starts the ends that it listens to, under the numbers that they have.
    async def start() -> None:
        spec = rig.spec("sh", "-c", SLEEP)
        await rig.another.create(spec)
        await rig.another.start(spec)

    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        await asyncio.to_thread(uvloop.run, start())
    for process in _list_processes(rig).values():
        handles = [int(handle.name) for handle in Path(f"/proc/{process.pid}/fd").iterdir()]
        assert max(handles, default=0) < 200
    await rig.driver.stop("alice", 5)


async def a_container_held_by_its_own_debugger_still_ends(rig: Rig) -> None:
    # Attaches to the first process of the namespace, which then neither ends nor reports.
    hold = "import ctypes, time; assert ctypes.CDLL(None).ptrace(16, 1, 0, 0) == 0; print(flush=True); time.sleep(999)"
    await rig.run(f'setsid {sys.executable} -c "{hold}" >/state/held 2>&1 & {SLEEP}')
    await rig.wait_file("held")
    assert (rig.state() / "held").read_text() == "\n"
    processes = _list_processes(rig)
    await rig.driver.stop("alice", 0.3)
    assert not any(is_alive(process) for process in processes.values())


async def an_end_that_is_reported_late_is_told_as_it_was(rig: Rig) -> None:
    watcher = (await _start_and_list(rig))["watcher"]
    # As on a machine under load, where it gets no time for a while.
    os.kill(watcher.pid, signal.SIGSTOP)
    await rig.driver.exec("alice", ("sh", "-c", "kill -KILL -1"), DEADLINE_S)
    asyncio.get_running_loop().call_later(0.3, os.kill, watcher.pid, signal.SIGCONT)
    seen = await rig.wait_state(ContainerState.EXITED)
    assert (seen.cause, seen.exit_code, seen.reason) == (ExitCause.SIGNAL, 137, "its command was ended by SIGKILL")


async def an_end_that_is_never_reported_is_told_as_unknown(rig: Rig) -> None:
    processes = await _start_and_list(rig)
    os.kill(processes["watcher"].pid, signal.SIGKILL)
    os.kill(processes["init"].pid, signal.SIGKILL)
    seen = await rig.wait_state(ContainerState.EXITED)
    assert (seen.cause, seen.exit_code) == (ExitCause.UNKNOWN, None)


async def a_first_process_that_was_killed_is_not_told_as_a_command_that_failed(rig: Rig) -> None:
    os.kill((await _start_and_list(rig))["init"].pid, signal.SIGKILL)
    seen = await rig.wait_state(ContainerState.EXITED)
    assert (seen.cause, seen.exit_code, seen.reason) == (ExitCause.UNKNOWN, None, "it was killed from outside")


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
        wrong = {"pid": other.pid, "started_ticks": 1}
        for init in (wrong, None):
            (folder / "container.json").write_text(json.dumps({**record, "init": init}))
            report = {"init": wrong, "command": wrong, "watchers": [wrong, wrong]}
            (folder / "report").write_text(json.dumps(report) + "\n")
            assert (await rig.driver.observe("alice")).state is ContainerState.EXITED
            await rig.driver.stop("alice", 0.1)
        assert other.returncode is None
    finally:
        other.kill()
        await other.wait()


async def a_record_that_cannot_be_read_is_unknown_and_destroy_ends_it_all_the_same(rig: Rig) -> None:
    for damage in ("", "[]", '{"uid": 1}'):
        processes = await _start_and_list(rig)
        (rig.folder / "containers/alice/container.json").write_text(damage)
        seen = await rig.driver.observe("alice")
        assert seen.state is ContainerState.UNKNOWN and seen.reason
        await refuses(rig.driver.start(rig.spec("true")))
        await rig.driver.destroy("alice")
        assert not any(is_alive(process) for process in processes.values())
        assert (await rig.driver.observe("alice")).state is ContainerState.ABSENT
        await _assert_nothing_left(rig)


async def what_another_driver_runs_is_left_alone_and_what_it_left_is_not_there(rig: Rig) -> None:
    await rig.run(SLEEP)
    record = rig.folder / "containers/alice/container.json"
    own = json.loads(record.read_text())
    record.write_text(json.dumps({**own, "driver": "bubblewrap"}))
    seen = await rig.driver.observe("alice")
    assert seen.state is ContainerState.UNKNOWN and "bubblewrap" in seen.reason
    error = await refuses(rig.driver.start(rig.spec("true")))
    assert "HIVE_DRIVER=bubblewrap" in error.hint
    await refuses(rig.driver.create(rig.spec("true")))
    record.write_text(json.dumps({**own, "driver": "bubblewrap", "boot_id": "another"}))
    assert (await rig.driver.observe("alice")).state is ContainerState.ABSENT
    record.write_text(json.dumps(own))


async def the_environment_is_in_no_process_table(rig: Rig) -> None:
    secret = f"canary-{os.getpid()}"
    spec = rig.spec("sh", "-c", SLEEP, environment={**ENVIRONMENT, "SECRET": secret})
    await rig.driver.create(spec)
    await rig.driver.start(spec)
    await rig.driver.exec("alice", ("true",), 5)
    for process in _list_processes(rig).values():
        assert secret not in Path(f"/proc/{process.pid}/cmdline").read_text()
        # Only in that of the command: also the host's users who may read environments find it nowhere else.
        environment = Path(f"/proc/{process.pid}/environ").read_text()
        assert (secret in environment) == (process == _list_processes(rig)["command"])


async def a_uid_without_a_range_of_its_own_is_refused(rig: Rig) -> None:
    for wrong in (None, 0, INNER_UID, FIRST_UID, FIRST_UID + 1, FIRST_RANGED_UID + 1, 2_147_483_647):
        await refuses(rig.driver.create(replace(rig.spec("true"), uid=wrong)))


async def its_uids_are_its_own(rig: Rig) -> None:
    for name in ("alice", "bob"):
        await rig.run(SLEEP, name=name)
        start = rig.uid_outside(name) - INNER_UID
        assert (await rig.ask("cat", "/proc/self/uid_map", name=name)).split() == ["0", str(start), str(RANGE_WIDTH)]
        init = (await rig.driver.observe(name)).pid
        assert Path(f"/proc/{init}").stat().st_uid == rig.uid_outside(name)
    assert abs(rig.uid_outside("alice") - rig.uid_outside("bob")) >= RANGE_WIDTH


async def in_the_hosts_network_everything_else_is_its_own(rig: Rig) -> None:
    spec = replace(rig.spec("sh", "-c", SLEEP), host_network=True)
    await rig.driver.create(spec)
    await rig.driver.start(spec)
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
    inside = (await rig.ask("readlink", *(f"/proc/self/ns/{kind}" for kind in kinds))).split()
    ours = [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in kinds]
    assert [kind for kind, mine, its in zip(kinds, ours, inside, strict=True) if mine == its] == ["net"]
    assert not (await rig.driver.exec("alice", ("ls", "/sys"), DEADLINE_S)).ok
    assert await rig.ask("cat", "/etc/resolv.conf") == Path("/etc/resolv.conf").read_text()


async def a_terminal_can_be_opened_inside(rig: Rig) -> None:
    await rig.run(SLEEP)
    code = "import os; _, inner = os.openpty(); print(os.ttyname(inner))"
    assert (await rig.ask(sys.executable, "-c", code)).startswith("/dev/pts/")


async def an_image_that_cannot_run_the_harness_is_refused_with_what_mends_it(rig: Rig) -> None:
    empty = rig.folder / "empty"
    (empty / "usr").mkdir(parents=True)
    driver = NspawnDriver(rig.folder / "others", _OneImage(empty))
    for work in (driver.prepare(), driver.build([])):
        error = await refuses(work)
        assert error.hint


async def what_packages_add_and_take_away_lies_on_the_base(rig: Rig) -> None:
    [base] = (await get_images()).find_layers([])
    programs = rig.folder / "layer/usr/bin"
    programs.mkdir(parents=True)
    (programs / "greet").write_text("#!/bin/sh\necho hello\n")
    (programs / "greet").chmod(0o755)
    # As overlayfs writes that a file of a lower layer is gone.
    os.mknod(programs / "less", 0o600 | stat.S_IFCHR, os.makedev(0, 0))
    driver = NspawnDriver(rig.folder / "others", _OneImage(rig.folder / "layer", base))
    script = f"greet; command -v less || echo none; stat -c %u /usr/bin/greet /usr/bin/sh; touch /usr/x; {SLEEP}"
    spec = rig.spec("sh", "-c", f"({script}) 2>/dev/null >/state/said; {SLEEP}")
    await driver.create(spec)
    try:
        await driver.start(spec)

        async def said() -> bool:
            file = rig.state() / "said"
            return file.exists() and file.read_text() == "hello\nnone\n0\n0\n"

        await wait_until(said, "the command has said what it sees")
    finally:
        await driver.destroy("alice")
    assert not (base / "usr/x").exists() and not (rig.folder / "layer/usr/x").exists()


class _OneImage:
    """An image that is there, whatever is asked for."""

    def __init__(self, *layers: Path) -> None:
        self._layers = layers

    async def prepare(self) -> None:
        """Nothing to do."""

    async def build(self, packages: object) -> dict[str, str]:
        return {}

    def find_layers(self, packages: object) -> tuple[Path, ...]:
        return self._layers


async def _start_and_list(rig: Rig) -> dict[str, ProcessId]:
    await rig.run(SLEEP)
    return _list_processes(rig)


def _list_processes(rig: Rig) -> dict[str, ProcessId]:
    """The processes of alice's container that the driver started."""
    report = json.loads((rig.folder / "containers/alice/report").read_text().splitlines()[0])
    nspawn, watcher = report["watchers"]
    named = {"init": report["init"], "command": report["command"], "nspawn": nspawn, "watcher": watcher}
    return {name: ProcessId(**process) for name, process in named.items()}


async def _assert_nothing_left(rig: Rig) -> None:
    assert not (rig.folder / "containers/alice").exists()
    assert await ContainerGroups(rig.folder / "containers", as_root=True).observe("alice") is None
    # Its files are mounted where its processes are, and nowhere else.
    place = f"{rig.folder}/containers/alice"
    for mounts in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            assert place not in mounts.read_text()
        except OSError:
            continue


async def _wait_gone(processes: dict[str, ProcessId]) -> None:
    async def gone() -> bool:
        return not any(is_alive(process) for process in processes.values())

    await wait_until(gone, "no process of the container is left")


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        whichever_of_its_processes_is_killed_nothing_is_left,
        without_what_watches_it_a_container_runs_on_and_can_be_ended,
        none_of_its_processes_is_a_child_of_the_daemon,
        a_daemon_with_many_handles_starts_one_as_any_other,
        a_container_held_by_its_own_debugger_still_ends,
        an_end_that_is_reported_late_is_told_as_it_was,
        an_end_that_is_never_reported_is_told_as_unknown,
        a_first_process_that_was_killed_is_not_told_as_a_command_that_failed,
        what_an_earlier_daemon_had_only_just_launched_is_found,
        a_process_that_got_the_same_number_is_not_taken_for_the_container,
        what_ran_before_the_machine_was_started_anew_is_exited,
        a_record_that_cannot_be_read_is_unknown_and_destroy_ends_it_all_the_same,
        what_another_driver_runs_is_left_alone_and_what_it_left_is_not_there,
        its_folder_and_its_log_are_closed_to_others,
        the_environment_is_in_no_process_table,
        a_mount_may_not_replace_a_part_of_the_sandbox,
        a_uid_without_a_range_of_its_own_is_refused,
        its_uids_are_its_own,
        in_the_hosts_network_everything_else_is_its_own,
        a_terminal_can_be_opened_inside,
        an_image_that_cannot_run_the_harness_is_refused_with_what_mends_it,
        what_packages_add_and_take_away_lies_on_the_base,
        it_leaks_no_handle,
    )
}
