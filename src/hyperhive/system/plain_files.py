"""One plain file in a folder that somebody else can write, read and replaced: no link is followed, nothing blocks.

Without ctypes, unlike `files`: the idle harness uses this. Only names right in the folder, no paths.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Generator
from pathlib import Path

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_MODE = 0o644


def read_plain(folder: Path, name: str, limit_bytes: int) -> bytes:
    """At most `limit_bytes` of the regular file `name` in `folder`.

    Raises OSError: ENOENT, and EINVAL for anything that is no regular file, a link, too.
    """
    with _opened(folder) as root:
        return _read(root, name, limit_bytes)[0]


def find_size_bytes(folder: Path, name: str) -> int | None:
    """The size of the regular file `name` in `folder`; None if there is none. Never raises."""
    try:
        status = os.lstat(folder / name)
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def replace_plain(
    folder: Path, name: str, content: bytes, *, uid: int | None, limit_bytes: int, may_replace: Callable[[bytes], bool]
) -> bool:
    """Puts `content` in the place of `name` in `folder`, whole or not at all, and on the disk.

    False, and nothing happens, if `may_replace` says no to what is there now: at most `limit_bytes` of it, nothing if
    there is no regular file. The new file belongs to `uid` if one is given, and has the mode of the old one. A link
    there is replaced, not followed. Raises OSError, EISDIR for a folder; then nothing has changed.
    """
    with _opened(folder) as root:
        before, mode = _look(root, name, limit_bytes)
        if not may_replace(before):
            return False
        draft = f".{name}.{os.urandom(8).hex()}"
        try:
            handle = os.open(
                draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=root
            )
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                if uid is not None:
                    os.fchown(handle, uid, uid)
                os.fchmod(handle, mode)
                os.fsync(handle)
            # Whoever can write the folder may have put something else under the draft's name: it is theirs to spoil.
            os.rename(draft, name, src_dir_fd=root, dst_dir_fd=root)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft, dir_fd=root)
            raise
        os.fsync(root)
    return True


def _look(root: int, name: str, limit_bytes: int) -> tuple[bytes, int]:
    """The content of the file that is there, and the mode that its successor should have."""
    try:
        return _read(root, name, limit_bytes)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP, errno.EINVAL}:
            return b"", _MODE
        raise


def _read(root: int, name: str, limit_bytes: int) -> tuple[bytes, int]:
    with os.fdopen(_open(root, name), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a plain file", name)
        return file.read(limit_bytes), mode & 0o777


def _open(root: int, name: str) -> int:
    if os.sep in name or name in {"", ".", ".."}:
        raise OSError(errno.EINVAL, "not the name of a file", name)
    # A device would be touched by being opened: looked at before, for what it is at that moment.
    if not stat.S_ISREG(os.stat(name, dir_fd=root, follow_symlinks=False).st_mode):
        raise OSError(errno.EINVAL, "not a plain file", name)
    return os.open(name, _READ, dir_fd=root)


@contextlib.contextmanager
def _opened(folder: Path) -> Generator[int]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)
