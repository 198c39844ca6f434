"""The life of containers of the nixos driver, and what goes wrong in it: the programs misbehave, on demand."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from driver_checks import refuses
from driver_rig import DEADLINE_S, MOMENT_S, wait_until
from hyperhive.core.uids import INNER_UID
from hyperhive.host.drivers.nixos import NixosDriver
from hyperhive.host.drivers.nixos_programs import Deadlines
from hyperhive.host.drivers.protocol import ContainerState, ExitCause, Mount
from hyperhive.system.pids import find_process
from nixos_rig import AGENT, NixosRig, open_nixos_rig

# Calls that hang are ended at once.
SHORT = Deadlines(ask_s=0.5, start_s=0.5, kill_s=0.5, destroy_s=0.5, build_s=0.5)
# Ends with a status that is written to a file.
ENDS = "echo up; while [ ! -s /state/end ]; do sleep 0.02; done; exit $(cat /state/end)"
Work = Callable[[NixosRig, NixosDriver], Awaitable[object]]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncGenerator[NixosRig]:
    async with open_nixos_rig(tmp_path) as rig:
        yield rig


def assert_made(rig: NixosRig) -> None:
    """Its conf is no longer the one that nixos-container writes; what is in there, is for another file to look at."""
    assert f"PRIVATE_USERS={rig.uid() - INNER_UID}" in rig.conf() and "HOST_ADDRESS=" in rig.conf()


# -- the life of a container -------------------------------------------------------------------------------


async def test_a_container_goes_through_all_its_states(rig: NixosRig) -> None:
    assert (await rig.driver.observe("alice")).state is ContainerState.ABSENT
    await refuses(rig.driver.start(rig.spec()))
    spec = rig.spec()
    await rig.driver.create(spec)
    assert (await rig.driver.observe("alice")).state is ContainerState.STOPPED
    await rig.driver.start(spec)
    seen = await rig.driver.observe("alice")
    assert seen.state is ContainerState.RUNNING and seen.started_at is not None and seen.started_at.tzinfo
    assert seen.pid is not None and Path(f"/proc/{seen.pid}").exists()
    await rig.driver.start(spec)
    assert await rig.driver.observe("alice") == seen
    for _ in range(2):
        await rig.driver.stop("alice", DEADLINE_S)
    seen = await rig.driver.observe("alice")
    assert (seen.state, seen.cause) == (ContainerState.STOPPED, ExitCause.ASKED)
    await rig.driver.start(spec)
    assert (await rig.driver.observe("alice")).state is ContainerState.RUNNING


async def test_destroying_twice_is_no_error_and_state_is_kept(rig: NixosRig) -> None:
    await rig.run()
    await rig.ask("sh", "-c", "echo kept >/state/notes; echo kept >/home/agent/.claude/session")
    pid = (await rig.driver.observe("alice")).pid
    for _ in range(2):
        await rig.driver.destroy("alice")
    await rig.driver.stop("alice", 1)
    assert (await rig.driver.observe("alice")).state is ContainerState.ABSENT
    assert pid is not None and find_process(pid) is None
    assert (rig.owned("alice", "state") / "notes").read_text() == "kept\n"
    assert (rig.owned("alice", "claude") / "session").read_text() == "kept\n"
    for folder in (rig.files.confs, rig.files.profiles, rig.files.roots, rig.folder / "units", rig.place().parent):
        assert [path.name for path in folder.iterdir()] in ([], [".home"])
    assert await rig.driver.logs("alice", 0, 100) == (b"", 0)
    # And revived.
    await rig.run()
    assert await rig.ask("cat", "/state/notes") == "kept\n"


async def test_a_destroy_that_is_done_by_half_is_told_and_the_next_does_the_rest(rig: NixosRig) -> None:
    await rig.run()
    rig.misbehave("nixos-container destroy", "half")
    error = await refuses(rig.driver.destroy("alice"))
    assert "h-alice" in error.message and "Operation not permitted" in error.message
    assert (await rig.driver.observe("alice")).state is ContainerState.STOPPED
    rig.behave()
    await rig.driver.destroy("alice")
    assert not rig.conf_file().exists() and not rig.place().exists()


async def test_another_daemon_finds_alice_running_and_rebuilds_her(rig: NixosRig) -> None:
    spec = await rig.run()
    before = await rig.driver.observe("alice")
    another = rig.make_driver()
    await another.prepare()
    assert await another.observe("alice") == before
    await another.start(spec)
    assert await another.observe("alice") == before
    files = {"agent.nix": AGENT + b"# 2\n"}
    rig.write_config(files)
    await another.build_system("alice", files)
    assert await another.observe("alice") == before
    await another.stop("alice", DEADLINE_S)
    await another.create(spec)
    await another.start(spec)
    after = await another.observe("alice")
    assert after.state is ContainerState.RUNNING and after.pid != before.pid
    assert [call.argv[1] for call in rig.calls("nixos-container")] == ["create", "start", "update", "start"]
    assert_made(rig)


async def test_after_the_machine_was_started_anew_without_any_records_it_is_made_again(rig: NixosRig) -> None:
    spec = rig.spec()
    await rig.driver.create(spec)
    # What is below /run is gone; the conf and the profile are not.
    for folder in (rig.place(), *(rig.folder / "units").iterdir()):
        shutil.rmtree(folder)
    another = rig.make_driver()
    assert (await another.observe("alice")).state is ContainerState.STOPPED
    await refuses(another.start(spec))
    await another.create(spec)
    await another.start(spec)
    assert [call.argv[1] for call in rig.calls("nixos-container")] == ["create", "update", "start"]
    assert (await another.observe("alice")).state is ContainerState.RUNNING


async def test_a_container_that_somebody_else_made_is_left_alone(rig: NixosRig) -> None:
    conf = "PRIVATE_NETWORK=1\nFLAKE=path:/home/somebody/flake\n"
    rig.conf_file().write_text(conf)
    assert "h-alice" in (await refuses(rig.driver.create(rig.spec()))).message
    assert (await rig.driver.observe("alice")).state is ContainerState.UNKNOWN
    await rig.driver.destroy("alice")
    assert rig.conf_file().read_text() == conf and not rig.calls("nixos-container")


# -- how it ends -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "cause"), [(0, ExitCause.EXITED), (7, ExitCause.EXITED), (143, ExitCause.SIGNAL)])
async def test_one_that_ends_by_itself_is_exited_with_its_status(rig: NixosRig, status: int, cause: ExitCause) -> None:
    await rig.run(payload=ENDS)
    assert (await rig.driver.observe("alice")).cause is None
    (rig.owned("alice", "state") / "end").write_text(f"{status}\n")
    seen = await rig.wait_state(ContainerState.EXITED)
    assert (seen.exit_code, seen.cause) == (status, cause) and seen.reason
    assert await rig.make_driver().observe("alice") == seen
    await rig.driver.stop("alice", 1)
    assert (await rig.driver.observe("alice")).state is ContainerState.STOPPED


async def test_one_that_was_killed_from_outside_is_exited(rig: NixosRig) -> None:
    spec = await rig.run()
    pid = (await rig.driver.observe("alice")).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    seen = await rig.wait_state(ContainerState.EXITED)
    assert seen.cause in {ExitCause.SIGNAL, ExitCause.EXITED} and seen.reason
    await rig.driver.start(spec)
    assert (await rig.driver.observe("alice")).state is ContainerState.RUNNING


@pytest.mark.parametrize(
    ("unit", "cause", "told"),
    [
        ({"Result": "oom-kill", "ExecMainCode": "2", "ExecMainStatus": "9"}, ExitCause.OUT_OF_MEMORY, "out of memory"),
        ({"Result": "signal", "ExecMainCode": "2", "ExecMainStatus": "9"}, ExitCause.SIGNAL, "SIGKILL"),
        ({"Result": "core-dump", "ExecMainCode": "3", "ExecMainStatus": "11"}, ExitCause.SIGNAL, "SIGSEGV"),
        ({"Result": "timeout"}, ExitCause.UNKNOWN, "did not answer"),
        ({"Result": "quite-new"}, ExitCause.UNKNOWN, "quite-new"),
    ],
)
async def test_what_systemd_says_of_the_end_is_the_cause(
    rig: NixosRig, unit: dict[str, str], cause: ExitCause, told: str
) -> None:
    await rig.run()
    rig.end_all()
    await rig.wait_state(ContainerState.EXITED)
    rig.set_unit("alice", ActiveState="failed", **unit)
    seen = await rig.driver.observe("alice")
    assert (seen.state, seen.cause) == (ContainerState.EXITED, cause) and told in seen.reason


async def test_what_ran_before_the_machine_was_started_anew_is_exited(rig: NixosRig) -> None:
    await rig.run()
    rig.end_all()
    await rig.wait_state(ContainerState.EXITED)
    rig.files.unit("h-alice").unlink()
    record = rig.place() / "container.json"
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    record.write_text(record.read_text().replace(boot_id, "another"))
    seen = await rig.make_driver().observe("alice")
    assert (seen.state, seen.cause) == (ContainerState.EXITED, ExitCause.MACHINE)


async def test_one_that_was_restarted_by_somebody_else_runs_with_another_process(rig: NixosRig) -> None:
    await rig.run()
    before = await rig.driver.observe("alice")
    unit = rig.files.load_unit("h-alice")
    process = await asyncio.create_subprocess_exec("sleep", "1000")
    restarted = {**unit, "leader": process.pid, "ActiveEnterTimestamp": "@1700000000"}
    assert before.pid is not None
    try:
        os.kill(before.pid, signal.SIGKILL)

        async def is_other() -> bool:
            # What stands in for systemd writes down the end, too.
            rig.files.save_unit("h-alice", restarted)
            return (await rig.driver.observe("alice")).pid == process.pid

        await wait_until(is_other, "the other process is seen")
        seen = await rig.driver.observe("alice")
        assert seen.state is ContainerState.RUNNING
        assert seen.started_at is not None and seen.started_at.timestamp() == 1_700_000_000
    finally:
        process.kill()
        await process.wait()


# -- starting and stopping that goes wrong -----------------------------------------------------------------


async def test_a_start_that_systemd_gives_up_is_told_and_leaves_nothing(rig: NixosRig) -> None:
    spec = rig.spec()
    await rig.driver.create(spec)
    rig.misbehave("systemctl start", "timeout")
    error = await refuses(rig.driver.start(spec))
    assert "did not answer in the time" in error.message and "container@h-alice" in error.hint
    assert (await rig.driver.observe("alice")).state is ContainerState.STOPPED
    rig.behave()
    await rig.driver.start(spec)


async def test_one_that_is_said_to_run_without_a_process_is_ended(rig: NixosRig) -> None:
    spec = rig.spec()
    await rig.driver.create(spec)
    rig.misbehave("systemctl start", "leaderless")
    error = await refuses(rig.driver.start(spec))
    assert "first process is gone" in error.message
    assert (await rig.driver.observe("alice")).state is ContainerState.STOPPED
    rig.set_unit("alice", ActiveState="active")
    seen = await rig.driver.observe("alice")
    assert seen.state is ContainerState.UNKNOWN and "first process is gone" in seen.reason


async def test_one_that_ends_while_it_comes_up_is_told_with_its_status(rig: NixosRig) -> None:
    (rig.files.state / "payload").write_text("exit 9")
    spec = rig.spec()
    await rig.driver.create(spec)
    error = await refuses(rig.driver.start(spec))
    assert "status 9" in error.message
    assert (await rig.driver.observe("alice")).state is ContainerState.STOPPED


async def test_without_systemd_nothing_is_known_and_nothing_is_done(rig: NixosRig) -> None:
    spec = await rig.run()
    rig.misbehave("systemctl", "fail", "Failed to connect to bus: No such file or directory\n")
    seen = await rig.driver.observe("alice")
    assert seen.state is ContainerState.UNKNOWN and "Failed to connect to bus" in seen.reason
    for work in (rig.driver.stop("alice", 1), rig.driver.destroy("alice"), rig.driver.find_usage("alice")):
        assert "Failed to connect to bus" in (await refuses(work)).message
    await refuses(rig.driver.exec("alice", ("true",), 1))
    assert rig.conf_file().exists()
    rig.behave()
    await rig.driver.start(spec)
    assert (await rig.driver.observe("alice")).state is ContainerState.RUNNING


@pytest.mark.parametrize("kind", ["hang", "fail"])
async def test_one_that_does_not_stop_is_killed(rig: NixosRig, kind: str) -> None:
    await rig.run(payload="trap '' RTMIN+3; echo up; while :; do sleep 1000; done")
    pid = (await rig.driver.observe("alice")).pid
    rig.misbehave("systemctl stop", kind, "Job canceled.\n")
    started = asyncio.get_running_loop().time()
    await rig.make_driver(deadlines=replace(SHORT, ask_s=20)).stop("alice", 0.3)
    assert asyncio.get_running_loop().time() - started < 0.3 + 0.5 + MOMENT_S
    assert rig.calls("systemctl", "kill", "--signal=KILL")
    assert pid is not None and find_process(pid) is None
    assert (await rig.driver.observe("alice")).state is ContainerState.STOPPED


async def test_one_that_is_to_end_at_once_is_not_asked(rig: NixosRig) -> None:
    await rig.run()
    await rig.driver.stop("alice", 0)
    verbs = [call.argv[1] for call in rig.calls("systemctl") if call.argv[1] in {"stop", "kill"}]
    assert verbs == ["kill", "stop"]
    assert (await rig.driver.observe("alice")).state is ContainerState.STOPPED


async def test_one_that_cannot_be_killed_is_told(rig: NixosRig) -> None:
    await rig.run()
    for call in ("systemctl stop", "systemctl kill", "machinectl terminate"):
        rig.misbehave(call, "fail", "Access denied\n")
    error = await refuses(rig.driver.stop("alice", 0.1))
    assert "cannot be killed" in error.message
    assert (await rig.driver.observe("alice")).state is ContainerState.RUNNING
    rig.behave()
    await rig.driver.stop("alice", DEADLINE_S)


def build(rig: NixosRig, driver: NixosDriver) -> Awaitable[object]:
    return driver.build_system("alice", {"agent.nix": AGENT})


def create(rig: NixosRig, driver: NixosDriver) -> Awaitable[object]:
    return driver.create(rig.spec())


def start(rig: NixosRig, driver: NixosDriver) -> Awaitable[object]:
    return driver.start(rig.spec())


def destroy(rig: NixosRig, driver: NixosDriver) -> Awaitable[object]:
    return driver.destroy("alice")


def look(rig: NixosRig, driver: NixosDriver) -> Awaitable[object]:
    return driver.find_usage("alice")


@pytest.mark.parametrize(
    ("call", "work"),
    [
        ("nix build", build),
        ("nix build", create),
        ("nix-env", create),
        ("nixos-container create", create),
        ("systemctl daemon-reload", create),
        ("systemctl start", start),
        ("nixos-container start", start),
        ("nixos-container destroy", destroy),
        ("systemctl show", look),
        ("systemctl show", start),
    ],
)
async def test_each_call_that_hangs_is_ended_at_its_deadline(rig: NixosRig, call: str, work: Work) -> None:
    if work not in {build, create}:
        await rig.driver.create(rig.spec())
    rig.misbehave(call, "hang")
    started = asyncio.get_running_loop().time()
    error = await refuses(work(rig, rig.make_driver(deadlines=replace(SHORT, ask_s=1.5))))
    assert "did not end within" in error.message
    assert asyncio.get_running_loop().time() - started < 3 * 1.5 + MOMENT_S
    await rig.wait_calls_ended()
    rig.behave()
    await rig.driver.create(rig.spec())
    await rig.driver.destroy("alice")


async def cancel_at(rig: NixosRig, call: tuple[str, ...], work: Awaitable[None]) -> None:
    """Cancels `work` while it waits for `call`."""
    task = asyncio.ensure_future(work)
    await rig.wait_call(*call)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_build_that_is_not_wanted_any_more_is_ended_and_the_next_create_works(rig: NixosRig) -> None:
    rig.misbehave("nix build", "hang")
    await cancel_at(rig, ("nix", "build"), rig.driver.create(rig.spec()))
    await rig.wait_calls_ended()
    assert not list(rig.place().glob("work-*"))
    rig.behave()
    await rig.driver.create(rig.spec())
    assert_made(rig)


async def test_a_start_that_is_not_wanted_any_more_leaves_nothing_running(rig: NixosRig) -> None:
    (rig.files.state / "payload").write_text("sleep 1000 & wait")
    spec = rig.spec()
    await rig.driver.create(spec)

    await cancel_at(rig, ("systemctl", "start"), rig.driver.start(spec))
    await rig.wait_calls_ended()
    assert (await rig.driver.observe("alice")).state is ContainerState.STOPPED
    assert not rig.files.load_unit("h-alice").get("leader")


# -- inside ------------------------------------------------------------------------------------------------


async def test_a_command_runs_inside_as_the_agent_with_the_variables_of_the_spec(
    rig: NixosRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    spec = rig.spec(environment={"HOME": "/home/agent", "PATH": "/usr/local/bin", "WORD": 'a "b" $c'})
    await rig.driver.create(spec)
    await rig.driver.start(spec)
    lines = (await rig.ask("env")).splitlines()
    assert {"HOME=/home/agent", 'WORD=a "b" $c', "SHELL=/run/current-system/sw/bin/bash"} <= set(lines)
    assert any(line.startswith("PATH=/run/current-system/sw/bin:") for line in lines)
    assert not any("sk-secret" in line or line.startswith("NIX_") for line in lines)
    assert await rig.ask("sh", "-c", "id -u; pwd; cat /proc/1/comm; grep CapEff /proc/self/status") == (
        "1000\n/state\nsh\nCapEff:\t0000000000000000\n"
    )
    await rig.ask("sh", "-c", "echo mine >/state/mine")
    assert (rig.owned("alice", "state") / "mine").stat().st_uid == rig.uid()
    done = await rig.driver.exec("alice", ("sh", "-c", "echo out; echo err >&2; exit 9"), DEADLINE_S)
    assert (done.status, done.stdout, done.stderr) == (9, b"out\n", b"err\n")
    await refuses(rig.driver.exec("alice", ("sleep", "1000"), 0.5))
    await rig.driver.stop("alice", DEADLINE_S)
    await refuses(rig.driver.exec("alice", ("true",), 1))


async def test_the_harness_finds_its_variables_in_a_file_that_only_its_root_reads(rig: NixosRig) -> None:
    spec = rig.spec(environment={"HOME": "/home/agent", "PATH": "/usr/local/bin", "SHELL": "/bin/bash", "WORD": "a\nb"})
    await rig.driver.create(spec)
    file = rig.place() / "environment"
    assert file.read_text() == 'HOME="/home/agent"\nWORD="a\nb"\n'
    status = file.stat()
    assert (status.st_mode & 0o777, status.st_uid) == (0o400, rig.uid() - INNER_UID)
    await rig.driver.start(spec)
    done = await rig.driver.exec("alice", ("cat", "/run/hyperhive/environment"), DEADLINE_S)
    assert not done.ok and b"Permission denied" in done.stderr
    for bad in ({"A B": "1"}, {"A=B": "1"}, {"NUL": "a\0b"}, {"X": "\udc80"}):
        await refuses(rig.driver.create(rig.spec(environment=bad)))


async def test_its_home_can_be_given_to_the_agent_by_the_root_inside(rig: NixosRig) -> None:
    await rig.run()
    # Made by nspawn, it would be nobody's.
    assert await rig.ask("stat", "-c", "%u", "/home", "/home/agent", "/home/agent/.claude") == "0\n0\n1000\n"


async def test_a_link_that_is_left_inside_leads_nobody_out(rig: NixosRig) -> None:
    spec = rig.spec()
    await rig.driver.create(spec)
    outside = rig.folder / "outside"
    outside.mkdir()
    root = rig.files.roots / "h-alice"
    (root / "home/agent").rmdir()
    (root / "home").rmdir()
    (root / "home").symlink_to(outside)
    await refuses(rig.driver.start(spec))
    assert not list(outside.iterdir())


async def test_what_it_says_is_read_by_offset_and_of_an_empty_journal_nothing(rig: NixosRig) -> None:
    assert await rig.driver.logs("alice", 0, 100) == (b"", 0)
    spec = await rig.run(payload="echo one; echo up; sleep 1000 & wait")
    assert await rig.driver.logs("alice", 0, 100) == (b"one\nup\n", 7)
    assert await rig.driver.logs("alice", 4, 100) == (b"up\n", 7)
    rig.misbehave("journalctl", "empty")
    assert await rig.driver.log_range("alice") == (0, 7)
    rig.misbehave("journalctl", "fail", "No journal files were opened due to insufficient permissions.\n")
    assert "insufficient permissions" in (await refuses(rig.driver.logs("alice", 0, 100))).message
    rig.behave()
    await rig.driver.destroy("alice")
    # What the journal has of the one before is not the new one's.
    await rig.driver.create(spec)
    assert await rig.driver.logs("alice", 0, 100) == (b"", 0)
    rig.misbehave("journalctl", "empty")
    await rig.driver.start(spec)
    assert await rig.driver.logs("alice", 0, 100) == (b"", 0)


async def test_many_may_read_what_it_says_at_once(rig: NixosRig) -> None:
    await rig.run(payload="for i in 1 2 3 4 5 6 7 8 9; do echo line $i; done; echo up; sleep 1000 & wait")
    texts = await asyncio.gather(*(rig.driver.logs("alice", 0, 1000) for _ in range(8)))
    assert {text.decode() for text, _ in texts} == {"".join(f"line {i}\n" for i in range(1, 10)) + "up\n"}


async def test_what_it_uses_is_read_from_its_control_group(rig: NixosRig) -> None:
    assert (await rig.driver.find_usage("alice")).memory_bytes is None
    await rig.run()
    group = rig.folder / "cgroups/machine/h-alice"
    group.mkdir(parents=True)
    for name, text in {
        "memory.current": "5000",
        "memory.stat": "inactive_file 1000",
        "memory.max": "9000",
        "memory.events": "oom_kill 2",
        "pids.current": "7",
        "pids.max": "max",
    }.items():
        (group / name).write_text(f"{text}\n")
    usage = await rig.driver.find_usage("alice")
    assert (usage.memory_bytes, usage.memory_limit_bytes, usage.memory_kills) == (4000, 9000, 2)
    assert (usage.tasks, usage.tasks_limit) == (7, None)


async def test_what_is_mounted_has_to_be_there(rig: NixosRig) -> None:
    spec = rig.spec()
    missing = Mount(rig.folder / "missing", Path("/missing"))
    await rig.driver.create(spec)
    error = await refuses(rig.driver.start(replace(spec, mounts=(*spec.mounts, missing))))
    assert str(missing.source) in error.message


async def test_a_uid_without_a_range_of_its_own_is_refused(rig: NixosRig) -> None:
    for uid in (None, 0, 1000, rig.uid() + 1):
        await refuses(rig.driver.create(rig.spec(uid=uid)))
    assert not rig.calls("nixos-container")
