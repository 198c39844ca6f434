"""One program a folder: an advisory lock that the kernel drops with the process, however that ends."""

import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path

from hyperhive.core.errors import ConflictError


@contextlib.contextmanager
def hold_lock(path: Path, what: str) -> Generator[None]:
    """Holds the lock at `path` for as long as the context lasts; the file tells the holder's pid.

    Raises ConflictError at once if another process holds it; `what` names it in the message.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(handle, 20).decode("ascii", "replace").strip() or "unknown"
            raise ConflictError(
                f"{what} (process {holder})", "use it, stop it with `hive down`, or name another --data folder"
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
