"""The file of the audit's heads, beside the database: what shows that rows were cut off at its end, or written anew."""

import os
from pathlib import Path

from hyperhive.core.audit import Anchor, parse_anchor
from hyperhive.core.errors import InvalidInputError, StorageError
from hyperhive.system.files import sync_folder, write_atomically

# A line has about a hundred bytes: a week in which each minute has one.
SIZE_LIMIT_BYTES = 1024 * 1024
_KEPT_LINES = 2000


def append_head(path: Path, line: str) -> None:
    """Appends a line, and has it on the disk. Raises StorageError."""
    try:
        is_new = not path.exists()
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "ab") as file:
            file.write(line.encode("ascii") + b"\n")
            file.flush()
            os.fsync(handle)
        if is_new:
            sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}", "free some space") from error


def shorten_heads(path: Path) -> None:
    """Keeps the last lines, and of those before each day's last, once the file is large. Raises StorageError."""
    try:
        if not path.exists() or path.stat().st_size < SIZE_LIMIT_BYTES:
            return
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
        days = {_find_day(line): line for line in lines[:-_KEPT_LINES]}
        kept = [*days.values(), *lines[-_KEPT_LINES:]]
        write_atomically(path, "".join(f"{line}\n" for line in kept).encode("ascii", "replace"), 0o600)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}", "free some space") from error


def parse_last_head(path: Path) -> Anchor | None:
    """The newest head that was noted; None if there is none, or it cannot be read."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
        return parse_anchor(lines[-1]) if lines else None
    except (OSError, InvalidInputError):
        return None


def _find_day(line: str) -> str:
    return line.rpartition(" ")[2][:10]
