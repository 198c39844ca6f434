"""What the daemon sees of the machine's files: a mount namespace of its own, made while it is still root.

Folders on the way to what it needs may be closed to all but root, such as root's home. Each such folder is covered,
and what is needed of it shown in its place; the rest of it is gone. What only the helper is to touch is hidden below
nothing: and as nobody in here can unmount that, nobody can move it away either, in folders that are the daemon's own.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from hyperhive.core.uids import DAEMON_UID
from hyperhive.system import mount_calls as calls
from hyperhive.system.acl import find_user_rights

_COVER = "size=1m,mode=0755"
_NOTHING = "size=4k,mode=0"
_FLAGS = calls.MS_NOSUID | calls.MS_NODEV | calls.MS_NOEXEC


def enter_view(needed: Iterable[Path], own: Sequence[Path], hidden: Iterable[Path]) -> None:
    """Puts this process, root's, into a view of its own. Raises OSError.

    `needed` are folders and files that are there and are to be reached at their own paths, absolute ones. `own` are
    folders of them that nobody is to move; `hidden` ones that nobody is to look into.
    """
    places = sorted({*needed, *own}, key=lambda path: len(path.parts))
    covers = plan_covers(places)
    calls.check(calls.libc.unshare(calls.CLONE_NEWNS), "a mount namespace")
    # What the machine unmounts goes here, too; what is mounted here stays here.
    calls.mount(None, "/", None, calls.MS_REC | calls.MS_SLAVE)
    handles = {place: os.open(place, os.O_PATH | os.O_CLOEXEC) for place in {*places}}
    try:
        for cover in covers:
            calls.mount("tmpfs", str(cover), "tmpfs", _FLAGS, _COVER)
        for place in places:
            if any(place.is_relative_to(cover) for cover in covers):
                _show(place, handles[place])
            if place in own:
                # What is mounted nobody can move away.
                calls.bind(str(place), str(place), 0)
    finally:
        for handle in handles.values():
            os.close(handle)
    for folder in filter(Path.exists, hidden):
        calls.mount("tmpfs", str(folder), "tmpfs", _FLAGS | calls.MS_RDONLY, _NOTHING)
    for cover in covers:
        calls.mount(None, str(cover), None, calls.MS_REMOUNT | calls.MS_BIND | calls.MS_RDONLY | _FLAGS)


def plan_covers(places: Iterable[Path]) -> list[Path]:
    """The highest folders above `places` that the daemon cannot pass: none of them is below another. Raises OSError."""
    closed = {parent for place in places for parent in place.parents if not _can_pass(parent)}
    return sorted(folder for folder in closed if not any(parent in closed for parent in folder.parents))


def _can_pass(folder: Path) -> bool:
    status = folder.stat()
    if status.st_uid == DAEMON_UID:
        return bool(status.st_mode & stat.S_IXUSR)
    return bool(status.st_mode & stat.S_IXOTH or find_user_rights(folder, DAEMON_UID) & 1)


def _show(place: Path, handle: int) -> None:
    """Shows below a cover, at its own path, what a handle from before stands for; not twice what lies in another."""
    source = f"/proc/self/fd/{handle}"
    try:
        if os.path.samestat(place.stat(), os.fstat(handle)):
            return
    except FileNotFoundError:
        pass
    if stat.S_ISDIR(os.fstat(handle).st_mode):
        place.mkdir(mode=0o755, parents=True, exist_ok=True)
    else:
        place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        place.touch(mode=0o644)
    calls.bind(source, str(place), 0)
