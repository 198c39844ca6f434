"""One agent floods the broker: what a bystander feels of it."""

import random
import time
from pathlib import Path
from typing import Any

from benchmarks.broker import Trial
from benchmarks.contender import Body
from benchmarks.hives import HiveBroker, Link, run_hive
from benchmarks.measure import Context, Rounds, Row, percentile

# Far more than the daemon works on at once for one connection.
_PIPELINED = 256
_FLOODER, _SINK = "flooder", "sink"
_MS = 1000
# A bystander that is starved would go on for minutes.
_LIMIT_S = 5.0


class _Flood:
    """Keeps _PIPELINED sends under way, to a recipient that never fetches them."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._key = random.randrange(10**9)
        self._under_way = 0
        self.on = False
        self.sent = 0

    def start(self) -> None:
        self.on = True
        for _ in range(_PIPELINED):
            self._send()

    def is_over(self) -> bool:
        return not self._under_way

    def _send(self) -> None:
        self._key += 1
        self._under_way += 1
        request = self._link.plan(
            "send", self._answered, to=_SINK, body=Body(self._key).render(), idempotency_key=f"flood-{self._key}"
        )
        self._link.write(request)

    def _answered(self, _: Any) -> None:
        self._under_way -= 1
        self.sent += 1
        if self.on:
            self._send()


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
        link = Link(broker, hive, _FLOODER)
        broker.pump_until(lambda: link.ready)
        rounds.add("quiet", _bystand(broker, count))
        flood = _Flood(link)
        flood.start()
        began = time.perf_counter()
        rounds.add("flooded", _bystand(broker, count))
        rounds.add("flood/s", flood.sent / (time.perf_counter() - began))
        flood.on = False
        broker.pump_until(flood.is_over)


def _bystand(broker: HiveBroker, count: int) -> float:
    trial = Trial(broker)
    trial.pace(count, _LIMIT_S)
    return percentile(trial.latencies_s, 99) * _MS
