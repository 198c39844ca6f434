"""Where this process may make control groups: which hierarchies are mounted, with what, and where in them we are.

Groups go below the one that this process is in, so that whatever bounds the daemon bounds them, too. In version 1
each controller may have a hierarchy of its own; in version 2 there is one, in which a group either has processes or
hands controllers on to those below it: so the daemon moves into a leaf there, if it has the group to itself.
"""

import contextlib
import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from hyperhive.core.errors import HiveError

# What limits are set with; and in version 1 what else groups are made in: systemd-nspawn makes its own there.
CONTROLLERS = frozenset({"memory", "cpu", "pids"})
_OTHERS = frozenset({"freezer", "name=systemd"})
# The leaf for the daemon.
LEAF = "hyperhive-daemon"


class GroupError(HiveError):
    """The machinery of control groups failed."""

    code = "group_failed"


@dataclass(frozen=True, slots=True)
class Kernel:
    """How one meets the kernel: where its files are, and what makes and removes a group's folder with what is in it."""

    proc: Path = Path("/proc")
    make: Callable[[Path], None] = Path.mkdir
    remove: Callable[[Path], None] = Path.rmdir


KERNEL = Kernel()


@dataclass(frozen=True, slots=True)
class Tree:
    """One hierarchy. `base` is the folder of the group that this process is in."""

    mount: Path
    base: Path
    version: int
    controllers: frozenset[str]

    @property
    def is_whole(self) -> bool:
        """Whether `base` is the root as far as we see."""
        return self.base == self.mount


def observe_trees(proc: Path = KERNEL.proc) -> tuple[Tree, ...]:
    """The hierarchies in which this process has a group that can be seen here. Raises OSError."""
    places = _load_places(proc)
    trees: list[Tree] = []
    for line in (proc / "self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind not in {"cgroup", "cgroup2"}:
            continue
        root, mount = left.split()[3:5]
        names = frozenset(options.split(" ")[-1].split(",")) if kind == "cgroup" else frozenset[str]()
        place = next((place for keys, place in places if keys == names or keys & names), None)
        tree = None if place is None else _plan_tree(Path(mount), root, place, names)
        if tree is not None and tree.base.is_dir() and tree.mount not in {known.mount for known in trees}:
            trees.append(tree)
    return tuple(trees)


def _load_places(proc: Path) -> list[tuple[frozenset[str], str]]:
    """What this process is in: the controllers of a hierarchy (none: version 2), and the path in it."""
    lines = (line.split(":", 2) for line in (proc / "self/cgroup").read_text().splitlines())
    return [(frozenset(names.split(",")) if names else frozenset[str](), place) for _, names, place in lines]


def _plan_tree(mount: Path, root: str, place: str, names: frozenset[str]) -> Tree | None:
    """The tree of a hierarchy of which `root` is mounted; None if we are not below that, or need none of it."""
    path = Path(place)
    if ".." in path.parts or not path.is_relative_to(root):
        return None
    base = mount / path.relative_to(root)
    if names:
        # Groups of cpuset, for one, take no process before they are set up, and we need none.
        useful = names & (CONTROLLERS | _OTHERS)
        return Tree(mount, base, 1, useful) if useful else None
    if base.name == LEAF:
        base = base.parent
    return Tree(mount, base, 2, read_words(base / "cgroup.controllers") & CONTROLLERS)


def observe_memory_bytes(proc: Path = KERNEL.proc) -> int:
    """The memory that there is for us: the machine's, or what a group above ours leaves of it. Raises OSError."""
    found = re.search(r"^MemTotal: +(\d+) kB$", (proc / "meminfo").read_text(), re.MULTILINE)
    if found is None:
        raise OSError(f"{proc / 'meminfo'} does not say how much memory there is")
    total = int(found[1]) * 1024
    with contextlib.suppress(OSError, ValueError):
        for tree in observe_trees(proc):
            for folder in (tree.base, *tree.base.parents):
                limit = read_number(folder / ("memory.max" if tree.version == 2 else "memory.limit_in_bytes"))
                total = total if limit is None else min(total, limit)
                if folder == tree.mount:
                    break
    return total


def read_number(file: Path) -> int | None:
    """The number in a file of the kernel's; None if there is none, or another word."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def read_words(file: Path) -> frozenset[str]:
    """What a file of the kernel's lists; nothing if there is none."""
    with contextlib.suppress(OSError):
        return frozenset(file.read_text().split())
    return frozenset()


def enable_controllers(folder: Path, wanted: Collection[str]) -> None:
    """Has a group of version 2 hand controllers on to those below it. Raises OSError."""
    missing = frozenset(wanted) - read_words(folder / "cgroup.subtree_control")
    if missing:
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(missing)))


def open_tree(tree: Tree, kernel: Kernel, *, as_root: bool) -> None:
    """Sees to it that groups made in a tree have its controllers. Raises GroupError, or OSError if the kernel refuses.

    In version 1 they have them anyway.
    """
    if tree.version == 1 or not tree.controllers:
        return
    if not tree.controllers <= read_words(tree.base / "cgroup.subtree_control"):
        # Only the root of all has no type, and may have processes besides.
        if (tree.base / "cgroup.type").exists():
            _vacate(tree, kernel, as_root=as_root)
        enable_controllers(tree.base, tree.controllers)


def _vacate(tree: Tree, kernel: Kernel, *, as_root: bool) -> None:
    """Moves the processes of our group into a leaf below it: all if the group is a container's root, else only ours."""
    pids = [int(word) for word in read_words(tree.base / "cgroup.procs")]
    if not (as_root and tree.is_whole) and not all(_is_ours(pid, kernel.proc) for pid in pids):
        message = f"other programs share the control group {tree.base}"
        raise GroupError(message, "give the hive one of its own: systemd-run --scope -p Delegate=yes")
    leaf = tree.base / LEAF
    with contextlib.suppress(FileExistsError):
        kernel.make(leaf)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            (leaf / "cgroup.procs").write_text(str(pid))


def _is_ours(pid: int, proc: Path) -> bool:
    """Whether a process is this one or was started by it."""
    seen = 0
    while pid > 1 and seen < 64:
        if pid == os.getpid():
            return True
        try:
            pid = int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            return False
        seen += 1
    return False
