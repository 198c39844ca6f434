"""Hostile clients of one socket for a while, and what came back: see `fuzz`. `Bystanders` are who must not notice."""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from hyperhive.wire.jsonrpc import HIVE_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

CODES = (HIVE_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR)
# Everything that hangs is told after this long.
PATIENCE_S = 30.0
QUIET_S = 0.03
READ_LIMIT_BYTES = 4 * 1024 * 1024
_STATUS = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [ -~]*")
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """`draw` gives what one connection sends, `find_faults` tells what is wrong with the bytes that came back."""

    name: str
    connect: Callable[[], Awaitable[Streams]]
    draw: Callable[[Random], bytes]
    find_faults: Callable[[bytes], list[str]]


@dataclass
class Outcome:
    rounds: int = 0
    sent_bytes: int = 0
    answered: int = 0
    faults: list[str] = field(default_factory=list[str])


async def fuzz(target: Target, seed: int, seconds: float, clients: int) -> Outcome:
    """`clients` connect again and again for `seconds`. Round N of client K is the same for the same seed."""
    outcome = Outcome()
    until = time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        for client in range(clients):
            group.create_task(_attack(target, seed, client, until, outcome))
    return outcome


async def _attack(target: Target, seed: int, client: int, until: float, outcome: Outcome) -> None:
    number = 0
    while time.monotonic() < until and len(outcome.faults) < 20:
        rng = Random(f"{seed}/{target.name}/{client}/{number}")
        where = f"{target.name}, seed {seed}, client {client}, round {number}"
        data = target.draw(rng)
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await _exchange(target, rng, data)
        except TimeoutError:
            outcome.faults.append(f"{where}: it hung on {data[:200]!r}")
        except OSError:
            # Cut off, which is an answer too; that the daemon lives is seen by others.
            pass
        else:
            outcome.answered += bool(answer)
            outcome.faults += [f"{where}: {fault}: {data[:300]!r}" for fault in target.find_faults(answer)]
        outcome.rounds += 1
        outcome.sent_bytes += len(data)
        number += 1


async def _exchange(target: Target, rng: Random, data: bytes) -> bytes:
    reader, writer = await target.connect()
    manner = rng.choice((_send_whole, _send_whole, _send_pieces, _drip, _half_close, _leave, _never_read))
    try:
        return await manner(rng, data, reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _send_whole(_: Random, data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(data)
    return await _read(reader, QUIET_S)


async def _send_pieces(rng: Random, data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Cut anywhere, between the pieces of all others."""
    while data:
        size = rng.randrange(1, max(2, len(data)))
        if writer.is_closing():
            break
        writer.write(data[:size])
        data = data[size:]
        await asyncio.sleep(0.001)
    return await _read(reader, QUIET_S)


async def _drip(rng: Random, data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Byte by byte, and never to the end."""
    for byte in data[: rng.randrange(1, 60)]:
        if writer.is_closing():
            break
        writer.write(bytes([byte]))
        await asyncio.sleep(0.005)
    return await _read(reader, QUIET_S)


async def _half_close(_: Random, data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Whoever has said that it is done is told so as well, in time."""
    writer.write(data)
    writer.write_eof()
    return await _read(reader, PATIENCE_S)


async def _leave(_: Random, data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(data)
    await asyncio.sleep(0)
    return b""


async def _never_read(_: Random, data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    for _attempt in range(5):
        writer.write(data)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await writer.drain()
    return b""


async def _read(reader: asyncio.StreamReader, quiet_s: float) -> bytes:
    """What comes until the end, or until nothing came for `quiet_s`."""
    answer = bytearray()
    while len(answer) < READ_LIMIT_BYTES:
        try:
            async with asyncio.timeout(quiet_s):
                piece = await reader.read(256 * 1024)
        except TimeoutError:
            if quiet_s >= PATIENCE_S:
                raise
            break
        if not piece:
            break
        answer += piece
    return bytes(answer)


# -- what an answer may be ---------------------------------------------------------------------------------------


def find_link_faults(answer: bytes) -> list[str]:
    """Each whole line is a request of the daemon's, or an answer with a result or an error that tells something."""
    faults: list[str] = []
    for line in answer.split(b"\n")[:-1]:
        try:
            body = json.loads(line.decode())
        except ValueError:
            faults.append(f"no JSON came: {line[:200]!r}")
            continue
        error = body.get("error")
        if body.get("jsonrpc") != "2.0" or ("method" in body) + ("result" in body) + ("error" in body) != 1:
            faults.append(f"no JSON-RPC came: {line[:200]!r}")
        elif error is not None and not (error["code"] in CODES and isinstance(error["message"], str)):
            faults.append(f"it failed: {line[:200]!r}")
    return faults


def find_desktop_faults(answer: bytes) -> list[str]:
    """Each whole line is a response of the version that clients know, and a refusal says why."""
    faults: list[str] = []
    for line in answer.split(b"\n")[:-1]:
        try:
            body = json.loads(line.decode())
        except ValueError:
            faults.append(f"no JSON came: {line[:200]!r}")
            continue
        wanted = ["version", "ok"] if body["ok"] else ["version", "ok", "error"]
        if list(body)[: len(wanted)] != wanted or body["version"] != 1 or len(body) > 3:
            faults.append(f"no response came: {line[:200]!r}")
        elif "the hive failed" in body.get("error", ""):
            faults.append(f"it failed: {line[:200]!r}")
    return faults


def find_http_faults(answer: bytes) -> list[str]:
    """Each answer has a head and the body that it says, and none is of a mistake of the daemon's."""
    while answer:
        head, end, rest = answer.partition(b"\r\n\r\n")
        if not end:
            break
        status = _STATUS.fullmatch(head.split(b"\r\n")[0])
        if status is None:
            return [f"no HTTP came: {head[:200]!r}"]
        if status[1] == b"500":
            return [f"it failed: {answer[:400]!r}"]
        length = _LENGTH.search(head)
        if b"transfer-encoding: chunked" in head.lower():
            answer, fault = _skip_chunks(rest)
            if fault:
                return [fault]
        elif length is not None:
            answer = rest[int(length[1]) :]
        elif status[1] != b"100":
            break
        else:
            answer = rest
    return []


def _skip_chunks(data: bytes) -> tuple[bytes, str]:
    """What follows a chunked body, nothing if that was not at its end, and what is wrong with it."""
    while b"\r\n" in data:
        size, _, rest = data.partition(b"\r\n")
        if not re.fullmatch(rb"[0-9a-f]{1,8}", size, re.IGNORECASE):
            return b"", f"no chunk came: {size[:100]!r}"
        number = int(size, 16)
        data = rest[number + 2 :]
        if not number:
            return data, ""
    return b"", ""


# -- those who behave ----------------------------------------------------------------------------------------------


@dataclass
class Bystander:
    """One client that asks the same again and again, and expects the right answer each time."""

    name: str
    ask: Callable[[], Awaitable[None]]
    took_s: list[float] = field(default_factory=list[float])

    def render(self) -> str:
        times = sorted(self.took_s)
        at = times[int(len(times) * 0.99)] if times else 0
        return f"{self.name}: {len(times)} times, p99 {at * 1000:.0f} ms, worst {max(times, default=0) * 1000:.0f} ms"


@contextlib.asynccontextmanager
async def watch(*bystanders: Bystander):
    """All of them at once for as long as the context lasts; the first wrong answer ends it with its error."""
    done = asyncio.Event()

    async def run(bystander: Bystander) -> None:
        while not done.is_set():
            began = time.monotonic()
            async with asyncio.timeout(PATIENCE_S):
                await bystander.ask()
            bystander.took_s.append(time.monotonic() - began)
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        for bystander in bystanders:
            group.create_task(run(bystander))
        try:
            yield
        finally:
            done.set()


class LinkClient:
    """A harness as it should be, on one connection: what the daemon asks of it meanwhile is answered."""

    def __init__(self, streams: Streams) -> None:
        self._reader, self._writer = streams
        self._last = 0

    async def call(self, method: str, **params: Any) -> Any:
        """The result; fails if there is none."""
        self._last += 1
        self._write({"id": self._last, "method": method, "params": params})
        while True:
            line = await self._reader.readline()
            assert line, "the daemon hung up"
            body = json.loads(line)
            if "method" in body:
                self._write({"id": body["id"], "result": {}})
            elif body["id"] == self._last:
                assert "result" in body, body
                return body["result"]

    def close(self) -> None:
        self._writer.transport.abort()

    def _write(self, body: dict[str, Any]) -> None:
        self._writer.write(json.dumps({"jsonrpc": "2.0", **body}).encode() + b"\n")


async def ask_raw(streams: Streams, request: bytes) -> bytes:
    """All that comes until the other side ends."""
    reader, writer = streams
    try:
        writer.write(request)
        return await reader.read(-1)
    finally:
        writer.transport.abort()


# -- what the daemon holds -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """What a process has open and uses."""

    files: int
    threads: int
    resident_bytes: int

    @classmethod
    def observe(cls, pid: int, own_port: int = 0) -> "Held":
        """With `own_port`, without the connections that the gateway keeps for later: those are not of that port."""
        status = Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        kept = _find_kept(pid, own_port) if own_port else set[str]()
        files = sum(_read_link(file) not in kept for file in Path(f"/proc/{pid}/fd").iterdir())
        return cls(files, int(fields["Threads"]), int(fields["VmRSS"].split()[0]) * 1024)


def _find_kept(pid: int, own_port: int) -> set[str]:
    """TCP connections, neither end of which is `own_port`, as the links of /proc name them."""
    kept: set[str] = set()
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ports = {int(address.rpartition(":")[2], 16) for address in fields[1:3]}
        if 0 not in ports and own_port not in ports:
            kept.add(f"socket:[{fields[9]}]")
    return kept


def _read_link(file: Path) -> str:
    try:
        return str(file.readlink())
    except OSError:
        # Closed just now.
        return ""
