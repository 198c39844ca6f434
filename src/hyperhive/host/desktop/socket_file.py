"""host.sock in the run folder: who may connect to it is what its mode says."""

import grp
import os
import socket
from collections.abc import Iterable
from pathlib import Path

import structlog

from hyperhive.core.errors import ConflictError
from hyperhive.system.acl import grant
from hyperhive.system.sockets import bind_unix, connect_unix

log = structlog.get_logger(__name__)

GROUP = "hive-admin"
SOCKET_MODE = 0o660
# Members of the group see when the socket comes; everybody else may only pass through, to what is theirs.
FOLDER_MODE = 0o751
_LOOK = 5
_ALL = 7
_CONNECT_TIMEOUT_S = 1.0


def find_reader_gids(group: str = GROUP) -> list[int]:
    """The group whose members see when the socket comes, if there is one."""
    try:
        return [grp.getgrnam(group).gr_gid]
    except KeyError:
        return []


def open_run_folder(folder: Path, readers: Iterable[int], writer: int | None = None) -> None:
    """Lets everybody pass through a folder of ours, the groups `readers` look into it, and `writer`, a uid, do all.

    By rights of their own: systemd would give all that is in a folder of the service's back to the service's user if it
    were another group's. Raises OSError.
    """
    users = {} if writer is None else {writer: _ALL}
    grant(folder, FOLDER_MODE, users=users, groups=dict.fromkeys(readers, _LOOK))


def open_socket(path: Path, group: str = GROUP) -> socket.socket:
    """Listens at `path`, for the members of `group` if there is such a group, else for the owner alone.

    The folder is open to them by `open_run_folder`. A socket file that nobody listens at is replaced. Raises
    ConflictError if somebody does, OSError like `bind_unix`.
    """
    if _is_answered(path):
        raise ConflictError(f"another program listens at {path}", "end it, then start the hive again")
    listener = bind_unix(path)
    try:
        _let_in(path, group)
    except BaseException:
        listener.close()
        path.unlink(missing_ok=True)
        raise
    return listener


def _is_answered(path: Path) -> bool:
    try:
        connect_unix(path, timeout_s=_CONNECT_TIMEOUT_S).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except OSError:
        # One whose queue is full is there, too; what is no socket `bind_unix` tells.
        return path.is_socket()
    return True


def _let_in(path: Path, group: str) -> None:
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        log.info("desktop.owner_only", socket=str(path), reason=f"there is no group {group}")
        return
    try:
        os.chown(path, -1, gid, follow_symlinks=False)
    except PermissionError:
        log.warning("desktop.owner_only", socket=str(path), reason=f"the daemon is not a member of {group}")
        return
    # Only now: until here it belonged to the daemon's own group.
    path.chmod(SOCKET_MODE)
