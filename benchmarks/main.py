"""`benchmarks/run`: measures what was asked for and prints one table."""

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import (
    active,
    broker,
    evaluation,
    fanout,
    first_request,
    flood,
    footprint,
    isolation,
    page,
    restart,
    start,
    stats,
    terminal,
)
from benchmarks.measure import Benchmark, Context, Row, render_table

# Not /tmp: that is often memory, and a durable write to it costs nothing.
_DISK = Path("/var/tmp")
_RESULTS = Path(__file__).with_name("RESULTS.md")

_RESULTS_TEXT = """# What `benchmarks/run --save` measured

{date}, commit {commit}, {machine}.

Ratios are medians of the ratios within each round (least to greatest): only they can be compared with other machines.
Contenders take turns within a round. Goals are those of the design; a row without one is there to explain another.

{table}
"""

BENCHMARKS: dict[str, Benchmark] = {
    "broker": broker.measure,
    "flood": flood.measure,
    "restart": restart.measure,
    "first-request": first_request.measure,
    "footprint": footprint.measure,
    "active": active.measure,
    "start": start.measure,
    "stats": stats.measure,
    "terminal": terminal.measure,
    "page": page.measure,
    "fan-out": fanout.measure,
    "isolation": isolation.measure,
    "evaluation": evaluation.measure,
}


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/run", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; none: all of them")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--save", action="store_true", help=f"write the table to benchmarks/{_RESULTS.name}")
    parser.add_argument("--folder", type=Path, default=_DISK, help=f"on the disk to be measured (default: {_DISK})")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    return options


def main() -> None:
    # Asked to end, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    options = _parse_arguments()
    rows: list[Row] = []
    for name in options.names or BENCHMARKS:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="hive-bench-", dir=options.folder) as folder:
            found = BENCHMARKS[name](Context(Path(folder), options.quick))
        print(f"## {name}, {time.monotonic() - began:.0f} s\n\n{render_table(found)}\n", flush=True)
        rows += found
    if options.save:
        _RESULTS.write_text(_render_results(rows))
        print(f"written: {_RESULTS}")


def _render_results(rows: list[Row]) -> str:
    machine = f"{os.cpu_count()} cores ({_find_processor()}), Linux {platform.release()}"
    return _RESULTS_TEXT.format(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        commit=_describe_commit(),
        machine=f"{machine}, Python {platform.python_version()}",
        table=render_table(rows),
    )


def _describe_commit() -> str:
    argv = ["git", "-C", str(_RESULTS.parent), "describe", "--always", "--dirty"]
    described = subprocess.run(argv, capture_output=True, text=True, check=False)
    return described.stdout.strip() if described.returncode == 0 else "unknown"


def _find_processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
