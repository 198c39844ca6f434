"""The peer: Redis Streams that sync to the disk before they confirm, with a client as lean as the hive's."""

import re
import shutil
import subprocess
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.contender import MESSAGES_PER_RECV, RECEIVERS, SENDERS, Body, Confirmed, Delivered, parse_number
from benchmarks.processes import end_program, start_server
from benchmarks.sockets import Sockets

_SERVER = "redis-server"


def is_installed() -> bool:
    return shutil.which(_SERVER) is not None


@contextmanager
def run_redis(folder: Path) -> Generator["RedisBroker"]:
    """A Redis of our own in `folder`, on a unix socket."""
    folder.mkdir()
    path = folder / "redis.sock"
    settings = {
        "port": "0",
        "unixsocket": str(path),
        "dir": str(folder),
        "save": "",
        "appendonly": "yes",
        "appendfsync": "always",
        "auto-aof-rewrite-percentage": "0",
    }
    argv = [_SERVER, *(part for key, value in settings.items() for part in (f"--{key}", value))]
    process = start_server(argv, folder / "log", path.exists)
    try:
        broker = RedisBroker(path, process.pid)
        yield broker
        broker.close()
    finally:
        end_program(process)


def _find_version() -> str:
    told = subprocess.run([_SERVER, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=([\d.]+)", told)
    return found[1] if found else "?"


class _Connection:
    """One connection; answers come in the order of the commands."""

    def __init__(self, sockets: Sockets, path: Path) -> None:
        self._buffer = b""
        self._callbacks: list[Callable[[Any], None]] = []
        self._socket = sockets.connect(path, self._receive)

    def plan(self, answered: Callable[[Any], None], *words: str) -> bytes:
        """A command, ready to be written; `answered` gets its answer."""
        self._callbacks.append(answered)
        parts = [f"*{len(words)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in words)]
        return "".join(parts).encode()

    def write(self, commands: bytes) -> None:
        self._socket.sendall(commands)

    @property
    def idle(self) -> bool:
        return not self._callbacks

    def _receive(self, data: bytes) -> None:
        self._buffer += data
        position = 0
        while position < len(self._buffer):
            found = _parse(self._buffer, position)
            if found is None:
                break
            value, position = found
            self._callbacks.pop(0)(value)
        self._buffer = self._buffer[position:]


def _parse(buffer: bytes, position: int) -> tuple[Any, int] | None:
    """One answer that begins at `position`, and where it ends; None if it is not all there. Raises RuntimeError."""
    end = buffer.find(b"\r\n", position)
    if end < 0:
        return None
    kind, text, position = buffer[position], buffer[position + 1 : end], end + 2
    if kind == ord("$"):
        size = int(text)
        value = buffer[position : position + size]
        return (value, position + size + 2) if len(buffer) >= position + size + 2 else None
    if kind == ord("*"):
        values: list[Any] = []
        for _ in range(int(text)):
            found = _parse(buffer, position)
            if found is None:
                return None
            value, position = found
            values.append(value)
        return values, position
    if kind == ord("-"):
        raise RuntimeError(f"redis refused: {text.decode()}")
    return text, position


class RedisBroker(Sockets):
    """Redis as a contender: a stream and a consumer group for each receiver."""

    name = "redis"

    def __init__(self, path: Path, pid: int) -> None:
        super().__init__()
        self.title = f"Redis {_find_version()} streams, appendfsync always"
        self.pid = pid
        self._delivered: Delivered = lambda _: None
        self._senders = [_Connection(self, path) for _ in range(SENDERS)]
        self._receivers = [_Connection(self, path) for _ in range(RECEIVERS)]
        for index, connection in enumerate(self._receivers):
            connection.write(connection.plan(_ignore, "XGROUP", "CREATE", f"r{index}", "g", "0", "MKSTREAM"))
        self.pump_until(lambda: all(connection.idle for connection in self._receivers))
        for index, connection in enumerate(self._receivers):
            connection.write(self._plan_read(index, connection))

    def on_delivered(self, delivered: Delivered) -> None:
        self._delivered = delivered

    def send(self, sender: int, receiver: int, number: int, confirmed: Confirmed) -> None:
        connection = self._senders[sender]
        body = Body(number).render()
        connection.write(connection.plan(lambda _: confirmed(), "XADD", f"r{receiver}", "*", "b", body))

    def _plan_read(self, index: int, connection: _Connection) -> bytes:
        def received(streams: Any) -> None:
            entries = streams[0][1]
            for _, fields in entries:
                self._delivered(parse_number(fields[1]))
            ids = [entry_id.decode() for entry_id, _ in entries]
            ack = connection.plan(_ignore, "XACK", f"r{index}", "g", *ids)
            connection.write(ack + self._plan_read(index, connection))

        count = str(MESSAGES_PER_RECV)
        words = ("XREADGROUP", "GROUP", "g", "c", "COUNT", count, "BLOCK", "0", "STREAMS", f"r{index}", ">")
        return connection.plan(received, *words)


def _ignore(_: Any) -> None:
    pass
