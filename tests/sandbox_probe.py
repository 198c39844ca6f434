"""What an agent might try, run inside a container: `python sandbox_probe.py ARGUMENTS-AS-JSON`.

Prints a JSON object: each attempt's name and how it ended, `"done"` or the name of the error.
"""

import ctypes
import errno
import json
import os
import resource
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)

# include/uapi/linux/mount.h, sched.h, ptrace.h
_MS_BIND, _MS_REMOUNT, _MNT_DETACH = 0x1000, 0x20, 2
_NAMESPACES = {"user": 0x10000000, "mnt": 0x00020000, "net": 0x40000000, "pid": 0x20000000, "uts": 0x04000000}
_PTRACE_ATTACH, _PTRACE_DETACH = 16, 17


def main(wanted: dict[str, Any]) -> dict[str, Any]:
    attempts: dict[str, Callable[[], object]] = {
        **{f"read {path}": _reader(path) for path in wanted["files"]},
        **{f"list {path}": _lister(path) for path in wanted["folders"]},
        **{f"write {path}": _writer(path) for path in wanted["kernel_files"]},
        **{f"connect {path}": _connector(socket.AF_UNIX, path) for path in wanted["sockets"]},
        "connect abstract": _connector(socket.AF_UNIX, f"\0{wanted['abstract']}"),
        "connect tcp": _connector(socket.AF_INET, ("127.0.0.1", wanted["port"])),
        "mount tmpfs": lambda: _call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
        "mount over": lambda: _call("mount", b"/state", b"/etc", None, _MS_BIND, None),
        "remount writable": lambda: _call("mount", b"none", b"/usr", None, _MS_REMOUNT | _MS_BIND, None),
        "uncover proc": lambda: _call("umount2", b"/proc", _MNT_DETACH),
        "uncover tmp": lambda: _call("umount2", b"/tmp", _MNT_DETACH),
        "chroot": lambda: os.chroot("/state"),
        **{f"unshare {name}": _unsharer(flag) for name, flag in _NAMESPACES.items()},
        "make a device": lambda: os.mknod("/state/disk", 0o600 | stat.S_IFBLK, os.makedev(*wanted["disk"])),
        "make memory": lambda: os.mknod("/tmp/mem", 0o600 | stat.S_IFCHR, os.makedev(1, 1)),
        "become root": lambda: os.setuid(0),
        "become another": lambda: os.setuid(wanted["uid"]),
        "give away": lambda: os.chown("/state", wanted["uid"], wanted["uid"]),
        "set the clock": lambda: _call("settimeofday", ctypes.byref((ctypes.c_long * 2)(0, 0)), None),
        "set the host name": lambda: _call("sethostname", b"other", 5),
        "raise a limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (2**30, 2**30)),
        "raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        "packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        "signal a host process": lambda: os.kill(wanted["host_pid"], 0),
        "trace a host process": lambda: _call("ptrace", _PTRACE_ATTACH, wanted["host_pid"], None, None),
        "a terminal": lambda: os.open("/dev/tty", os.O_RDWR),
    }
    # What would end the probe, were it allowed.
    spared = wanted.get("spared", ())
    found: dict[str, Any] = {name: _try(attempt) for name, attempt in attempts.items() if name not in spared}
    return found | {
        "interfaces": [name for _, name in socket.if_nameindex()],
        "environs": _read_all("[0-9]*/environ"),
        "cmdlines": _read_all("[0-9]*/cmdline"),
        "processes": len(list(Path("/proc").glob("[0-9]*"))),
        "handles": [handle for handle in range(3, 256) if _is_open(handle)],
        "status": [line.split() for line in Path("/proc/self/status").read_text().splitlines()],
        "devices": [str(path) for path in Path("/dev").iterdir() if path.is_block_device()],
        "top": [path.name for path in Path("/").iterdir()],
    }


def _try(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "?")
    except ValueError:
        # What Python says of setrlimit instead of EPERM.
        return "EPERM"
    return "done"


def _call(name: str, *arguments: Any) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), name)


def _reader(path: str) -> Callable[[], object]:
    return lambda: Path(path).read_bytes()


def _lister(path: str) -> Callable[[], object]:
    return lambda: list(Path(path).iterdir())


def _writer(path: str) -> Callable[[], object]:
    return lambda: os.close(os.open(path, os.O_WRONLY))


def _connector(family: int, address: Any) -> Callable[[], object]:
    def connect() -> None:
        with socket.socket(family, socket.SOCK_STREAM) as client:
            client.settimeout(5)
            client.connect(address)

    return connect


def _unsharer(flag: int) -> Callable[[], object]:
    return lambda: _call("unshare", flag)


def _read_all(pattern: str) -> str:
    """All files of /proc that match and may be read."""
    texts: list[str] = []
    for path in Path("/proc").glob(pattern):
        try:
            texts.append(path.read_bytes().decode("utf-8", "replace"))
        except OSError:
            continue
    return "\n".join(texts)


def _is_open(handle: int) -> bool:
    try:
        os.fstat(handle)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
