"""One control group's folder in one hierarchy: its limits, its use, its processes, by the kernel's files.

In both versions of control groups. What has no file here is left out; a folder that is gone is an empty group.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hyperhive.system.cgroup_trees import Kernel, read_number
from hyperhive.system.memory_kills import read_count

_PERIOD_US = 100_000
# The kernel takes none below.
_LEAST_QUOTA_US = 1000
# What version 1 has where nothing was set is a little less.
_NO_LIMIT_BYTES = 2**62


@dataclass(frozen=True, slots=True)
class Place:
    """`version` of the hierarchy, and the controllers that the group has in it."""

    folder: Path
    version: int
    controllers: frozenset[str]

    def limit_memory(self, limit_bytes: int) -> None:
        """Memory and swap together. Raises OSError."""
        if self.version == 2:
            self._write("memory.max", limit_bytes)
            self._write_if_there("memory.swap.max", 0)
        else:
            self._write("memory.limit_in_bytes", limit_bytes)
            self._write_if_there("memory.memsw.limit_in_bytes", limit_bytes)

    def cap_memory(self, limit_bytes: int) -> None:
        """Memory alone: what there is of swap may be used. Raises OSError."""
        self._write("memory.max" if self.version == 2 else "memory.limit_in_bytes", limit_bytes)

    def limit_cpus(self, cpus: float) -> None:
        """Raises OSError."""
        quota_us = max(_LEAST_QUOTA_US, round(cpus * _PERIOD_US))
        if self.version == 2:
            self._write("cpu.max", f"{quota_us} {_PERIOD_US}")
        else:
            self._write("cpu.cfs_period_us", _PERIOD_US)
            self._write("cpu.cfs_quota_us", quota_us)

    def limit_tasks(self, tasks: int) -> None:
        """Raises OSError."""
        self._write("pids.max", tasks)

    def weigh(self, percent: int) -> None:
        """How much it gets of a processor that others want, too: beside 100 for a process. Raises OSError."""
        if self.version == 2:
            self._write("cpu.weight", percent)
        else:
            self._write("cpu.shares", percent * 1024 // 100)

    def observe_memory(self) -> int | None:
        """The bytes in use, without files that the kernel can drop at once: those only wait to be of use again."""
        total = read_number(self.folder / ("memory.current" if self.version == 2 else "memory.usage_in_bytes"))
        if total is None:
            return None
        key = "inactive_file" if self.version == 2 else "total_inactive_file"
        return max(0, total - _read_counts(self.folder / "memory.stat").get(key, 0))

    def observe_memory_limit(self) -> int | None:
        """None: there is none, or it is not known."""
        limit = read_number(self.folder / ("memory.max" if self.version == 2 else "memory.limit_in_bytes"))
        return None if limit is None or limit >= _NO_LIMIT_BYTES else limit

    def observe_kills(self) -> int | None:
        """How many processes the kernel ended because memory ran out, since the group was made."""
        return read_count(self.folder / ("memory.events" if self.version == 2 else "memory.oom_control"))

    def observe_tasks(self) -> int | None:
        return read_number(self.folder / "pids.current")

    def observe_tasks_limit(self) -> int | None:
        """None: there is none, or it is not known."""
        return read_number(self.folder / "pids.max")

    def is_populated(self) -> bool:
        """Whether a process is in it or below it."""
        if self.version == 2:
            return _read_counts(self.folder / "cgroup.events").get("populated", 0) > 0
        return any(True for _ in self.list_pids())

    def list_pids(self) -> Iterator[int]:
        """The processes in it and below it."""
        for folder, _, _ in os.walk(self.folder):
            try:
                text = (Path(folder) / "cgroup.procs").read_text()
            except OSError:
                continue
            # One that this process's pid namespace does not have is 0.
            yield from (int(word) for word in text.split() if word != "0")

    def join(self, pid: int) -> None:
        """Raises OSError."""
        self._write("cgroup.procs", pid)

    def kill_at_once(self) -> bool:
        """Has the kernel end all in it, also what is just being started. False where it cannot."""
        try:
            with (self.folder / "cgroup.kill").open("r+") as file:
                file.write("1")
        except OSError:
            return False
        return self.version == 2

    def freeze(self, *, frozen: bool) -> None:
        """Stops everything in it, or lets it go on; not where it cannot."""
        with contextlib.suppress(OSError):
            if self.version == 2:
                self._write_if_there("cgroup.freeze", int(frozen))
            else:
                self._write_if_there("freezer.state", "FROZEN" if frozen else "THAWED")

    def kill_each(self) -> None:
        for pid in list(self.list_pids()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def remove(self, kernel: Kernel) -> bool:
        """Removes the folder and those below it. False if something is still in it."""
        try:
            for folder, _, _ in os.walk(self.folder, topdown=False):
                with contextlib.suppress(FileNotFoundError):
                    kernel.remove(Path(folder))
        except OSError:
            return not self.folder.exists()
        return True

    def _write(self, name: str, value: int | str) -> None:
        # Without creating: a file that is not there is none of the kernel's.
        with (self.folder / name).open("r+") as file:
            file.write(str(value))

    def _write_if_there(self, name: str, value: int | str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._write(name, value)


def _read_counts(file: Path) -> dict[str, int]:
    """The lines `name number` of a file of the kernel's; nothing if it is not there."""
    try:
        pairs = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
