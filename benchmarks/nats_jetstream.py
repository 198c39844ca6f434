"""The peer: NATS JetStream that syncs to the disk before it confirms, with a client as lean as the hive's."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.contender import MESSAGES_PER_RECV, RECEIVERS, SENDERS, Body, Confirmed, Delivered, parse_number
from benchmarks.processes import end_program, start_server
from benchmarks.sockets import Sockets

# Older ones sync every two minutes: a power cut takes what they confirmed, which is not the same work. Debian 12 has
# 2.9, so the server is that of a wheel.
_SYNC_ALWAYS_SINCE = (2, 10)
_CONFIG = """
host: 127.0.0.1
port: -1
ports_file_dir: "{folder}"
jetstream {{
  store_dir: "{folder}/store"
  sync_interval: always
}}
"""
_ACKED = b"+ACK"

Message = Callable[[str, bytes], None]


def find_server() -> tuple[str, str] | None:
    """The wheel's server or the system's, whichever can sync always, and its version."""
    for path in (str(Path(sys.executable).with_name("nats-server")), shutil.which("nats-server")):
        if path is not None and Path(path).exists():
            told = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
            version = re.search(r"(\d+)\.(\d+)\.\d+", told)
            if version is not None and (int(version[1]), int(version[2])) >= _SYNC_ALWAYS_SINCE:
                return path, version[0]
    return None


def is_installed() -> bool:
    return find_server() is not None


@contextmanager
def run_nats(folder: Path) -> Generator["NatsBroker"]:
    """A NATS server of our own in `folder`, on a port that the kernel chooses: it has no unix sockets."""
    folder.mkdir()
    found = find_server()
    assert found is not None
    server, version = found
    config = folder / "nats.conf"
    config.write_text(_CONFIG.format(folder=folder))
    process = start_server([server, "-c", str(config)], folder / "log", lambda: _find_port(folder) is not None)
    try:
        port = _find_port(folder)
        assert port is not None
        broker = NatsBroker(port, process.pid, f"NATS {version} JetStream, sync always")
        yield broker
        broker.close()
    finally:
        end_program(process)


def _find_port(folder: Path) -> int | None:
    for file in folder.glob("*.ports"):
        try:
            ports: dict[str, list[str]] = json.loads(file.read_text())
            return urlsplit(ports["nats"][0]).port
        except ValueError:
            # Not written to its end yet.
            return None
    return None


class _Connection:
    """One connection: requests with their answers, and one subscription for what comes unasked."""

    def __init__(self, sockets: Sockets, port: int, inbox: str, arrived: Message) -> None:
        self._inbox = f"_INBOX.{inbox}."
        self._arrived = arrived
        self._buffer = b""
        self._answered: dict[str, Callable[[bytes], None]] = {}
        self._next = 0
        self._socket = sockets.connect_port(port, self._receive)
        self.write(b'CONNECT {"verbose":false,"pedantic":false}\r\n' + f"SUB {self._inbox}* 1\r\n".encode())

    def plan_request(self, answered: Callable[[bytes], None], subject: str, payload: str) -> bytes:
        """A request, ready to be written; `answered` gets its answer."""
        self._next += 1
        reply = f"{self._inbox}{self._next}"
        self._answered[reply] = answered
        return f"PUB {subject} {reply} {len(payload)}\r\n{payload}\r\n".encode()

    def subscribe(self, subject: str) -> None:
        self.write(f"SUB {subject} 2\r\n".encode())

    def write(self, commands: bytes) -> None:
        self._socket.sendall(commands)

    @property
    def idle(self) -> bool:
        return not self._answered

    def _receive(self, data: bytes) -> None:
        self._buffer += data
        position = 0
        while (end := self._buffer.find(b"\r\n", position)) >= 0:
            line, begin = self._buffer[position:end], end + 2
            if line.startswith(b"MSG "):
                words = line.decode().split(" ")
                stop = begin + int(words[-1])
                if len(self._buffer) < stop + 2:
                    break
                self._take(words, self._buffer[begin:stop])
                begin = stop + 2
            elif line.startswith(b"PING"):
                self.write(b"PONG\r\n")
            elif line.startswith(b"-ERR"):
                raise RuntimeError(f"nats refused: {line.decode()}")
            position = begin
        self._buffer = self._buffer[position:]

    def _take(self, words: list[str], payload: bytes) -> None:
        """`words` are MSG, the subject, the subscription, a subject for the reply if one is wanted, the size."""
        if words[2] == "1":
            self._answered.pop(words[1])(payload)
        else:
            self._arrived(words[3], payload)


class NatsBroker(Sockets):
    """NATS as a contender: a stream and a durable consumer for each receiver, which is pushed what comes."""

    name = "nats"

    def __init__(self, port: int, pid: int, title: str) -> None:
        super().__init__()
        self.pid = pid
        self.title = title
        self._delivered: Delivered = lambda _: None
        self._senders = [_Connection(self, port, f"s{index}", _refuse) for index in range(SENDERS)]
        self._receivers = [self._open_receiver(port, index) for index in range(RECEIVERS)]
        self.pump_until(lambda: all(connection.idle for connection in self._receivers))

    def on_delivered(self, delivered: Delivered) -> None:
        self._delivered = delivered

    def send(self, sender: int, receiver: int, number: int, confirmed: Confirmed) -> None:
        def answered(answer: bytes) -> None:
            _check(answer)
            confirmed()

        connection = self._senders[sender]
        connection.write(connection.plan_request(answered, f"m.r{receiver}", Body(number).render()))

    def _open_receiver(self, port: int, index: int) -> _Connection:
        def arrived(reply: str, payload: bytes) -> None:
            self._delivered(parse_number(payload))
            connection.write(b"PUB %b %d\r\n%b\r\n" % (reply.encode(), len(_ACKED), _ACKED))

        name = f"r{index}"
        connection = _Connection(self, port, name, arrived)
        connection.subscribe(f"d.{name}")
        # One stream for all was measured a third slower, and so was deleting what is acked.
        stream = {"name": name, "subjects": [f"m.{name}"], "storage": "file", "retention": "limits"}
        consumer = {
            "durable_name": name,
            "deliver_subject": f"d.{name}",
            "ack_policy": "explicit",
            "max_ack_pending": MESSAGES_PER_RECV,
        }
        wanted = {"stream_name": name, "config": consumer}

        def created(answer: bytes) -> None:
            _check(answer)
            subject = f"$JS.API.CONSUMER.DURABLE.CREATE.{name}.{name}"
            connection.write(connection.plan_request(_check, subject, json.dumps(wanted)))

        connection.write(connection.plan_request(created, f"$JS.API.STREAM.CREATE.{name}", json.dumps(stream)))
        return connection


def _check(answer: bytes) -> None:
    if b'"error"' in answer:
        raise RuntimeError(f"nats refused: {answer.decode()}")


def _refuse(reply: str, _: bytes) -> None:
    raise RuntimeError(f"a sender was sent a message: {reply}")
