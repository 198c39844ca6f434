"""An agent that does its worst to the machine from inside its container, while two others exchange messages."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attacks import DISK_FILLER, FILES, FORK_BOMB, LOG_FLOODER, MEMORY_HOG, SOCKET_FLOODER, SPINNERS
from driver_runner import OWN_KERNEL_KINDS
from escape_rig import ATTACK_S, MIB, RESERVE_BYTES, Yard, endure, endure_while, for_a_while, open_yard, spawn
from hive_process import wait_for

KINDS = ("bubblewrap", "nspawn", *OWN_KERNEL_KINDS) if os.geteuid() == 0 else ("bubblewrap",)
MEMORY_BYTES, TASKS = 600 * MIB, 200
LIMITS = ("--limit-memory", "600M", "--limit-tasks", str(TASKS))
# gVisor's threads are not the container's processes: of those more may be, see `drivers/gvisor.py`.
OWN_KERNELS_TASKS = 4 * TASKS
# What is slower there has to get as far.
EACH_S = {"gvisor": 5 * ATTACK_S}
SPINNERS_AT_LEAST, CONNECTIONS, DEPTH = 12, 20, 50


@pytest.fixture(scope="module", params=KINDS)
def yard(request: pytest.FixtureRequest) -> Iterator[Yard]:
    # That of nspawn is on a small disk; the others are on the machine's, as hives are.
    with open_yard(str(request.param), *LIMITS, small=request.param == "nspawn") as yard:
        yield yard


@pytest.fixture
def mallory(yard: Yard) -> Iterator[str]:
    """An agent for one attack, which may end it."""
    with spawn(yard) as name:
        yield name


def test_messages_while_nobody_attacks(yard: Yard) -> None:
    end = time.monotonic() + 1
    endure(yard, "nothing", lambda: time.monotonic() < end)


# -- what shows that an attack got as far as its bound, or had an effect ------------------------------------

# Of a yard and the attacker; the number is that of the daemon's handles before.
Sign = Callable[[Yard, str, int], bool]


def is_full_of_processes(yard: Yard, name: str, _: int) -> bool:
    usage = yard.observe(name)
    if usage.tasks is None or usage.tasks_limit is None:
        return "tasks" in yard.hive.get("/api/hive")["unlimited"]
    # gVisor's kernel has fewer threads than there are processes.
    return usage.tasks > (TASKS if yard.driver.name == "gvisor" else usage.tasks_limit * 0.9)


def is_out_of_memory(yard: Yard, name: str, _: int) -> bool:
    usage = yard.observe(name)
    if usage.memory_bytes is None:
        return "memory" in yard.hive.get("/api/hive")["unlimited"]
    return bool(usage.memory_kills) or usage.memory_bytes > MEMORY_BYTES * 0.8


def has_many_that_spin(yard: Yard, name: str, _: int) -> bool:
    usage = yard.observe(name)
    return usage.tasks is None or usage.tasks > SPINNERS_AT_LEAST


def has_many_connections(yard: Yard, _: str, handles_before: int) -> bool:
    return count_handles(yard) > handles_before + CONNECTIONS


def has_deep_folders(yard: Yard, name: str, _: int) -> bool:
    depth = "/".join(f"d{number}" for number in range(1, DEPTH))
    return any((yard.hive.data / "agents" / name / "state").glob(f"many*/{depth}"))


def count_handles(yard: Yard) -> int:
    """Those of the daemon."""
    assert yard.hive.process is not None
    return len(list(Path(f"/proc/{yard.hive.process.pid}/fd").iterdir()))


@pytest.mark.parametrize("as_root", [False, True], ids=["agent", "root"])
@pytest.mark.parametrize(
    ("what", "command", "shows"),
    [
        ("fork bomb", ("bash", "-c", FORK_BOMB), is_full_of_processes),
        ("memory hog", ("sh", "-c", MEMORY_HOG), is_out_of_memory),
        ("spinners", ("sh", "-c", SPINNERS), has_many_that_spin),
        ("socket flooder", (sys.executable, "-c", SOCKET_FLOODER), has_many_connections),
        ("files without end", ("sh", "-c", FILES), has_deep_folders),
    ],
)
def test_messages_while_an_agent_takes_all_it_can(
    yard: Yard, mallory: str, what: str, command: tuple[str, ...], shows: Sign, as_root: bool
) -> None:
    if as_root and not yard.has_root(mallory):
        return
    handles = count_handles(yard)
    with yard.attack(mallory, *command, as_root=as_root, each_s=EACH_S.get(yard.driver.name, ATTACK_S)):
        wait_for(lambda: shows(yard, mallory, handles), f"the effect of the {what}", hive=yard.hive)
        endure(yard, name_attack(what, as_root), for_a_while())
        usage = yard.observe(mallory)
        if usage.tasks is not None and usage.tasks_limit is not None:
            assert usage.tasks_limit == (OWN_KERNELS_TASKS if yard.driver.name == "gvisor" else TASKS)
            assert usage.tasks <= usage.tasks_limit


def name_attack(what: str, as_root: bool) -> str:
    return f"{what}{' as its root' if as_root else ''}"


@pytest.mark.parametrize("as_root", [False, True], ids=["agent", "root"])
def test_messages_while_an_agent_fills_the_disk(yard: Yard, mallory: str, as_root: bool) -> None:
    if as_root and not yard.has_root(mallory):
        return
    is_small = yard.driver.name == "nspawn"
    deadline = time.monotonic() + (40 if is_small else ATTACK_S)
    with yard.attack(mallory, "sh", "-c", DISK_FILLER, as_root=as_root):
        is_running = lambda: yard.hive.agent(mallory)["state"] != "stopped"  # noqa: E731
        endure(yard, name_attack("disk filler", as_root), lambda: is_running() and time.monotonic() < deadline)
    if is_small:
        assert "its folders grew most" in yard.hive.agent(mallory)["reason"]
        room = os.statvfs(yard.hive.data)
        assert room.f_bavail * room.f_frsize > RESERVE_BYTES / 8


@pytest.mark.parametrize("as_root", [False, True], ids=["agent", "root"])
def test_messages_while_an_agent_floods_its_log_until_it_is_stopped(yard: Yard, mallory: str, as_root: bool) -> None:
    if as_root and not yard.has_root(mallory):
        return
    # As fast as it can; on the small disk as fast as a disk: at the speed of memory it is full before anybody can look.
    pause_s = "0.005" if yard.driver.name == "nspawn" else "0"
    with yard.attack(mallory, sys.executable, "-c", LOG_FLOODER, pause_s, as_root=as_root):
        deadline = time.monotonic() + 40
        endure(
            yard,
            name_attack("log flooder", as_root),
            lambda: yard.hive.agent(mallory)["state"] != "stopped" and time.monotonic() < deadline,
        )
    assert "floods its log" in yard.hive.agent(mallory)["reason"]


# -- sockets and folders of others -------------------------------------------------------------------------

SEND_HANDLES = """
import os, socket
handles = [os.open("/dev/null", os.O_RDONLY) for _ in range(200)]
for name in ("hive", "model", "egress") * 5:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(f"/run/hive/{name}.sock")
        for _ in range(5):
            try:
                socket.send_fds(client, [b'{"jsonrpc": "2.0"'], handles)
            except OSError:
                break
print("sent")
"""


def test_handles_that_are_sent_to_the_daemon_are_not_kept(yard: Yard, mallory: str) -> None:
    before = count_handles(yard)
    sent = endure_while(yard, "handles", lambda: yard.ask(mallory, sys.executable, "-c", SEND_HANDLES))
    assert sent == "sent\n"
    wait_for(lambda: count_handles(yard) < before + 50, "what was sent to be closed", hive=yard.hive)


CONNECT = """
import errno, json, socket, sys
found = []
for path in sys.argv[1:]:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
            found.append("done")
        except OSError as error:
            found.append(errno.errorcode[error.errno])
print(json.dumps(found))
"""


def test_another_agent_and_another_user_reach_no_socket_and_no_folder(yard: Yard, mallory: str) -> None:
    """Even from outside of any container, where an escape would leave them."""
    if os.geteuid() != 0:
        return
    state = yard.hive.data / "agents" / mallory / "state"
    asyncio.run(yard.driver.exec(mallory, ("sh", "-c", "cp /usr/bin/id /state/; chmod 6777 /state/id /state"), 10))
    sockets = [str(yard.hive.run / "agents" / mallory / f"{name}.sock") for name in ("hive", "model", "egress")]
    sockets.append(str(yard.hive.run / "hive.sock"))
    others = (yard.hive.data / "agents/anna/state").stat().st_uid
    for uid in (others, 65534):
        drop = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]
        done = subprocess.run(
            [*drop, "/usr/bin/python3", "-c", CONNECT, *sockets], capture_output=True, text=True, check=True, cwd="/"
        )
        assert json.loads(done.stdout) == ["EACCES"] * len(sockets)
        for command in (
            ("ls", str(state)),
            ("sh", "-c", str(state / "id")),
            ("cat", str(yard.hive.data / "hive.sqlite")),
        ):
            assert subprocess.run([*drop, *command], capture_output=True, check=False, cwd="/").returncode != 0
    assert (state / "id").exists()
