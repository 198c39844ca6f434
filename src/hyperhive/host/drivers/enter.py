"""Runs a command inside a running container: `python -I -S enter.py PID UID RECORD FILTER -- COMMAND…`.

PID is a process in the container, UID the container's on the host; RECORD is a JSON file with the `environment`
and the `working_folder` of the command, which may hold what no process table should show. FILTER is the container's
filter of system calls, as hexadecimal digits.

bubblewrap nests two user namespaces: the outer owns all other namespaces, the inner is where the agent's processes
live. nsenter knows no order for that: so the outer is joined first, then what it owns, then the inner. All of it
as the agent's own uid, whose namespaces they are. systemd-nspawn's belong to root: they are joined as root, then we
become the agent's uid as it is called inside. Before the last exec every capability is given up. Stdlib only: it
starts with each command.
"""

import array
import contextlib
import ctypes
import fcntl
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

# include/uapi/linux/nsfs.h: which user namespace owns this one.
_NS_GET_USERNS = 0xB701
# Whose a user namespace is.
_NS_GET_OWNER_UID = 0xB704
_OWNED = ("cgroup", "ipc", "uts", "net", "pid", "mnt")

# include/uapi/linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
# include/uapi/linux/seccomp.h, filter.h
_SECCOMP_MODE_FILTER = 2
_INSTRUCTION_BYTES = 8
# Above the highest capability of any kernel; one that it does not know is EINVAL.
_CAPABILITIES = 64

# Said on standard error with CANNOT_ENTER, so that it is not taken for the command's own status.
COMPLAINT = "enter: the container cannot be entered"
CANNOT_ENTER = 125
NOT_EXECUTED = 127

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def main(arguments: list[str]) -> int:
    """The exit status of the command; 128 + N if signal N ended it."""
    pid, uid, record_path, denied, separator, *command = arguments
    assert separator == "--"
    try:
        record = json.loads(Path(record_path).read_bytes())
        _join(int(pid), int(uid))
        # A pid namespace is entered by the next child; there may be no room for one.
        child = os.fork()
    except (OSError, ValueError) as error:
        print(f"{COMPLAINT}: {error}", file=sys.stderr)
        return CANNOT_ENTER
    if child == 0:
        _become(command, record, bytes.fromhex(denied))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _join(pid: int, uid: int) -> None:
    namespaces = {name: os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY) for name in (*_OWNED, "user")}
    owner = fcntl.ioctl(namespaces["mnt"], _NS_GET_USERNS)
    is_theirs = _find_owner(owner) == uid
    uid_inside = uid if is_theirs else _find_uid_inside(pid, uid)
    if is_theirs and os.geteuid() != uid:
        _become_user(uid)
    # Nothing in the container may look into this program, which comes from outside.
    _check(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))
    _check(_libc.setns(owner, 0))
    for name in _OWNED:
        # One in the host's network is in none of its own, and the host's cannot be joined without being its root.
        if not _is_ours(name, namespaces[name]):
            _check(_libc.setns(namespaces[name], 0))
    if not os.path.samestat(os.fstat(owner), os.fstat(namespaces["user"])):
        _check(_libc.setns(namespaces["user"], 0))
    for handle in (*namespaces.values(), owner):
        os.close(handle)
    if not is_theirs:
        _become_user(uid_inside)
        # Changing the uid has undone it.
        _check(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))


def _become_user(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def _find_owner(namespace: int) -> int:
    owner = array.array("I", [0])
    fcntl.ioctl(namespace, _NS_GET_OWNER_UID, owner)
    return owner[0]


def _find_uid_inside(pid: int, uid: int) -> int:
    """What a uid of ours is called in the user namespace of a process. Raises OSError if it is not there."""
    for line in Path(f"/proc/{pid}/uid_map").read_text().splitlines():
        inside, outside, count = map(int, line.split())
        if outside <= uid < outside + count:
            return inside + uid - outside
    raise OSError(f"uid {uid} is not in the container")


def _is_ours(name: str, handle: int) -> bool:
    return os.path.samestat(Path(f"/proc/self/ns/{name}").stat(), os.fstat(handle))


def _become(command: list[str], record: dict[str, Any], denied: bytes) -> None:
    try:
        # Not to outlive the one who asked.
        _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
        for capability in range(_CAPABILITIES):
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _deny(denied)
        # Python ignores them; programs rely on them.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(record["working_folder"])
        # execvpe looks along the PATH of the given environment.
        os.execvpe(command[0], command, record["environment"])  # noqa: S606 - to start it is what this is for
    except OSError as error:
        with contextlib.suppress(OSError):
            os.write(2, f"enter: {command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(NOT_EXECUTED)


def _deny(denied: bytes) -> None:
    program = _Program(len(denied) // _INSTRUCTION_BYTES, denied)
    _check(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0))


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
