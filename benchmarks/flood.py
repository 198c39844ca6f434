"""One agent floods the broker: what a bystander feels of it."""

import multiprocessing
import random
import time
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from benchmarks.broker import Trial
from benchmarks.contender import Body
from benchmarks.hives import HiveBroker, Link, run_hive
from benchmarks.measure import Context, Rounds, Row, percentile
from benchmarks.sockets import Sockets
from hive_process import HiveProcess

# Far more than the daemon works on at once for one connection.
_PIPELINED = 256
_FLOODER, _SINK = "flooder", "sink"
_MS = 1000
# A bystander that is starved would go on for minutes.
_LIMIT_S = 5.0


class _Flood:
    """Keeps _PIPELINED sends under way, to a recipient that never fetches them."""

    def __init__(self, link: Link, sent: "Synchronized[int]") -> None:
        self._link = link
        self._key = random.randrange(10**9)
        self._sent = sent

    def start(self) -> None:
        for _ in range(_PIPELINED):
            self._send()

    def _send(self) -> None:
        self._key += 1
        request = self._link.plan(
            "send", self._answered, to=_SINK, body=Body(self._key).render(), idempotency_key=f"flood-{self._key}"
        )
        self._link.write(request)

    def _answered(self, _: Any) -> None:
        self._sent.value += 1
        self._send()


def _run_flood(data: Path, sent: "Synchronized[int]") -> None:
    sockets = Sockets()
    link = Link(sockets, HiveProcess(data), _FLOODER)
    sockets.pump_until(lambda: link.ready)
    _Flood(link, sent).start()
    while True:
        sockets.pump(1.0)


@contextmanager
def _flooded(data: Path) -> Generator["Synchronized[int]"]:
    """How much the flood has sent. In a process of its own: its writes block once the daemon reads no more of it."""
    context = multiprocessing.get_context("spawn")
    sent: Synchronized[int] = context.Value("q", 0)
    process = context.Process(target=_run_flood, args=(data, sent), daemon=True)
    process.start()
    try:
        while not sent.value:
            time.sleep(0.01)
        yield sent
    finally:
        process.terminate()
        process.join()


def measure(context: Context) -> list[Row]:
    rounds = Rounds()
    for number in range(context.choose(5, 3)):
        _run_round(context.folder / f"hive-{number}", context.choose(400, 150), rounds)
    return [
        Row(
            "a bystander's send → recv while one agent floods, p99",
            f"{rounds.median('flooded'):.1f} ms, with {rounds.median('flood/s'):.0f} messages/s of the flood",
            f"the same when it is quiet: {rounds.median('quiet'):.1f} ms",
            rounds.render_ratio("flooded", "quiet"),
            "≤ 5",
        )
    ]


def _run_round(folder: Path, count: int, rounds: Rounds) -> None:
    """A new hive each time: what a flood has left waiting would slow the next quiet."""
    names = [*HiveBroker.sender_names(), *HiveBroker.receiver_names(), _FLOODER, _SINK]
    with run_hive(folder, names=names) as hive:
        broker = HiveBroker(hive)
        rounds.add("quiet", _bystand(broker, count))
        with _flooded(folder) as sent:
            began = time.perf_counter()
            rounds.add("flooded", _bystand(broker, count))
            rounds.add("flood/s", sent.value / (time.perf_counter() - began))


def _bystand(broker: HiveBroker, count: int) -> float:
    trial = Trial(broker)
    trial.pace(count, _LIMIT_S)
    return percentile(trial.latencies_s, 99) * _MS
