"""Who may use a folder besides its owner, its group and everybody: POSIX access control lists, see acl(5)."""

import errno
import os
import stat
import struct
from collections.abc import Mapping
from pathlib import Path

# include/uapi/linux/posix_acl.h and posix_acl_xattr.h; xattr(7) has the name.
_NAME = "system.posix_acl_access"
_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")
_OWNER, _USER, _OWNING_GROUP, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NOBODY = 0xFFFFFFFF
_NONE = frozenset({errno.ENODATA, errno.ENOTSUP})
_NO_MORE: Mapping[int, int] = {}


def grant(
    folder: Path, mode: int, *, users: Mapping[int, int] = _NO_MORE, groups: Mapping[int, int] = _NO_MORE
) -> None:
    """Gives a folder `mode`, and to some users and groups, by their ids, rights of their own (0 to 7).

    What was granted before is taken back. A chmod of it changes what all of them may at the most. Raises OSError, with
    ENOTSUP on a file system without such lists if there is anything to grant.
    """
    if not users and not groups:
        _take_back(folder)
        folder.chmod(mode)
        return
    owner, owning_group, other = (mode >> shift & 7 for shift in (6, 3, 0))
    named = [owning_group, *users.values(), *groups.values()]
    mask = 0
    for rights in named:
        mask |= rights
    entries = [
        (_OWNER, owner, _NOBODY),
        *((_USER, rights, uid) for uid, rights in sorted(users.items())),
        (_OWNING_GROUP, owning_group, _NOBODY),
        *((_GROUP, rights, gid) for gid, rights in sorted(groups.items())),
        (_MASK, mask, _NOBODY),
        (_OTHER, other, _NOBODY),
    ]
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.setxattr(handle, _NAME, _VERSION + b"".join(_ENTRY.pack(*entry) for entry in entries))
    finally:
        os.close(handle)


def _take_back(folder: Path) -> None:
    try:
        os.removexattr(folder, _NAME)
    except OSError as error:
        if error.errno not in _NONE:
            raise


def find_user_rights(folder: Path, uid: int) -> int:
    """What `uid` was granted on a folder, as far as its mask lets it; 0 if nothing. Raises OSError."""
    try:
        content = os.getxattr(folder, _NAME)
    except OSError as error:
        if error.errno in _NONE:
            return 0
        raise
    mask = stat.S_IMODE(folder.stat().st_mode) >> 3 & 7
    granted = (entry for entry in _ENTRY.iter_unpack(content[len(_VERSION) :]) if entry[0] == _USER)
    return next((rights & mask for _, rights, user in granted if user == uid), 0)
