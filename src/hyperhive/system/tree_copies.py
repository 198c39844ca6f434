"""Copies of folders that somebody hostile keeps changing: quick, bounded, and never of what is not below them.

No link is followed and nothing but plain files is opened. A copy shares no file with what it is of, or whoever goes on
writing there would write into the copy; where the file system can share blocks, it does.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hyperhive.core.errors import TooLargeError
from hyperhive.system.archives import HOLES_LIMIT_BYTES, Meta
from hyperhive.system.files import open_folder_beneath, open_regular_beneath, read_link_beneath, walk_beneath

_PIECE_BYTES = 16 * 1024 * 1024
# What a file system says that cannot copy by itself.
_NOT_BY_KERNEL = {errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}


@dataclass(slots=True)
class Room:
    """How much may still be copied."""

    size_bytes: int
    entries: int
    holes_bytes: int = HOLES_LIMIT_BYTES

    def take(self, size_bytes: int) -> None:
        """Raises TooLargeError if there is no room for one entry of that size."""
        self.size_bytes -= size_bytes
        self.entries -= 1
        if self.size_bytes < 0:
            raise TooLargeError("there is more in its folders than is copied", "have the agent clean up")
        if self.entries < 0:
            raise TooLargeError("there are more files in its folders than are copied", "have the agent clean up")


@dataclass(slots=True)
class Copied:
    """What was copied. `folders` has what was true of each folder: those of the copy are open to nobody else."""

    folders: dict[bytes, Meta] = field(default_factory=dict[bytes, Meta])


def copy_tree(
    source: Path,
    target: Path,
    room: Room,
    *,
    refuse: Callable[[bytes], str],
    left_out: Callable[[bytes, str], None],
) -> Copied:
    """Copies all below `source` into the new folder `target`, which no one else may reach.

    `refuse` says why not one of the paths, or ""; `left_out` hears of what is not in the copy but for what is gone.
    Raises TooLargeError, and OSError if `source` cannot be opened or the disk does not take the copy; what was copied
    until then is left.
    """
    target.mkdir(mode=0o700)
    copying = _Copying(source, os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), target, room, left_out)
    try:
        for path, status in walk_beneath(source, copying.refuse):
            reason = refuse(path)
            if reason:
                left_out(path, reason)
            else:
                copying.add(path, status)
    finally:
        os.close(copying.root)
    return copying.copied


class _Copying:
    def __init__(
        self, source: Path, root: int, target: Path, room: Room, left_out: Callable[[bytes, str], None]
    ) -> None:
        self.root = root
        self.copied = Copied()
        self._source = source
        self._target = target
        self._room = room
        self._left_out = left_out
        # The first name of each file that has several.
        self._linked: dict[tuple[int, int], bytes] = {}

    def refuse(self, path: bytes, error: OSError) -> None:
        self._left_out(path, f"cannot be read: {error.strerror}")

    def add(self, path: bytes, status: os.stat_result) -> None:
        if stat.S_ISDIR(status.st_mode):
            self._room.take(0)
            self._make(path, lambda: os.mkdir(path, 0o700, dir_fd=self.root))
            self.copied.folders[path] = Meta.of(status)
        elif stat.S_ISLNK(status.st_mode):
            self._add_link(path)
        elif stat.S_ISREG(status.st_mode):
            self._add_file(path)
        else:
            self._left_out(path, "no file, folder or link")

    def _add_link(self, path: bytes) -> None:
        try:
            points_to = read_link_beneath(self._source, path)
        except OSError as error:
            self._miss(path, error)
            return
        self._room.take(0)
        self._make(path, lambda: os.symlink(points_to, path, dir_fd=self.root))

    def _add_file(self, path: bytes) -> None:
        try:
            handle = open_regular_beneath(self._source, path)
        except OSError as error:
            self._miss(path, error)
            return
        try:
            status = os.fstat(handle)
            key = (status.st_dev, status.st_ino)
            other = self._linked.get(key)
            if other is not None:
                self._room.take(0)
                self._make(path, lambda: os.link(other, path, src_dir_fd=self.root, dst_dir_fd=self.root))
                return
            holes_bytes = max(0, status.st_size - status.st_blocks * 512)
            if holes_bytes > self._room.holes_bytes:
                self._left_out(path, "almost all of it is holes")
                return
            self._room.holes_bytes -= holes_bytes
            self._room.take(status.st_size)
            if self._make(path, lambda: self._copy(handle, status, path)) and status.st_nlink > 1:
                self._linked[key] = path
        finally:
            os.close(handle)

    def _copy(self, handle: int, status: os.stat_result, path: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        copy = os.open(path, flags, 0o600, dir_fd=self.root)
        try:
            _copy_content(handle, copy, status.st_size)
            os.fchmod(copy, stat.S_IMODE(status.st_mode) & 0o777 | stat.S_IRUSR)
            os.utime(copy, ns=(status.st_mtime_ns, status.st_mtime_ns))
        finally:
            os.close(copy)

    def _make(self, path: bytes, make: Callable[[], None]) -> bool:
        """Calls `make`; a path that is too long for the copy is left out, and so is what would be below it."""
        try:
            make()
        except OSError as error:
            if error.errno not in {errno.ENAMETOOLONG, errno.ENOENT, errno.EMLINK}:
                raise
            self._left_out(path, f"cannot be copied: {error.strerror}")
            return False
        return True

    def _miss(self, path: bytes, error: OSError) -> None:
        # What is gone by now is not there: nobody misses it.
        if not isinstance(error, FileNotFoundError):
            self.refuse(path, error)


def _copy_content(source: int, target: int, size: int) -> None:
    """At most `size` bytes, whatever the file has by now."""
    left = size
    with contextlib.suppress(_NotByKernelError):
        while left > 0 and (done := _copy_range(source, target, left, is_first=left == size)):
            left -= done
        return
    while left > 0 and (piece := os.pread(source, min(_PIECE_BYTES, left), size - left)):
        os.write(target, piece)
        left -= len(piece)


class _NotByKernelError(Exception):
    """These two files cannot be copied by the kernel; nothing was."""


def _copy_range(source: int, target: int, size: int, *, is_first: bool) -> int:
    try:
        return os.copy_file_range(source, target, min(_PIECE_BYTES, size))
    except OSError as error:
        if is_first and error.errno in _NOT_BY_KERNEL:
            raise _NotByKernelError from error
        raise


def hand_over_tree(folder: Path, uid: int | None) -> None:
    """Makes all below `folder`, and itself, `uid`'s if one is given; itself open to nobody else.

    For a folder that nobody else has seen yet: links are changed themselves, never followed. Raises OSError.
    """
    if uid is not None:
        for path, _ in walk_beneath(folder, _raise):
            above, _, name = path.rpartition(b"/")
            parent = open_folder_beneath(folder, above or b".")
            try:
                os.chown(name, uid, uid, dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(parent)
        os.chown(folder, uid, uid, follow_symlinks=False)
    folder.chmod(0o700)


def _raise(path: bytes, error: OSError) -> None:
    raise error
