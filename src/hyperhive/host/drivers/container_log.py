"""What a container says on standard output and error: a file that grows at its end and gives back its beginning."""

import os
from dataclasses import dataclass
from pathlib import Path

from hyperhive.system.files import free_beginning

# On the disk a log never has much more than the limit; what is kept then is what an operator may want to read.
LIMIT_BYTES = 8 * 1024 * 1024
KEEP_BYTES = 4 * 1024 * 1024
_READ_LIMIT_BYTES = 1024 * 1024
_LINE_LIMIT_CHARS = 300


@dataclass(frozen=True, slots=True)
class ContainerLog:
    """One log. Its content is the agent's: hostile. An offset stays true for as long as the file is there."""

    path: Path

    def open_for_writing(self, uid: int | None) -> int:
        """A handle that appends. `uid` becomes the owner: without that /dev/stderr could not be opened inside.

        A container gets it by two of them, for output and for errors: an owner can take a lease on what nobody else has
        opened, and who opens it then would wait for 45 s. As long as the container runs, what watches it has both.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(self.path, flags, 0o600)
        if uid is not None:
            os.fchown(handle, uid, uid)
        return handle

    def size_bytes(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def read(self, offset: int, limit_bytes: int) -> tuple[bytes, int]:
        """At most `limit_bytes` from `offset`, and the offset behind them; from the oldest that is kept if
        `offset` was given back or is behind the end. Gives back what is too much."""
        try:
            # Whatever an owner did: waited for is nobody.
            handle = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return b"", 0
        try:
            _shorten(handle)
            size = os.fstat(handle).st_size
            start = _find_content(handle, offset if 0 <= offset <= size else 0, size)
            piece = os.pread(handle, max(0, min(limit_bytes, _READ_LIMIT_BYTES, size - start)), start)
            return piece, start + len(piece)
        finally:
            os.close(handle)

    def range(self) -> tuple[int, int]:
        """The offsets where what is kept begins and ends; 0 and 0 if there is no log."""
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return 0, 0
        try:
            size = os.fstat(handle).st_size
            return _find_content(handle, 0, size), size
        finally:
            os.close(handle)

    def shorten(self) -> None:
        """Gives back what is too much of the disk."""
        self.read(0, 0)

    def last_line(self, offset: int) -> str:
        """The last line said since `offset`, fit to be shown."""
        piece, _ = self.read(max(offset, self.size_bytes() - 4096), 4096)
        lines = [line.strip() for line in piece.decode("utf-8", "replace").splitlines() if line.strip()]
        text = lines[-1] if lines else "it said nothing"
        return "".join(char for char in text if char.isprintable())[:_LINE_LIMIT_CHARS]


def _shorten(handle: int) -> None:
    if _is_too_long(handle):
        free_beginning(handle, KEEP_BYTES)
    if _is_too_long(handle):
        # Space may be reserved behind the end, too; that is given back by ending the file where it ends.
        os.ftruncate(handle, os.fstat(handle).st_size)


def _is_too_long(handle: int) -> bool:
    return os.fstat(handle).st_blocks * 512 > LIMIT_BYTES


def _find_content(handle: int, offset: int, size: int) -> int:
    """The first offset from `offset` on that is not in a hole."""
    try:
        return os.lseek(handle, offset, os.SEEK_DATA)
    except OSError:
        # ENXIO: there is nothing more.
        return size
