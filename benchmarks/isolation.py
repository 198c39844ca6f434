"""What containers cost with each driver, and what two agents feel of a third that does its worst to the machine."""

from benchmarks.container_attacks import measure_attacks
from benchmarks.container_crowd import measure_crowd, measure_one
from benchmarks.container_kinds import find_kinds
from benchmarks.container_starts import measure_starts
from benchmarks.measure import Context, Row

# gVisor's kernels take as much memory as everything else, and its attacks are those of nspawn's containers.
_NOT_CROWDED = "gvisor"


def measure(context: Context) -> list[Row]:
    kinds = find_kinds()
    crowded = [kind for kind in kinds if kind.name != _NOT_CROWDED]
    rows = [row for kind in kinds for row in (*measure_starts(context, kind), *measure_one(context, kind))]
    for kind in crowded:
        rows += measure_crowd(context, kind)
    for kind in crowded:
        rows += measure_attacks(context, kind)
    return rows
