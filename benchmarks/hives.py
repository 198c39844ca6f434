"""Hives to be measured, and the agent link as a client without a harness."""

import os
import time
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson

import hyperhive.host.store
from benchmarks.contender import MESSAGES_PER_RECV, RECEIVERS, SENDERS, Body, Confirmed, Delivered, parse_number
from benchmarks.processes import find_commands, list_descendants
from benchmarks.sockets import Sockets
from hive_process import HiveProcess
from hyperhive.core.names import MANAGER
from hyperhive.system.sqlite import connect, migrate
from hyperhive.wire.agent_link import PROTOCOL_VERSION

# Nothing listens there: what never runs a turn needs no model.
_NO_MODEL = ("--upstream", "http://127.0.0.1:9")
# What is measured is the broker, not what keeps agents from using it like this.
_NO_LIMIT = ("--messages-per-minute", "0", "--messages-per-minute-pair", "0")
_GENERATION = 1
_RECV_WAIT_S = 170.0


def register_agents(
    data: Path, names: Sequence[str], awake: Collection[str] = (), hibernated: Collection[str] = ()
) -> None:
    """Makes the database of a hive that knows the manager and `names`, all of them once started.

    Those of them that are neither `awake` (they start with the hive) nor `hibernated` are stopped.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    connection = connect(data / "hive.sqlite", "FULL")
    migrate(connection, Path(hyperhive.host.store.__file__).parent / "migrations" / "hive")
    connection.execute("begin")
    connection.executemany(
        "insert into agents (name, uid, generation, desired, hibernated, spawned_at) values (?, ?, ?, ?, ?, ?)",
        [
            (
                name,
                _plan_uid(index),
                _GENERATION,
                "running" if name in awake or name in hibernated else "stopped",
                name in hibernated,
                int(time.time() * 1000),
            )
            for index, name in enumerate([MANAGER, *names])
        ],
    )
    connection.execute("commit")
    connection.close()


def _plan_uid(index: int) -> int | None:
    # As the daemon does it: a uid for each agent if it runs as root.
    return 1_900_000_000 + index if os.geteuid() == 0 else None


def list_daemon(hive: HiveProcess) -> list[int]:
    """The daemon, and the helper that it has where root started it."""
    assert hive.process is not None
    pid = hive.process.pid
    return [pid, *find_commands(list_descendants(pid), "separation.helper")]


@contextmanager
def run_hive(
    data: Path,
    *flags: str,
    names: Sequence[str] = (),
    awake: Collection[str] = (),
    hibernated: Collection[str] = (),
    **environment: str,
) -> Generator[HiveProcess]:
    """A hive on a new folder `data`, with agents that are known (see `register_agents`); ended with all of them."""
    register_agents(data, names, awake, hibernated)
    hive = HiveProcess(data, (*(flags or _NO_MODEL), *_NO_LIMIT), environment).start()
    try:
        yield hive
    finally:
        _end(hive)


def _end(hive: HiveProcess) -> None:
    """Ends the daemon and the containers, which go on without a daemon that was killed."""
    assert hive.process is not None
    try:
        hive.down()
    except httpx.HTTPError:
        # A signal to the whole group (Ctrl-C) has ended it before us.
        hive.kill()
        hive.start().down()


class Link:
    """One agent's connection to the daemon."""

    def __init__(self, sockets: Sockets, hive: HiveProcess, agent: str) -> None:
        self.ready = False
        self._buffer = b""
        self._callbacks: dict[int, Callable[[Any], None]] = {}
        self._next = 0
        self._socket = sockets.connect(hive.run / "agents" / agent / "hive.sock", self._receive)
        self._socket.sendall(self.plan("hello", self._greeted, protocol=PROTOCOL_VERSION, generation=1, holding=[]))

    def plan(self, method: str, answered: Callable[[Any], None], **params: Any) -> bytes:
        """A request, ready to be written; `answered` gets its result."""
        self._next += 1
        self._callbacks[self._next] = answered
        request = {"jsonrpc": "2.0", "id": self._next, "method": method, "params": params}
        return orjson.dumps(request, option=orjson.OPT_APPEND_NEWLINE)

    def plan_recv(self, answered: Callable[[Any], None]) -> bytes:
        """A wait for messages, as long as the daemon allows."""
        return self.plan("recv", answered, max=MESSAGES_PER_RECV, wait_s=_RECV_WAIT_S)

    def write(self, requests: bytes) -> None:
        self._socket.sendall(requests)

    def _greeted(self, _: Any) -> None:
        self.ready = True

    def _receive(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            answer = orjson.loads(line)
            if "error" in answer:
                raise RuntimeError(f"the daemon refused: {answer['error']}")
            self._callbacks.pop(answer["id"])(answer["result"])


class HiveBroker(Sockets):
    """The hive as a contender."""

    name = "hive"

    def __init__(self, hive: HiveProcess) -> None:
        super().__init__()
        assert hive.process is not None
        self.pid = hive.process.pid
        self._delivered: Delivered = lambda _: None
        self._senders = [Link(self, hive, name) for name in self.sender_names()]
        self._receivers = [Link(self, hive, name) for name in self.receiver_names()]
        self.pump_until(lambda: all(link.ready for link in [*self._senders, *self._receivers]))
        for link in self._receivers:
            link.write(self._plan_recv(link))

    @staticmethod
    def sender_names() -> list[str]:
        return [f"s{index}" for index in range(SENDERS)]

    @staticmethod
    def receiver_names() -> list[str]:
        return [f"r{index}" for index in range(RECEIVERS)]

    def on_delivered(self, delivered: Delivered) -> None:
        self._delivered = delivered

    def send(self, sender: int, receiver: int, number: int, confirmed: Confirmed) -> None:
        link = self._senders[sender]
        body, key = Body(number).render(), f"{number:012d}"
        link.write(link.plan("send", lambda _: confirmed(), to=f"r{receiver}", body=body, idempotency_key=key))

    def _plan_recv(self, link: Link) -> bytes:
        def received(result: Any) -> None:
            for message in result["messages"]:
                self._delivered(parse_number(message["body"]))
            ack = link.plan("ack", lambda _: None, ids=[message["id"] for message in result["messages"]])
            link.write(ack + self._plan_recv(link))

        return link.plan_recv(received)
