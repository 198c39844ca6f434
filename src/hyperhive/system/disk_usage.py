"""How much folders hold that somebody else can write: counted without following, opening or waiting for anything.

A folder may be swapped, nested without end, or hold millions of names meanwhile. Folders are held by handles, so that
what is renamed is still found; from deep down the way up again is `..`, if that is where the walk came from.
"""

import contextlib
import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# How many folders are held open at once: those deeper down close the ones above them, and open them again.
_HANDLES_LIMIT = 64
_REST_EVERY = 64

Identity = tuple[int, int]


class EndedError(Exception):
    """The walk was told to end."""


@dataclass(frozen=True, slots=True)
class Usage:
    """`complete`: nothing was left out, because it could not be read, was gone, or beyond `entries_limit`."""

    size_bytes: int
    entries: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Room:
    """What a file system holds and what is free for all its users but root, in bytes; and its free inodes."""

    total_bytes: int
    free_bytes: int
    free_files: int


def observe_room(folder: Path) -> Room:
    """Of the file system that `folder` is on. Raises OSError."""
    found = os.statvfs(folder)
    return Room(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize, found.f_favail)


class Pace:
    """How much of the time a walk takes, from 0 to 1. `duty` may be changed and `end` called from another thread."""

    def __init__(self, duty: float) -> None:
        self.duty = duty
        self._is_ended = False
        self._since_s = time.monotonic()

    def end(self) -> None:
        self._is_ended = True

    def begin(self) -> None:
        self._since_s = time.monotonic()

    def rest(self) -> None:
        """Sleeps for as long as fits the work since the last rest. Raises EndedError."""
        if self._is_ended:
            raise EndedError
        if self.duty < 1:
            worked_s = time.monotonic() - self._since_s
            # Not for long at once: it may be told to hurry meanwhile.
            time.sleep(min(worked_s * (1 / self.duty - 1), 0.25))
        self._since_s = time.monotonic()


@dataclass(slots=True)
class _Level:
    """A folder on the way down: which it is, its handle unless that was closed, and what is left to look at in it."""

    identity: Identity
    handle: int | None
    folders: list[bytes]


@dataclass(slots=True)
class _Walk:
    entries_limit: int
    rest: Callable[[], None]
    size_bytes: int = 0
    entries: int = 0
    complete: bool = True
    # Files of several names and folders that were counted: each counts once, wherever it is moved to meanwhile.
    # By their inodes alone: the folders of one agent are on one file system.
    seen: set[int] = field(default_factory=set[int])
    levels: list[_Level] = field(default_factory=list[_Level])

    def walk(self, folder: Path) -> None:
        try:
            root = os.open(folder, _FOLDER)
        except FileNotFoundError:
            return
        except OSError:
            self.complete = False
            return
        try:
            self._enter(root)
            while self.levels:
                self._step()
        finally:
            for level in self.levels:
                if level.handle is not None:
                    os.close(level.handle)
            self.levels.clear()

    def _step(self) -> None:
        level = self.levels[-1]
        if level.folders and self.entries < self.entries_limit:
            self._go_down(level)
            return
        self.complete = self.complete and not level.folders
        self.levels.pop()
        self._go_up(level)

    def _go_down(self, level: _Level) -> None:
        name = level.folders.pop()
        assert level.handle is not None
        try:
            handle = os.open(name, _FOLDER, dir_fd=level.handle)
        except FileNotFoundError:
            return
        except OSError:
            # Not a folder any more, or not to be read.
            self.complete = False
            return
        self._enter(handle)

    def _go_up(self, level: _Level) -> None:
        """Back to the folder above, which is opened again if it was closed; to one further up if it is not there."""
        assert level.handle is not None
        try:
            above = self.levels[-1] if self.levels else None
            if above is None or above.handle is not None:
                return
            above.handle = _open_above(level.handle, above.identity)
        finally:
            os.close(level.handle)
        while self.levels and self.levels[-1].handle is None:
            # It was moved away with all that is in it: what is left of it is not found again.
            self.complete = False
            self.levels.pop()

    def _enter(self, handle: int) -> None:
        """Counts what is in an open folder; its folders are looked at later. Takes the handle over."""
        status = os.fstat(handle)
        identity = (status.st_dev, status.st_ino)
        above = self.levels[0].identity if self.levels else identity
        if identity[0] != above[0] or (identity[1] in self.seen and self.levels):
            os.close(handle)
            return
        self.seen.add(identity[1])
        level = _Level(identity, handle, [])
        self.levels.append(level)
        if len(self.levels) > _HANDLES_LIMIT:
            # The first ones stay open: from there it goes on whatever happens below.
            oldest = self.levels[-_HANDLES_LIMIT // 2]
            if oldest.handle is not None:
                os.close(oldest.handle)
                oldest.handle = None
        try:
            self._count(handle, identity[0], level.folders)
        except OSError:
            self.complete = False

    def _count(self, handle: int, device: int, folders: list[bytes]) -> None:
        with os.scandir(handle) as found:
            for entry in found:
                if self.entries >= self.entries_limit:
                    self.complete = False
                    return
                self.entries += 1
                if self.entries % _REST_EVERY == 0:
                    self.rest()
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    # Gone by now.
                    continue
                self._add(os.fsencode(entry.name), status, device, folders)

    def _add(self, name: bytes, status: os.stat_result, device: int, folders: list[bytes]) -> None:
        if status.st_dev != device:
            return
        is_folder = stat.S_ISDIR(status.st_mode)
        if status.st_nlink > 1 and not is_folder:
            if status.st_ino in self.seen:
                return
            self.seen.add(status.st_ino)
        self.size_bytes += status.st_blocks * 512
        if is_folder:
            folders.append(name)


def measure_folders(folders: Sequence[Path], entries_limit: int, rest: Callable[[], None] = lambda: None) -> Usage:
    """Bytes on the disk and names of all below `folders`, each a file system of its own that is not left.

    A folder that is not there counts nothing. `rest` is called again and again, and may raise to end it. Blocks.
    """
    walk = _Walk(entries_limit, rest)
    for folder in folders:
        walk.walk(folder)
    return Usage(walk.size_bytes, walk.entries, walk.complete)


def measure_unlinked(pids: Sequence[int], device: int) -> int:
    """Bytes on that device of files without a name that these processes hold open. Never raises."""
    seen: dict[int, int] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for path in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    status = path.stat()
                    if status.st_dev == device and status.st_nlink == 0 and stat.S_ISREG(status.st_mode):
                        seen[status.st_ino] = status.st_blocks * 512
    return sum(seen.values())


def list_container(pid: int) -> list[int]:
    """The processes of the container whose first process is `pid`: those below it, and those that entered it from
    outside, which share its process ids. Never raises."""
    children: dict[int, list[int]] = {}
    found = [pid]
    own = _read_namespace(Path(f"/proc/{pid}"))
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (path / "stat").read_bytes().rpartition(b")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(path.name))
                if own is not None and _read_namespace(path) == own and own != _HOST:
                    found.append(int(path.name))
    seen = set(found)
    for one in found:
        below = [child for child in children.get(one, ()) if child not in seen]
        seen.update(below)
        found.extend(below)
    return list(seen)


def _read_namespace(process: Path) -> Path | None:
    try:
        return (process / "ns" / "pid").readlink()
    except OSError:
        return None


_HOST = _read_namespace(Path("/proc/self"))


def _open_above(handle: int, identity: Identity) -> int | None:
    try:
        above = os.open("..", _FOLDER, dir_fd=handle)
    except OSError:
        return None
    status = os.fstat(above)
    if (status.st_dev, status.st_ino) != identity:
        os.close(above)
        return None
    return above
