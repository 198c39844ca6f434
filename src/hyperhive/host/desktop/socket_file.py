"""host.sock in the run folder: who may connect to it is what its mode says."""

import grp
import os
import socket
import stat
from pathlib import Path

import structlog

from hyperhive.core.errors import ConflictError
from hyperhive.system.sockets import bind_unix, connect_unix

log = structlog.get_logger(__name__)

GROUP = "hive-admin"
SOCKET_MODE = 0o660
# Members of the group see when the socket comes; everybody else may only pass through, to what is theirs.
FOLDER_MODE = 0o751
_CONNECT_TIMEOUT_S = 1.0


def open_socket(path: Path, group: str = GROUP) -> socket.socket:
    """Listens at `path`, for the members of `group` if there is such a group, else for the owner alone.

    A socket file that nobody listens at is replaced. Raises ConflictError if somebody does, OSError like `bind_unix`.
    """
    if _is_answered(path):
        raise ConflictError(f"another program listens at {path}", "end it, then start the hive again")
    if stat.S_IMODE(path.parent.stat().st_mode) != FOLDER_MODE:
        path.parent.chmod(FOLDER_MODE)
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
        os.chown(path.parent, -1, gid)
    except PermissionError:
        log.warning("desktop.owner_only", socket=str(path), reason=f"the daemon is not a member of {group}")
        return
    # Only now: until here it belonged to the daemon's own group.
    path.chmod(SOCKET_MODE)
