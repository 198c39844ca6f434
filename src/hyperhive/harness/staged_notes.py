"""Staged notes: what the manager has put into a draft's state folder, as a commit of its own.

The files are read here and not by `git add`: its ignore rules, attributes and filters would leave out or change some
of them, and a repository in the folder would become a submodule.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperhive.core.errors import InvalidInputError, TooLargeError

# Before packing, and so more than what fits into a proposal; it bounds our memory.
_SIZE_LIMIT_BYTES = 4 * 1024 * 1024
_ENTRIES_LIMIT = 1000
# Fixed, so that the same files are the same commit each time.
_HEAD = b"committer manager <manager@localhost> 0 +0000\ndata 13\nstaged notes\n\n"


@dataclass(frozen=True, slots=True)
class StagedFile:
    """`path` is relative to the state folder."""

    path: str
    content: bytes
    executable: bool


def load_staged(folder: Path) -> list[StagedFile]:
    """All files below `folder`, in order of their paths; none if it is missing or empty.

    Raises InvalidInputError that names what cannot be staged: a link, a FIFO, a device, a repository, an unreadable
    file, a name that cannot be shown; TooLargeError for too much.
    """
    files: list[StagedFile] = []
    left_bytes = _SIZE_LIMIT_BYTES
    try:
        for path in _list_files(folder):
            content, mode = _read(path, left_bytes)
            left_bytes -= len(content)
            files.append(StagedFile(str(path.relative_to(folder)), content, bool(mode & stat.S_IXUSR)))
    except OSError as error:
        raise InvalidInputError(
            f"{error.filename!r} cannot be staged: {error.strerror}", "make it readable or remove it"
        ) from error
    return sorted(files, key=lambda file: file.path)


def render_fast_import(ref: str, files: Sequence[StagedFile]) -> bytes:
    """The commit of `files`, without parents, as `git fast-import` reads it."""
    parts = [b"commit %s\n%s" % (ref.encode(), _HEAD)]
    for file in files:
        mode = b"100755" if file.executable else b"100644"
        quoted = file.path.replace("\\", "\\\\").replace('"', '\\"').encode()
        parts.append(b'M %s inline "%s"\ndata %d\n%s\n' % (mode, quoted, len(file.content), file.content))
    return b"".join(parts)


def _list_files(folder: Path) -> Iterator[Path]:
    if not os.path.lexists(folder):
        return
    _check_kind(folder, folder.lstat().st_mode, stat.S_IFDIR)
    pending = [folder]
    entries_left = _ENTRIES_LIMIT
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                entries_left -= 1
                if entries_left < 0:
                    raise TooLargeError(f"there are over {_ENTRIES_LIMIT} files in {folder}", "stage fewer")
                path = Path(entry.path)
                _check_name(path)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                else:
                    _check_kind(path, entry.stat(follow_symlinks=False).st_mode, stat.S_IFREG)
                    yield path


def _check_name(path: Path) -> None:
    if path.name.lower() == ".git":
        raise InvalidInputError(f"{path} cannot be staged: it is a git repository", "remove it, or move it elsewhere")
    if not path.name.isprintable():
        raise InvalidInputError(f"{str(path)!r} cannot be staged: its name cannot be shown", "rename it")


def _check_kind(path: Path, mode: int, wanted: int) -> None:
    if stat.S_IFMT(mode) == wanted:
        return
    what = "a symbolic link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
    raise InvalidInputError(
        f"{path} cannot be staged: it is {what}", "replace it with what it stands for, or remove it"
    )


def _read(path: Path, limit_bytes: int) -> tuple[bytes, int]:
    """Content and mode. What took the file's place since it was listed is not followed and not waited for."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        _check_kind(path, mode, stat.S_IFREG)
        content = file.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        limit = f"{_SIZE_LIMIT_BYTES // 1024:,} KiB"
        raise TooLargeError(f"the staged notes are over {limit} with {path}", "stage less: notes, not data")
    return content, mode
