"""The daemon is killed while agents work through what waits: when are all of them back, and is every message there?"""

import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.contender import MESSAGES_PER_RECV, Body, parse_number
from benchmarks.hives import run_hive
from benchmarks.measure import Context, Rounds, Row
from benchmarks.sockets import Sockets
from hive_process import HiveProcess
from hyperhive.system.sqlite import connect
from hyperhive.wire.agent_link import PROTOCOL_VERSION

_AGENTS = 100
_WAITING = 100_000
_RECV_WAIT_S = 170.0
# As a harness tries again.
_RETRY_FIRST_S, _RETRY_FACTOR, _RETRY_LIMIT_S = 0.01, 1.6, 1.0
# At most this long is worked on what waits before the next kill.
_WORK_S = 0.4
_TIMEOUT_S = 60.0
_DRAIN_TIMEOUT_S = 180.0
# What has not come by then is lost.
_STALL_S = 10.0


class _Ledger:
    """What became of each message, by its number."""

    def __init__(self) -> None:
        self.acked: set[int] = set()
        self.repeated = 0

    def deliver(self, number: int) -> None:
        self.repeated += number in self.acked


class _Agent:
    """A harness without turns: takes messages, acks them, and keeps what it holds when the connection breaks."""

    def __init__(self, path: Path, ledger: _Ledger) -> None:
        self.greeted = False
        self.served = False
        self._path = path
        self._ledger = ledger
        self._random = random.Random(str(path))
        # Handed out to it, not known to be acked: message id to number.
        self._held: dict[int, int] = {}
        self._begin()

    def _begin(self) -> None:
        self.greeted = self.served = False
        self._buffer = b""
        self._next = 0
        self._answered: dict[int, Callable[[Any], None]] = {}
        self._write: Callable[[bytes], None] | None = None
        self._delay_s, self._due_at = _RETRY_FIRST_S, 0.0

    def lose_connection(self) -> None:
        self._begin()

    def try_connect(self, sockets: Sockets) -> float:
        """Connects if it is time to. Returns when the next try is due, infinity once there is a connection."""
        if self._write is None and time.perf_counter() >= self._due_at:
            try:
                self._write = sockets.connect(self._path, self._receive).sendall
            except OSError:
                self._due_at = time.perf_counter() + self._delay_s * self._random.uniform(0.5, 1.0)
                self._delay_s = min(self._delay_s * _RETRY_FACTOR, _RETRY_LIMIT_S)
            else:
                held = list(self._held)
                self._request("hello", self._greet, protocol=PROTOCOL_VERSION, generation=1, holding=held)
        return self._due_at if self._write is None else float("inf")

    def _greet(self, _: Any) -> None:
        self.greeted = True
        self._ack(list(self._held))
        self._request("recv", self._take, max=MESSAGES_PER_RECV, wait_s=_RECV_WAIT_S)

    def _take(self, result: Any) -> None:
        for message in result["messages"]:
            number = parse_number(message["body"])
            self._ledger.deliver(number)
            self._held[message["id"]] = number
            self.served = True
        self._ack([message["id"] for message in result["messages"]])
        self._request("recv", self._take, max=MESSAGES_PER_RECV, wait_s=_RECV_WAIT_S)

    def _ack(self, ids: Sequence[int]) -> None:
        def acked(_: Any) -> None:
            self._ledger.acked.update(self._held.pop(number) for number in ids)

        if ids:
            self._request("ack", acked, ids=ids)

    def _request(self, method: str, answered: Callable[[Any], None], **params: Any) -> None:
        assert self._write is not None
        self._next += 1
        self._answered[self._next] = answered
        request = {"jsonrpc": "2.0", "id": self._next, "method": method, "params": params}
        self._write(json.dumps(request).encode() + b"\n")

    def _receive(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            answer = json.loads(line)
            if "error" in answer:
                raise RuntimeError(f"the daemon refused: {answer['error']}")
            if "result" in answer:
                self._answered.pop(answer["id"])(answer["result"])


class _Swarm:
    """All agents of a hive, and its kills."""

    def __init__(self, hive: HiveProcess, names: Sequence[str]) -> None:
        self.ledger = _Ledger()
        self._hive = hive
        self._agents = [_Agent(hive.run / "agents" / name / "hive.sock", self.ledger) for name in names]
        self._sockets = Sockets()

    def attach(self, condition: Callable[[_Agent], bool]) -> float:
        """Connects them. Returns the seconds until `condition` held for all. Raises TimeoutError."""
        began = time.perf_counter()
        due_at = 0.0
        while not all(condition(agent) for agent in self._agents):
            now = time.perf_counter()
            if now - began > _TIMEOUT_S:
                raise TimeoutError("not all agents are back")
            if now >= due_at:
                due_at = min(agent.try_connect(self._sockets) for agent in self._agents)
            self._sockets.pump(min(max(0.0, due_at - time.perf_counter()), 1.0))
        return time.perf_counter() - began

    def kill(self, condition: Callable[[_Agent], bool]) -> float:
        """Kills the daemon and starts it again at once. Returns the seconds until `condition` held for all."""
        began = time.perf_counter()
        self._hive.kill()
        self._sockets.close()
        self._sockets = Sockets()
        for agent in self._agents:
            agent.lose_connection()
        start = threading.Thread(target=self._hive.start)
        start.start()
        try:
            self.attach(condition)
            return time.perf_counter() - began
        finally:
            start.join()

    def work(self, duration_s: float) -> None:
        self._sockets.pump_for(duration_s)

    def drain(self) -> None:
        """Until every message is acked, or nothing has come for long. Raises TimeoutError if it goes on for ever."""
        end_at, acked, moved_at = time.perf_counter() + _DRAIN_TIMEOUT_S, 0, time.perf_counter()
        while (now := time.perf_counter()) - moved_at < _STALL_S and len(self.ledger.acked) < _WAITING:
            if now > end_at:
                raise TimeoutError(f"{_WAITING - len(self.ledger.acked)} messages wait after {_DRAIN_TIMEOUT_S:.0f} s")
            self._sockets.pump_for(0.1)
            if len(self.ledger.acked) > acked:
                acked, moved_at = len(self.ledger.acked), now

    def close(self) -> None:
        self._sockets.close()


def measure(context: Context) -> list[Row]:
    names = [f"a{index}" for index in range(_AGENTS)]
    rounds = Rounds()
    chance = random.Random()
    data = context.folder / "hive"
    with run_hive(data, names=names) as hive:
        hive.kill()
        _fill(data / "hive.sqlite", names)
        hive.start()
        with closing(_Swarm(hive, names)) as swarm:
            swarm.attach(_is_served)
            count = context.choose(5, 3)
            for _ in range(count):
                swarm.work(chance.uniform(0.0, _WORK_S))
                left = _WAITING - len(swarm.ledger.acked)
                rounds.add("full", swarm.kill(_is_served))
                rounds.add("waiting", left)
            swarm.drain()
            lost, repeated = _WAITING - len(swarm.ledger.acked), swarm.ledger.repeated
            for _ in range(count):
                rounds.add("empty", swarm.kill(_is_greeted))
    return [
        Row(
            f"kill -9 → {_AGENTS} agents back, each with its next messages, {rounds.median('waiting'):.0f} waiting",
            f"{rounds.median('full'):.2f} s",
            f"the same with none waiting: {rounds.median('empty'):.2f} s",
            rounds.render_ratio("full", "empty"),
            "≤ 3 s",
        ),
        Row(
            f"of {_WAITING} messages, with {count} kills: lost, repeated after their ack",
            f"{lost}, {repeated}",
            goal="0, 0",
        ),
    ]


def _is_greeted(agent: _Agent) -> bool:
    return agent.greeted


def _is_served(agent: _Agent) -> bool:
    return agent.served


def _fill(path: Path, names: Sequence[str]) -> None:
    """Puts _WAITING messages into the database of a hive that does not run, as many for each agent."""
    now_ms = int(time.time() * 1000)
    with closing(connect(path, "FULL")) as connection:
        connection.execute("begin")
        (first,) = connection.execute("select coalesce(max(id), 0) + 1 from messages").fetchone()
        for number in range(_WAITING):
            recipient, sender = names[number % len(names)], names[(number + 1) % len(names)]
            connection.execute(
                "insert into messages (id, sender, recipient, sent_at, state) values (?, ?, ?, ?, 'queued')",
                (first + number, sender, recipient, now_ms),
            )
            connection.execute("insert into bodies (id, body) values (?, ?)", (first + number, Body(number).render()))
        connection.execute("commit")
