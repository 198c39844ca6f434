"""What every driver has to do: one check a sentence of the contract. Each takes a rig and raises AssertionError.

They know the protocol only, nothing of a driver's inside.
"""

import asyncio
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from driver_limit_checks import LIMIT_CHECKS
from driver_network_checks import NETWORK_CHECKS
from driver_rig import DEADLINE_S, ENVIRONMENT, MOMENT_S, Rig, wait_until
from hyperhive.core.errors import HiveError
from hyperhive.host.drivers.protocol import ContainerState, DriverError, ExitCause, Mount

Check = Callable[[Rig], Awaitable[None]]

# TERM ends it at once, as it ends a harness.
SLEEP = "trap 'exit 0' TERM; sleep 1000 & wait"


async def refuses(work: Awaitable[object]) -> HiveError:
    """The DriverError that `work` raises; an AssertionError if it does not."""
    try:
        await work
    except DriverError as error:
        assert error.message
        return error
    raise AssertionError("it was not refused")


# -- what containers are made of ---------------------------------------------------------------------------


async def no_packages_are_always_there(rig: Rig) -> None:
    assert await rig.driver.build([]) == {}


async def a_package_that_is_there_is_reported_with_its_version(rig: Rig) -> None:
    built = await rig.driver.build(["bash", "bash"])
    assert list(built) == ["bash"] and built["bash"]
    assert await rig.driver.build(["bash"]) == built


async def packages_that_are_not_there_are_refused_and_all_named(rig: Rig) -> None:
    error = await refuses(rig.driver.build(["no-such-package", "bash", "none-like-this"]))
    assert "no-such-package" in error.message and "none-like-this" in error.message and "bash" not in error.message
    # What mends it may be another source of packages.
    assert error.hint and "bash" not in error.hint


async def what_cannot_be_the_name_of_a_package_is_refused(rig: Rig) -> None:
    for name in (
        "",
        "-f",
        "--admindir=/tmp",
        "ba*",
        "b[a]sh",
        "../bash",
        "/bin/sh",
        "bash:amd64",
        "BASH",
        "a b",
        "a\0b",
    ):
        await refuses(rig.driver.build(["bash", name]))


async def a_build_touches_no_running_container(rig: Rig) -> None:
    await rig.run(SLEEP)
    before = await rig.driver.observe("alice")
    await rig.driver.build(["bash"])
    await refuses(rig.driver.build(["no-such-package"]))
    assert await rig.driver.observe("alice") == before


# -- the life of a container -------------------------------------------------------------------------------


async def a_container_goes_through_all_its_states(rig: Rig) -> None:
    assert (await rig.driver.observe("alice")).state is ContainerState.ABSENT
    spec = rig.spec("sh", "-c", SLEEP)
    await rig.driver.create(spec)
    assert (await rig.driver.observe("alice")).state is ContainerState.STOPPED
    await rig.driver.start(spec)
    seen = await rig.driver.observe("alice")
    assert seen.state is ContainerState.RUNNING
    assert seen.pid is not None and Path(f"/proc/{seen.pid}").exists()
    assert seen.started_at is not None and seen.started_at.tzinfo is not None
    await rig.driver.stop("alice", DEADLINE_S)
    assert (await rig.driver.observe("alice")).state is ContainerState.STOPPED
    await rig.driver.start(spec)
    assert (await rig.driver.observe("alice")).state is ContainerState.RUNNING
    await rig.driver.destroy("alice")
    assert (await rig.driver.observe("alice")).state is ContainerState.ABSENT


async def doing_it_twice_is_no_error(rig: Rig) -> None:
    spec = rig.spec("sh", "-c", SLEEP)
    await rig.driver.create(spec)
    await rig.driver.create(spec)
    await rig.driver.start(spec)
    first = await rig.driver.observe("alice")
    await rig.driver.start(spec)
    assert await rig.driver.observe("alice") == first
    for _ in range(2):
        await rig.driver.stop("alice", DEADLINE_S)
    for _ in range(2):
        await rig.driver.destroy("alice")
    await rig.driver.stop("alice", 1)


async def creating_again_keeps_it_running_and_the_next_start_takes_the_change(rig: Rig) -> None:
    spec = await rig.run('echo "$WORD" >/state/word; ' + SLEEP)
    before = await rig.driver.observe("alice")
    await rig.wait_file("word")
    changed = replace(spec, environment={**ENVIRONMENT, "WORD": "changed"})
    await rig.driver.create(changed)
    assert await rig.driver.observe("alice") == before
    await rig.driver.stop("alice", DEADLINE_S)
    (rig.state() / "word").unlink()
    await rig.driver.start(changed)
    assert await rig.wait_file("word") == "changed\n"


async def starting_what_was_not_created_is_refused(rig: Rig) -> None:
    await refuses(rig.driver.start(rig.spec("true")))


async def a_command_that_ends_by_itself_is_exited_with_its_status(rig: Rig) -> None:
    await rig.run("exit 42")
    seen = await rig.wait_state(ContainerState.EXITED)
    assert seen.exit_code == 42
    assert "42" in seen.reason


async def a_command_that_ends_at_once_was_started(rig: Rig) -> None:
    spec = rig.spec("true")
    await rig.driver.create(spec)
    for _ in range(5):
        await rig.driver.start(spec)
        assert (await rig.wait_state(ContainerState.EXITED)).exit_code == 0


async def a_command_that_does_not_exist_is_refused_and_leaves_nothing(rig: Rig) -> None:
    spec = rig.spec("no-such-program")
    await rig.driver.create(spec)
    error = await refuses(rig.driver.start(spec))
    assert "no-such-program" in error.message
    assert (await rig.driver.observe("alice")).state is ContainerState.STOPPED
    await rig.run("true")


async def a_mount_that_is_not_there_is_refused_by_name(rig: Rig) -> None:
    spec = rig.spec("true")
    missing = Mount(rig.folder / "missing", Path("/state/missing"))
    spec = replace(spec, mounts=(replace(missing, target=Path("/missing")), *spec.mounts))
    await rig.driver.create(spec)
    error = await refuses(rig.driver.start(spec))
    assert str(missing.source) in error.message


async def a_name_that_is_none_is_refused_everywhere(rig: Rig) -> None:
    canary = rig.folder / "canary"
    canary.write_text("here")
    for name in ("..", ".", "", "a/b", "../../etc", "/etc", "-rf", "a\0b", "A", "x" * 64):
        bad = replace(rig.spec("true"), name=name)
        await refuses(rig.driver.create(bad))
        await refuses(rig.driver.start(bad))
        await refuses(rig.driver.stop(name, 1))
        await refuses(rig.driver.destroy(name))
        await refuses(rig.driver.exec(name, ("true",), 1))
        await refuses(rig.driver.logs(name, 0, 10))
        await refuses(rig.driver.log_range(name))
    assert canary.read_text() == "here"


# -- ending ------------------------------------------------------------------------------------------------


async def stop_gives_the_command_time_to_end(rig: Rig) -> None:
    script = "trap 'sleep 0.3; echo ended >/state/how; exit 3' TERM; echo >/state/ready; sleep 1000 & wait"
    await rig.run(script)
    await rig.wait_file("ready")
    await rig.driver.stop("alice", DEADLINE_S)
    assert (rig.state() / "how").read_text() == "ended\n"
    seen = await rig.driver.observe("alice")
    assert (seen.state, seen.exit_code) == (ContainerState.STOPPED, 3)


async def stop_kills_what_does_not_listen(rig: Rig) -> None:
    await rig.run("trap '' TERM; echo >/state/ready; while :; do sleep 1000; done")
    await rig.wait_file("ready")
    started = asyncio.get_running_loop().time()
    await rig.driver.stop("alice", 0.3)
    assert asyncio.get_running_loop().time() - started < 5
    assert (await rig.driver.observe("alice")).state is ContainerState.STOPPED


async def nothing_of_a_container_outlives_its_stop(rig: Rig) -> None:
    mark = _mark()
    await rig.run(_daemons(mark) + SLEEP)
    await rig.wait_file("ready")
    assert len(await _list_marked(rig, mark)) >= 3
    await rig.driver.stop("alice", DEADLINE_S)
    assert await _list_marked(rig, mark) == []


async def nothing_of_a_container_outlives_its_command(rig: Rig) -> None:
    mark = _mark()
    await rig.run(_daemons(mark) + "exit 0")
    await rig.wait_state(ContainerState.EXITED)
    assert await _list_marked(rig, mark) == []


async def what_was_killed_from_within_is_exited(rig: Rig) -> None:
    mark = _mark()
    await rig.run(_daemons(mark) + SLEEP)
    await rig.wait_file("ready")
    await rig.driver.exec("alice", ("sh", "-c", "kill -KILL -1"), DEADLINE_S)
    await rig.wait_state(ContainerState.EXITED)
    assert await _list_marked(rig, mark) == []


async def what_was_killed_from_outside_is_exited(rig: Rig) -> None:
    await rig.run(SLEEP)
    pid = (await rig.driver.observe("alice")).pid
    assert pid is not None
    os.kill(pid, 9)
    await rig.wait_state(ContainerState.EXITED)
    await rig.driver.stop("alice", 1)
    assert (await rig.driver.observe("alice")).state is ContainerState.STOPPED


async def what_has_ended_tells_why(rig: Rig) -> None:
    await rig.run(SLEEP)
    assert (await rig.driver.observe("alice")).cause is None
    await rig.driver.stop("alice", DEADLINE_S)
    assert (await rig.driver.observe("alice")).cause is ExitCause.ASKED
    await rig.run("exit 42")
    assert (await rig.wait_state(ContainerState.EXITED)).cause is ExitCause.EXITED
    await rig.run(SLEEP)
    await rig.driver.exec("alice", ("sh", "-c", "kill -KILL -1"), DEADLINE_S)
    seen = await rig.wait_state(ContainerState.EXITED)
    assert seen.cause is ExitCause.SIGNAL and "SIGKILL" in seen.reason
    assert (await rig.another.observe("alice")).cause is ExitCause.SIGNAL


async def orphans_that_end_do_not_stay_as_zombies(rig: Rig) -> None:
    await rig.run(f"for i in 1 2 3 4 5; do (setsid true &); done; echo >/state/ready; {SLEEP}")
    await rig.wait_file("ready")
    count = "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '; true"

    async def gone() -> bool:
        return (await rig.ask("sh", "-c", count)).strip() == "0"

    await wait_until(gone, "no zombie is left")


async def destroying_keeps_the_mounted_folders(rig: Rig) -> None:
    await rig.run("echo said; echo kept >/state/notes; " + SLEEP)
    await rig.wait_file("notes")
    await rig.driver.destroy("alice")
    assert (await rig.driver.observe("alice")).state is ContainerState.ABSENT
    assert (rig.state() / "notes").read_text() == "kept\n"
    assert await rig.driver.logs("alice", 0, 100) == (b"", 0)


# -- outliving the daemon ----------------------------------------------------------------------------------


async def another_daemon_finds_what_runs_and_can_end_it(rig: Rig) -> None:
    spec = await rig.run("echo said; " + SLEEP)
    seen = await rig.driver.observe("alice")
    assert await rig.another.observe("alice") == seen
    await rig.another.start(spec)
    assert await rig.another.observe("alice") == seen
    done = await rig.another.exec("alice", ("echo", "hello"), DEADLINE_S)
    assert done.stdout == b"hello\n"
    await rig.another.stop("alice", DEADLINE_S)
    assert (await rig.another.observe("alice")).state is ContainerState.STOPPED
    assert await rig.another.logs("alice", 0, 100) == (b"said\n", 5)


async def another_daemon_tells_exited_from_stopped(rig: Rig) -> None:
    await rig.run("exit 7")
    await rig.run(SLEEP, name="bob")
    await rig.wait_state(ContainerState.EXITED)
    await rig.driver.stop("bob", DEADLINE_S)
    seen = await rig.another.observe("alice")
    assert (seen.state, seen.exit_code) == (ContainerState.EXITED, 7)
    assert (await rig.another.observe("bob")).state is ContainerState.STOPPED


# -- exec and logs -----------------------------------------------------------------------------------------


async def exec_returns_status_and_output(rig: Rig) -> None:
    await rig.run(SLEEP)
    done = await rig.driver.exec("alice", ("sh", "-c", "echo out; echo err >&2; pwd; exit 9"), DEADLINE_S)
    assert (done.status, done.stdout, done.stderr) == (9, b"out\n/state\n", b"err\n")
    assert not (await rig.driver.exec("alice", ("no-such-program",), DEADLINE_S)).ok


async def exec_runs_as_the_command_does(rig: Rig) -> None:
    look = "id -u; id -g; env | sort; grep -E '^(Cap|NoNewPrivs)' /proc/self/status; readlink /proc/self/ns/*"
    if rig.has_own_kernel:
        # gVisor gives the user namespace another number each time that it is looked at.
        look += " | grep -v ^user:"
    await rig.run(f"( {look} ) >/state/mine; echo >/state/ready; {SLEEP}")
    await rig.wait_file("ready")
    assert await rig.ask("sh", "-c", look) == (rig.state() / "mine").read_text()


async def exec_ends_what_is_over_its_deadline(rig: Rig) -> None:
    mark = _mark()
    await rig.run(SLEEP)
    await refuses(rig.driver.exec("alice", ("sh", "-c", f"echo >/state/ready; sleep {mark} | sleep {mark}"), 1.5))
    assert (rig.state() / "ready").exists()

    async def gone() -> bool:
        return not await _list_marked(rig, mark)

    await wait_until(gone, "the command is ended")
    assert (await rig.driver.observe("alice")).state is ContainerState.RUNNING


async def exec_returns_at_its_deadline_though_what_it_left_holds_its_output(rig: Rig) -> None:
    mark = _mark()
    await rig.run(SLEEP)
    started = asyncio.get_running_loop().time()
    leave = f"for i in 1 2 3; do setsid sleep {mark} & done; echo >/state/ready; exec sleep 1000"
    await refuses(rig.driver.exec("alice", ("sh", "-c", leave), 1.5))
    assert asyncio.get_running_loop().time() - started < 1.5 + MOMENT_S
    assert (rig.state() / "ready").exists()
    assert await rig.ask("echo", "well") == "well\n"
    await rig.driver.stop("alice", 1)
    assert await _list_marked(rig, mark) == []


async def exec_in_what_does_not_run_is_refused(rig: Rig) -> None:
    await refuses(rig.driver.exec("alice", ("true",), 1))
    await rig.driver.create(rig.spec("true"))
    await refuses(rig.driver.exec("alice", ("true",), 1))
    await rig.run("exit 0")
    await rig.wait_state(ContainerState.EXITED)
    await refuses(rig.driver.exec("alice", ("true",), 1))


async def logs_are_read_by_offset(rig: Rig) -> None:
    assert await rig.driver.logs("alice", 0, 100) == (b"", 0)
    assert await rig.driver.log_range("alice") == (0, 0)
    await rig.run_to_end("echo one; echo two >&2; echo three >>/dev/stderr")
    assert await rig.driver.log_range("alice") == (0, 14)
    assert await rig.driver.logs("alice", 0, 1000) == (b"one\ntwo\nthree\n", 14)
    assert await rig.driver.logs("alice", 4, 4) == (b"two\n", 8)
    assert await rig.driver.logs("alice", 8, 1000) == (b"three\n", 14)
    assert await rig.driver.logs("alice", 14, 1000) == (b"", 14)
    assert await rig.driver.logs("alice", 99, 3) == (b"one", 3)


async def a_log_goes_on_with_the_next_start(rig: Rig) -> None:
    await rig.run_to_end("echo first")
    assert await rig.run_to_end("echo second") == "first\nsecond\n"


# -- what the container is ---------------------------------------------------------------------------------


async def the_environment_is_exactly_the_given_one(rig: Rig) -> None:
    wanted = {**ENVIRONMENT, "ODD": "a b\n'c' $d=e", "EMPTY": ""}
    spec = rig.spec(
        "sh", "-c", "tr '\\0' '\\1' </proc/self/environ >/state/all; echo >/state/ready", environment=wanted
    )
    await rig.driver.create(spec)
    await rig.driver.start(spec)
    await rig.wait_file("ready")
    found = dict(entry.split("=", 1) for entry in (rig.state() / "all").read_text().split("\1") if entry)
    assert found.pop("PWD", "/state") == "/state"
    assert found == wanted


async def the_state_is_written_as_the_uid_and_kept(rig: Rig) -> None:
    await rig.run_to_end("echo 1 >/state/notes; mkdir /state/folder; id -u >/state/inside; pwd >/state/pwd")
    assert (rig.state() / "notes").stat().st_uid == rig.uid_outside()
    assert (rig.state() / "folder").stat().st_uid == rig.uid_outside()
    assert (rig.state() / "inside").read_text() == "1000\n"
    assert (rig.state() / "pwd").read_text() == "/state\n"
    assert await rig.run_to_end("cat /state/notes") == "1\n"


async def its_own_folders_are_writable_and_the_system_is_not(rig: Rig) -> None:
    places = "/tmp /home/agent /home/agent/.claude /state /dev/shm / /usr /usr/bin /etc /run /run/hive /dev /root /var"
    script = f"for place in {places}; do touch $place/x 2>/dev/null && echo $place; done; true"
    assert (await rig.run_to_end(script)).split() == places.split()[:5]


async def its_temporary_files_end_with_it(rig: Rig) -> None:
    files = "/tmp/x /home/agent/x /dev/shm/x"
    assert (await rig.run_to_end(f"touch {files}; ls {files}")).split() == ["/dev/shm/x", "/home/agent/x", "/tmp/x"]
    await rig.driver.destroy("alice")
    assert await rig.run_to_end(f"ls {files} 2>/dev/null; true") == ""


async def python_and_this_program_are_there(rig: Rig) -> None:
    code = "import asyncio, hyperhive.core.names, hyperhive; print(hyperhive.__file__)"
    place = str(Path(sys.modules["hyperhive"].__file__ or "").parent.parent)
    spec = rig.spec(sys.executable, "-c", code, environment={**ENVIRONMENT, "PYTHONPATH": place})
    await rig.driver.create(spec)
    await rig.driver.start(spec)
    await rig.wait_state(ContainerState.EXITED)
    assert await rig.log() == f"{sys.modules['hyperhive'].__file__}\n"


async def a_socket_in_a_mounted_folder_can_be_reached_whenever_it_was_made(rig: Rig) -> None:
    code = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect('/run/hive/' + sys.argv[1]);"
        "s.sendall(b'ping'); print(s.recv(4).decode())"
    )
    _answer(rig, "before.sock")
    await rig.run(SLEEP)
    assert await rig.ask(sys.executable, "-c", code, "before.sock") == "pong\n"
    _answer(rig, "after.sock")
    assert await rig.ask(sys.executable, "-c", code, "after.sock") == "pong\n"


async def two_containers_see_nothing_of_each_other(rig: Rig) -> None:
    mark = _mark()
    await rig.run(f"echo mine >/state/alice; touch /tmp/alice; sleep {mark} & echo >/state/ready; {SLEEP}")
    await rig.run(SLEEP, name="bob")
    await rig.wait_file("ready")
    found = await rig.ask("sh", "-c", "ls /state /tmp; cat /proc/*/cmdline | tr '\\0' ' '; ls /proc", name="bob")
    assert "alice" not in found
    assert mark not in found
    assert await rig.ask("hostname", name="bob") != await rig.ask("hostname")


# -- inside ------------------------------------------------------------------------------------------------

_marks = iter(range(1, 1_000_000))


def _mark() -> str:
    """A number of seconds that no other sleep on this machine has: it finds the process from outside."""
    return f"{os.getpid()}{next(_marks):04}.25"


def _find_processes(mark: str) -> list[int]:
    """The processes on this machine that have `mark` as an argument of their own."""
    found: list[int] = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and mark in (folder / "cmdline").read_bytes().decode().split("\0"):
                found.append(int(folder.name))
        except (OSError, UnicodeDecodeError):
            continue
    return found


async def _list_marked(rig: Rig, mark: str) -> list[str]:
    """What there is of alice's processes that have `mark` as an argument of their own."""
    if not rig.has_own_kernel:
        return [str(pid) for pid in _find_processes(mark)]
    if (await rig.driver.observe("alice")).state is ContainerState.RUNNING:
        return (await rig.ask("sh", "-c", f"grep -lzx {mark} /proc/[0-9]*/cmdline 2>/dev/null; true")).split()
    # None of them is seen from outside: they are gone with their kernel, if that is.
    return [str(pid) for pid in _find_processes(f"--root={rig.folder}/containers/alice/runsc")]


def _daemons(mark: str) -> str:
    """A script that leaves processes in every way there is: a job, one without a parent, one of another session."""
    leave = f"sleep {mark} & (sleep {mark} &) ; setsid sh -c '(setsid sleep {mark} </dev/null >/dev/null 2>&1 &)'; "
    count = f"grep -lzx {mark} /proc/[0-9]*/cmdline 2>/dev/null | wc -l"
    return leave + f'while [ "$({count})" -lt 3 ]; do sleep 0.01; done; echo >/state/ready; '


def _answer(rig: Rig, name: str) -> None:
    """A socket in the container's folder that answers pong once."""
    path = rig.hive() / name
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    rig.sockets.append(listener)
    # The path of a socket has at most 107 characters, a test's folder may have more.
    folder = os.open(path.parent, os.O_PATH)
    listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)
    path.chmod(0o666)
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4)
            connection.sendall(b"pong")

    threading.Thread(target=serve, daemon=True).start()


CONTRACT_CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        no_packages_are_always_there,
        a_package_that_is_there_is_reported_with_its_version,
        packages_that_are_not_there_are_refused_and_all_named,
        what_cannot_be_the_name_of_a_package_is_refused,
        a_build_touches_no_running_container,
        a_container_goes_through_all_its_states,
        doing_it_twice_is_no_error,
        creating_again_keeps_it_running_and_the_next_start_takes_the_change,
        starting_what_was_not_created_is_refused,
        a_command_that_ends_by_itself_is_exited_with_its_status,
        a_command_that_ends_at_once_was_started,
        a_command_that_does_not_exist_is_refused_and_leaves_nothing,
        a_mount_that_is_not_there_is_refused_by_name,
        a_name_that_is_none_is_refused_everywhere,
        stop_gives_the_command_time_to_end,
        stop_kills_what_does_not_listen,
        nothing_of_a_container_outlives_its_stop,
        nothing_of_a_container_outlives_its_command,
        what_was_killed_from_within_is_exited,
        what_was_killed_from_outside_is_exited,
        what_has_ended_tells_why,
        orphans_that_end_do_not_stay_as_zombies,
        destroying_keeps_the_mounted_folders,
        another_daemon_finds_what_runs_and_can_end_it,
        another_daemon_tells_exited_from_stopped,
        exec_returns_status_and_output,
        exec_runs_as_the_command_does,
        exec_ends_what_is_over_its_deadline,
        exec_returns_at_its_deadline_though_what_it_left_holds_its_output,
        exec_in_what_does_not_run_is_refused,
        logs_are_read_by_offset,
        a_log_goes_on_with_the_next_start,
        the_environment_is_exactly_the_given_one,
        the_state_is_written_as_the_uid_and_kept,
        its_own_folders_are_writable_and_the_system_is_not,
        its_temporary_files_end_with_it,
        python_and_this_program_are_there,
        a_socket_in_a_mounted_folder_can_be_reached_whenever_it_was_made,
        two_containers_see_nothing_of_each_other,
    )
}
CHECKS = {**CONTRACT_CHECKS, **LIMIT_CHECKS, **NETWORK_CHECKS}
