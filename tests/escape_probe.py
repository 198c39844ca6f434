"""Calls of the kernel by which one might get out, made inside a container: `python escape_probe.py ARGUMENTS-AS-JSON`.

As whoever runs it there: the agent, or root of the container with every capability that it can have. Prints a JSON
object: each attempt and how it ended, `"done"` or the name of the error. Beside `sandbox_probe.py`, which has the
plainer ones. Stdlib only. Nothing in here would harm a machine on which it succeeded.
"""

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import socket
import stat
import struct
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
# Numbers on x86-64, and on the processors with the kernel's one list for all; those from 424 on are the same on both.
_CALLS = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "clock_settime": (227, 112),
    "clone3": (435, 435),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "finit_module": (313, 273),
    "fsopen": (430, 430),
    "init_module": (175, 105),
    "io_uring_setup": (425, 425),
    "ioprio_set": (251, 30),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "mount_setattr": (442, 442),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_open": (434, 434),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "sched_setscheduler": (144, 119),
    "setns": (308, 268),
    "shmat": (30, 196),
    "shmget": (29, 194),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "userfaultfd": (323, 282),
}
_COLUMN = 0 if os.uname().machine == "x86_64" else 1

# include/uapi/linux: sched.h, mount.h, keyctl.h, fanotify.h, reboot.h
_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x00020000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND = 1, 32, 4096
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_FAN_REPORT_FID, _FAN_MARK_FILESYSTEM, _FAN_MARK_ADD, _FAN_OPEN = 0x200, 0x100, 1, 0x20
# It only says what Ctrl-Alt-Del does.
_REBOOT = (0xFEE1DEAD, 0x28121969, 0x89ABCDEF, None)
_USER_KEYRING, _SESSION_KEYRING, _READ_KEY = -4, -3, 11
# What begins like this would be run by a program of the container's choice.
_BINARY_FORMAT = b":hive-test:M::HIVETEST::/usr/bin/true:"
_FILE_SYSTEMS = (
    *("proc", "sysfs", "cgroup", "cgroup2", "devtmpfs", "debugfs", "tracefs", "securityfs", "configfs", "bpf"),
    *("binfmt_misc", "mqueue", "overlay", "ext4", "fuse", "pstore", "efivarfs"),
)

Attempts = dict[str, Callable[[], object]]


def main(wanted: dict[str, Any]) -> dict[str, Any]:
    if wanted.get("filter"):
        _install_filter(bytes.fromhex(wanted["filter"]))
    place = Path(wanted["place"])
    place.mkdir(exist_ok=True)
    attempts = {
        **_try_the_kernel(place),
        **_try_processes(wanted["host_pid"]),
        **_try_files(place, wanted),
        **_try_memory(wanted),
        **_try_sockets(wanted),
    }
    # What would end the probe, were it allowed.
    spared = wanted.get("spared", ())
    found = {name: _try(attempt) for name, attempt in attempts.items() if name not in spared}
    mounted, opened, changed = _mount_anew(place)
    writable = _list_writable(Path("/proc"))
    changed |= _change(writable)
    return {"attempts": found | mounted, "opened": opened, "writable": writable, "changed": changed}


def _try_the_kernel(place: Path) -> Attempts:
    module = place / "module.ko"
    module.write_bytes(b"\x7fELF")
    swap = place / "swap"
    swap.write_bytes(bytes(1024 * 1024))
    return {
        "init_module": lambda: _call("init_module", b"\x7fELF", 4, b""),
        "finit_module": lambda: _with_file(module, lambda handle: _call("finit_module", handle, b"", 0)),
        "delete_module": lambda: _call("delete_module", b"loop", os.O_NONBLOCK),
        "kexec_load": lambda: _call("kexec_load", 0, 0, None, 0),
        "kexec_file_load": lambda: _with_file(module, lambda handle: _call("kexec_file_load", handle, -1, 1, b"", 0)),
        "reboot": lambda: _call("reboot", *_REBOOT),
        "swapon": lambda: _call("swapon", bytes(swap), 0),
        "acct": lambda: _call("acct", bytes(module)),
        "read the kernel's log": lambda: _call("syslog", 3, ctypes.create_string_buffer(64), 64),
        "clear the kernel's log": lambda: _call("syslog", 5, None, 0),
        "clock_settime": lambda: _call("clock_settime", 0, ctypes.byref((ctypes.c_long * 2)(2**31, 0))),
        "bpf": lambda: _call("bpf", 0, ctypes.create_string_buffer(struct.pack("=IIII", 2, 4, 4, 1), 128), 128),
        "perf_event_open": lambda: _call("perf_event_open", ctypes.create_string_buffer(128), -1, 0, -1, 0),
        "userfaultfd": lambda: _call("userfaultfd", 0),
        "io_uring_setup": lambda: _call("io_uring_setup", 1, ctypes.create_string_buffer(120)),
        "add a key to the user's": lambda: _call("add_key", b"user", b"hive-test", b"x", 1, _USER_KEYRING),
        "request a key": lambda: _call("request_key", b"user", b"hive-test", None, _SESSION_KEYRING),
        "the session's keyring": lambda: _call("keyctl", 0, _SESSION_KEYRING, 0),
        "read the user's keyring": lambda: _call("keyctl", _READ_KEY, _USER_KEYRING, None, 0),
        "lift a scheduler's bound": lambda: _call("sched_setscheduler", 0, 1, ctypes.byref(ctypes.c_int(50))),
        "a better nice": lambda: os.setpriority(os.PRIO_PROCESS, 0, -20),
        "first at the disk": lambda: _call("ioprio_set", 1, 0, 1 << 13),
        "never out of memory": lambda: Path("/proc/self/oom_score_adj").write_text("-1000"),
    }


def _try_processes(host_pid: int) -> Attempts:
    remote = (ctypes.c_void_p * 2)(0x400000, 8)
    local = (ctypes.c_void_p * 2)(ctypes.addressof(ctypes.create_string_buffer(8)), 8)
    return {
        "pidfd_open": lambda: _call("pidfd_open", host_pid, 0),
        "process_vm_readv": lambda: _call("process_vm_readv", host_pid, local, 1, remote, 1, 0),
        "its limits": lambda: _prlimit(host_pid),
        "its priority": lambda: os.getpriority(os.PRIO_PROCESS, host_pid),
        "its affinity": lambda: os.sched_setaffinity(host_pid, {0}),
        "its namespaces": lambda: _with_file(Path(f"/proc/{host_pid}/ns/mnt"), lambda handle: _setns(handle)),
        "say it was another": _forge_credentials,
        "clone3 with a user namespace": lambda: _clone3(_NEW_USER),
        "clone3 with user and mount namespace": lambda: _clone3(_NEW_USER | _NEW_MOUNTS),
        "type at the console": lambda: _type("/dev/console"),
        "type at standard input": lambda: fcntl.ioctl(0, termios.TIOCSTI, b"x"),
    }


def _try_files(place: Path, wanted: dict[str, Any]) -> Attempts:
    return {
        **{f"link {path}": _linker(path, place / "linked") for path in wanted["links"]},
        **{f"by handle {inode}": _handle_opener("/state", inode) for inode in wanted["inodes"]},
        "watch all of the disk": _watch_disk,
        "pivot_root": lambda: _call("pivot_root", b"/state", b"/state"),
        "state with devices and bits": lambda: _remount("/state", 0),
        "system writable": lambda: _remount("/usr", 0),
        "sockets writable": lambda: _remount("/run/hive", 0),
        "mount_setattr": lambda: _set_attributes(b"/usr"),
        "open_tree": lambda: _call("open_tree", _AT_FDCWD, b"/usr", 1),
        "fsopen ext4": lambda: _call("fsopen", b"ext4", 0),
        "uncover what is hidden": lambda: _uncover("/sys"),
        "make a device in memory": lambda: os.mknod("/dev/shm/disk", 0o600 | stat.S_IFBLK, os.makedev(*wanted["disk"])),
        "make a device at home": lambda: os.mknod(place / "disk", 0o600 | stat.S_IFBLK, os.makedev(*wanted["disk"])),
        # What was made writable or known to be a device, if it was.
        "a file of the system": lambda: _write_new("/usr/left"),
        "a file among the sockets": lambda: _write_new("/run/hive/left"),
        "users of the system": lambda: os.close(os.open("/etc/passwd", os.O_WRONLY | os.O_APPEND)),
        "open a device in memory": lambda: os.close(os.open("/dev/shm/disk", os.O_RDONLY | os.O_NONBLOCK)),
        "open a device at home": lambda: os.close(os.open(place / "disk", os.O_RDONLY | os.O_NONBLOCK)),
        "a file of another's": lambda: _give(place / "module.ko", wanted["uid"]),
    }


def _try_memory(wanted: dict[str, Any]) -> Attempts:
    """What processes of one machine share without files."""
    return {
        "find shared memory": lambda: _call("shmget", wanted["ipc_key"], 0, 0),
        "attach shared memory": lambda: _call("shmat", wanted["shm_id"], None, 0),
        "find messages": lambda: _call("msgget", wanted["ipc_key"], 0),
        "find a queue": lambda: _open_queue(wanted["queue"]),
        "find named memory": lambda: Path("/dev/shm", wanted["shm_name"]).read_bytes(),
    }


def _try_sockets(wanted: dict[str, Any]) -> Attempts:
    attempts: Attempts = {
        f"family {family}": lambda family=family, kind=kind: socket.socket(family, kind).close()
        for family, kind in ((socket.AF_VSOCK, socket.SOCK_STREAM), (30, socket.SOCK_SEQPACKET), (38, 5), (44, 3))
    }
    for host, port in wanted["addresses"]:
        attempts[f"tcp {host} {port}"] = lambda host=host, port=port: _connect(host, port)
        attempts[f"udp {host} {port}"] = lambda host=host, port=port: _send(host, port)
    return attempts


# -- attempts ----------------------------------------------------------------------------------------------


def _try(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "timeout" if isinstance(error, TimeoutError) else repr(error))
    return "done"


def _call(name: str, *arguments: Any) -> int:
    """A call of the kernel by its number. Raises OSError."""
    widened = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = _libc.syscall(ctypes.c_long(_CALLS[name][_COLUMN]), *widened)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def _with_file(path: Path, work: Callable[[int], object]) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        work(handle)
    finally:
        os.close(handle)


def _setns(handle: int) -> None:
    _call("setns", handle, 0)


def _prlimit(pid: int) -> None:
    if _libc.prlimit(pid, 7, None, ctypes.create_string_buffer(16)) < 0:
        raise OSError(ctypes.get_errno(), "prlimit")


def _forge_credentials() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        # As pid 1, of somebody who is not in this container's map or, with capabilities, not here at all.
        forged = struct.pack("=iII", os.getppid() + 100_000, 4_000_000_000, 4_000_000_000)
        ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, forged)])


def _clone3(flags: int) -> None:
    arguments = struct.pack("=8Q", flags, 0, 0, 0, 17, 0, 0, 0)
    child = _call("clone3", ctypes.create_string_buffer(arguments, len(arguments)), len(arguments))
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _type(path: str) -> None:
    handle = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        fcntl.ioctl(handle, termios.TIOCSTI, b"x")
    finally:
        os.close(handle)


def _linker(path: str, target: Path) -> Callable[[], object]:
    def link() -> None:
        os.link(path, target)
        target.unlink()

    return link


def _handle_opener(mount: str, inode: int) -> Callable[[], object]:
    """A file of the disk that `mount` is on, by its number, wherever it lies: how containers were left in 2014."""

    def reach() -> None:
        handle = struct.pack("=IiII", 8, 1, inode, 0)
        with contextlib.closing(_Handle(mount)) as opened:
            found = _call("open_by_handle_at", opened.number, ctypes.create_string_buffer(handle, 16), os.O_RDONLY)
            os.close(found)

    return reach


class _Handle:
    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY)

    def close(self) -> None:
        os.close(self.number)


def _watch_disk() -> None:
    watch = _call("fanotify_init", _FAN_REPORT_FID, os.O_RDONLY)
    try:
        _call("fanotify_mark", watch, _FAN_MARK_ADD | _FAN_MARK_FILESYSTEM, _FAN_OPEN, _AT_FDCWD, b"/state")
    finally:
        os.close(watch)


def _remount(path: str, flags: int) -> None:
    _mount(None, path, None, _MS_REMOUNT | _MS_BIND | flags)


def _set_attributes(path: bytes) -> None:
    cleared = struct.pack("=4Q", 0, 1 | 2 | 4, 0, 0)
    _call("mount_setattr", _AT_FDCWD, path, 0, ctypes.create_string_buffer(cleared, 32), 32)


def _uncover(path: str) -> None:
    if _libc.umount2(path.encode(), 2) < 0:
        raise OSError(ctypes.get_errno(), path)


def _give(path: Path, uid: int) -> None:
    os.chown(path, uid, uid)


def _write_new(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))


def _open_queue(name: str) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.mq_open(name.encode(), os.O_RDONLY) < 0:
        raise OSError(ctypes.get_errno(), name)


def _connect(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as client:
        client.settimeout(5)
        client.connect((host, port))


def _send(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(0.3)
        client.connect((host, port))
        client.send(b"x")
        # A refusal comes back with the next call.
        client.recv(1)


def _mount(source: str | None, target: str, kind: str | None, flags: int = 0, options: str = "") -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind)]
    if _libc.mount(*encoded, ctypes.c_ulong(flags), options.encode()) < 0:
        raise OSError(ctypes.get_errno(), target)


# -- what is mounted anew ----------------------------------------------------------------------------------


def _mount_anew(place: Path) -> tuple[dict[str, str], list[str], dict[str, str]]:
    """Mounts each kind of file system that tells of the machine.

    How that ended, what can be written there, and which settings of the kernel it changed to what.
    """
    outcomes: dict[str, str] = {}
    opened: list[str] = []
    changed: dict[str, str] = {}
    for kind in _FILE_SYSTEMS:
        target = place / f"mount-{kind}"
        target.mkdir(exist_ok=True)
        options = {"overlay": "lowerdir=/usr:/etc", "cgroup": "memory"}.get(kind, "")
        outcomes[f"mount {kind}"] = _try(
            lambda kind=kind, target=target, options=options: _mount("none", str(target), kind, 0, options)
        )
        if outcomes[f"mount {kind}"] == "done":
            writable = _list_writable(target)
            opened += [f"{kind}: {path.removeprefix(str(target))}" for path in writable]
            if kind == "proc":
                changed = _change(writable)
            if kind == "binfmt_misc":
                _try(lambda target=target: (target / "register").write_bytes(_BINARY_FORMAT))
            _uncover(str(target))
    return outcomes, opened, changed


def _list_writable(top: Path) -> list[str]:
    """The files below that can be opened for writing, but those of processes. Nothing is written."""
    found: list[str] = []
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if not name.isdigit() and name not in {"self", "thread-self"}]
        for name in names:
            with contextlib.suppress(OSError):
                path = f"{folder}/{name}"
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW))
                found.append(path)
    return found


def _change(paths: list[str]) -> dict[str, str]:
    """Makes each number among the kernel's settings a bit larger or smaller, where it can; what they are then."""
    changed: dict[str, str] = {}
    for path in map(Path, paths):
        setting = str(path).rpartition("/sys/")[2]
        if setting != str(path):
            with contextlib.suppress(OSError, ValueError):
                number = int(path.read_text())
                for other in (number + 1, number - 1):
                    if _try(lambda path=path, other=other: path.write_text(str(other))) == "done":
                        changed[setting] = path.read_text()
                        break
    return changed


def _install_filter(program: bytes) -> None:
    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

    given = Program(len(program) // 8, program)
    if _libc.prctl(22, 2, ctypes.byref(given), 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "seccomp")


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
