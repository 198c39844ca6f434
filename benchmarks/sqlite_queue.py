"""The peer: a queue library on SQLite. It has no server: who uses it opens the files and looks into them.

All of it runs in this process and one after another. That spares it what several processes would wait for one
another's locks.
"""

import importlib.metadata
import importlib.util
import os
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.contender import MESSAGES_PER_RECV, RECEIVERS, Body, Confirmed, Delivered, parse_number

_LIBRARY = "litequeue"
# How often a receiver looks. It cannot be woken.
_LOOK_EVERY_S = 0.1


def is_installed() -> bool:
    return importlib.util.find_spec(_LIBRARY) is not None


@contextmanager
def run_sqlite(folder: Path) -> Generator["SqliteBroker"]:
    folder.mkdir()
    broker = SqliteBroker(folder)
    yield broker
    broker.close()


def _open(path: Path, synchronous: str) -> Any:
    queue = importlib.import_module(_LIBRARY).LiteQueue(path)
    queue.conn.execute(f"pragma synchronous = {synchronous}")
    return queue


class SqliteBroker:
    """The library as a contender: a file for each receiver, as its author advises."""

    name = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.pid = os.getpid()
        version = importlib.metadata.version(_LIBRARY)
        self.title = f"{_LIBRARY} {version} on SQLite, no server: receivers look every {_LOOK_EVERY_S * 1000:.0f} ms"
        self._delivered: Delivered = lambda _: None
        paths = [folder / f"r{index}.sqlite" for index in range(RECEIVERS)]
        self._to_send = [_open(path, "full") for path in paths]
        # A lost lease or ack is a redelivery: they need not wait for the disk.
        self._to_receive = [_open(path, "normal") for path in paths]
        self._waiting: deque[tuple[int, int, Confirmed]] = deque()
        began = time.perf_counter()
        self._looks = deque((began + _LOOK_EVERY_S * index / RECEIVERS, index) for index in range(RECEIVERS))

    def on_delivered(self, delivered: Delivered) -> None:
        self._delivered = delivered

    def send(self, sender: int, receiver: int, number: int, confirmed: Confirmed) -> None:
        self._waiting.append((receiver, number, confirmed))

    def pump(self, timeout_s: float) -> None:
        """At most one send, then the looks that are due; sleeps if there is neither."""
        if self._waiting:
            receiver, number, confirmed = self._waiting.popleft()
            self._to_send[receiver].put(Body(number).render())
            confirmed()
        else:
            time.sleep(max(0.0, min(timeout_s, self._looks[0][0] - time.perf_counter())))
        while self._looks[0][0] <= time.perf_counter():
            _, receiver = self._looks.popleft()
            self._look(receiver)
            self._looks.append((time.perf_counter() + _LOOK_EVERY_S, receiver))

    def pump_for(self, duration_s: float) -> None:
        deadline = time.perf_counter() + duration_s
        while (left_s := deadline - time.perf_counter()) > 0:
            self.pump(left_s)

    def pump_until(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
        """Raises TimeoutError."""
        deadline = time.perf_counter() + timeout_s
        while not condition():
            left_s = deadline - time.perf_counter()
            if left_s <= 0:
                raise TimeoutError(f"waited {timeout_s:g} s in vain")
            self.pump(left_s)

    def close(self) -> None:
        for queue in [*self._to_send, *self._to_receive]:
            queue.conn.close()

    def _look(self, receiver: int) -> None:
        queue = self._to_receive[receiver]
        for _ in range(MESSAGES_PER_RECV):
            message = queue.pop()
            if message is None:
                break
            self._delivered(parse_number(message.data))
            queue.done(message.message_id)
