"""What this kernel lets root do for containers: `python -I -S kernel_probe.py FOLDER` prints it as JSON.

By each feature's name why it cannot be used, empty if it can: user namespaces, overlayfs, id-mapped mounts of what is
at FOLDER. Each is tried, and nothing is left of it: what is mounted is attached nowhere and ends with this process.

A process of its own, as one with threads cannot make a user namespace. Stdlib only, without the package.
"""

import ctypes
import json
import os
import sys

# include/uapi/linux/mount.h, fcntl.h; these system calls have the same number on every architecture.
_SYS_OPEN_TREE = 428
_SYS_FSOPEN = 430
_SYS_MOUNT_SETATTR = 442
_OPEN_TREE_CLONE = 1
_FSOPEN_CLOEXEC = 1
_MOUNT_ATTR_IDMAP = 0x00100000
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_CLONE_NEWUSER = 0x10000000
# As many ids as a container has, of a range that no agent is given.
_MAP = b"0 1887436800 65536\n"

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


def observe(folder: str) -> dict[str, str]:
    """Why each feature cannot be used, empty if it can."""
    reasons = {"user namespaces": "", "overlayfs": "", "id-mapped mounts": ""}
    try:
        os.close(_check(_libc.syscall(_SYS_FSOPEN, b"overlay", _FSOPEN_CLOEXEC)))
    except OSError as error:
        reasons["overlayfs"] = _explain(error)
    try:
        namespace = _make_user_namespace()
    except OSError as error:
        reasons["user namespaces"] = _explain(error)
        reasons["id-mapped mounts"] = "they take a user namespace"
        return reasons
    try:
        _map_tree(folder, namespace)
    except OSError as error:
        reasons["id-mapped mounts"] = _explain(error)
    return reasons


def _map_tree(folder: str, namespace: int) -> None:
    """Maps the ids of a tree that is attached nowhere. Raises OSError."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    tree = _check(_libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(folder), flags))
    try:
        wanted = _MountAttributes(_MOUNT_ATTR_IDMAP, 0, 0, namespace)
        size = ctypes.c_size_t(ctypes.sizeof(wanted))
        _check(_libc.syscall(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(wanted), size))
    finally:
        os.close(tree)


def _make_user_namespace() -> int:
    """A handle of a user namespace with as many ids as a container's. Raises OSError."""
    ready, made = os.pipe()
    end, hold = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hold)
        code = 0 if _libc.unshare(_CLONE_NEWUSER) == 0 else ctypes.get_errno()
        os.write(made, bytes([code]))
        os.read(end, 1)
        os._exit(0)
    try:
        os.close(end)
        code = os.read(ready, 1)[0]
        if code:
            raise OSError(code, os.strerror(code))
        for name in ("uid_map", "gid_map"):
            handle = os.open(f"/proc/{child}/{name}", os.O_WRONLY)
            try:
                os.write(handle, _MAP)
            finally:
                os.close(handle)
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(hold)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(made)


def _check(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _explain(error: OSError) -> str:
    return error.strerror or str(error)


if __name__ == "__main__":
    print(json.dumps(observe(sys.argv[1])))
