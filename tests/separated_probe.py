"""What a daemon that is no more what it was could try, as its own user: `python separated_probe.py ARGUMENTS-AS-JSON`.

Begins as root, and gives that up as the daemon does: by `start.separate`, with a real helper. Prints a JSON object:
each attempt with what it came to as text, or the name of its error. Nothing in here would harm a machine on which it
succeeded.
"""

import ctypes
import errno
import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import stat
import struct
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from hyperhive.core.paths import Roots
from hyperhive.core.uids import FIRST_RANGED_UID
from hyperhive.host.separation.plan import Plan
from hyperhive.host.separation.start import Places, separate

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
# Numbers on x86-64, and on the processors with the kernel's one list for all; those from 424 on are the same on both.
_CALLS = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "delete_module": (176, 106),
    "init_module": (175, 105),
    "keyctl": (250, 219),
    "move_mount": (429, 429),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "process_vm_readv": (310, 270),
}
_COLUMN = 0 if os.uname().machine == "x86_64" else 1

# include/uapi/linux: ptrace.h, sched.h, mount.h, fcntl.h, bpf.h, keyctl.h
_PTRACE_ATTACH = 16
_NEW_MOUNTS, _NEW_PIDS, _NEW_USER, _NEW_NET = 0x00020000, 0x20000000, 0x10000000, 0x40000000
_MS_REMOUNT, _MS_BIND, _UMOUNT_DETACH = 32, 4096, 2
_OPEN_TREE_CLONE, _MOVE_MOUNT_EMPTY_PATH, _AT_FDCWD = 1, 4, -100
_BPF_MAP_GET_NEXT_ID = 12
_JOIN_SESSION_KEYRING, _READ_KEY, _SESSION_KEYRING = 1, 11, -3
# What a file has that gives its caller all capabilities: version 2, effective, all permitted.
_FILE_CAPABILITIES = struct.pack("<IIIII", 0x02000001, 0xFFFFFFFF, 0, 0xFFFFFFFF, 0)
# An ordinary user of the machine.
_STRANGER = 1000

Attempts = dict[str, Callable[[], object]]


def main(wanted: dict[str, Any]) -> dict[str, str]:
    roots = Roots(Path(wanted["data"]), Path(wanted["run"]))
    key = _keep_key()
    plan = Plan(str(roots.data), str(roots.run), str(roots.images_folder), "bubblewrap", "", "", "", "")
    # It ends with what is held here.
    sockets = separate(roots, plan, Places(kept_secret=[Path(wanted["notify"])]))
    [helper] = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    attempts = {
        **_do_its_work(roots, wanted),
        **_try_files(roots, wanted),
        **_try_closed_folders(roots),
        **_try_processes("root's process", wanted["root_pid"]),
        **_try_processes("the helper", int(helper)),
        **_try_to_become_somebody(roots),
        **_try_mounts(roots),
        **_try_the_kernel(key),
    }
    found = {name: _try(attempt) for name, attempt in attempts.items()}
    del sockets
    return found


def _do_its_work(roots: Roots, wanted: dict[str, Any]) -> Attempts:
    """What the daemon is there for."""
    folder, given = roots.agent_folder("bert") / "state", roots.agent_folder("alice") / "state"

    def make_agent() -> None:
        folder.mkdir(mode=0o700, parents=True)
        (folder / "notes.md").write_text("notes")
        for path in (folder / "notes.md", folder, folder.parent):
            os.chown(path, FIRST_RANGED_UID, FIRST_RANGED_UID)

    def take_back() -> None:
        os.chown(folder, 0, 0)
        shutil.rmtree(folder.parent)

    def listen() -> str:
        sockets = roots.agent_sockets_folder("alice")
        sockets.mkdir(parents=True)
        with closing(socket.socket(socket.AF_UNIX)) as listener:
            listener.bind(str(sockets / "hive.sock"))
            listener.listen()
            os.chown(sockets / "hive.sock", FIRST_RANGED_UID, FIRST_RANGED_UID)
            os.chown(sockets, FIRST_RANGED_UID, FIRST_RANGED_UID)
            return str((sockets / "hive.sock").stat().st_uid)

    def store() -> object:
        with closing(sqlite3.connect(roots.database)) as database, database:
            database.execute("insert into kept values ('by the daemon')")
            return [row[0] for row in database.execute("select what from kept order by rowid")]

    return {
        "write to the database": store,
        "make an agent's folder": make_agent,
        "read what an agent keeps to itself": lambda: (given / "own").read_text(),
        "add to what an agent has": lambda: (given / "own").write_text("of the daemon"),
        "list the other": lambda: _list(folder),
        "remove an agent's folder": take_back,
        "listen for an agent": listen,
        "read what was given to it": lambda: Path(wanted["notify"]).read_text(),
        "read what all may": lambda: (Path(wanted["open"]) / "public").read_text(),
        "who it is": lambda: [os.getresuid(), os.getresgid(), os.getgroups()],
    }


def _try_files(roots: Roots, wanted: dict[str, Any]) -> Attempts:
    own = roots.data / "of-the-probe"
    program = roots.data / "setuid"

    def give_rights() -> str:
        shutil.copy(wanted["program"], program)
        os.chown(program, 0, 0)
        program.chmod(0o6755)
        return oct(stat.S_IMODE(program.stat().st_mode))

    return {
        "read /etc/shadow": lambda: Path("/etc/shadow").read_bytes(),
        "write to /etc": lambda: Path("/etc/of-the-probe").touch(),
        "write to /etc/passwd": lambda: Path("/etc/passwd").open("a").close(),
        "write to /usr": lambda: Path("/usr/of-the-probe").touch(),
        "list root's home": lambda: _list("/root"),
        "read a secret of root's": lambda: (Path(wanted["open"]) / "secret").read_text(),
        "connect to a socket of root's": lambda: _connect(Path(wanted["open"]) / "root.sock"),
        "see what is beside its folder": lambda: (roots.data.parent / "beside").read_text(),
        "write beside its folder": lambda: (roots.data.parent / "of-the-probe").touch(),
        "read another hive's folder": lambda: _list(wanted["other"]),
        "make a device": lambda: os.mknod(roots.data / "mem", stat.S_IFCHR | 0o600, os.makedev(1, 1)),
        "make a file of its own": own.touch,
        "give a file to a stranger": lambda: os.chown(own, _STRANGER, -1),
        "take a file of root's": lambda: os.chown("/etc/passwd", 0, 0),
        "open a file of root's": lambda: Path("/etc/passwd").chmod(0o666),
        "change who has its folder": lambda: os.chown(roots.data, 0, 0),
        "open its folder to all": lambda: roots.data.chmod(0o777),
        "make a program setuid": give_rights,
        "give a program capabilities": lambda: os.setxattr(own, "security.capability", _FILE_CAPABILITIES),
        "open a file by its number": _open_by_handle,
    }


def _try_closed_folders(roots: Roots) -> Attempts:
    attempts: Attempts = {}
    for place in (roots.run, roots.containers_folder, roots.images_folder, roots.helper_folder):
        name, aside = place.name, place.with_name(f"{place.name}-aside")
        other = place.with_name(f"{place.name}-other")
        attempts[f"move {name} away"] = lambda place=place, aside=aside: place.rename(aside)
        attempts[f"remove {name}"] = lambda place=place: place.rmdir()
        attempts[f"make another {name}"] = lambda other=other: other.mkdir()
        attempts[f"put another in place of {name}"] = lambda place=place, other=other: other.rename(place)
        attempts[f"unmount {name}"] = lambda place=place: _check(_libc.umount2(os.fsencode(place), _UMOUNT_DETACH))
        if place != roots.run:
            attempts[f"list {name}"] = lambda place=place: _list(place)
            attempts[f"open {name}"] = lambda place=place: place.chmod(0o777)
            attempts[f"write to {name}"] = lambda place=place: (place / "of-the-probe").touch()
    attempts["read the helper's audit"] = lambda: (roots.helper_folder / "audit.jsonl").read_text()
    attempts["move its folder away"] = lambda: roots.data.rename(roots.data.with_name("aside"))
    return attempts


def _try_processes(whose: str, pid: int) -> Attempts:
    def attach() -> None:
        _check(_libc.ptrace(_PTRACE_ATTACH, pid, None, None))
        # Let go of when this process ends.
        os.waitpid(pid, 0)

    def read_memory() -> None:
        buffer = ctypes.create_string_buffer(8)
        own, its = (struct.pack("@PN", address, 8) for address in (ctypes.addressof(buffer), 0x400000))
        _call("process_vm_readv", pid, own, 1, its, 1, 0)

    proc = Path(f"/proc/{pid}")
    return {
        f"see the files of {whose}": lambda: _list(proc / "root"),
        f"see where {whose} is": lambda: (proc / "cwd").readlink(),
        f"see what {whose} has open": lambda: _list(proc / "fd"),
        f"read the environment of {whose}": lambda: (proc / "environ").read_bytes(),
        f"open the memory of {whose}": lambda: (proc / "mem").open("rb").close(),
        f"write to the memory of {whose}": lambda: (proc / "mem").open("r+b").close(),
        f"find the mounts of {whose}": lambda: os.open(proc / "ns/mnt", os.O_RDONLY),
        f"have {whose} killed": lambda: (proc / "oom_score_adj").write_text("1000"),
        f"kill {whose}": lambda: os.kill(pid, 0),
        f"stop {whose} by a handle": lambda: signal.pidfd_send_signal(os.pidfd_open(pid), 0),
        f"trace {whose}": attach,
        f"read memory of {whose} by a call": read_memory,
    }


def _try_to_become_somebody(roots: Roots) -> Attempts:
    return {
        "become a stranger": lambda: os.setresuid(_STRANGER, _STRANGER, _STRANGER),
        "become an agent": lambda: os.setresuid(FIRST_RANGED_UID, FIRST_RANGED_UID, FIRST_RANGED_UID),
        "join an agent's group": lambda: os.setresgid(FIRST_RANGED_UID, FIRST_RANGED_UID, FIRST_RANGED_UID),
        "join groups": lambda: os.setgroups([FIRST_RANGED_UID]),
        "leave its root": lambda: os.chroot(roots.data),
        "have user namespaces": lambda: _write(Path("/proc/sys/user/max_user_namespaces"), "10"),
        "make a user namespace": lambda: _check(_libc.unshare(_NEW_USER)),
        "make one with mounts": lambda: _check(_libc.unshare(_NEW_USER | _NEW_MOUNTS)),
        "make a mount namespace": lambda: _check(_libc.unshare(_NEW_MOUNTS)),
        "make a network": lambda: _check(_libc.unshare(_NEW_NET)),
        "make a pid namespace": lambda: _check(_libc.unshare(_NEW_PIDS)),
        "raise a limit": _raise_limit,
        "be spared when memory is short": lambda: _write(Path("/proc/self/oom_score_adj"), "-1000"),
        "come before others": lambda: os.setpriority(os.PRIO_PROCESS, 0, -5),
        "run in real time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    }


def _try_mounts(roots: Roots) -> Attempts:
    def mount(source: bytes, target: Path, kind: bytes | None, flags: int) -> None:
        _check(_libc.mount(source, os.fsencode(target), kind, ctypes.c_ulong(flags), None))

    def move() -> None:
        tree = os.open(roots.run, os.O_PATH)
        target = os.fsencode(roots.agents_folder)
        _call("move_mount", tree, b"", _AT_FDCWD, target, _MOVE_MOUNT_EMPTY_PATH)

    return {
        "mount a file system": lambda: mount(b"tmpfs", roots.agents_folder, b"tmpfs", 0),
        "mount the kernel's": lambda: mount(b"proc", roots.agents_folder, b"proc", 0),
        "bind a folder": lambda: mount(b"/etc", roots.agents_folder, None, _MS_BIND),
        "make a cover writable": lambda: mount(b"", roots.data.parent, None, _MS_REMOUNT | _MS_BIND),
        "copy mounts": lambda: _call("open_tree", _AT_FDCWD, os.fsencode(roots.run), _OPEN_TREE_CLONE),
        "move a mount": move,
        "unmount its folder": lambda: _check(_libc.umount2(os.fsencode(roots.data), _UMOUNT_DETACH)),
        "unmount a cover": lambda: _check(_libc.umount2(os.fsencode(roots.data.parent), _UMOUNT_DETACH)),
    }


def _try_the_kernel(key: int | str) -> Attempts:
    secret = ctypes.create_string_buffer(64)
    return {
        "load a module": lambda: _call("init_module", b"\x7fELF", 4, b""),
        "remove a module": lambda: _call("delete_module", b"loop", os.O_NONBLOCK),
        "see others' bpf": lambda: _call("bpf", _BPF_MAP_GET_NEXT_ID, ctypes.create_string_buffer(128), 128),
        "read a key of root's": lambda: key if isinstance(key, str) else _call("keyctl", _READ_KEY, key, secret, 64),
        "send raw packets": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        "listen to the wire": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0),
        "name the machine": lambda: socket.sethostname("of-the-probe"),
        "say who gets cores": lambda: _write(Path("/proc/sys/kernel/core_pattern"), ""),
    }


def _list(folder: Path | str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def _keep_key() -> int | str:
    """A key that root keeps in its session, as a login of root's does; the error's name where there are no keys."""
    try:
        _call("keyctl", _JOIN_SESSION_KEYRING, None)
        return _call("add_key", b"user", b"hyperhive-probe", b"secret", 6, _SESSION_KEYRING)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def _open_by_handle() -> None:
    handle = struct.pack("=Ii8s", 8, 1, struct.pack("=II", 2, 0))
    _call("open_by_handle_at", os.open("/", os.O_RDONLY), handle, os.O_RDONLY)


def _raise_limit() -> None:
    limit = (ctypes.c_ulong * 2)(0, 0)
    _check(_libc.setrlimit(resource.RLIMIT_CORE, limit))
    limit[1] = 1
    _check(_libc.setrlimit(resource.RLIMIT_CORE, limit))


def _connect(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(str(path))


def _write(path: Path, text: str) -> None:
    """Without making or emptying it."""
    handle = os.open(path, os.O_WRONLY)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)


def _call(name: str, *arguments: object) -> int:
    given = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return _check(_libc.syscall(ctypes.c_long(_CALLS[name][_COLUMN]), *given))


def _check(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _try(attempt: Callable[[], object]) -> str:
    try:
        return f"done: {attempt()}"
    except OSError as error:
        return errno.errorcode[error.errno or 0]


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
