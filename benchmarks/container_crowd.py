"""Many containers started at once: when is the last online, what did it cost, what does each of them hold."""

import contextlib
import os
import resource
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median

from benchmarks.container_kinds import HARNESS_IMPORTED, Containers, Kind, Peers, make_place, start_silently
from benchmarks.feed import open_feed, read_until
from benchmarks.hives import list_daemon, run_hive
from benchmarks.measure import Context, Rounds, Row
from benchmarks.processes import Memory, observe_all_spent
from hive_process import HiveProcess

_CROWD = 20
_STARTED = b'"name":"agent.started"'
# utime and stime of the children that were waited for, counted from the third field.
_CHILDREN = slice(13, 15)
_TICKS = os.sysconf("SC_CLK_TCK")


def measure_crowd(context: Context, kind: Kind) -> list[Row]:
    rounds = Rounds()
    peers = Peers(context.folder)
    names = [f"n{index}" for index in range(_CROWD)]
    with run_hive(make_place(context, kind, "crowd"), *kind.flags(), names=names) as hive:
        containers = Containers(hive.run)
        # The first start of an agent makes its config.
        _start_all(hive, names)
        for _ in range(context.choose(3, 1)):
            _stop_all(hive, names)
            before_s = _observe_spent(list_daemon(hive))
            rounds.add("start", _start_all(hive, names))
            started = [pid for name in names for pid in containers.list_processes(name)]
            rounds.add("cpu", _observe_spent([*list_daemon(hive), *started]) - before_s)
            peer_s, peer_cpu_s = _run_peers(peers, kind)
            rounds.add("peer", peer_s)
            rounds.add("peer cpu", peer_cpu_s)
        memory = [containers.observe_memory(name) for name in names]
        counted_mb = [containers.count_memory_mb(name) for name in names]
    against = f"{_CROWD} of `{kind.peer}` at once, then {_CROWD} times importing the harness at once"
    return [
        Row(
            f"{kind.name}: {_CROWD} starts at once → the last online",
            f"{rounds.median('start'):.2f} s",
            f"{against}: {rounds.median('peer'):.2f} s",
            rounds.render_ratio("start", "peer"),
        ),
        Row(
            "CPU of that, for each container: with the daemon's part",
            f"{rounds.median('cpu') / _CROWD * 1000:.0f} ms",
            f"the same: {rounds.median('peer cpu') / _CROWD * 1000:.0f} ms",
            rounds.render_ratio("cpu", "peer cpu"),
        ),
        Row(
            f"PSS of each of these {_CROWD}, idle: harness, sandbox and all that watches it",
            str(_find_middle(memory)),
            f"what its control group counts: {median(counted_mb):.1f} MB",
        ),
    ]


def measure_one(context: Context, kind: Kind) -> list[Row]:
    """Of one alone, which shares its pages with nobody."""
    with run_hive(make_place(context, kind, "one"), *kind.flags(), names=["one"]) as hive:
        _start_all(hive, ["one"])
        hive.wait_state("one", "idle")
        containers = Containers(hive.run)
        memory = containers.observe_memory("one")
        count = len(containers.list_processes("one"))
    return [Row(f"{kind.name}: PSS of an idle agent alone, {count} processes", str(memory))]


def _start_all(hive: HiveProcess, names: Sequence[str]) -> float:
    """Seconds until the harnesses of all are connected."""
    with closing(open_feed(hive)) as feed, hive.client() as client:
        client.get("/api/agents")
        began = time.perf_counter()
        for name in names:
            client.post(f"/api/agents/{name}/start").raise_for_status()
        read_until(feed, _STARTED, len(names))
        return time.perf_counter() - began


def _stop_all(hive: HiveProcess, names: Sequence[str]) -> None:
    for name in names:
        hive.post(f"/api/agents/{name}/stop")
    for name in names:
        hive.wait_state(name, "stopped")


def _run_peers(peers: Peers, kind: Kind) -> tuple[float, float]:
    """Seconds, of the clock and of the processors."""
    with ExitStack() as stack:
        argvs = [stack.enter_context(peers.open(kind, number)) for number in range(_CROWD)]
        before, began = _count_children(), time.perf_counter()
        _run_all(argvs)
        _run_all([HARNESS_IMPORTED] * _CROWD)
        return time.perf_counter() - began, _count_children() - before


def _run_all(argvs: Sequence[Sequence[str]]) -> None:
    failed = [child.args for child in [start_silently(argv) for argv in argvs] if child.wait() != 0]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(argvs)} failed: {failed[0]}")


def _count_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _observe_spent(pids: Sequence[int]) -> float:
    """CPU seconds of processes, and of their children that have ended."""
    total_s = observe_all_spent(pids).cpu_s
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total_s += sum(int(ticks) for ticks in fields[_CHILDREN]) / _TICKS
    return total_s


def _find_middle(memory: Sequence[Memory]) -> Memory:
    return sorted(memory, key=lambda each: each.pss_mb)[len(memory) // 2]
