"""Terminals: how fast output comes and a key is echoed, beside a bare relay of such a PTY."""

import json
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from websockets.sync.client import ClientConnection, unix_connect

from benchmarks.hives import run_hive
from benchmarks.measure import Context, Rounds, Row, percentile
from benchmarks.processes import end_program, start_server
from hive_process import HiveProcess, wait_for
from hyperhive.core.names import MANAGER

_TERMINALS = f"/api/agents/{MANAGER}/terminals"
_LINE = "x" * 117
# As the page does it.
_ACK_BYTES = 32 * 1024
_PACE_S = 0.004
_MB = 1_000_000
_US = 1e6


class _Screen:
    """What looks at a terminal, at the other end of a WebSocket."""

    def __init__(self, connection: ClientConnection, acknowledges: bool) -> None:
        self._connection = connection
        self._acknowledges = acknowledges
        self._unacknowledged = 0

    def type(self, text: str) -> None:
        self._connection.send(text.encode())

    def read_to(self, marker: bytes) -> int:
        """Takes output until `marker` has come, and returns how many bytes that were. Raises TimeoutError."""
        count, tail = 0, b""
        while marker not in tail:
            data = self._connection.recv(timeout=120)
            if isinstance(data, str):
                continue
            count += len(data)
            tail = (tail + data)[-len(data) - len(marker) :]
            self._acknowledge(len(data))
        return count

    def _acknowledge(self, count: int) -> None:
        self._unacknowledged += count
        if self._acknowledges and self._unacknowledged >= _ACK_BYTES:
            self._connection.send(json.dumps({"kind": "ack", "count": self._unacknowledged}))
            self._unacknowledged = 0


@contextmanager
def _open_hive(hive: HiveProcess) -> Generator[_Screen]:
    opened = hive.post(_TERMINALS, {"columns": 120, "rows": 40})["id"]
    uri = f"ws://hive{_TERMINALS}/{opened}/socket?mode=write"
    with unix_connect(str(hive.run / "hive.sock"), uri, compression=None, max_size=None) as connection:
        yield _Screen(connection, acknowledges=True)
    with hive.client() as client:
        client.delete(f"{_TERMINALS}/{opened}").raise_for_status()


@contextmanager
def _open_relay(path: Path) -> Generator[_Screen]:
    with unix_connect(str(path), "ws://relay/", compression=None, max_size=None) as connection:
        yield _Screen(connection, acknowledges=False)


@contextmanager
def _run_relay(folder: Path) -> Generator[Path]:
    folder.mkdir()
    path = folder / "relay.sock"
    process = start_server([sys.executable, "-m", "benchmarks.pty_relay", str(path)], folder / "log", path.exists)
    try:
        yield path
    finally:
        end_program(process)


def measure(context: Context) -> list[Row]:
    rounds = Rounds()
    size = context.choose(50, 10) * _MB
    with ExitStack() as stack:
        hive = stack.enter_context(run_hive(context.folder / "hive", "--rehearsal", awake=[MANAGER]))
        wait_for(lambda: hive.agent(MANAGER)["state"] == "idle", "a harness", 60, hive)
        relay = stack.enter_context(_run_relay(context.folder / "relay"))
        for _ in range(context.choose(5, 2)):
            for name, opened in (("hive", _open_hive(hive)), ("relay", _open_relay(relay))):
                with opened as screen:
                    rounds.add(f"{name} MB/s", _measure_bulk(screen, size))
                    _measure_echo(name, screen, context.choose(300, 100), rounds)
    return [
        Row(
            f"terminal: {size // _MB} MB of output",
            f"{rounds.median('hive MB/s'):.0f} MB/s",
            f"a bare relay of a PTY over a WebSocket: {rounds.median('relay MB/s'):.0f} MB/s",
            rounds.render_ratio("hive MB/s", "relay MB/s"),
            "≥ 0.75",
        ),
        Row(
            "a key → its echo, p50 / p99",
            f"{rounds.median('hive p50'):.0f} / {rounds.median('hive p99'):.0f} µs",
            f"the bare relay: {rounds.median('relay p50'):.0f} / {rounds.median('relay p99'):.0f} µs",
            rounds.render_ratio("hive p50", "relay p50"),
            "≤ 1.2",
        ),
    ]


def _measure_bulk(screen: _Screen, size: int) -> float:
    """MB/s of a program that writes as fast as it can. The markers are computed: what is typed is echoed, too."""
    screen.type("stty -echo; echo ready-$((40 + 2))\r")
    screen.read_to(b"ready-42")
    began = time.perf_counter()
    screen.type(f"yes {_LINE} | head -c {size}; echo done-$((40 + 2))\r")
    count = screen.read_to(b"done-42")
    return count / _MB / (time.perf_counter() - began)


def _measure_echo(name: str, screen: _Screen, count: int, rounds: Rounds) -> None:
    """The terminal's own echo, while a program reads."""
    screen.type("stty echo; echo cat-$((40 + 2)); cat > /dev/null\r")
    screen.read_to(b"cat-42")
    samples_s: list[float] = []
    for index in range(count):
        key = "abcdefgh"[index % 8]
        began = time.perf_counter()
        screen.type(key)
        screen.read_to(key.encode())
        samples_s.append(time.perf_counter() - began)
        time.sleep(_PACE_S)
    for percent in (50, 99):
        rounds.add(f"{name} p{percent}", percentile(samples_s, percent) * _US)
