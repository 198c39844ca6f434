"""Control groups of containers: limits that the kernel keeps, what is used of them, and an end to every process.

Groups are made by their files where systemd is not pid 1, else as scopes of systemd's (`cgroup_scopes.py`). All of a
hive are below one parent, which leaves room for the daemon: it weighs less than a process beside it, and does not get
all memory. Where nothing can be made, groups exist in name only, and `Groups.unlimited` says why.

Every call blocks, for milliseconds; `kill` and `remove` until their deadline.
"""

import contextlib
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperhive.core.errors import render_error
from hyperhive.core.limits import Limits
from hyperhive.system.cgroup_places import Place
from hyperhive.system.cgroup_scopes import SCOPE, SYSTEMD_RUNS, Manager, Scope, find_manager
from hyperhive.system.cgroup_trees import (
    KERNEL,
    GroupError,
    Kernel,
    Tree,
    enable_controllers,
    observe_memory_bytes,
    observe_trees,
    open_tree,
    read_number,
)
from hyperhive.system.files import write_atomically

__all__ = ["Group", "GroupError", "Groups", "Usage"]

# By the keys of a config.
CONTROLLERS: Final = {"memory": "memory", "cpu": "cpu", "tasks": "pids"}
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
# A group of version 1 has a file called tasks: no name of a container's is taken as it is.
_SUFFIX = ".group"
_KILL_TIMEOUT_S = 10.0
_REMOVE_TIMEOUT_S = 10.0
# A parent goes with the last group in it: not while another one is being made.
_PARENTS = threading.Lock()
# What all containers together weigh on each processor beside one process, which weighs 100; and their parts of memory
# and process ids.
WEIGHT_PERCENT = 50
# The kernel's own.
_WEIGHT_LIMIT_PERCENT = 10_000
MEMORY_PERCENT = 90
TASKS_PERCENT = 75
# The shell itself becomes a member, and so what it executes is one. No argument is ever part of the script.
_JOIN = 'while [ "$1" != -- ]; do echo 0 >"$1/cgroup.procs" || exit 125; shift; done; shift; exec "$@"'


@dataclass(frozen=True, slots=True)
class Usage:
    """What a group uses, without what the kernel could drop from memory at once. None: it is not counted here.

    `memory_kills` counts the processes that the kernel ended because memory ran out, since the group was made. Of the
    limits None says that there is none.
    """

    memory_bytes: int | None = None
    tasks: int | None = None
    memory_kills: int | None = None
    memory_limit_bytes: int | None = None
    tasks_limit: int | None = None


class Group:
    """The control group of one container. Made by `Groups`; `scope` is for one that is systemd's."""

    def __init__(self, name: str, places: Sequence[Place], scope: Scope | None = None, kernel: Kernel = KERNEL) -> None:
        self.name = name
        self.places = tuple(places)
        self._scope = scope
        self._kernel = kernel

    def wrap(self, argv: Sequence[str], below: str = "") -> list[str]:
        """The argv that runs `argv` as a member; what it starts are members, too. Exits with 125 if it cannot join.

        Of a group that was just made it is to be run once: systemd makes the group only then. Later, `Groups.find`.
        `below` names a group further down, made by what runs in this one, which is joined where it is there: a group
        of version 2 that hands controllers on takes no processes itself.
        """
        if self._scope is not None and not self._scope.is_joinable:
            return self._scope.wrap(argv)
        folders = [str(_find_below(place.folder, below)) for place in self._list_joined()]
        return ["/bin/sh", "-c", _JOIN, "join", *folders, "--", *argv] if folders else list(argv)

    def exists(self) -> bool:
        return any(place.folder.is_dir() for place in self.places)

    def join(self, pid: int) -> None:
        """Makes a process a member. Raises OSError."""
        for place in self._list_joined():
            place.join(pid)

    def observe(self) -> Usage:
        """What is used now: reads of a few files. Never raises."""
        memory, tasks = self._find("memory"), self._find("pids")
        return Usage(
            None if memory is None else memory.observe_memory(),
            None if tasks is None else tasks.observe_tasks(),
            None if memory is None else memory.observe_kills(),
            None if memory is None else memory.observe_memory_limit(),
            None if tasks is None else tasks.observe_tasks_limit(),
        )

    def is_empty(self) -> bool:
        """Whether no process is in it or below it."""
        return not any(place.is_populated() for place in self.places)

    def kill(self, timeout_s: float = _KILL_TIMEOUT_S) -> None:
        """Ends every process in it and below it; returns when none is left. Raises GroupError at the deadline."""
        end, pause_s = time.monotonic() + timeout_s, 0.001
        while not self.is_empty():
            self._kill_once()
            if time.monotonic() > end:
                raise GroupError(f"{self.name} cannot be killed", "a process of it hangs in the kernel: see `ps`")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.05)

    def remove(self) -> None:
        """Ends what is in it and removes it, and its hive's parent with the last one. Again is no error.

        Raises GroupError if something of it cannot be ended or removed.
        """
        self.kill()
        if self._scope is not None and self.exists():
            # It also goes by itself, but who knows when.
            self._scope.stop()
        end = time.monotonic() + _REMOVE_TIMEOUT_S
        for place in self.places:
            # What was just killed leaves within a moment, and so does what systemd has stopped.
            while not self._is_removed(place):
                if time.monotonic() > end:
                    raise GroupError(f"the control group {place.folder} cannot be removed", "see its cgroup.procs")
                time.sleep(0.002)

    def set_limits(self, limits: Limits) -> None:
        """Raises OSError. What there is no controller for is left out."""
        if limits.memory_bytes is not None and (place := self._find("memory")) is not None:
            place.limit_memory(limits.memory_bytes)
        if limits.cpus is not None and (place := self._find("cpu")) is not None:
            place.limit_cpus(limits.cpus)
        if limits.tasks is not None and (place := self._find("pids")) is not None:
            place.limit_tasks(limits.tasks)

    def _list_joined(self) -> list[Place]:
        # systemd makes scopes in some hierarchies and not in others.
        return [place for place in self.places if self._scope is None or place.folder.is_dir()]

    def _is_removed(self, place: Place) -> bool:
        """Removes the group in one hierarchy, where that is ours to do. False if that is to be tried again."""
        if self._scope is not None:
            return not place.folder.exists()
        with _PARENTS:
            removed = place.remove(self._kernel)
            # Not the last one.
            with contextlib.suppress(OSError):
                self._kernel.remove(place.folder.parent)
        return removed

    def _find(self, controller: str) -> Place | None:
        return next((place for place in self.places if controller in place.controllers), None)

    def _kill_once(self) -> None:
        """By the kernel's own means, else one by one, while none runs and none is added."""
        if any(place.kill_at_once() for place in self.places):
            return
        tasks = self._find("pids")
        with contextlib.suppress(OSError):
            if tasks is not None:
                tasks.limit_tasks(0)
        for place in self.places:
            place.freeze(frozen=True)
        for place in self.places:
            place.kill_each()
        for place in self.places:
            place.freeze(frozen=False)


class Groups:
    """The control groups of one hive's containers.

    `unlimited` has the limits that cannot be set here, by their keys in a config (memory, cpu, tasks), and why.
    """

    def __init__(
        self,
        trees: Sequence[Tree],
        parent: Path,
        unlimited: Mapping[str, str],
        *,
        former: Sequence[Path] = (),
        manager: Manager | None = None,
        kernel: Kernel = KERNEL,
    ) -> None:
        """`parent` is the group of the hive, relative to each tree's base; `former` are such of an earlier daemon."""
        self.unlimited = dict(unlimited)
        self._trees = tuple(trees)
        self._parent = parent
        self._former = tuple(former)
        self._manager = manager
        self._kernel = kernel

    @classmethod
    def observe(cls, folder: Path, *, as_root: bool, kernel: Kernel = KERNEL, running: Path = SYSTEMD_RUNS) -> "Groups":
        """Finds out what this machine lets us set, by trying. `folder` is the driver's own, and is there.

        It gives the groups their common name, and keeps for a later daemon where they are. Raises OSError if it
        cannot be written. `running` is there where systemd is pid 1.
        """
        hive = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:10]
        trees, reasons = _observe_trees(kernel.proc)
        manager, failure = _observe_manager(hive, as_root=as_root, running=running)
        if failure:
            return cls((), Path(), dict.fromkeys(CONTROLLERS, failure))
        if manager is not None:
            usable = manager.plan_trees(trees)
            return cls(usable, manager.slice, _explain_all(usable, manager.explain(trees)), manager=manager)
        parent, usable = Path(f"hyperhive-{hive}"), list[Tree]()
        for tree in trees:
            try:
                _try_tree(tree, parent, kernel, as_root=as_root)
                usable.append(tree)
            except (GroupError, OSError) as error:
                reasons |= dict.fromkeys(tree.controllers, _explain(tree, error))
        former = _note_parents(folder / "groups.json", [tree.base / parent for tree in usable])
        return cls(usable, parent, _explain_all(usable, reasons), former=former, kernel=kernel)

    def make(self, name: str, limits: Limits) -> Group:
        """The group of a container that is to start. What is left of an older one is ended and removed first.

        Raises GroupError.
        """
        older = self.find(name)
        if older is not None:
            older.remove()
        group = self._plan(name, limits)
        if self._manager is not None:
            # systemd makes it when it is entered first.
            return group
        try:
            for tree, place in zip(self._trees, group.places, strict=True):
                _make_folder(tree, place.folder, self._kernel)
            group.set_limits(limits)
        except OSError as error:
            with contextlib.suppress(GroupError):
                group.remove()
            raise GroupError(f"the control group of {name} cannot be made: {error}", "see `hive doctor`") from error
        return group

    def find(self, name: str) -> Group | None:
        """The group of a container if there is one, also an earlier daemon's. Raises GroupError for a bad name."""
        group = self._plan(name, None)
        if self._manager is None:
            found = (self._find_place(tree, place) for tree, place in zip(self._trees, group.places, strict=True))
            group = Group(name, [place for place in found if place is not None], kernel=self._kernel)
        return group if group.exists() else None

    def list_names(self) -> list[str]:
        """The containers that have a group, whether anything runs in it or not."""
        parents = {*(tree.base / self._parent for tree in self._trees), *self._former}
        prefix, suffix = self._name_parts()
        names = {folder.name for parent in parents if parent.is_dir() for folder in parent.iterdir() if folder.is_dir()}
        found = {name[len(prefix) : -len(suffix)] for name in names if name.startswith(prefix)}
        return sorted(name for name in found if prefix + name + suffix in names and _NAME.fullmatch(name))

    def remove_others(self, kept: Collection[str]) -> list[str]:
        """Removes the groups of containers that are none of `kept`, and returns whose. Raises GroupError."""
        stale = [name for name in self.list_names() if name not in kept]
        for name in stale:
            group = self.find(name)
            if group is not None:
                group.remove()
        return stale

    def _name_parts(self) -> tuple[str, str]:
        return ("", _SUFFIX) if self._manager is None else (self._manager.prefix, SCOPE)

    def _plan(self, name: str, limits: Limits | None) -> Group:
        """A group that is to be made with `limits`, or without any one that may be there."""
        if not _NAME.fullmatch(name):
            raise GroupError(f"{name[:80]!r} is not a container's name")
        prefix, suffix = self._name_parts()
        folder = self._parent / f"{prefix}{name}{suffix}"
        places = [Place(tree.base / folder, tree.version, tree.controllers) for tree in self._trees]
        scope = None if self._manager is None else Scope(self._manager, name, limits)
        return Group(name, places, scope, self._kernel)

    def _find_place(self, tree: Tree, place: Place) -> Place | None:
        """The place where the group is: ours, or one of an earlier daemon's."""
        former = [parent / place.folder.name for parent in self._former if parent.is_relative_to(tree.mount)]
        folder = next((folder for folder in (place.folder, *former) if folder.is_dir()), None)
        return None if folder is None else Place(folder, tree.version, tree.controllers)


def _observe_trees(proc: Path) -> tuple[tuple[Tree, ...], dict[str, str]]:
    """The trees, and the reasons by controller if they could not be found out."""
    try:
        return observe_trees(proc), {}
    except (OSError, ValueError) as error:
        return (), dict.fromkeys(CONTROLLERS.values(), f"the control groups of this process cannot be read: {error}")


def _observe_manager(hive: str, *, as_root: bool, running: Path) -> tuple[Manager | None, str]:
    """The systemd that makes groups here, with bounds on all of them; or why it is there and does not."""
    try:
        manager = find_manager(hive, as_root=as_root, running=running)
        if manager is not None:
            manager.bound_slice(WEIGHT_PERCENT, MEMORY_PERCENT, TASKS_PERCENT)
    except GroupError as error:
        return None, error.message
    return manager, ""


def _try_tree(tree: Tree, parent: Path, kernel: Kernel, *, as_root: bool) -> None:
    """Finds out whether a tree can be used, by making a group in it. Raises GroupError or OSError."""
    open_tree(tree, kernel, as_root=as_root)
    # Several may try at once.
    folder = tree.base / parent / f"trial-{time.monotonic_ns()}{_SUFFIX}"
    _make_folder(tree, folder, kernel)
    kernel.remove(folder)
    with contextlib.suppress(OSError):
        kernel.remove(folder.parent)


def _make_folder(tree: Tree, folder: Path, kernel: Kernel) -> None:
    """Makes a group's folder and its parent. Raises OSError."""
    with _PARENTS:
        with contextlib.suppress(FileExistsError):
            kernel.make(folder.parent)
        _set_up_parent(tree, Place(folder.parent, tree.version, tree.controllers), kernel)
        kernel.make(folder)


def _set_up_parent(tree: Tree, parent: Place, kernel: Kernel) -> None:
    if tree.version == 2:
        enable_controllers(parent.folder, tree.controllers)
    if "cpu" in tree.controllers:
        # The kernel spreads a group's weight over the processors that it is busy on.
        parent.weigh(min(_WEIGHT_LIMIT_PERCENT, WEIGHT_PERCENT * (os.cpu_count() or 1)))
    if "memory" in tree.controllers:
        # Fails while more than that is used: then it stays as it was.
        with contextlib.suppress(OSError):
            parent.cap_memory(observe_memory_bytes(kernel.proc) * MEMORY_PERCENT // 100)
    if "pids" in tree.controllers and (most := read_number(kernel.proc / "sys/kernel/pid_max")) is not None:
        parent.limit_tasks(most * TASKS_PERCENT // 100)


def _note_parents(file: Path, present: Sequence[Path]) -> tuple[Path, ...]:
    """Notes where groups are made, and returns where those of earlier daemons may be. Raises OSError."""
    try:
        known = [Path(text) for text in json.loads(file.read_bytes())]
    except (FileNotFoundError, ValueError, TypeError):
        known = []
    former = tuple(parent for parent in known if parent not in present and parent.is_dir())
    noted = [str(parent) for parent in (*present, *former)]
    if [str(parent) for parent in known] != noted:
        write_atomically(file, json.dumps(noted).encode(), 0o600)
    return former


def _find_below(folder: Path, below: str) -> Path:
    return folder / below if below and (folder / below).is_dir() else folder


def _explain(tree: Tree, error: Exception) -> str:
    if isinstance(error, PermissionError):
        if tree.version == 1:
            return "control groups of version 1 are root's alone"
        return f"the control group {tree.base} is not this user's: start the hive by systemd-run --user --scope"
    if isinstance(error, GroupError):
        return render_error(error)
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f"the control group {tree.base} cannot be used: {reason}"


def _explain_all(usable: Sequence[Tree], reasons: Mapping[str, str]) -> dict[str, str]:
    """The limits that none of the usable trees has a controller for, and why."""
    there = frozenset[str]().union(*(tree.controllers for tree in usable))
    return {
        key: reasons.get(controller) or f"the kernel offers no {controller} controller in a control group of the hive's"
        for key, controller in CONTROLLERS.items()
        if controller not in there
    }
