"""A hive in which one agent does its worst while two others exchange messages.

None of their messages is lost, and how long they take is measured and printed; the daemon's memory stays what it was.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from escape_root import enter_as_root, run_in_gvisor
from hive_process import HiveProcess, end_hive
from hyperhive.core.errors import HiveError
from hyperhive.host.drivers.bubblewrap import BubblewrapDriver
from hyperhive.host.drivers.gvisor import GvisorDriver
from hyperhive.host.drivers.nspawn import NspawnDriver
from hyperhive.host.drivers.protocol import Driver
from hyperhive.system.cgroups import Group, Groups, Usage
from image_cache import find_folder, make_images, open_images
from link_lines import Link
from proposer import read_generation
from swarm_rig import read_pss_bytes

MIB = 1024 * 1024
# Of a hive on a disk of its own. It is memory, and counts as its writer's: so it is smaller than what each may have.
DISK_BYTES, RESERVE_BYTES = 400 * MIB, 128 * MIB
ATTACK_S = 1.5
# Milliseconds as a rule; on a machine that does other things, too, a moment.
WORST_S = 10.0
GROWTH_LIMIT_BYTES = 64 * MIB
T = TypeVar("T")
_FLAGS = ("--rehearsal", "--messages-per-minute", "0", "--messages-per-minute-pair", "0")


@dataclass
class Yard:
    """A hive with two agents that the test speaks for."""

    hive: HiveProcess
    driver: Driver
    generations: dict[str, int] = field(default_factory=dict[str, int])

    @contextmanager
    def attack(
        self, name: str, *command: str, as_root: bool = False, each_s: float = ATTACK_S
    ) -> Generator["threading.Thread"]:
        """Runs a command inside a container again and again until the block is left, `as_root` of the container.

        It is ended after `each_s`.
        """
        over = threading.Event()

        def run() -> None:
            while not over.is_set():
                # Ended with its container, killed by the kernel, or over its time.
                with contextlib.suppress(HiveError, subprocess.TimeoutExpired):
                    if as_root:
                        self._run_as_root(name, command, each_s)
                    else:
                        asyncio.run(self.driver.exec(name, command, each_s))
                over.wait(0.1)

        thread = threading.Thread(target=run, name="attack")
        thread.start()
        try:
            yield thread
        finally:
            over.set()
            thread.join(60)
            assert not thread.is_alive(), "the attack goes on"

    def ask(self, name: str, *command: str, timeout_s: float = 60) -> str:
        """Standard output of a command in a container, which has to succeed."""
        done = asyncio.run(self.driver.exec(name, command, timeout_s))
        assert done.ok, done
        return done.stdout.decode()

    def _run_as_root(self, name: str, command: Sequence[str], each_s: float) -> None:
        """In the container's own control group, where an agent that had become root would be."""
        init = self.find_init(name)
        if init is None:
            return
        # Killed inside: of who comes in from outside only the way in would end.
        argv = ("timeout", "--signal=KILL", str(each_s), *command)
        if self.driver.name == "gvisor":
            run_in_gvisor(self.hive.run / "containers", name, *argv, timeout_s=2 * each_s)
        else:
            enter_as_root(init, *argv, group=self.find_group(name), timeout_s=2 * each_s)

    def find_init(self, name: str) -> int | None:
        """The first process of a container that runs."""
        return asyncio.run(self.driver.observe(name)).pid

    def has_root(self, name: str) -> bool:
        """Whether the container, which runs, knows a uid 0."""
        return Path(f"/proc/{self.find_init(name)}/uid_map").read_text().split()[0] == "0"

    def find_group(self, name: str) -> Group | None:
        return Groups.observe(self.hive.run / "containers", as_root=os.geteuid() == 0).find(name)

    def observe(self, name: str) -> Usage:
        """What a container uses, as far as this machine counts it."""
        group = self.find_group(name)
        return group.observe() if group else Usage()


def make_driver(kind: str, folder: Path) -> Driver:
    if kind == "bubblewrap":
        return BubblewrapDriver(folder)
    return (GvisorDriver if kind == "gvisor" else NspawnDriver)(folder, open_images(find_folder()))


@contextmanager
def _make_place(kind: str, *, small: bool) -> Generator[Path]:
    """A folder for a hive's data, on a disk of its own where it is to be `small`."""
    with tempfile.TemporaryDirectory(prefix="hive-") as name:
        Path(name).chmod(0o755)
        if small:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=755", "hive-test", name], check=True)
        try:
            if kind != "bubblewrap":
                make_images()
                (Path(name) / "data").mkdir(mode=0o700)
                (Path(name) / "data/images").symlink_to(find_folder())
            yield Path(name)
        finally:
            if small:
                subprocess.run(["umount", "--lazy", name], check=True)


@contextmanager
def open_yard(
    kind: str, *flags: str, small: bool = False, python: tuple[str, ...] = (sys.executable,)
) -> Generator[Yard]:
    """A hive of the driver `kind` with agents anna and bert, who are stopped: the test speaks for them.

    `small` has it on a disk of its own that one agent can fill; `python` is what runs the daemon.
    """
    with _make_place(kind, small=small) as folder:
        reserve = ("--disk-reserve", f"{RESERVE_BYTES // MIB}M") if small else ()
        # What it needs of memory is looked at: none of it is to be a nursery's.
        hive = HiveProcess(folder / "data", (*_FLAGS, *flags, "--driver", kind, *reserve), python=python, fresh=True)
        hive.start()
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


def exchange(yard: Yard, goes_on: Callable[[], bool], least: int = 40) -> list[float]:
    """Messages of one agent to another for as long as `goes_on`; how long each took to arrive. None is lost."""
    took_s: list[float] = []
    with Link(yard.hive, "anna") as sending, Link(yard.hive, "bert") as reading:
        for agent, link in (("anna", sending), ("bert", reading)):
            assert "result" in link.call("hello", protocol=1, generation=yard.generations[agent], holding=[])
        while goes_on() or len(took_s) < least:
            body = f"{len(took_s)} {uuid.uuid4().hex}"
            began_s = time.monotonic()
            sent = sending.call("send", to="bert", body=body, idempotency_key=uuid.uuid4().hex)
            assert "result" in sent, sent
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


def endure_while(yard: Yard, what: str, work: Callable[[], T]) -> T:
    """The same for as long as `work` does something. Returns what it returns, and raises what it raises."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work)
        endure(yard, what, lambda: not running.done())
        return running.result()


def for_a_while() -> Callable[[], bool]:
    end = time.monotonic() + ATTACK_S
    return lambda: time.monotonic() < end
