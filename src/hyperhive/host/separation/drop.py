"""What the daemon gives up: root's uid, its capabilities, and the way back.

It goes into a user namespace. In there it is uid 0 as before, and agents' uids are what they are: it goes on giving
files to agents and reading theirs. All else of the machine is nobody's in there, and its capabilities count for nothing
outside: to the machine it is a uid like any other, `DAEMON_UID`.
"""

import ctypes
import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from hyperhive.core.uids import DAEMON_UID, FIRST_UID, LAST_UID
from hyperhive.system.mount_calls import CLONE_NEWUSER, check, libc

# include/uapi/linux/capability.h. Over agents' files and its own: to give them away, to read and write them, to set
# their modes and times, and to keep a setgid bit that a restored folder had.
_CHOWN, _DAC_OVERRIDE, _FOWNER, _FSETID = 0, 1, 3, 4
KEPT = (_CHOWN, _DAC_OVERRIDE, _FOWNER, _FSETID)
# Above the highest capability of any kernel; one that it does not know is EINVAL.
_CAPABILITIES = 64
_CAPABILITY_VERSION_3 = 0x20080522
# include/uapi/linux/prctl.h
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_USER_NAMESPACES = Path("/proc/sys/user/max_user_namespaces")
# On x86-64, and on the processors with the kernel's one list for all; include/uapi/linux/keyctl.h
_SYS_KEYCTL = 250 if os.uname().machine == "x86_64" else 219
_KEYCTL_JOIN_SESSION_KEYRING = 1
# A kernel without keys, and a filter that keeps them from us.
_NO_KEYS = frozenset({errno.ENOSYS, errno.EPERM})


def drop_privileges(gids: Iterable[int] = ()) -> None:
    """Makes this process, which must be root's and have one thread, the daemon's user. There is no way back.

    Of the groups of the machine it knows `gids`: files of its own it may give to these. Raises OSError.
    """
    _leave_keyring()
    agents = (FIRST_UID, FIRST_UID, LAST_UID - FIRST_UID + 1)
    own = (0, DAEMON_UID, 1)
    _enter_user_namespace([own, agents], [own, agents, *((gid, gid, 1) for gid in gids)])
    # Whoever can make one has all capabilities in there, and with them a great deal more of the kernel to try.
    _USER_NAMESPACES.write_text("0")
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    _keep_capabilities(KEPT)


def _leave_keyring() -> None:
    """Who has a session's keyring may read what is in it, and root's session keeps secrets there. Raises OSError."""
    joined = libc.syscall(_SYS_KEYCTL, _KEYCTL_JOIN_SESSION_KEYRING, None)
    if joined < 0 and ctypes.get_errno() not in _NO_KEYS:
        check(joined, "a keyring")


def _enter_user_namespace(uids: Sequence[tuple[int, int, int]], gids: Sequence[tuple[int, int, int]]) -> None:
    """Each of the ids is a first one inside, a first one outside and how many follow. Raises OSError."""
    process = os.getpid()
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(told)
            # Only who stayed outside may say who is who inside.
            if os.read(ready, 1):
                for kind, ids in (("uid_map", uids), ("gid_map", gids)):
                    lines = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in ids)
                    Path(f"/proc/{process}/{kind}").write_text(lines)
                status = 0
        finally:
            os._exit(status)
    os.close(ready)
    try:
        check(libc.unshare(CLONE_NEWUSER), "a user namespace")
        os.write(told, b".")
    finally:
        os.close(told)
        _, status = os.waitpid(child, 0)
    if status:
        raise PermissionError("the ids of the daemon's user namespace cannot be set")


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("process", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _keep_capabilities(kept: Sequence[int]) -> None:
    """Of all capabilities only `kept`, also in programs that are started from here. Raises OSError."""
    for capability in range(_CAPABILITIES):
        if capability not in kept:
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "capabilities")
    mask = sum(1 << capability for capability in kept)
    sets = (_Sets * 2)(_Sets(mask, mask, 0), _Sets(0, 0, 0))
    check(libc.capset(ctypes.byref(_Header(_CAPABILITY_VERSION_3, 0)), sets), "capabilities")
    check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
