"""Messages of one agent to another, while a third attacks the machine from inside its container."""

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from typing import Any

from attacks import DISK_FILLER, FORK_BOMB, LOG_FLOODER, MEMORY_HOG, SOCKET_FLOODER, SPINNERS
from benchmarks.container_kinds import Containers, Kind, make_place
from benchmarks.contender import Body, parse_number
from benchmarks.hives import Link, run_hive
from benchmarks.measure import Context, Rounds, Row, percentile
from benchmarks.sockets import Sockets
from hive_process import HiveProcess, wait_for
from hyperhive.core.errors import HiveError
from hyperhive.host.drivers.protocol import Driver

_SENDER, _READER, _ATTACKER = "anna", "bert", "mallory"
_ATTACKS: dict[str, tuple[str, ...]] = {
    "fork bomb": ("bash", "-c", FORK_BOMB),
    "memory hog": ("sh", "-c", MEMORY_HOG),
    "12 spinners": ("sh", "-c", SPINNERS),
    "disk filler": ("sh", "-c", DISK_FILLER),
    "log flooder": (sys.executable, "-c", LOG_FLOODER, "0"),
    "socket flooder": (sys.executable, "-c", SOCKET_FLOODER),
}
# What the hive gives a container is a part of the machine's; here others may need theirs.
_MEMORY = "1G"
_PACE_S = 0.01
# An attack that ended, by itself or by the kernel, begins again.
_ATTACK_S = 5.0
_BEGIN_TIMEOUT_S = 30.0
_LOST_S = 60.0
_MS = 1000


def measure_attacks(context: Context, kind: Kind) -> list[Row]:
    rounds = Rounds()
    seconds = context.choose(5, 2)
    data = make_place(context, kind, "attacks")
    flags = (*kind.flags(), "--limit-memory", _MEMORY)
    with (
        run_hive(data, *flags, names=[_SENDER, _READER]) as hive,
        closing(_Exchange(hive)) as exchange,
    ):
        attacker = _Attacker(hive, kind.driver(data))
        # The first messages of a hive are slower.
        exchange.run(lambda: True, 1.0)
        for _ in range(context.choose(3, 1)):
            for what, command in _ATTACKS.items():
                _note(rounds, f"quiet {what}", exchange.run(lambda: True, seconds))
                with attacker.attack(command):
                    _note(rounds, what, exchange.run(attacker.is_alive, seconds))
    return [_plan_row(kind, rounds, what) for what in _ATTACKS]


def _note(rounds: Rounds, name: str, took_ms: list[float]) -> None:
    rounds.add(f"{name} p50", percentile(took_ms, 50))
    rounds.add(f"{name} p99", percentile(took_ms, 99))


def _plan_row(kind: Kind, rounds: Rounds, what: str) -> Row:
    def render(name: str) -> str:
        return f"{rounds.median(f'{name} p50'):.1f} / {rounds.median(f'{name} p99'):.1f} ms"

    ratios = [rounds.render_ratio(f"{what} {part}", f"quiet {what} {part}") for part in ("p50", "p99")]
    return Row(
        f"{kind.name}: send → recv of two agents while a third attacks: {what}, p50 / p99",
        render(what),
        f"while nobody attacks: {render(f'quiet {what}')}",
        " / ".join(ratios),
    )


class _Exchange:
    """Speaks for two agents: one sends, the other waits for it."""

    def __init__(self, hive: HiveProcess) -> None:
        self._sockets = Sockets()
        self._sender, self._reader = (Link(self._sockets, hive, name) for name in (_SENDER, _READER))
        self._sockets.pump_until(lambda: self._sender.ready and self._reader.ready)
        self._sent = self._received = 0
        self._arrived_at = 0.0
        self._expect()

    def close(self) -> None:
        self._sockets.close()

    def run(self, goes_on: Callable[[], bool], seconds: float) -> list[float]:
        """Milliseconds of each message, one after another for so long, or until `goes_on` ends.

        Raises TimeoutError for one that does not arrive.
        """
        took_ms: list[float] = []
        end_at = time.perf_counter() + seconds
        while (began := time.perf_counter()) < end_at and (not took_ms or goes_on()):
            self._send()
            self._sockets.pump_until(lambda: self._received == self._sent, _LOST_S)
            took_ms.append((self._arrived_at - began) * _MS)
            self._sockets.pump_for(began + _PACE_S - time.perf_counter())
        return took_ms

    def _send(self) -> None:
        self._sent += 1
        self._sender.write(
            self._sender.plan(
                "send", _ignore, to=_READER, body=Body(self._sent).render(), idempotency_key=f"message-{self._sent}"
            )
        )

    def _expect(self) -> None:
        self._reader.write(self._reader.plan_recv(self._take))

    def _take(self, result: Any) -> None:
        self._arrived_at = time.perf_counter()
        for message in result["messages"]:
            self._received += 1
            if parse_number(message["body"]) != self._received:
                raise RuntimeError(f"message {self._received} is lost or repeated")
        ids = [message["id"] for message in result["messages"]]
        self._reader.write(self._reader.plan("ack", _ignore, ids=ids))
        self._expect()


def _ignore(_: Any) -> None:
    pass


class _Attacker:
    """An agent for each attack, which may be its end."""

    def __init__(self, hive: HiveProcess, driver: Driver) -> None:
        self._hive = hive
        self._driver = driver
        self._containers = Containers(hive.run)

    @contextmanager
    def attack(self, command: tuple[str, ...]) -> Generator[None]:
        """Runs a command inside a container again and again until the block is left."""
        self._hive.post("/api/agents", {"name": _ATTACKER})
        self._hive.wait_state(_ATTACKER, "idle")
        before = self._count()
        over = threading.Event()
        thread = threading.Thread(target=self._run, args=(command, over), name="attack")
        thread.start()
        try:
            wait_for(lambda: self._count() != before, "the attack to begin", _BEGIN_TIMEOUT_S)
            yield
        finally:
            over.set()
            with self._hive.client() as client:
                client.delete(f"/api/agents/{_ATTACKER}?purge=true").raise_for_status()
            thread.join()

    def is_alive(self) -> bool:
        """Whether its container runs: the hive may have ended it for what it does."""
        return self._count() > 0

    def _run(self, command: tuple[str, ...], over: threading.Event) -> None:
        while not over.is_set():
            # Ended with its container, killed by the kernel, or over its time.
            with contextlib.suppress(HiveError):
                asyncio.run(self._driver.exec(_ATTACKER, command, _ATTACK_S))
            over.wait(0.1)

    def _count(self) -> int:
        return self._containers.count_tasks(_ATTACKER)
