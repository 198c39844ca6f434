"""Gives the daemon's user what is root's in the folders of the hive: all of it but what is root's for good.

Nothing that an agent can write to is entered, nor another file system, and no link is followed: so nothing else of the
machine is given away, whatever the folders hold.
"""

import errno
import os
import stat
from collections.abc import Collection
from pathlib import Path

from hyperhive.core.errors import ConflictError
from hyperhive.core.uids import DAEMON_UID
from hyperhive.host.desktop.socket_file import open_run_folder
from hyperhive.system.acl import grant
from hyperhive.system.files import open_entry, open_folder_beneath

# The folders themselves stay root's: systemd gives a service's folder with all that is in it back to root, agents'
# files too, if it is anybody else's (StateDirectory= in systemd.exec(5)). The daemon's user has rights of its own.
_DATA_MODE = 0o700
_ALL_RIGHTS = 7
# What went away meanwhile, and what is mounted there: that is the operator's to give.
_LEFT = frozenset({errno.ENOENT, errno.EXDEV})


def hand_over(data: Path, run: Path, closed: Collection[Path], readers: Collection[int]) -> None:
    """Gives away what is in `data` and `run`, but for the folders `closed`, which it makes and keeps for root alone.

    Into `run` the groups `readers` may look. Done again, it gives away what root has made since. A file of several
    names is left: it may be somebody else's, too. Raises OSError, ConflictError if something else is in the place of a
    folder of `closed`.
    """
    for folder in closed:
        _keep_for_root(folder)
    grant(data, _DATA_MODE, users={DAEMON_UID: _ALL_RIGHTS})
    open_run_folder(run, readers, writer=DAEMON_UID)
    for folder in (data, run):
        kept = {*closed, run}
        _give_below(folder, {os.fsencode(path.relative_to(folder)) for path in kept if path.is_relative_to(folder)})


def give_file(path: Path) -> None:
    """Gives away a file that the operator keeps for the hive: a plain one of root's with one name. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid == 0:
            os.fchown(handle, DAEMON_UID, -1)
    finally:
        os.close(handle)


def _keep_for_root(folder: Path) -> None:
    """It may be a link of root's to one elsewhere, on another disk."""
    if not folder.is_symlink():
        folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != 0 or not folder.is_dir() or folder.stat().st_uid != 0:
        raise ConflictError(f"{folder} is not a folder of root's", "move it away: what the hive keeps there is its own")
    folder.chmod(0o700)


def _give_below(root: Path, closed: Collection[bytes]) -> None:
    pending = [b"."]
    while pending:
        below = pending.pop()
        try:
            handle = open_folder_beneath(root, below)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                # Nobody reaches by its path what is so deep.
                continue
            raise
        try:
            with os.scandir(handle) as entries:
                for name in (os.fsencode(entry.name) for entry in entries):
                    path = (below + b"/" + name).removeprefix(b"./")
                    if path not in closed and _give(name, handle):
                        pending.append(path)
        finally:
            os.close(handle)


def _give(name: bytes, folder: int) -> bool:
    """Gives away one entry of a folder; whether it is a folder whose entries are to follow."""
    try:
        handle = open_entry(folder, name)
    except OSError as error:
        if error.errno in _LEFT:
            return False
        raise
    try:
        status = os.fstat(handle)
        is_folder = stat.S_ISDIR(status.st_mode)
        if status.st_uid not in {0, DAEMON_UID} or (status.st_nlink > 1 and not is_folder):
            return False
        if status.st_uid == 0 or status.st_gid == 0:
            # By the handle: what was looked at, whatever has its name by now.
            os.chown(f"/proc/self/fd/{handle}", DAEMON_UID, DAEMON_UID if status.st_gid == 0 else -1)
        return is_folder
    finally:
        os.close(handle)
