"""What `hive doctor` says of the running daemon: who it is to this machine."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from hyperhive.cli.doctor_checks import Check, missing, ok, warn
from hyperhive.core.paths import Roots
from hyperhive.core.uids import DAEMON_UID
from hyperhive.system.acl import find_user_rights

NAME = "daemon"
_KEEP_ROOT = "HIVE_KEEP_ROOT"
_KEEP_ROOT_FLAG = b"--keep-root"
# What the settings take for a yes.
_YES = {"1", "true", "t", "yes", "y", "on"}
_ALL_RIGHTS = 7
_UID = re.compile(r"^Uid:\t([0-9]{1,10})\t", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Daemon:
    """A process as root sees it: its uid on this machine, and whether it was told to stay root."""

    uid: int
    keeps_root: bool


def check_daemon(roots: Roots) -> list[Check]:
    """Whether the daemon that works on `roots` has given up being root; nothing but to root, who alone can look."""
    if os.geteuid() != 0:
        return []
    try:
        daemon = observe_daemon(int(roots.lock.read_text()))
        return [judge_daemon(daemon), *(judge_rights(roots) if daemon.uid == DAEMON_UID else [])]
    except (OSError, ValueError) as error:
        return [warn(NAME, f"cannot be looked at: {error}", "run this as root where the daemon runs")]


def observe_daemon(pid: int) -> Daemon:
    """Looks at the process `pid`. Raises OSError if it is gone or closed to us, ValueError if its uid is not told."""
    process = Path(f"/proc/{pid}")
    # Its uid as it is outside of its user namespace.
    found = _UID.search((process / "status").read_text())
    if found is None:
        raise ValueError(f"{process}/status tells no uid")
    uid = int(found[1])
    if uid != 0:
        return Daemon(uid, keeps_root=False)
    if _KEEP_ROOT_FLAG in (process / "cmdline").read_bytes().split(b"\0"):
        return Daemon(uid, keeps_root=True)
    # There are keys in it: nothing else of it is looked at.
    values = re.findall(rb"(?:^|\0)" + _KEEP_ROOT.encode() + rb"=([^\0]*)", (process / "environ").read_bytes())
    return Daemon(uid, keeps_root=any(value.decode("utf-8", "replace").lower() in _YES for value in values))


def judge_rights(roots: Roots) -> list[Check]:
    """Whether the daemon's user may still use the hive's folders; nothing if so. Raises OSError.

    A chmod of a folder cuts what its access control list grants.
    """
    cut = [folder for folder in (roots.data, roots.run) if find_user_rights(folder, DAEMON_UID) != _ALL_RIGHTS]
    grant = f"setfacl -m u:{DAEMON_UID}:rwx,m::rwx"
    return [
        missing(NAME, f"it may not use {folder}: was its mode changed?", f"{grant} {folder}, or start the hive anew")
        for folder in cut
    ]


def judge_daemon(daemon: Daemon) -> Check:
    if daemon.uid == DAEMON_UID:
        return ok(NAME, f"gave up being root: its uid is {DAEMON_UID}, and a helper does what needs root")
    if daemon.uid != 0:
        return ok(NAME, f"was not started as root: its uid is {daemon.uid}")
    if daemon.keeps_root:
        return warn(NAME, f"stays root, as {_KEEP_ROOT} or --keep-root says", f"start it anew without {_KEEP_ROOT}")
    return warn(NAME, "is root: it is of a version that does not give that up", "start it anew, with this version")
