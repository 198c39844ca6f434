"""Messages: from a send to the receiver that waits for it, with all that durability costs in between."""

import random
import time
from contextlib import ExitStack

from benchmarks.contender import RECEIVERS, SENDERS, Contender
from benchmarks.disk import Limits, open_limits
from benchmarks.hives import HiveBroker, run_hive
from benchmarks.measure import Context, Rounds, Row, percentile
from benchmarks.processes import observe_spent
from benchmarks.redis_streams import is_installed, run_redis

# An idle system does not meet a disk that is busy with the operation before.
_PACE_S = 0.004
_WARM_UP_S = 0.5
_US = 1e6


class Trial:
    """Sends numbered messages through a contender and notices what is lost, repeated or invented."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self.latencies_s: list[float] = []
        self.delivered = 0
        self._sent_at: dict[int, float] = {}
        self._sent = 0
        self._confirmed = 0
        self._stopped = False
        self._next = random.randrange(10**9) * 100
        self._random = random.Random(7)
        contender.on_delivered(self._take)

    def send(self, sender: int, again: bool) -> None:
        """One message to some receiver; `again` sends the next one as soon as this one is durable."""
        number = self._next = self._next + 1
        self._sent_at[number] = time.perf_counter()

        def confirmed() -> None:
            self._confirmed += 1
            if again and not self._stopped:
                self.send(sender, again)

        self._sent += 1
        self.contender.send(sender, self._random.randrange(RECEIVERS), number, confirmed)

    def _take(self, number: int) -> None:
        # A KeyError here is a message that was delivered twice, or never sent.
        self.latencies_s.append(time.perf_counter() - self._sent_at.pop(number))
        self.delivered += 1

    def is_settled(self) -> bool:
        """Whether all that was sent is confirmed and delivered."""
        return self._confirmed == self._sent and not self._sent_at

    def saturate(self, duration_s: float) -> tuple[float, float, float]:
        """SENDERS senders, each with one message under way: messages/s, server CPU in s and bytes for a message."""
        for sender in range(SENDERS):
            self.send(sender, again=True)
        self.contender.pump_for(_WARM_UP_S)
        self.latencies_s.clear()
        before, delivered, began = observe_spent(self.contender.pid), self.delivered, time.perf_counter()
        self.contender.pump_for(duration_s)
        elapsed_s, count = time.perf_counter() - began, self.delivered - delivered
        spent = observe_spent(self.contender.pid) - before
        self._stopped = True
        self.contender.pump_until(self.is_settled)
        return count / elapsed_s, spent.cpu_s / count, spent.written_bytes / count

    def pace(self, count: int, limit_s: float = 60.0) -> None:
        """`count` messages one after another, one each _PACE_S at the most; fewer if they take over `limit_s`."""
        end_at = time.perf_counter() + limit_s
        for index in range(count):
            due_at = time.perf_counter() + _PACE_S
            if due_at > end_at:
                break
            self.send(index % SENDERS, again=False)
            self.contender.pump_until(self.is_settled)
            self.contender.pump_for(due_at - time.perf_counter())


def measure(context: Context) -> list[Row]:
    """Rows for latency and throughput; against Redis too where it is installed."""
    with ExitStack() as stack:
        limits = stack.enter_context(open_limits(context.folder / "disk"))
        names = [*HiveBroker.sender_names(), *HiveBroker.receiver_names()]
        contenders: list[Contender] = [HiveBroker(stack.enter_context(run_hive(context.folder / "hive", names=names)))]
        if is_installed():
            contenders.append(stack.enter_context(run_redis(context.folder / "redis")))
        rounds = Rounds()
        for _ in range(context.choose(5, 3)):
            _pace_limits(limits, rounds, context.choose(250, 120))
            for contender in contenders:
                _pace(contender, rounds, context.choose(250, 120))
            rounds.add("disk/s", limits.count_syncs(context.choose(2, 1)))
            for contender in contenders:
                _saturate(contender, rounds, context.choose(4, 2))
    return _plan_rows(rounds)


def _pace_limits(limits: Limits, rounds: Rounds, count: int) -> None:
    samples_s: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        limits.echo()
        limits.sync_block()
        samples_s.append(time.perf_counter() - began)
        time.sleep(max(0.0, began + _PACE_S - time.perf_counter()))
    _add_percentiles("limit", samples_s, rounds)


def _pace(contender: Contender, rounds: Rounds, count: int) -> None:
    trial = Trial(contender)
    trial.pace(count)
    _add_percentiles(contender.name, trial.latencies_s, rounds)


def _add_percentiles(name: str, samples_s: list[float], rounds: Rounds) -> None:
    for percent in (50, 99):
        rounds.add(f"{name} p{percent}", percentile(samples_s, percent) * _US)


def _saturate(contender: Contender, rounds: Rounds, duration_s: float) -> None:
    trial = Trial(contender)
    rate, cpu_s, written_bytes = trial.saturate(duration_s)
    rounds.add(f"{contender.name}/s", rate)
    rounds.add(f"{contender.name} cpu", cpu_s * _US)
    rounds.add(f"{contender.name} bytes", written_bytes / 1024)
    _add_percentiles(f"{contender.name} busy", trial.latencies_s, rounds)


def _plan_rows(rounds: Rounds) -> list[Row]:
    def show(name: str, unit: str, digits: int = 0) -> str:
        return f"{rounds.median(name):.{digits}f} {unit}"

    def both(name: str) -> str:
        return f"{rounds.median(f'{name} p50'):.0f} / {rounds.median(f'{name} p99'):.0f} µs"

    limit = f"4 KiB fdatasync + socket echo: {both('limit')}"
    disk = f"one fdatasync after another: {show('disk/s', '/s')}"
    rows = [
        Row("idle send → recv, p50 / p99", both("hive"), limit, rounds.render_ratio("hive p50", "limit p50"), "≤ 1.8"),
        Row("durable messages, 32 senders", show("hive/s", "/s"), disk, rounds.render_ratio("hive/s", "disk/s")),
        Row("written for a message of 1 KiB", show("hive bytes", "KiB", 1), goal="≤ 4 KiB"),
    ]
    if not rounds.has("redis/s"):
        return rows
    redis = "Redis streams, appendfsync always: "
    return [
        *rows,
        Row("idle send → recv", both("hive"), redis + both("redis"), rounds.render_ratio("hive p50", "redis p50")),
        Row(
            "durable messages, 32 senders",
            show("hive/s", "/s"),
            redis + show("redis/s", "/s"),
            rounds.render_ratio("hive/s", "redis/s"),
            "≥ 1",
        ),
        Row(
            "send → recv under that load",
            both("hive busy"),
            redis + both("redis busy"),
            rounds.render_ratio("hive busy p50", "redis busy p50"),
        ),
        Row(
            "server CPU for a message",
            show("hive cpu", "µs"),
            redis + show("redis cpu", "µs"),
            rounds.render_ratio("hive cpu", "redis cpu"),
        ),
        Row(
            "written for a message",
            show("hive bytes", "KiB", 1),
            redis + show("redis bytes", "KiB", 1),
            rounds.render_ratio("hive bytes", "redis bytes"),
        ),
    ]
