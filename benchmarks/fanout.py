"""What it costs to tell many pages of one event, against a plain web socket for each of them."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from socket import AF_UNIX, socket
from typing import Any

from benchmarks.hives import Link, run_hive
from benchmarks.measure import Context, Rounds, Row
from benchmarks.processes import end_program, observe_spent
from benchmarks.sockets import Sockets
from hive_process import HiveProcess

_AGENT = "a0"
_VIEWERS = 100
_EVENTS_PER_S = 1000
# As often as they are written: a harness tells what happened at once.
_TICK_S = 0.005
# What a harness sends at once; a machine that is too busy for the pace falls behind, not into great heaps.
_BATCH = 20
_TEXT_CHARS = 200
_US = 1_000_000

Tell = Callable[[Sequence[dict[str, Any]]], None]


class _Transcript:
    """Events as a harness numbers them."""

    def __init__(self) -> None:
        self._seq = 0

    def plan(self, count: int) -> list[dict[str, Any]]:
        """The next `count` of them, that happen now."""
        events: list[dict[str, Any]] = []
        for _ in range(count):
            self._seq += 1
            text = f"told at {time.time():.6f}; ".ljust(_TEXT_CHARS, "x")
            at = datetime.now(UTC).isoformat()
            events.append({"seq": self._seq, "at": at, "kind": "notice", "body": {"text": text}})
        return events


def measure(context: Context) -> list[Row]:
    rounds = Rounds()
    events = context.choose(5000, 2000)
    with ExitStack() as stack:
        hive = stack.enter_context(run_hive(context.folder / "hive", names=[_AGENT]))
        bare_pid, bare_port, tell_bare = stack.enter_context(_run_bare(context.folder / "bare.sock"))
        assert hive.process is not None
        sockets = Sockets()
        link = Link(sockets, hive, _AGENT)
        sockets.pump_until(lambda: link.ready)
        tell_hive = _tell_link(sockets, link)
        transcripts = {"hive": _Transcript(), "bare": _Transcript()}
        for _ in range(context.choose(5, 3)):
            alone = _spend(hive.process.pid, lambda: _tell_all(transcripts["hive"], tell_hive, events))
            rounds.add("alone", alone / events / _VIEWERS * _US)
            for name, pid, port, request, tell in (
                ("hive", hive.process.pid, hive.port, _request_stream(hive), tell_hive),
                ("bare", bare_pid, bare_port, _request_socket(), tell_bare),
            ):
                _watch(name, pid, port, request, transcripts[name], tell, events, rounds)
        sockets.close()
    return [
        Row(
            f"cpu of the daemon for each event that each of {_VIEWERS} pages is told, {_EVENTS_PER_S} events/s",
            _render(rounds, "hive"),
            f"uvicorn, a web socket for each: {_render(rounds, 'bare')}",
            rounds.render_ratio("hive", "bare"),
            "≤ 0.125",
        ),
        Row(
            "the part of it that is not for the pages: to take the event and store it",
            f"{rounds.median('alone'):.2f} µs",
        ),
    ]


def _watch(
    name: str, pid: int, port: int, request: str, transcript: _Transcript, tell: Tell, events: int, rounds: Rounds
) -> None:
    """Lets viewers see `events` events, and adds what that cost the server for each that one of them got."""
    argv = [sys.executable, "-m", "benchmarks.viewers", str(port), str(_VIEWERS), str(events)]
    viewers = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert viewers.stdin is not None
        assert viewers.stdout is not None
        viewers.stdin.write(request)
        viewers.stdin.close()
        if not viewers.stdout.readline():
            raise RuntimeError("the viewers were not let in")
        # The last of them may not yet be among those that are told.
        time.sleep(0.5)
        lines: list[str] = []

        def tell_and_wait() -> None:
            _tell_all(transcript, tell, events)
            lines.append(viewers.stdout.readline() if viewers.stdout else "")

        spent_s = _spend(pid, tell_and_wait)
        p50, p95 = (float(part) for part in lines[0].split())
        rounds.add(name, spent_s / events / _VIEWERS * _US)
        rounds.add(f"{name} p50", p50)
        rounds.add(f"{name} p95", p95)
    finally:
        viewers.kill()
        viewers.wait()
        assert viewers.stdout is not None
        viewers.stdout.close()


def _spend(pid: int, act: Callable[[], None]) -> float:
    before = observe_spent(pid)
    act()
    return (observe_spent(pid) - before).cpu_s


def _tell_all(transcript: _Transcript, tell: Tell, events: int) -> None:
    """Paced, as long as the server takes them."""
    began = time.perf_counter()
    told = 0
    while told < events:
        due = min(events, told + _BATCH, int((time.perf_counter() - began) * _EVENTS_PER_S) + 1)
        if due > told:
            tell(transcript.plan(due - told))
            told = due
        time.sleep(_TICK_S)


def _tell_link(sockets: Sockets, link: Link) -> Tell:
    """Tells the daemon as a harness does."""

    def tell(events: Sequence[dict[str, Any]]) -> None:
        stored: list[Any] = []
        link.write(link.plan("events.append", stored.append, events=events))
        sockets.pump_until(lambda: bool(stored))

    return tell


def _request_stream(hive: HiveProcess) -> str:
    cookies = "; ".join(f"{name}={value}" for name, value in hive.session_cookies().items())
    lines = [f"GET /api/stream?agent={_AGENT} HTTP/1.1", f"host: 127.0.0.1:{hive.port}", f"cookie: {cookies}"]
    return "\r\n".join([*lines, "accept: text/event-stream", "", ""])


def _request_socket() -> str:
    lines = ["GET / HTTP/1.1", "host: 127.0.0.1", "connection: upgrade", "upgrade: websocket"]
    return "\r\n".join([*lines, "sec-websocket-version: 13", "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==", "", ""])


@contextmanager
def _run_bare(path: Path) -> Generator[tuple[int, int, Tell]]:
    """The peer's process id and port, and how it is told."""
    argv = [sys.executable, "-m", "benchmarks.bare_websocket", str(path)]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with socket(AF_UNIX) as connection:
            connection.connect(str(path))

            def tell(events: Sequence[dict[str, Any]]) -> None:
                connection.sendall("".join(json.dumps({"agent": _AGENT, **event}) + "\n" for event in events).encode())

            yield process.pid, port, tell
    finally:
        end_program(process)


def _render(rounds: Rounds, name: str) -> str:
    latency = f"{rounds.median(f'{name} p50'):.0f} / {rounds.median(f'{name} p95'):.0f} ms"
    return f"{rounds.median(name):.2f} µs, told after {latency} (p50 / p95)"
