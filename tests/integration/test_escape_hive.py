"""An agent that does its worst to the machine from inside its container, while two others exchange messages.

None of their messages is lost, and how long they take is measured and printed; the daemon's memory stays what it was.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hive_process import HiveProcess, end_hive, wait_for
from hyperhive.core.errors import HiveError
from hyperhive.host.drivers.bubblewrap import BubblewrapDriver
from hyperhive.host.drivers.nspawn import NspawnDriver
from hyperhive.host.drivers.protocol import Driver
from hyperhive.system.cgroups import Groups
from image_cache import find_folder, make_images, open_images
from link_lines import Link
from proposer import read_generation
from swarm_rig import read_pss_bytes

KINDS = ("bubblewrap", "nspawn") if os.geteuid() == 0 else ("bubblewrap",)
MIB = 1024 * 1024
# Of the hive of nspawn, which is on a disk of its own; that of bubblewrap is on the machine's, as hives are. It is
# memory, and counts as its writer's: so it is smaller than what each may have of that.
DISK_BYTES, RESERVE_BYTES = 400 * MIB, 128 * MIB
TASKS = 200
FLAGS = (
    *("--rehearsal", "--messages-per-minute", "0", "--messages-per-minute-pair", "0"),
    *("--limit-memory", "600M", "--limit-tasks", str(TASKS)),
)
ATTACK_S = 1.5
# Milliseconds as a rule; on a machine that does other things, too, a moment.
WORST_S = 10.0
GROWTH_LIMIT_BYTES = 64 * MIB

FORK_BOMB = "exec >/dev/null 2>&1; bomb() { bomb | bomb & }; bomb; while :; do bomb; done"
MEMORY_HOG = "while :; do tail /dev/zero; done"
SPINNERS = "exec >/dev/null 2>&1; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do while :; do :; done & done; wait"
DISK_FILLER = "while :; do i=$((i+1)); head -c 2000000 /dev/zero >/state/fill$$-$i; sleep 0.02; done"
FILES = "mkdir /state/many$$; cd /state/many$$; while :; do i=$((i+1)); : >$i; ln -s / l$i; mkdir d$i; cd d$i; done"
# Whatever its processes say is its log: the harness's standard output is taken from it.
LOG_FLOODER = """
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
handles = []
for name in filter(str.isdigit, os.listdir("/proc")):
    try:
        target = os.readlink(f"/proc/{name}/fd/1")
        if int(name) != os.getpid() and "/dev/null" not in target:
            try:
                handles.append(os.open(f"/proc/{name}/fd/1", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))
            except OSError:
                handle = libc.syscall(438, libc.syscall(434, int(name), 0), 1, 0)
                handles += [handle] if handle >= 0 else []
    except OSError:
        pass
line = b"x" * 99 + b"\\n"
while handles:
    for handle in handles:
        try:
            os.write(handle, line * 5000)
        except OSError:
            pass
    time.sleep(float(sys.argv[1]))
"""
SOCKET_FLOODER = """
import os, socket
garbage = b'{"jsonrpc": "2.0", "id": 1, "method": "send", "params": {"to": "operator", "body": "x"}}\\n' * 50
while True:
    opened = []
    for name in ("hive", "model", "egress") * 100:
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        try:
            client.connect(f"/run/hive/{name}.sock")
            client.send(garbage if name == "hive" else b"CONNECT example.org:443 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        except OSError:
            pass
        opened.append(client)
"""


@dataclass
class Yard:
    """A hive with two agents that the test speaks for."""

    hive: HiveProcess
    driver: Driver
    generations: dict[str, int] = field(default_factory=dict[str, int])

    @contextmanager
    def attack(self, name: str, *command: str) -> Generator["threading.Thread"]:
        """Runs a command inside a container again and again until the block is left."""
        over = threading.Event()

        def run() -> None:
            while not over.is_set():
                # Ended with its container, killed by the kernel, or over its time.
                with contextlib.suppress(HiveError):
                    asyncio.run(self.driver.exec(name, command, ATTACK_S))
                over.wait(0.1)

        thread = threading.Thread(target=run, name="attack")
        thread.start()
        try:
            yield thread
        finally:
            over.set()
            thread.join(60)
            assert not thread.is_alive(), "the attack goes on"

    def count_tasks(self, name: str) -> int:
        group = Groups.observe(self.hive.run / "containers", as_root=os.geteuid() == 0).find(name)
        return (group.observe().tasks if group else None) or 0


def make_driver(kind: str, folder: Path) -> Driver:
    return NspawnDriver(folder, open_images(find_folder())) if kind == "nspawn" else BubblewrapDriver(folder)


@contextmanager
def make_place(kind: str) -> Generator[Path]:
    """A folder for a hive's data: on a small disk of its own for nspawn."""
    with tempfile.TemporaryDirectory(prefix="hive-") as name:
        Path(name).chmod(0o755)
        if kind != "nspawn":
            yield Path(name)
            return
        make_images()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=755", "hive-test", name], check=True)
        try:
            (Path(name) / "data").mkdir(mode=0o700)
            (Path(name) / "data/images").symlink_to(find_folder())
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


@pytest.fixture(scope="module", params=KINDS)
def yard(request: pytest.FixtureRequest) -> Iterator[Yard]:
    kind = str(request.param)
    with make_place(kind) as folder:
        reserve = ("--disk-reserve", f"{RESERVE_BYTES // MIB}M") if kind == "nspawn" else ()
        # What it needs of memory is looked at: none of it is to be a nursery's.
        hive = HiveProcess(folder / "data", (*FLAGS, "--driver", kind, *reserve), fresh=True).start()
        yard = Yard(hive, make_driver(kind, hive.run / "containers"))
        try:
            for agent in ("anna", "bert"):
                hive.post("/api/agents", {"name": agent})
                hive.wait_state(agent, "idle")
                hive.post(f"/api/agents/{agent}/stop")
                hive.wait_state(agent, "stopped")
                yard.generations[agent] = read_generation(hive, agent)
            yield yard
        finally:
            end_hive(hive)


@contextmanager
def spawn(yard: Yard) -> Generator[str]:
    name = f"m{uuid.uuid4().hex[:6]}"
    yard.hive.post("/api/agents", {"name": name})
    yard.hive.wait_state(name, "idle")
    yield name
    with yard.hive.client() as client:
        client.delete(f"/api/agents/{name}?purge=true").raise_for_status()


@pytest.fixture
def mallory(yard: Yard) -> Iterator[str]:
    """An agent for one attack, which may end it."""
    with spawn(yard) as name:
        yield name


def exchange(yard: Yard, goes_on: Callable[[], bool], least: int = 40) -> list[float]:
    """Messages of one agent to another for as long as `goes_on`; how long each took to arrive. None is lost."""
    took_s: list[float] = []
    with Link(yard.hive, "anna") as sending, Link(yard.hive, "bert") as reading:
        for agent, link in (("anna", sending), ("bert", reading)):
            assert "result" in link.call("hello", protocol=1, generation=yard.generations[agent], holding=[])
        while goes_on() or len(took_s) < least:
            body = f"{len(took_s)} {uuid.uuid4().hex}"
            began_s = time.monotonic()
            assert "result" in sending.call("send", to="bert", body=body, idempotency_key=uuid.uuid4().hex)
            [message] = reading.call("recv", max=10, wait_s=20)["result"]["messages"]
            took_s.append(time.monotonic() - began_s)
            assert message["body"] == body
            assert "result" in reading.call("ack", ids=[message["id"]])
            time.sleep(0.02)
    return took_s


def tell(what: str, kind: Driver, took_s: list[float], growth_bytes: int) -> None:
    times = sorted(took_s)
    at = {part: times[min(len(times) - 1, int(len(times) * part))] * 1000 for part in (0.5, 0.99)}
    print(
        f"{kind.name}, {what}: {len(times)} messages, p50 {at[0.5]:.1f} ms, p99 {at[0.99]:.1f} ms,"
        f" worst {times[-1] * 1000:.1f} ms; the daemon {growth_bytes / MIB:+.1f} MiB"
    )


def endure(yard: Yard, what: str, goes_on: Callable[[], bool]) -> None:
    """Exchanges messages while something happens, and looks at what it took."""
    before = read_pss_bytes(yard.hive)
    took_s = exchange(yard, goes_on)
    growth_bytes = read_pss_bytes(yard.hive) - before
    tell(what, yard.driver, took_s, growth_bytes)
    assert max(took_s) < WORST_S
    assert growth_bytes < GROWTH_LIMIT_BYTES
    assert yard.hive.process is not None and yard.hive.process.poll() is None


def for_a_while() -> Callable[[], bool]:
    end = time.monotonic() + ATTACK_S
    return lambda: time.monotonic() < end


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
    done = asyncio.run(yard.driver.exec(mallory, (sys.executable, "-c", SEND_HANDLES), 60))
    assert done.stdout == b"sent\n", done
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
