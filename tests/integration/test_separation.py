"""A real hive that root has started: the daemon is not root, the helper is, and either of them may end at any time."""

import contextlib
import json
import os
import select
import signal
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attack_rig import Arena, make_arena
from cli_process import call
from helper_rig import read_notes
from hive_process import KEEP_ROOT, REHEARSAL, HiveProcess, end_hive, wait_for
from hyperhive.core.paths import Roots
from hyperhive.core.uids import DAEMON_UID, FIRST_RANGED_UID, FIRST_UID, LAST_UID
from hyperhive.system.pids import find_process
from proposer import read_generation

# include/uapi/linux/capability.h: CHOWN, DAC_OVERRIDE, FOWNER, FSETID.
CAPABILITIES = f"{1 << 0 | 1 << 1 | 1 << 3 | 1 << 4:016x}"
NONE = f"{0:016x}"
HELPER = "hyperhive.host.separation.helper"
END_S = 20
ASK = """
import socket, sys
client = socket.socket(socket.AF_UNIX)
try:
    client.connect(sys.argv[1])
    client.sendall(b'GET /api/agents HTTP/1.1\\r\\nhost: hive\\r\\n\\r\\n')
    print(client.recv(12).decode())
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture
def fresh_hive(tmp_path: Path) -> Iterator[HiveProcess]:
    """A hive whose daemon is a program of its own in a session of its own, as one of a terminal."""
    hive = HiveProcess(tmp_path / "data", python=("setsid", sys.executable)).start()
    try:
        hive.wait_state("manager", "idle")
        yield hive
    finally:
        end_hive(hive)


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    """One whose daemon may be told other settings."""
    with make_arena(HiveProcess(tmp_path / "data").start(), tmp_path) as arena:
        yield arena


def pid_of(hive: HiveProcess) -> int:
    assert hive.process is not None
    return hive.process.pid


def find_children(pid: int) -> list[int]:
    found = [task.read_text().split() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for children in found for child in children]


def find_helper(hive: HiveProcess) -> int:
    [helper] = [pid for pid in find_children(pid_of(hive)) if HELPER in Path(f"/proc/{pid}/cmdline").read_text()]
    return helper


def init_pid(hive: HiveProcess, container: str) -> int:
    """The first process of a container, as the driver recorded it."""
    return json.loads((hive.run / "containers" / container / "container.json").read_text())["init"]["pid"]


def read_status(path: Path) -> dict[str, str]:
    lines = (line.partition(":") for line in (path / "status").read_text().splitlines())
    return {name: " ".join(value.split()) for name, _, value in lines}


def wait_end(handle: int) -> None:
    """Waits for the end of a process, known by a pidfd, which is closed then."""
    ended = select.poll()
    ended.register(handle, select.POLLIN)
    assert ended.poll(END_S * 1000), "it has not ended"
    os.close(handle)


def restart_as(arena: Arena, *flags: str) -> None:
    assert arena.hive.stop() == 0
    arena.hive.flags = flags
    arena.hive.start()
    arena.manager.connect()


def count_crashes(hive: HiveProcess) -> int:
    return len([m for m in hive.get("/api/messages?limit=500") if "container_crash" in m["body"]])


# -- who is who --------------------------------------------------------------------------------------------


def test_the_daemon_is_nobody_to_the_machine_and_has_four_capabilities_in_a_namespace_of_its_own(
    fresh_hive: HiveProcess,
) -> None:
    proc = Path(f"/proc/{pid_of(fresh_hive)}")
    everywhere = " ".join([str(DAEMON_UID)] * 4)
    tasks = list((proc / "task").iterdir())
    assert len(tasks) > 1
    for task in tasks:
        status = read_status(task)
        assert (status["Uid"], status["Gid"], status["Groups"]) == (everywhere, everywhere, "")
        assert [status[f"Cap{kind}"] for kind in ("Eff", "Prm", "Bnd")] == [CAPABILITIES] * 3
        assert [status[f"Cap{kind}"] for kind in ("Inh", "Amb")] == [NONE] * 2
        assert status["NoNewPrivs"] == "1"
    agents = [FIRST_UID, FIRST_UID, LAST_UID - FIRST_UID + 1]
    rows = [[int(number) for number in line.split()] for line in (proc / "uid_map").read_text().splitlines()]
    assert rows == [[0, DAEMON_UID, 1], agents]
    assert (proc / "ns/user").readlink() != Path("/proc/self/ns/user").readlink()
    assert (proc / "ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()


def test_of_what_it_has_started_only_the_helper_is_root(fresh_hive: HiveProcess) -> None:
    helper = find_helper(fresh_hive)
    others = [pid for pid in find_children(pid_of(fresh_hive)) if pid != helper]
    assert {read_status(Path(f"/proc/{pid}"))["Uid"].split()[0] for pid in others} <= {str(DAEMON_UID)}
    status = read_status(Path(f"/proc/{helper}"))
    assert status["Uid"].split() == ["0"] * 4
    assert Path(f"/proc/{helper}/ns/user").readlink() == Path("/proc/self/ns/user").readlink()


def test_nothing_that_it_has_open_leads_to_what_is_roots(fresh_hive: HiveProcess) -> None:
    proc = Path(f"/proc/{pid_of(fresh_hive)}")
    own = (fresh_hive.data, fresh_hive.run)
    seen = 0
    for handle in list((proc / "fd").iterdir()):
        try:
            status = handle.stat()
            where = str(handle.readlink())
            about = (proc / "fdinfo" / handle.name).read_text()
        except FileNotFoundError:
            # It was closed.
            continue
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            assert not stat.S_ISBLK(status.st_mode)
            continue
        seen += 1
        path = Path(where.removesuffix(" (deleted)"))
        [flags] = [line.split()[1] for line in about.splitlines() if line.startswith("flags:")]
        assert not any(path.is_relative_to(closed) for closed in closed_folders(fresh_hive)), path
        # Its log is where whoever started it wants it.
        if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY and path != fresh_hive.log_file:
            assert any(path.is_relative_to(folder) for folder in own), path
            assert status.st_uid == DAEMON_UID, path
        elif path != fresh_hive.log_file:
            assert status.st_uid == DAEMON_UID or status.st_mode & stat.S_IROTH, path
    assert seen > 2
    for name in ("cwd", "root"):
        assert (proc / name).readlink() == Path("/")


def closed_folders(hive: HiveProcess) -> list[Path]:
    roots = Roots(hive.data, hive.run)
    return [roots.containers_folder, roots.images_folder, roots.helper_folder]


def test_what_it_keeps_is_its_own_and_what_the_helper_keeps_is_roots(fresh_hive: HiveProcess) -> None:
    for folder in closed_folders(fresh_hive):
        status = folder.stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o700)
    for name in ("hive.sqlite", "telemetry.sqlite", "vapid.pem", "applied", "versions", "run/hive.sock"):
        assert (fresh_hive.data / name).stat().st_uid == DAEMON_UID, name
    state = (fresh_hive.data / "agents/manager/state").stat()
    assert state.st_uid >= FIRST_RANGED_UID
    notes = fresh_hive.data / "helper/audit.jsonl"
    assert (notes.stat().st_uid, stat.S_IMODE(notes.stat().st_mode)) == (0, 0o600)
    assert {("prepare", "ok"), ("start", "ok")} <= {(row["verb"], row["outcome"]) for row in read_notes(notes)}


# -- the end of either ---------------------------------------------------------------------------------------


def test_without_its_helper_the_daemon_ends_and_says_why_and_the_next_adopts_what_runs(hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    before, generation = init_pid(hive, "hm1nd"), read_generation(hive)
    daemon = hive.process
    assert daemon is not None
    os.kill(find_helper(hive), signal.SIGKILL)
    assert daemon.wait(END_S) == 1
    assert "hived: the helper ended" in hive.log
    assert find_process(before) is not None
    hive.start()
    hive.wait_state("manager", "idle")
    assert (init_pid(hive, "hm1nd"), read_generation(hive), count_crashes(hive)) == (before, generation, 0)
    hive.post("/api/messages", {"to": "manager", "body": "who is here"})
    assert hive.wait_inbox("")["sender"] == "manager"


def test_without_its_daemon_the_helper_ends_and_the_next_adopts_what_runs(hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    before, generation = init_pid(hive, "hm1nd"), read_generation(hive)
    helper = os.pidfd_open(find_helper(hive))
    hive.kill()
    wait_end(helper)
    assert find_process(before) is not None
    hive.start()
    hive.wait_state("manager", "idle")
    assert (init_pid(hive, "hm1nd"), read_generation(hive), count_crashes(hive)) == (before, generation, 0)


def test_ctrl_c_ends_both_in_order_and_leaves_the_agents_running(fresh_hive: HiveProcess) -> None:
    before = init_pid(fresh_hive, "hm1nd")
    helper = os.pidfd_open(find_helper(fresh_hive))
    os.killpg(pid_of(fresh_hive), signal.SIGINT)
    assert fresh_hive.process is not None
    assert fresh_hive.process.wait(END_S) == 0
    wait_end(helper)
    assert find_process(before) is not None
    assert "helper.lost" not in fresh_hive.log
    fresh_hive.start()
    fresh_hive.wait_state("manager", "idle")
    assert init_pid(fresh_hive, "hm1nd") == before


# -- to root and back --------------------------------------------------------------------------------------


def test_a_data_folder_is_roots_and_the_daemons_in_turn_and_all_in_it_is_of_use_to_both(arena: Arena) -> None:
    name = arena.spawn("alice")
    state = arena.state(name)
    owner = state.stat().st_uid
    for turn, flags in enumerate((KEEP_ROOT, REHEARSAL, KEEP_ROOT, REHEARSAL)):
        restart_as(arena, *flags)
        uid = 0 if flags == KEEP_ROOT else DAEMON_UID
        assert read_status(Path(f"/proc/{pid_of(arena.hive)}"))["Uid"].split() == [str(uid)] * 4
        arena.hive.wait_state(name, "idle")
        sent = arena.hive.post("/api/messages", {"to": name, "body": f"%% say turn {turn}"})["id"]
        wait_for(lambda sent=sent: acked(arena.hive, sent), "the message to be acked", hive=arena.hive)
        config = f'environment = {{ TURN = "{turn}" }}\n'
        commit = arena.deploy(name, {"agent.toml": config})
        assert arena.main(name) == commit
        wait_for(lambda config=config: is_in_use(arena, name, config), "the config in the container", hive=arena.hive)
        assert (arena.hive.data / "hive.sqlite").stat().st_uid == DAEMON_UID
        assert {path.lstat().st_uid for path in (state, *state.rglob("*"))} == {owner}
    # What root's daemon made became the other's.
    applied = arena.applied(name)
    assert {path.lstat().st_uid for path in (applied, *applied.rglob("*"))} == {DAEMON_UID}


def is_in_use(arena: Arena, name: str, config: str) -> bool:
    # Between two containers there is none.
    with contextlib.suppress(FileNotFoundError):
        return arena.files_in_use(name).get("agent.toml") == config.encode()
    return False


def acked(hive: HiveProcess, message: int) -> bool:
    return hive.get(f"/api/messages/{message}")["state"] == "acked"


# -- who may ask ---------------------------------------------------------------------------------------------


def test_root_may_use_its_socket_and_neither_another_user_nor_an_agent(hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    # Even with the folders and the file open to all, who asks is decided by the kernel's word.
    hive.data.parent.chmod(0o755)
    for path in (hive.data, hive.run):
        path.chmod(0o775)
    (hive.run / "hive.sock").chmod(0o666)
    agent = (hive.data / "agents/manager/state").stat().st_uid
    for uid in (agent, 65534, 1000, DAEMON_UID - 1):
        argv = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "/usr/bin/python3", "-c", ASK]
        done = subprocess.run([*argv, str(hive.run / "hive.sock")], capture_output=True, text=True, check=True)
        assert done.stdout.strip() in {"", "BrokenPipeError", "ConnectionResetError"}
    hive.post("/api/agents/manager/pause", {"reason": "look"})
    with hive.client() as client:
        [row] = client.get("/api/audit", params={"name": "agent.parked"}).raise_for_status().json()["entries"]
    assert row["actor"] == "operator uid 0 hive.sock"


def test_a_port_for_root_alone_is_refused_at_once_and_it_is_said_what_to_do(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "hyperhive.host.main", "--data", str(tmp_path / "data"), "--rehearsal"]
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    done = subprocess.run([*argv, "--port", str(first - 1)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert f"port {first - 1} is for root alone" in done.stderr
    assert "HIVE_KEEP_ROOT=1" in done.stderr


# -- what the operator names -----------------------------------------------------------------------------------


def test_files_of_roots_that_are_named_are_read_by_a_daemon_that_is_not_root(tmp_path: Path) -> None:
    closed = tmp_path / "closed/deeper"
    closed.mkdir(parents=True)
    closed.parent.chmod(0o700)
    notify, credential, ca_file = closed / "urls", closed / "account", closed / "ca.pem"
    for path, text, mode in (
        (notify, "json://127.0.0.1:9/secret\n", 0o600),
        (credential, "sk-ant-of-the-test\n", 0o600),
        (ca_file, "certificates\n", 0o644),
    ):
        path.write_text(text)
        path.chmod(mode)
    named = ("--notify", str(notify), "--credential", str(credential), "--ca-file", str(ca_file))
    hive = HiveProcess(tmp_path / "data", ("--upstream", "http://127.0.0.1:9", *named)).start()
    try:
        assert hive.get("/api/hive")["credential"] == "api_key"
        assert [channel["name"] for channel in hive.get("/api/notifier")["channels"]] == ["json"]
        hive.wait_state("manager", "idle")
        seen = Path(f"/proc/{init_pid(hive, 'hm1nd')}/root/run/hive-ca.pem")
        assert seen.read_text() == "certificates\n"
        # It goes on reading one of them, and nobody else does.
        notify.write_text("json://127.0.0.1:9/secret\nntfy://127.0.0.1:9/secret\n")
        wait_for(lambda: len(hive.get("/api/notifier")["channels"]) == 2, "the other channel", hive=hive)
        assert (notify.stat().st_uid, stat.S_IMODE(notify.stat().st_mode)) == (DAEMON_UID, 0o600)
        assert (credential.stat().st_uid, stat.S_IMODE(credential.stat().st_mode)) == (0, 0o600)
        assert "sk-ant-of-the-test" not in Path(f"/proc/{find_helper(hive)}/cmdline").read_text()
    finally:
        end_hive(hive)


async def test_root_backs_up_a_hive_that_runs_and_restores_it_and_the_daemon_hears_of_it(
    hive: HiveProcess, tmp_path: Path
) -> None:
    hive.wait_state("manager", "idle")
    hive.post("/api/agents", {"name": "alice"})
    hive.wait_state("alice", "idle")
    own = hive.data / "agents/alice/state/own.txt"
    own.write_text("of alice\n")
    os.chown(own, own.parent.stat().st_uid, -1)
    archive = tmp_path / "backup.tar.gz"
    taken = await call(hive.data, "backup", str(archive), "--json")
    assert taken.status == 0, taken.stderr
    assert (archive.stat().st_uid, stat.S_IMODE(archive.stat().st_mode)) == (0, 0o600)
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert not [name for name in names if "/helper/" in name or "/run/" in name]
    # It looks once a minute.
    [row] = wait_for(lambda: list_rows(hive, "backup.taken"), "the note of it", 90, hive)
    assert row["actor"] == "operator uid 0 files"
    hive.down()
    copy = HiveProcess(tmp_path / "copy")
    restored = await call(copy.data, "restore", str(archive))
    assert restored.status == 0, restored.stderr
    copy.start()
    try:
        copy.wait_state("alice", "idle")
        kept = copy.data / "agents/alice/state/own.txt"
        assert (kept.read_text(), kept.stat().st_uid) == ("of alice\n", own.stat().st_uid)
        assert (copy.data / "hive.sqlite").stat().st_uid == DAEMON_UID
        assert list_rows(copy, "hive.restored")[0]["actor"] == "operator uid 0 files"
    finally:
        end_hive(copy)
    hive.start()


def list_rows(hive: HiveProcess, name: str) -> list[dict[str, Any]]:
    with hive.client() as client:
        return client.get("/api/audit", params={"name": name}).raise_for_status().json()["entries"]
