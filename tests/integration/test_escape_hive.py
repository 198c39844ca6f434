"""An agent that does its worst to the machine from inside its container, while two others exchange messages."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from attacks import DISK_FILLER, FILES, FORK_BOMB, LOG_FLOODER, MEMORY_HOG, SOCKET_FLOODER, SPINNERS
from escape_rig import ATTACK_S, RESERVE_BYTES, Yard, endure, endure_while, for_a_while, open_yard, spawn
from hive_process import wait_for

KINDS = ("bubblewrap", "nspawn") if os.geteuid() == 0 else ("bubblewrap",)
TASKS = 200
LIMITS = ("--limit-memory", "600M", "--limit-tasks", str(TASKS))


@pytest.fixture(scope="module", params=KINDS)
def yard(request: pytest.FixtureRequest) -> Iterator[Yard]:
    # That of nspawn is on a small disk; that of bubblewrap is on the machine's, as hives are.
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


@pytest.mark.parametrize(
    ("what", "command"),
    [
        ("fork bomb", ("bash", "-c", FORK_BOMB)),
        ("memory hog", ("sh", "-c", MEMORY_HOG)),
        ("spinners", ("sh", "-c", SPINNERS)),
        ("socket flooder", (sys.executable, "-c", SOCKET_FLOODER)),
        ("files without end", ("sh", "-c", FILES)),
    ],
)
def test_messages_while_an_agent_takes_all_it_can(
    yard: Yard, mallory: str, what: str, command: tuple[str, ...]
) -> None:
    take_all(yard, mallory, what, command)


def take_all(yard: Yard, name: str, what: str, command: tuple[str, ...]) -> None:
    before = yard.count_tasks(name)
    with yard.attack(name, *command):
        if before:
            wait_for(lambda: yard.count_tasks(name) > before, f"{what} to begin", hive=yard.hive)
        endure(yard, what, for_a_while())
        assert yard.count_tasks(name) <= TASKS


def test_messages_while_an_agent_fills_the_disk(yard: Yard, mallory: str) -> None:
    is_small = yard.driver.name == "nspawn"
    deadline = time.monotonic() + (40 if is_small else ATTACK_S)
    with yard.attack(mallory, "sh", "-c", DISK_FILLER):
        is_running = lambda: yard.hive.agent(mallory)["state"] != "stopped"  # noqa: E731
        endure(yard, "disk filler", lambda: is_running() and time.monotonic() < deadline)
    if is_small:
        assert "its folders grew most" in yard.hive.agent(mallory)["reason"]
        room = os.statvfs(yard.hive.data)
        assert room.f_bavail * room.f_frsize > RESERVE_BYTES / 8


def test_messages_while_an_agent_floods_its_log_until_it_is_stopped(yard: Yard, mallory: str) -> None:
    # As fast as it can; on the small disk as fast as a disk: at the speed of memory it is full before anybody can look.
    pause_s = "0.005" if yard.driver.name == "nspawn" else "0"
    with yard.attack(mallory, sys.executable, "-c", LOG_FLOODER, pause_s):
        deadline = time.monotonic() + 40
        endure(
            yard,
            "log flooder",
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
    assert yard.hive.process is not None
    handles = Path(f"/proc/{yard.hive.process.pid}/fd")
    before = len(list(handles.iterdir()))
    sent = endure_while(yard, "handles", lambda: yard.ask(mallory, sys.executable, "-c", SEND_HANDLES))
    assert sent == "sent\n"
    wait_for(lambda: len(list(handles.iterdir())) < before + 50, "what was sent to be closed", hive=yard.hive)


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
