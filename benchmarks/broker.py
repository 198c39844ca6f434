"""Messages: from a send to the receiver that waits for it, with all that durability costs in between."""

import os
import random
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.contender import RECEIVERS, SENDERS, Contender
from benchmarks.disk import Limits, WriteCounter, open_limits
from benchmarks.hives import HiveBroker, run_hive
from benchmarks.measure import Context, Rounds, Row, percentile
from benchmarks.peers import PeerKind, install_peers
from benchmarks.processes import list_descendants, observe_all_spent, observe_memory

# An idle system does not meet a disk that is busy with the operation before.
_PACE_S = 0.004
_WARM_UP_S = 0.5
# A contender whose receivers look now and then would take ten times as long as the others.
_PACE_LIMIT_S = 2.0
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
        self._pids = list_pids(contender)
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

    def saturate(self, duration_s: float, disk: WriteCounter) -> tuple[float, float, float]:
        """SENDERS senders, each with one message under way: messages/s, server CPU in s and bytes for a message."""
        for sender in range(SENDERS):
            self.send(sender, again=True)
        self.contender.pump_for(_WARM_UP_S)
        self.latencies_s.clear()
        spent, written_bytes = observe_all_spent(self._pids), disk.read_bytes()
        delivered, began = self.delivered, time.perf_counter()
        self.contender.pump_for(duration_s)
        elapsed_s, count = time.perf_counter() - began, self.delivered - delivered
        spent, written_bytes = observe_all_spent(self._pids) - spent, disk.read_bytes() - written_bytes
        self._stopped = True
        self.contender.pump_until(self.is_settled)
        return count / elapsed_s, spent.cpu_s / count, written_bytes / count

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


def list_pids(contender: Contender) -> list[int]:
    """The processes of the server; this one if there is none."""
    return [contender.pid] if has_no_server(contender) else list_descendants(contender.pid)


def has_no_server(contender: Contender) -> bool:
    return contender.pid == os.getpid()


def measure(context: Context) -> list[Row]:
    """Rows for latency, throughput and what they cost: against the disk, and each peer that can be had."""
    kinds, left_out = install_peers()
    for reason in left_out:
        print(f"benchmarks: left out: {reason}", file=sys.stderr, flush=True)
    with ExitStack() as stack:
        limits = stack.enter_context(open_limits(context.folder / "disk"))
        names = [*HiveBroker.sender_names(), *HiveBroker.receiver_names()]
        hive = HiveBroker(stack.enter_context(run_hive(context.folder / "hive", names=names)))
        peers = [stack.enter_context(kind.run(context.folder / kind.name)) for kind in kinds]
        rounds = Rounds()
        for number in range(context.choose(5, 3)):
            contenders: list[Contender] = [hive, *peers]
            # Nobody always comes after the same one.
            _run_round(context, limits, contenders[:: -1 if number % 2 else 1], rounds)
        titles = {peer.name: peer.title for peer in peers}
        has_memory = [peer.name for peer in peers if not has_no_server(peer)]
    return [
        *_plan_limit_rows(rounds),
        *_plan_peer_rows(rounds, kinds, titles, has_memory),
        *(Row("left out", "", reason) for reason in left_out),
    ]


def _run_round(context: Context, limits: Limits, contenders: Sequence[Contender], rounds: Rounds) -> None:
    _pace_limits(limits, rounds, context.choose(250, 120))
    for contender in contenders:
        _pace(contender, rounds, context.choose(250, 120))
    rounds.add("disk/s", limits.count_syncs(context.choose(2, 1)))
    for contender in contenders:
        _saturate(contender, rounds, context.choose(4, 2), WriteCounter(context.folder))


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
    trial.pace(count, _PACE_LIMIT_S)
    _add_percentiles(contender.name, trial.latencies_s, rounds)


def _add_percentiles(name: str, samples_s: list[float], rounds: Rounds) -> None:
    for percent in (50, 99):
        rounds.add(f"{name} p{percent}", percentile(samples_s, percent) * _US)


def _saturate(contender: Contender, rounds: Rounds, duration_s: float, disk: WriteCounter) -> None:
    trial = Trial(contender)
    rate, cpu_s, written_bytes = trial.saturate(duration_s, disk)
    rounds.add(f"{contender.name}/s", rate)
    rounds.add(f"{contender.name} cpu", cpu_s * _US)
    rounds.add(f"{contender.name} KiB", written_bytes / 1024)
    if not has_no_server(contender):
        rounds.add(f"{contender.name} pss", observe_memory(list_pids(contender)).pss_mb)
    _add_percentiles(f"{contender.name} busy", trial.latencies_s, rounds)


def _plan_limit_rows(rounds: Rounds) -> list[Row]:
    limit = f"4 KiB fdatasync + socket echo: {_both(rounds, 'limit')}"
    disk = f"one fdatasync after another: {rounds.median('disk/s'):.0f} /s"
    return [
        Row(
            "idle send → recv, p50 / p99",
            _both(rounds, "hive"),
            limit,
            rounds.render_ratio("hive p50", "limit p50"),
            "≤ 1.8",
        ),
        Row(
            "durable messages, 32 senders",
            f"{rounds.median('hive/s'):.0f} /s",
            disk,
            rounds.render_ratio("hive/s", "disk/s"),
        ),
        Row("written to the disk for a message of 1 KiB", f"{rounds.median('hive KiB'):.1f} KiB", goal="≤ 4 KiB"),
    ]


def _plan_peer_rows(
    rounds: Rounds, kinds: Sequence[PeerKind], titles: dict[str, str], has_memory: Sequence[str]
) -> list[Row]:
    """A block for each figure, with a row for each peer."""

    def compare(what: str, figure: str, unit: str, names: Sequence[str], digits: int = 0) -> list[Row]:
        ours = f"{rounds.median(f'hive{figure}'):.{digits}f} {unit}"
        return [
            Row(
                what,
                ours,
                f"{titles[name]}: {rounds.median(f'{name}{figure}'):.{digits}f} {unit}",
                rounds.render_ratio(f"hive{figure}", f"{name}{figure}"),
                goals[name] if figure == "/s" else "",
            )
            for name in names
        ]

    def compare_latency(what: str, figure: str) -> list[Row]:
        return [
            Row(
                what,
                _both(rounds, f"hive{figure}"),
                f"{titles[name]}: {_both(rounds, f'{name}{figure}')}",
                rounds.render_ratio(f"hive{figure} p50", f"{name}{figure} p50"),
            )
            for name in names
        ]

    names = [kind.name for kind in kinds]
    goals = {kind.name: f"≥ {kind.goal}" if kind.goal else "" for kind in kinds}
    return [
        *compare("durable messages, 32 senders", "/s", "/s", names),
        *compare_latency("idle send → recv, p50 / p99", ""),
        *compare_latency("send → recv under that load", " busy"),
        *compare("CPU for a message, of the server if there is one", " cpu", "µs", names),
        *compare("written to the disk for a message", " KiB", "KiB", names, digits=1),
        *compare("PSS of the server after it", " pss", "MB", has_memory),
    ]


def _both(rounds: Rounds, name: str) -> str:
    return f"{rounds.median(f'{name} p50'):.0f} / {rounds.median(f'{name} p99'):.0f} µs"
