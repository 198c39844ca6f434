"""What becomes of a tree that package scripts made before it is an image: nothing in it that a container must not have.

No capability is left in containers and no device is needed, so none of what gives either stays: setuid files, devices,
sockets. What belongs to this machine or this build goes, too: apt's sources and proxies, lists, logs, host names.
"""

import contextlib
import os
import shutil
import stat
from pathlib import Path

from hyperhive.host.drivers.image_manifest import is_whiteout
from hyperhive.host.drivers.protocol import DriverError

# Emptied; the folders stay.
_EMPTIED = (
    "dev",
    "etc/apt/auth.conf.d",
    "etc/apt/preferences.d",
    "mnt",
    "proc",
    "run",
    "sys",
    "tmp",
    "var/cache/apt",
    "var/cache/ldconfig",
    "var/lib/apt/lists",
    "var/log",
    "var/tmp",
)
_REMOVED = (
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/apt/auth.conf",
    "etc/apt/preferences",
    "var/lib/dpkg/available",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/statoverride-old",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/triggers/Lock",
)
# Of a container, each time anew: here they are what is mounted over.
_EMPTY_FILES = ("etc/hostname", "etc/machine-id", "etc/resolv.conf")
# No package starts a service when it is installed.
_POLICY = b"#!/bin/sh\nexit 101\n"
_POLICY_FILE = "usr/sbin/policy-rc.d"


def clean_base(root: Path, *, keep_sources: bool) -> None:
    """Makes the tree of a base image out of what mmdebstrap left. Raises OSError, and DriverError as `strip_tree`."""
    # First of all, as it sees whether something is still mounted.
    strip_tree(root, first_uid=0)
    _empty(root, _EMPTIED)
    for name in _REMOVED:
        _remove(root, name)
    if not keep_sources:
        _remove(root, "etc/apt/sources.list")
        _empty(root, ("etc/apt/sources.list.d",))
    for name in _EMPTY_FILES:
        _write(root, name, b"", 0o644)
    _write(root, _POLICY_FILE, _POLICY, 0o755)


def clean_layer(root: Path, *, first_uid: int) -> None:
    """Makes a layer out of what was written in a user namespace with the ids from `first_uid` on.

    Raises OSError, and DriverError as `strip_tree`.
    """
    strip_tree(root, first_uid=first_uid)
    # What is below it is empty already.
    for name in (*_EMPTIED, *_REMOVED):
        _remove(root, name)


def strip_tree(root: Path, *, first_uid: int) -> None:
    """Removes devices, sockets, pipes, setuid bits and capabilities, and gives all the owners it has on the disk.

    Raises OSError; DriverError if there is another file system in it: nothing of that is touched.
    """
    device = root.lstat().st_dev
    pending = [root]
    _adjust(root, root.lstat(), first_uid)
    while pending:
        with os.scandir(pending.pop()) as found:
            entries = [(Path(entry.path), entry.stat(follow_symlinks=False)) for entry in found]
        for path, status in entries:
            if status.st_dev != device:
                raise DriverError(f"something is mounted in an image: {path.relative_to(root)}", "build it again")
            if stat.S_ISDIR(status.st_mode):
                pending.append(path)
            elif not _may_stay(status):
                path.unlink()
                continue
            _adjust(path, status, first_uid)


def _may_stay(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode) or is_whiteout(status)


def _adjust(path: Path, status: os.stat_result, first_uid: int) -> None:
    uid, gid = _shift(status.st_uid, first_uid), _shift(status.st_gid, first_uid)
    if (uid, gid) != (status.st_uid, status.st_gid):
        os.chown(path, uid, gid, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        return
    # The kernel may have taken them with the change of owner; not all of it does.
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        path.chmod(stat.S_IMODE(status.st_mode) & ~(stat.S_ISUID | stat.S_ISGID))
    with contextlib.suppress(OSError):
        os.removexattr(path, b"security.capability", follow_symlinks=False)


def _shift(number: int, first: int) -> int:
    """The id on the disk of one in the range of a build; what the kernel wrote itself is root's already."""
    return number - first if first <= number < first + 65536 else number


def _empty(root: Path, names: tuple[str, ...]) -> None:
    for name in names:
        folder = _find(root, name)
        if folder is not None and stat.S_ISDIR(folder.lstat().st_mode):
            for entry in folder.iterdir():
                _remove(folder, entry.name)


def _remove(root: Path, name: str) -> None:
    path = _find(root, name)
    if path is None:
        return
    if stat.S_ISDIR(path.lstat().st_mode):
        shutil.rmtree(path)
    else:
        path.unlink()


def _write(root: Path, name: str, content: bytes, mode: int) -> None:
    _remove(root, name)
    folder = _find(root, str(Path(name).parent))
    if folder is None or not stat.S_ISDIR(folder.lstat().st_mode):
        raise DriverError(f"an image has no folder for {name}", "build it again")
    (folder / Path(name).name).write_bytes(content)
    (folder / Path(name).name).chmod(mode)


def _find(root: Path, name: str) -> Path | None:
    """What stands at `name` in a tree that nobody changes any more; None if nothing does, or a link is on the way.

    A link that a package left there leads anywhere on the host.
    """
    path = root
    for part in Path(name).parts:
        if not stat.S_ISDIR(path.lstat().st_mode):
            return None
        path /= part
        if not os.path.lexists(path):
            return None
    return path
