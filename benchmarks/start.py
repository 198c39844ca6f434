"""Starting an agent, from the operator's request to a harness that is connected; and starting the hive command."""

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing

from benchmarks.feed import open_feed, read_until
from benchmarks.hives import run_hive
from benchmarks.measure import Context, Rounds, Row
from hive_process import HiveProcess
from hyperhive.host.container_spec import HARNESS

_AGENT = "bench"
_STARTED = b'"name":"agent.started"'
_BWRAP_TRUE = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]
_COMMAND = [sys.executable, "-I", "-m", "hyperhive.cli.main", "version"]
# What any command line of Python pays.
_BARE_COMMAND = [sys.executable, "-I", "-c", "import typer"]
_MS = 1000


def measure(context: Context) -> list[Row]:
    rounds = Rounds()
    with run_hive(context.folder / "hive", names=[_AGENT]) as hive:
        _start(hive)
        for _ in range(context.choose(9, 3)):
            hive.post(f"/api/agents/{_AGENT}/stop")
            hive.wait_state(_AGENT, "stopped")
            rounds.add("start", _start(hive))
            # As the harness begins, up to where it would connect.
            rounds.add("harness", _time([HARNESS[0], "-I", "-c", f"import {HARNESS[-1]}"]))
            rounds.add("bwrap", _time(_BWRAP_TRUE))
            rounds.add("command", _time(_COMMAND))
            rounds.add("typer", _time(_BARE_COMMAND))
    ours, bwrap, harness = (f"{rounds.median(name):.0f} ms" for name in ("start", "bwrap", "harness"))
    return [
        Row(
            "start of an agent, to its harness connected",
            ours,
            f"`bwrap … true`: {bwrap}, and importing the harness: {harness}",
            rounds.render_ratio("start", "bwrap", "harness"),
            "≤ 2",
        ),
        Row("the same", ours, f"`bwrap … true` alone: {bwrap}", rounds.render_ratio("start", "bwrap")),
        Row(
            "`hive version`",
            f"{rounds.median('command'):.0f} ms",
            f"`import typer` in Python: {rounds.median('typer'):.0f} ms",
            rounds.render_ratio("command", "typer"),
        ),
    ]


def _start(hive: HiveProcess) -> float:
    """Milliseconds until the feed says that the agent has started."""
    with closing(open_feed(hive)) as feed, hive.client() as client:
        client.get("/api/agents")
        began = time.perf_counter()
        client.post(f"/api/agents/{_AGENT}/start").raise_for_status()
        read_until(feed, _STARTED)
        return (time.perf_counter() - began) * _MS


def _time(argv: Sequence[str]) -> float:
    """Milliseconds of a program that must end well."""
    began = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) * _MS
