"""What the kernel ended because memory ran out, as it counts that: for a process's memory cgroup and for the machine.

Both counters only grow. The machine's counts every such kill, whichever limit was hit; a cgroup's tells whose it was.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
# Both spell the line alike.
_COUNT = re.compile(rb"^oom_kill (\d+)$", re.MULTILINE)
_GROUP_FILES = {"cgroup": "memory.oom_control", "cgroup2": "memory.events"}


@dataclass(frozen=True, slots=True)
class Kills:
    """How many kills were counted when somebody looked. None: that counter cannot be read."""

    machine: int | None = None
    group: int | None = None
    # where the group's are counted
    file: Path | None = None


def observe_kills(pid: int | None = None, hierarchies: Mapping[str, Path] | None = None) -> Kills:
    """The counters now; with `pid` also that of the cgroup which this process is in. Never raises."""
    file = None if pid is None else find_group_file(pid, find_hierarchies() if hierarchies is None else hierarchies)
    return Kills(read_count(PROC / "vmstat"), None if file is None else read_count(file), file)


def is_killed_since(before: Kills) -> bool:
    """Whether a kill was counted since: in the process's own cgroup if that can still be told, else on the machine."""
    machine = read_count(PROC / "vmstat")
    if before.machine is not None and machine is not None and machine <= before.machine:
        return False
    if before.file is not None and before.group is not None:
        group = read_count(before.file)
        if group is not None:
            return group > before.group
    return before.machine is not None and machine is not None


def read_count(file: Path) -> int | None:
    """The number after `oom_kill` in a file of the kernel's; None if there is none."""
    with contextlib.suppress(OSError, ValueError):
        if found := _COUNT.search(file.read_bytes()):
            return int(found[1])
    return None


def find_hierarchies(mountinfo: Path = PROC / "self/mountinfo") -> dict[str, Path]:
    """Where the memory controller's cgroups are mounted: by kind of file system, `cgroup` and `cgroup2`."""
    found: dict[str, Path] = {}
    with contextlib.suppress(OSError):
        for line in mountinfo.read_text().splitlines():
            left, _, right = line.partition(" - ")
            mount, kind, options = left.split(), right.split(" ")[0], right.split(" ")[-1].split(",")
            # Of another root than the hierarchy's own, the paths that processes tell are not below it.
            if mount[3] == "/" and (kind == "cgroup2" or (kind == "cgroup" and "memory" in options)):
                found.setdefault(kind, Path(mount[4]))
    return found


def find_group_file(pid: int, hierarchies: Mapping[str, Path]) -> Path | None:
    """The file that counts the kills in the cgroup of a process; None if there is none."""
    try:
        lines = (PROC / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        kind = "cgroup2" if controllers == "" else "cgroup" if "memory" in controllers.split(",") else None
        if kind is None or kind not in hierarchies:
            continue
        file = hierarchies[kind] / path.lstrip("/") / _GROUP_FILES[kind]
        # The newer hierarchy may be there without the memory controller.
        if ".." not in Path(path).parts and read_count(file) is not None:
            return file
    return None
