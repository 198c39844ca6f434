"""A memory cgroup of a test's own, below the one that the test runs in, so that no other limit is left."""

import contextlib
import os
import time
from collections.abc import Generator, Iterable
from pathlib import Path

from hyperhive.system.memory_kills import find_hierarchies

_FILES = {
    "cgroup": ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control"),
    "cgroup2": ("memory.max", "memory.swap.max", "memory.events"),
}


class MemoryGroup:
    def __init__(self, folder: Path, kind: str) -> None:
        self._folder = folder
        self._kind = kind

    def take(self, pids: Iterable[int]) -> None:
        for pid in pids:
            (self._folder / "cgroup.procs").write_text(str(pid))


@contextlib.contextmanager
def make_memory_group(limit_bytes: int) -> Generator[MemoryGroup]:
    """Raises AssertionError where none can be made: as root, with the memory controller, it can."""
    kind, parent = _find_parent()
    folder = parent / f"hive-test-{os.getpid()}-{time.monotonic_ns()}"
    folder.mkdir()
    try:
        limit, swap, _ = (folder / name for name in _FILES[kind])
        limit.write_text(str(limit_bytes))
        if swap.exists():
            swap.write_text(str(limit_bytes if kind == "cgroup" else 0))
        yield MemoryGroup(folder, kind)
    finally:
        _remove(folder)


def _find_parent() -> tuple[str, Path]:
    hierarchies = find_hierarchies()
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        kind = "cgroup2" if not controllers else "cgroup" if "memory" in controllers.split(",") else ""
        parent = hierarchies[kind] / path.lstrip("/") if kind in hierarchies else None
        if parent is not None and (parent / _FILES[kind][0]).exists():
            return kind, parent
    raise AssertionError("no memory cgroup can be made here")


def _remove(folder: Path) -> None:
    """What was killed in it leaves within a moment."""
    end = time.monotonic() + 10
    while True:
        try:
            folder.rmdir()
        except OSError:
            assert time.monotonic() < end, f"{folder} is still in use"
            time.sleep(0.01)
        else:
            return
