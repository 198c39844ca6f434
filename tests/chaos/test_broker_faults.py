"""A hundred agents at work while the disk is full, the database is held, browsers stall and links are not read."""

import contextlib
import json
import socket
import sqlite3
import struct
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from hive_process import HiveProcess, wait_for
from hyperhive.host.link.connection import UNREAD_LIMIT_BYTES
from hyperhive.system.sqlite import BUSY_TIMEOUT_S
from link_lines import Link
from prober import Prober
from swarm_history import NOISE
from swarm_rig import QUIET, Pace, Swarm, check_promises, list_names, read_pss_bytes, run_swarm

SMALL_DISK = "64m"
# With the machine as busy as it is here, an answer takes up to a second.
BLOCKED_S = 1.5
ON_THE_WAY = 200
STREAMS = 40
STALLED_S = 8.0
HELD_S = 2.0
MUTE = 4
HOUR_S, DAY_S = 3600, 86_400
# Each jump is from one to the next.
OFFSETS_S = (HOUR_S, -HOUR_S, DAY_S)
# What the daemon may take more than before, whatever those do who do not read.
GROWTH_LIMIT_BYTES = 96 * 1024 * 1024


@dataclass
class Work:
    """A hive, a swarm at work on it, and the clock that the hive has."""

    hive: HiveProcess
    swarm: Swarm
    clock: "WallClock"

    def probe(self) -> Prober:
        return Prober(self.hive.run / "hive.sock")


@pytest.fixture(scope="module")
def shared_work() -> Iterator[Work]:
    """For all tests that leave the hive as it was; in the end the promises of all of it are looked at."""
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        clock = WallClock(Path(folder))
        with run_swarm(Path(folder), environment=clock.environment) as (hive, swarm):
            yield Work(hive, swarm, clock)
            check_promises(hive, swarm)


@pytest.fixture
def work(shared_work: Work) -> Iterator[Work]:
    shared_work.swarm.pace = Pace()
    yield shared_work
    shared_work.swarm.check()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of its own. Mounting wants root."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "hive-test", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path) -> None:
    """Takes all the room there is."""
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)


def count_refusals(swarm: Swarm, what: str) -> int:
    return sum(count for text, count in dict(swarm.history.refusals).items() if what in text)


def wait_for_refusals(swarm: Swarm, what: str) -> None:
    known = count_refusals(swarm, what)
    wait_for(lambda: count_refusals(swarm, what) > known + 20, "sends to be refused")


def wait_for_sends(swarm: Swarm) -> None:
    known = len(swarm.history.confirmed)
    wait_for(lambda: len(swarm.history.confirmed) > known + 100, "sends to be taken")


@pytest.mark.slow
def test_a_full_disk_refuses_sends_and_loses_nothing_and_all_goes_on_when_there_is_room(small_disk: Path) -> None:
    pace = Pace(pause_s=0.3, body_bytes=4096)
    with run_swarm(small_disk, pace=pace) as (hive, swarm):
        filler = small_disk / "filler"
        fill(filler)
        wait_for_refusals(swarm, "database or disk is full")
        # What is asked is answered.
        assert hive.get("/api/messages?limit=5")
        assert len(hive.get("/api/agents")) == len(list_names()) + 2
        with hive.client() as client:
            assert client.get("/healthz").status_code == 200
        filler.unlink()
        wait_for_sends(swarm)
        told = [text for text in swarm.history.refusals if "full" in text]
        assert all(text.startswith("storage_failed: ") and "free some space" in text for text in told), told
        check_promises(hive, swarm)


@contextlib.contextmanager
def held_database(path: Path) -> Generator[None]:
    """Another program writes, and does not get done."""
    with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as connection:
        connection.execute("begin immediate")
        try:
            yield
        finally:
            connection.execute("rollback")


def test_a_database_that_another_program_holds_delays_sends_and_blocks_nothing_else(work: Work) -> None:
    with work.probe() as prober:
        with held_database(work.hive.data / "hive.sqlite"):
            confirmed = len(work.swarm.history.confirmed)
            until = time.monotonic() + HELD_S
            while time.monotonic() < until:
                assert work.hive.get("/api/messages?limit=5")
            # What was confirmed before it was held may be on its way to the swarm.
            assert len(work.swarm.history.confirmed) - confirmed < ON_THE_WAY
        wait_for_sends(work.swarm)
    assert prober.worst_s < BLOCKED_S
    assert not work.swarm.history.refusals


@pytest.mark.slow
def test_a_database_that_is_held_for_long_refuses_sends_with_a_hint_and_blocks_nothing_else(work: Work) -> None:
    with work.probe() as prober:
        # The first to wait may be no sends.
        with held_database(work.hive.data / "hive.sqlite"):
            wait_for(lambda: count_refusals(work.swarm, "locked"), "sends to be refused", 2 * BUSY_TIMEOUT_S + 10)
            assert work.hive.get("/api/messages?limit=5")
        wait_for_sends(work.swarm)
    assert prober.worst_s < BLOCKED_S
    told = [text for text in work.swarm.history.refusals if not text.startswith("recv: ")]
    assert all(text.startswith("storage_failed: ") and "try again" in text for text in told), told


def open_stream(hive: HiveProcess, cookies: str) -> socket.socket:
    """A browser's view of all that happens; what is sent to it waits until it is read."""
    stream = socket.socket()
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stream.settimeout(20)
    stream.connect(("127.0.0.1", hive.port))
    head = f"GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1:{hive.port}\r\nCookie: {cookies}\r\n\r\n"
    stream.sendall(head.encode())
    answer = stream.recv(4096)
    assert answer.startswith(b"HTTP/1.1 200"), answer
    return stream


def test_browsers_that_do_not_read_cost_little_and_catch_up(work: Work) -> None:
    work.swarm.pace = Pace(body_bytes=30_000)
    cookies = "; ".join(f"{name}={value}" for name, value in work.hive.session_cookies().items())
    before = most = read_pss_bytes(work.hive)
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(open_stream(work.hive, cookies)) for _ in range(STREAMS)]
        confirmed = len(work.swarm.history.confirmed)
        until = time.monotonic() + STALLED_S
        with work.probe() as prober:
            while time.monotonic() < until:
                for stream in streams[: STREAMS // 2]:
                    stream.recv(20_000)
                most = max(most, read_pss_bytes(work.hive))
        assert len(work.swarm.history.confirmed) - confirmed > 1000
        # Who reads again is told that it has missed something, and gets what comes from then on.
        for stream in (streams[0], streams[-1]):
            read_until(stream, b"event: resync\n")
            read_until(stream, b"event: hive\n")
    assert most - before < GROWTH_LIMIT_BYTES, f"{before} and then {most}"
    assert prober.worst_s < BLOCKED_S


def read_until(stream: socket.socket, needle: bytes) -> None:
    text, until = b"", time.monotonic() + 30
    while needle not in text:
        assert time.monotonic() < until, f"{needle!r} did not come"
        text = text[-len(needle) :] + stream.recv(1 << 16)


def test_agents_that_never_read_their_links_are_cut_off_and_cost_little(work: Work) -> None:
    mute = list_names()[:MUTE]
    before = read_pss_bytes(work.hive)
    most: list[int] = []

    def flood() -> None:
        with contextlib.ExitStack() as stack:
            links = [stack.enter_context(Link(work.hive, name)) for name in mute]
            threads = [Thread(target=flood_unread, args=(link,)) for link in links]
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    most.append(read_pss_bytes(work.hive))
                    thread.join(0.1)

    confirmed = len(work.swarm.history.confirmed)
    with work.probe() as prober:
        work.swarm.vanish(mute, flood)
    assert prober.worst_s < BLOCKED_S
    assert work.hive.log.count("link.not_read") == MUTE
    assert max(most) - before < MUTE * UNREAD_LIMIT_BYTES + GROWTH_LIMIT_BYTES, f"{before} and then {max(most)}"
    assert len(work.swarm.history.confirmed) > confirmed + 100
    wait_for(lambda: read_pss_bytes(work.hive) - before < GROWTH_LIMIT_BYTES, "the memory to be free again")


def flood_unread(link: Link) -> None:
    """Asks for long answers and reads none of them, until it is cut off."""
    link.call("hello", protocol=1, generation=1, holding=[])
    sent = link.call("send", to="*", body=f"{NOISE} to all", idempotency_key="key-of-noise")
    params = {"id": sent["result"]["id"]}
    question = {"jsonrpc": "2.0", "id": 1, "method": "message_status", "params": params}
    with contextlib.suppress(ConnectionError):
        for _ in range(10_000):
            link.send(json.dumps(question).encode() + b"\n")
        raise AssertionError("it was never cut off")


class WallClock:
    """The clock of a daemon that is started with `environment`."""

    def __init__(self, folder: Path) -> None:
        library = folder / "clock_jump.so"
        source = Path(__file__).parent.parent / "clock_jump.c"
        flags = ["-std=c11", "-O2", "-U_FORTIFY_SOURCE", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
        subprocess.run(["cc", *flags, "-o", library, source, "-ldl"], check=True)
        self._file = folder / "jump"
        self.set(0)
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_JUMP": str(self._file)}

    def set(self, seconds: int) -> None:
        """So far from the right time."""
        if not self._file.exists():
            self._file.write_bytes(bytes(8))
        with self._file.open("r+b", buffering=0) as file:
            file.write(struct.pack("=q", seconds))


def ask(link: Link, method: str, **params: Any) -> dict[str, Any]:
    answer = link.call(method, **params)
    assert "result" in answer, answer
    return answer["result"]


def send_to_nobody(link: Link, number: int, ttl_s: float) -> int:
    """To the manager, who is not there."""
    key, body = f"key-of-noise-{number}", f"{NOISE} {number}"
    return ask(link, "send", to="manager", body=body, ttl_seconds=ttl_s, idempotency_key=key)["id"]


def read_state(link: Link, message_id: int) -> str:
    return ask(link, "message_status", id=message_id)["receipts"][0]["state"]


def wait_in_vain(link: Link, wait_s: float) -> float:
    """Returns how long that took."""
    began = time.monotonic()
    assert ask(link, "recv", max=1, wait_s=wait_s) == {"messages": [], "waiting": 0}
    return time.monotonic() - began


@pytest.mark.slow
def test_a_clock_that_jumps_expires_nothing_early_or_late_and_delays_nobody(work: Work) -> None:
    with Link(work.hive, QUIET) as link:
        ask(link, "hello", protocol=1, generation=1, holding=[])
        ask(link, "recv", max=32, wait_s=0)
        lasting = send_to_nobody(link, 0, ttl_s=600)
        question = {"question": "go on?", "options": ["yes"], "multi": False, "ttl_seconds": 600}
        ask(link, "ask_operator", **question, idempotency_key="key-of-question")
        for number, offset_s in enumerate(OFFSETS_S, 1):
            short = send_to_nobody(link, number, ttl_s=4)
            work.clock.set(offset_s)
            assert 0.9 < wait_in_vain(link, 1) < 3
            wait_for(lambda number=number: work.hive.log.count("clock.jumped") == number, "the jump to be followed")
            assert read_state(link, short) == "queued"
            wait_for_sends(work.swarm)
            wait_for(lambda short=short: read_state(link, short) == "expired", "what was due to expire", timeout_s=15)
            assert read_state(link, lasting) == "queued"
            assert [found["status"] for found in work.hive.get("/api/questions")] == ["open"]
