"""The peer: PostgreSQL with LISTEN/NOTIFY, with a client as lean as the hive's."""

import os
import re
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.contender import MESSAGES_PER_RECV, RECEIVERS, SENDERS, Body, Confirmed, Delivered, parse_number
from benchmarks.processes import end_program, start_server
from benchmarks.sockets import Sockets

# Debian puts the server's programs beside no PATH, in a folder for each version.
_DEBIAN = Path("/usr/lib/postgresql")
# It refuses to run as root. Debian's package makes this user.
_USER = "postgres"
_SOCKET = ".s.PGSQL.5432"
_PROTOCOL = 196608

_SCHEMA = """
create table messages (
    id bigint generated always as identity primary key, recipient text not null, body text not null
);
create index messages_waiting on messages (recipient, id)
"""
_BEGIN, _TAKE, _DROP, _COMMIT, _SEND = "begin", "take", "drop", "commit", "send"
_STATEMENTS = {
    _BEGIN: "begin",
    # The open transaction is the lease: who dies in it gives them back.
    _TAKE: f"select id, body from messages where recipient = $1 order by id limit {MESSAGES_PER_RECV} "
    "for update skip locked",
    _DROP: "delete from messages where id = any ($1::bigint[])",
    _COMMIT: "commit",
    _SEND: "with sent as (insert into messages (recipient, body) values ($1, $2) returning recipient) "
    "select pg_notify(recipient, '') from sent",
}

Values = Sequence[bytes]
Answered = Callable[[list[Values]], None]
_Step = tuple[str, tuple[str, ...]]


def find_programs() -> Path | None:
    """The folder of the newest server here."""
    folders = [path.parent for path in _DEBIAN.glob("*/bin/initdb")]
    if folders:
        return max(folders, key=lambda path: float(path.parent.name))
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def is_installed() -> bool:
    return find_programs() is not None


@contextmanager
def run_postgres(folder: Path) -> Generator["PostgresBroker"]:
    """A cluster of our own in `folder`, on a unix socket, with Debian's settings but for the connections."""
    programs = find_programs()
    assert programs is not None
    folder.mkdir()
    prefix = _plan_user(folder)
    data = folder / "data"
    # What is measured is no secret, and nobody else reaches the folder.
    made = ["--pgdata", str(data), "--auth=trust", "--username=hive", "--encoding=UTF8", "--no-locale", "--no-sync"]
    subprocess.run([*prefix, str(programs / "initdb"), *made], check=True, stdout=subprocess.DEVNULL)
    settings = {"listen_addresses": "", "unix_socket_directories": str(folder), "max_connections": "200"}
    argv = [*prefix, str(programs / "postgres"), "-D", str(data)]
    argv += [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    log = folder / "log"
    process = start_server(argv, log, lambda: "ready to accept connections" in log.read_text())
    try:
        broker = PostgresBroker(folder / _SOCKET, process.pid, _find_version(programs))
        yield broker
        broker.close()
    finally:
        # Ends the connections too, where TERM would wait for them.
        process.send_signal(signal.SIGINT)
        end_program(process)


def _plan_user(folder: Path) -> list[str]:
    """What goes before a command to run it as one who is not root, and owns `folder` then."""
    if os.geteuid() != 0:
        return []
    shutil.chown(folder, _USER, _USER)
    # Made for root alone. What else is in there is closed by itself.
    folder.parent.chmod(0o711)
    return ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups"]


def _find_version(programs: Path) -> str:
    told = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+(\.\d+)?", told)
    return found[0] if found else "?"


class _Connection:
    """One connection with prepared statements; answers come in the order of the requests."""

    def __init__(self, sockets: Sockets, path: Path, notified: Callable[[], None]) -> None:
        self._notified = notified
        self._buffer = b""
        self._rows: list[Values] = []
        # The first is the answer to the greeting.
        self._callbacks: list[Answered] = [_ignore]
        self._socket = sockets.connect(path, self._receive)
        greeting = struct.pack(">i", _PROTOCOL) + b"user\0hive\0database\0postgres\0\0"
        self.write(struct.pack(">i", len(greeting) + 4) + greeting)

    def run(self, statement: str) -> None:
        """A statement, or several, by the simple protocol."""
        self._callbacks.append(_ignore)
        self.write(_render(b"Q", _text(statement)))

    def prepare(self, names: Sequence[str]) -> None:
        parts = [_render(b"P", _text(name) + _text(_STATEMENTS[name]) + b"\0\0") for name in names]
        self._callbacks.append(_ignore)
        self.write(b"".join(parts) + _render(b"S"))

    def request(self, answered: Answered, *steps: _Step) -> None:
        """Prepared statements with their parameters, in one packet and, but for a `begin`, one transaction."""
        self._callbacks.append(answered)
        self.write(b"".join(_render_step(name, values) for name, values in steps) + _render(b"S"))

    def write(self, packets: bytes) -> None:
        self._socket.sendall(packets)

    @property
    def idle(self) -> bool:
        return not self._callbacks

    def _receive(self, data: bytes) -> None:
        self._buffer += data
        position, size = 0, len(self._buffer)
        while position + 5 <= size:
            kind, length = self._buffer[position : position + 1], _int(self._buffer, position + 1)
            end = position + 1 + length
            if end > size:
                break
            self._take(kind, self._buffer[position + 5 : end])
            position = end
        self._buffer = self._buffer[position:]

    def _take(self, kind: bytes, packet: bytes) -> None:
        if kind == b"D":
            self._rows.append(_parse_row(packet))
        elif kind == b"Z":
            rows, self._rows = self._rows, []
            self._callbacks.pop(0)(rows)
        elif kind == b"A":
            self._notified()
        elif kind == b"E":
            raise RuntimeError(f"postgres refused: {packet.replace(bytes(1), b' ').decode()}")


def _render(kind: bytes, packet: bytes = b"") -> bytes:
    return kind + struct.pack(">i", len(packet) + 4) + packet


def _render_step(name: str, values: tuple[str, ...]) -> bytes:
    """Bind and execute; all values are text."""
    encoded = [value.encode() for value in values]
    parameters = b"".join(struct.pack(">i", len(value)) + value for value in encoded)
    bind = b"\0" + _text(name) + struct.pack(">hh", 0, len(values)) + parameters + struct.pack(">h", 0)
    return _render(b"B", bind) + _render(b"E", b"\0" + struct.pack(">i", 0))


def _text(text: str) -> bytes:
    return text.encode() + b"\0"


def _int(buffer: bytes, position: int) -> int:
    return int.from_bytes(buffer[position : position + 4], "big")


def _parse_row(packet: bytes) -> Values:
    """The columns of a row; none of ours is ever null."""
    values: list[bytes] = []
    position = 2
    for _ in range(int.from_bytes(packet[:2], "big")):
        end = position + 4 + _int(packet, position)
        values.append(packet[position + 4 : end])
        position = end
    return values


class _Receiver:
    """Takes what is there, acks by deleting it, and looks again when it is notified."""

    def __init__(self, sockets: Sockets, path: Path, recipient: str, delivered: Delivered) -> None:
        self._recipient = recipient
        self._delivered = delivered
        self._looking = False
        self._notified = False
        self.connection = _Connection(sockets, path, self._wake)
        # A lost ack is a redelivery: it need not wait for the disk.
        self.connection.run(f"set synchronous_commit = off; listen {recipient}")
        self.connection.prepare((_BEGIN, _TAKE, _DROP, _COMMIT))

    def _wake(self) -> None:
        self._notified = True
        if not self._looking:
            self._look()

    def _look(self) -> None:
        self._looking, self._notified = True, False
        self.connection.request(self._took, (_BEGIN, ()), (_TAKE, (self._recipient,)))

    def _took(self, rows: list[Values]) -> None:
        for _, body in rows:
            self._delivered(parse_number(body))
        ids = ",".join(number.decode() for number, _ in rows)
        drop: list[_Step] = [(_DROP, (f"{{{ids}}}",))] if rows else []
        self._notified = self._notified or len(rows) == MESSAGES_PER_RECV
        self.connection.request(self._committed, *drop, (_COMMIT, ()))

    def _committed(self, _: list[Values]) -> None:
        self._looking = False
        if self._notified:
            self._look()


class PostgresBroker(Sockets):
    """PostgreSQL as a contender: one table, a channel for each receiver."""

    name = "postgres"

    def __init__(self, path: Path, pid: int, version: str) -> None:
        super().__init__()
        self.pid = pid
        self.title = f"PostgreSQL {version}, LISTEN/NOTIFY"
        self._delivered: Delivered = lambda _: None
        self._senders = [_Connection(self, path, _nothing) for _ in range(SENDERS)]
        self._wait(self._senders)
        self._senders[0].run(_SCHEMA)
        self._wait(self._senders)
        for connection in self._senders:
            connection.prepare((_SEND,))
        receivers = [_Receiver(self, path, f"r{index}", self._deliver) for index in range(RECEIVERS)]
        self._wait([*self._senders, *(receiver.connection for receiver in receivers)])

    def on_delivered(self, delivered: Delivered) -> None:
        self._delivered = delivered

    def send(self, sender: int, receiver: int, number: int, confirmed: Confirmed) -> None:
        step = (_SEND, (f"r{receiver}", Body(number).render()))
        self._senders[sender].request(lambda _: confirmed(), step)

    def _deliver(self, number: int) -> None:
        self._delivered(number)

    def _wait(self, connections: Sequence[_Connection]) -> None:
        self.pump_until(lambda: all(connection.idle for connection in connections))


def _ignore(_: list[Values]) -> None:
    pass


def _nothing() -> None:
    pass
