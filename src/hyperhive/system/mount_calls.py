"""Mounts by the kernel's own calls: with flags, and with owners seen through a user namespace.

For programs that run without the package, by `python -I -S FILE`, and so read this file by its path. Stdlib only.
"""

import ctypes
import errno
import os
import signal
from pathlib import Path

# include/uapi/linux/mount.h, fcntl.h; these system calls have the same number on every architecture.
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_MOUNT_SETATTR = 442
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_IDMAP = 0x00100000
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV = 1, 2, 4
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE = 0x20, 0x1000, 0x4000, 0x80000
# include/uapi/linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000

# How many a user namespace has.
_IDS = 65536

libc = ctypes.CDLL(None, use_errno=True)
libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """As mount(2). Raises OSError with the name of `target`."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    check(libc.mount(*encoded, flags, options.encode()), target)


def bind(source: str, target: str, flags: int, namespace: int | None = None) -> None:
    """Binds `source` and what is mounted in it; or with a user namespace it alone, its ids being that one's.

    Raises OSError with the name of what failed.
    """
    tree = copy_tree(source, flags, namespace)
    try:
        moved = libc.syscall(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
        check(moved, target)
    finally:
        os.close(tree)


def copy_tree(source: str, flags: int, namespace: int | None = None) -> int:
    """A handle of what `bind` binds, attached nowhere: it ends with the handle. Raises OSError with the name of it."""
    depth = _AT_RECURSIVE if namespace is None else 0
    tree: int = libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(source), _OPEN_TREE_CLONE | os.O_CLOEXEC | depth)
    check(tree, source)
    try:
        attributes = _MountAttributes(flags, 0, 0, 0)
        if namespace is not None:
            attributes.set |= _MOUNT_ATTR_IDMAP
            attributes.user_namespace = namespace
        given = (ctypes.byref(attributes), ctypes.c_size_t(ctypes.sizeof(attributes)))
        check(libc.syscall(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH | depth, *given), source)
    except OSError:
        os.close(tree)
        raise
    return tree


def make_user_namespace(first_uid: int) -> int:
    """A handle of a user namespace whose ids are those from `first_uid` on, for mounts.

    Only for programs with one thread, as it forks. Raises OSError.
    """
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            code = 0 if libc.unshare(CLONE_NEWUSER) == 0 else ctypes.get_errno()
            os.write(told, bytes([code]))
            signal.pause()
        finally:
            os._exit(0)
    try:
        os.close(told)
        # Nothing is read of a child that was killed.
        code = int.from_bytes(os.read(ready, 1) or bytes([errno.ECHILD]))
        if code:
            raise OSError(code, os.strerror(code), "a user namespace")
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{kind}").write_text(f"0 {first_uid} {_IDS}\n")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def check(result: int, what: str) -> None:
    """Raises OSError with the name `what` for a call that failed."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
