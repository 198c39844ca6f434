"""What the gvisor driver promises beside the contract: how it fails, and what its containers are not."""

import json
import os
import signal
import stat
import tempfile
from dataclasses import replace
from pathlib import Path

from bubblewrap_checks import (
    a_mount_may_not_replace_a_part_of_the_sandbox,
    it_leaks_no_handle,
    its_folder_and_its_log_are_closed_to_others,
    what_ran_before_the_machine_was_started_anew_is_exited,
)
from driver_checks import SLEEP, Check
from driver_rig import DEADLINE_S, ENVIRONMENT, Rig, wait_until
from hyperhive.core.limits import Limits
from hyperhive.core.uids import INNER_UID, RANGE_WIDTH
from hyperhive.host.drivers.gvisor import GvisorDriver
from hyperhive.host.drivers.protocol import ContainerState, ExitCause
from hyperhive.system.pids import ProcessId, find_parent, find_process, is_alive
from image_cache import get_images
from nspawn_checks import (
    a_terminal_can_be_opened_inside,
    a_uid_without_a_range_of_its_own_is_refused,
)

_BOMB = "bomb() { bomb | bomb & }; bomb; echo >/state/lit; while :; do bomb; done 2>/dev/null"


async def whichever_of_its_processes_is_killed_nothing_is_left(rig: Rig) -> None:
    for victim in ("kernel", "files", "runsc"):
        processes = await _start_and_list(rig)
        os.kill(processes[victim].pid, signal.SIGKILL)
        await rig.wait_state(ContainerState.EXITED)
        await rig.driver.stop("alice", 1)
        await _wait_gone(processes)


async def without_what_watches_it_a_container_runs_on_and_can_be_ended(rig: Rig) -> None:
    processes = await _start_and_list(rig)
    os.kill(processes["watcher"].pid, signal.SIGKILL)
    assert await rig.ask("echo", "well") == "well\n"
    assert (await rig.driver.observe("alice")).state is ContainerState.RUNNING
    await rig.driver.destroy("alice")
    await _wait_gone(processes)
    assert not (rig.folder / "containers/alice").exists()


async def none_of_its_processes_is_a_child_of_the_daemon(rig: Rig) -> None:
    for process in (await _start_and_list(rig)).values():
        parent = find_parent(process.pid)
        assert parent is None or parent.pid != os.getpid()


async def a_kernel_that_was_killed_is_not_told_as_a_command_that_failed(rig: Rig) -> None:
    os.kill((await _start_and_list(rig))["kernel"].pid, signal.SIGKILL)
    seen = await rig.wait_state(ContainerState.EXITED)
    assert (seen.cause, seen.exit_code, seen.reason) == (ExitCause.UNKNOWN, None, "it was killed from outside")


async def its_kernel_is_none_of_this_machines(rig: Rig) -> None:
    await rig.run(SLEEP)
    assert await rig.ask("uname", "-r") != f"{os.uname().release}\n"
    assert "gVisor" in await rig.ask("dmesg")


async def what_serves_it_from_outside_is_of_its_own_uids(rig: Rig) -> None:
    processes = await _start_and_list(rig)
    first = rig.uid_outside() - INNER_UID
    for name in ("kernel", "files"):
        uid = Path(f"/proc/{processes[name].pid}").stat().st_uid
        assert first <= uid < first + RANGE_WIDTH


async def who_makes_a_user_namespace_is_root_of_that_kernel_alone(rig: Rig) -> None:
    disk = Path("/").stat().st_dev
    script = (
        "mknod /tmp/mem c 1 1 && cat /tmp/mem; "
        f"mknod /state/disk b {os.major(disk)} {os.minor(disk)} && cat /state/disk; "
        "chown 0:0 /state/mine; chmod 4755 /state/mine; cat /etc/shadow; echo x >/usr/x; id -u"
    )
    (rig.state() / "mine").touch()
    os.chown(rig.state() / "mine", rig.uid_outside(), rig.uid_outside())
    await rig.run(SLEEP)
    done = await rig.driver.exec("alice", ("unshare", "-Urmn", "sh", "-c", script), DEADLINE_S)
    # Root there; and nothing of that was given: no memory, no disk, no file of another.
    assert done.stdout == b"0\n", done
    assert not (rig.state() / "disk").exists()
    assert (rig.state() / "mine").stat().st_uid == rig.uid_outside()


async def a_bomb_can_be_stopped_and_another_container_goes_on(rig: Rig) -> None:
    await rig.run(SLEEP, name="bob")
    spec = replace(rig.spec("sh", "-c", _BOMB), limits=Limits(256 * 1024 * 1024, 0.5, 60))
    await rig.driver.create(spec)
    await rig.driver.start(spec)
    assert await rig.ask("sh", "-c", "true | echo well", name="bob") == "well\n"
    await rig.driver.stop("alice", 0.5)
    assert (await rig.driver.observe("alice")).state is ContainerState.STOPPED
    await rig.driver.start(replace(rig.spec("true"), limits=spec.limits))
    assert (await rig.wait_state(ContainerState.EXITED)).exit_code == 0


async def the_command_hears_what_a_shell_has_its_jobs_ignore(rig: Rig) -> None:
    assert "deaf" not in await rig.run_to_end("sh -c 'kill -INT $$; echo deaf'; sh -c 'kill -QUIT $$; echo deaf'")


async def the_environment_is_in_no_process_table_and_in_no_open_file(rig: Rig) -> None:
    secret = f"canary-{os.getpid()}"
    spec = rig.spec("sh", "-c", SLEEP, environment={**ENVIRONMENT, "SECRET": secret})
    await rig.driver.create(spec)
    await rig.driver.start(spec)
    await rig.driver.exec("alice", ("true",), DEADLINE_S)
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert secret.encode() not in file.read_bytes()
        except OSError:
            continue
    place = rig.folder / "containers/alice"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE((place / "bundle/config.json").stat().st_mode) == 0o600
    # What was executed leaves nothing.
    assert {path.name for path in place.iterdir()} <= {
        "bundle",
        "container.json",
        "log",
        "report",
        "runsc",
        "runsc.log",
    }


async def two_hives_may_have_containers_of_the_same_name(rig: Rig) -> None:
    with tempfile.TemporaryDirectory() as name:
        images = await get_images()
        other = GvisorDriver(Path(name), images)
        await rig.run(SLEEP)
        spec = replace(rig.spec("sh", "-c", SLEEP), mounts=(), working_folder=Path("/"))
        try:
            await other.create(spec)
            await other.start(spec)
            assert (await rig.driver.observe("alice")).state is ContainerState.RUNNING
            await other.stop("alice", DEADLINE_S)
            assert (await rig.driver.observe("alice")).state is ContainerState.RUNNING
        finally:
            await other.destroy("alice")


async def _start_and_list(rig: Rig) -> dict[str, ProcessId]:
    """The processes of alice's container that the driver started."""
    await rig.run(SLEEP)
    report = json.loads((rig.folder / "containers/alice/report").read_text().splitlines()[0])
    kernel, (runsc, watcher) = ProcessId(**report["init"]), (ProcessId(**found) for found in report["watchers"])
    # Whichever thread of runsc started them.
    pids = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    children = [pid for pid in pids if (parent := find_parent(pid)) is not None and parent.pid == runsc.pid]
    others = [process for pid in children if pid != kernel.pid and (process := find_process(pid))]
    assert len(others) == 1
    return {"kernel": kernel, "files": others[0], "runsc": runsc, "watcher": watcher}


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
        a_kernel_that_was_killed_is_not_told_as_a_command_that_failed,
        what_ran_before_the_machine_was_started_anew_is_exited,
        its_kernel_is_none_of_this_machines,
        what_serves_it_from_outside_is_of_its_own_uids,
        who_makes_a_user_namespace_is_root_of_that_kernel_alone,
        a_bomb_can_be_stopped_and_another_container_goes_on,
        the_command_hears_what_a_shell_has_its_jobs_ignore,
        the_environment_is_in_no_process_table_and_in_no_open_file,
        two_hives_may_have_containers_of_the_same_name,
        its_folder_and_its_log_are_closed_to_others,
        a_mount_may_not_replace_a_part_of_the_sandbox,
        a_terminal_can_be_opened_inside,
        a_uid_without_a_range_of_its_own_is_refused,
        it_leaks_no_handle,
    )
}
