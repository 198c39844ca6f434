"""Runs one step of building an image: `python -I -S image_room.py MODE ARGUMENTS… -- COMMAND…`.

It is the first process of a pid namespace and alone in a mount namespace, both made by `unshare` before: whatever is
mounted here nobody else sees, and however this ends, all that it started ends with it. The modes:

- `run`: the command, nothing else.
- `fetch STATE CACHE DPKG`: the host's apt with these folders in the place of its own, where the user that apt fetches
  as can reach them, and so that nothing of the host's own state is read or changed.
- `install LOWER UPPER WORK LOW ROOT UID`: at ROOT stands what LOWER and UPPER are together, seen by the user
  namespace whose uid 0 is UID; LOWER itself is read-only, and its files belong to uid 0.

Stdlib only, without the package.
"""

import ctypes
import os
import subprocess
import sys

# include/uapi/linux/mount.h, fcntl.h; these system calls have the same number on every architecture.
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_MOUNT_SETATTR = 442
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_RDONLY = 0x00000001
_MOUNT_ATTR_NOSUID = 0x00000002
_MOUNT_ATTR_NODEV = 0x00000004
_MOUNT_ATTR_IDMAP = 0x00100000
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_MS_BIND = 0x1000
_MS_NOSUID = 0x2
_MS_NODEV = 0x4
_CLONE_NEWUSER = 0x10000000

_IDS = 65536
_CONTAINERS = "/run/systemd/nspawn"
# What becomes a layer must be readable under any mount: without the features that tie it to this one.
_OVERLAY_OPTIONS = "redirect_dir=off,metacopy=off,index=off"

# Said on standard error with CANNOT_MAKE, so that it is not taken for the command's own status.
COMPLAINT = "image_room: the folders cannot be mounted"
CANNOT_MAKE = 125

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


def main(arguments: list[str]) -> int:
    """The exit status of the command; 128 + N if signal N ended it."""
    separator = arguments.index("--")
    mode, *places = arguments[:separator]
    command = arguments[separator + 1 :]
    try:
        if mode == "fetch":
            _mount_state(*places)
        elif mode == "install":
            lower, upper, work, low, root, uid = places
            _mount_root(lower, upper, work, low, root, int(uid))
            _hide_containers()
    except OSError as error:
        print(f"{COMPLAINT}: {error}", file=sys.stderr)
        return CANNOT_MAKE
    # Not by exec: programs behave otherwise as the first process.
    status = subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode
    return status if status >= 0 else 128 - status


def _mount_state(state: str, cache: str, dpkg: str) -> None:
    for source, target in ((state, "/var/lib/apt"), (cache, "/var/cache/apt"), (dpkg, "/var/lib/dpkg")):
        _mount(source, target, "", _MS_BIND, "")


def _mount_root(lower: str, upper: str, work: str, low: str, root: str, uid: int) -> None:
    namespace = _make_user_namespace(uid)
    try:
        _bind_mapped(lower, low, namespace)
    finally:
        os.close(namespace)
    options = f"lowerdir={low},upperdir={upper},workdir={work},{_OVERLAY_OPTIONS}"
    _mount("overlay", root, "overlay", _MS_NOSUID | _MS_NODEV, options)


def _hide_containers() -> None:
    """What systemd-nspawn notes of its containers is not the host's: so nothing of it is left there."""
    os.makedirs(_CONTAINERS, exist_ok=True)  # noqa: PTH103 - without the import
    _mount("tmpfs", _CONTAINERS, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755,size=1m")


def _make_user_namespace(uid: int) -> int:
    """A handle of a user namespace whose ids 0 to 65535 are those from `uid` on. Raises OSError."""
    ready, made = os.pipe()
    end, hold = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hold)
        said = b"1" if _libc.unshare(_CLONE_NEWUSER) == 0 else b"0"
        os.write(made, said)
        os.read(end, 1)
        os._exit(0)
    try:
        os.close(end)
        if os.read(ready, 1) != b"1":
            raise OSError("no user namespace can be made")
        for name in ("uid_map", "gid_map"):
            handle = os.open(f"/proc/{child}/{name}", os.O_WRONLY)
            try:
                os.write(handle, f"0 {uid} {_IDS}\n".encode())
            finally:
                os.close(handle)
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(hold)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(made)


def _bind_mapped(source: str, target: str, namespace: int) -> None:
    """Binds `source`, read-only, with its owners seen through a user namespace. Raises OSError."""
    tree = _check(_libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, source.encode(), _OPEN_TREE_CLONE | os.O_CLOEXEC))
    try:
        closed = _MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV
        wanted = _MountAttributes(closed | _MOUNT_ATTR_IDMAP, 0, 0, namespace)
        size = ctypes.c_size_t(ctypes.sizeof(wanted))
        _check(_libc.syscall(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(wanted), size))
        _check(_libc.syscall(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, target.encode(), _MOVE_MOUNT_F_EMPTY_PATH))
    finally:
        os.close(tree)


def _mount(source: str, target: str, kind: str, flags: int, options: str) -> None:
    _check(_libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()), target)


def _check(result: int, name: str = "") -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
