"""Starts one container by systemd-nspawn: `python -I -S nspawn_launch.py`, told what by JSON on standard input.

In a mount namespace of its own it puts the container's files together, which end with the last process in there:
layers of images, each seen through the container's user namespace, below a layer of its own with what is only this
container's; the folders to mount; memory for temporary files. On that root it starts, in a session of its own:

    sh (writes down how it ended)  -  systemd-nspawn  -  sh (the first process inside)  -  nspawn_command.py

The last waits on its standard input, a socket whose other end we have. By then the container stands. What nspawn leaves
open is closed from here: no further user namespaces, nothing in /sys, no /dev/net/tun. Then the command is let go.

Prints one JSON object, and ends once the command was executed: `init` and `command`, each a pid and when it started,
and `watchers`, those outside; or `error`. The same stands in the report. Stdlib only, without the package.
"""

import contextlib
import fcntl
import json
import os
import socket
import stat
import struct
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperhive.system import mount_calls as calls
else:
    # By its path: the package is not on that of this program, nor is its folder, where files are named as they like.
    calls = ModuleType("mount_calls")
    SourceFileLoader(calls.__name__, str(Path(__file__).parents[2] / "system/mount_calls.py")).exec_module(calls)

_MNT_DETACH = 2
_HIDDEN = Path("/run/systemd")
_USER_NAMESPACES = "/proc/sys/user/max_user_namespaces"
# What nspawn lays over that which a container must not see; the service manager makes it where there is one.
_INACCESSIBLE = {"reg": stat.S_IFREG, "fifo": stat.S_IFIFO, "sock": stat.S_IFSOCK, "chr": stat.S_IFCHR}
_TUNNELS = "/dev/net/tun"
_CREDENTIALS = struct.Struct("=iII")
_LENGTH = struct.Struct("=I")
# Where what watches has our end of the socket.
_OUR_HANDLE = 4

# Its first argument is the report. Handle 0 is the container's end of the socket, kept no longer than needed: that
# everybody has closed it is how our end knows that the container is over. Through handle 4, our end, the first process
# inside tells how the command ended; what reads as no such number, or nothing at all, is the end of that process.
_WATCH = """
report=$1; shift
exec 3<&0 </dev/null
"$@" <&3 3<&- 4<&-
exec 3<&-
read -r code <&4
case $code in *[!0-9]*|????*|"") code=null;; esac
printf '{"exit-code": %s, "ended": true}\\n' "$code" >>"$report"
"""


def main() -> int:
    plan = json.loads(sys.stdin.buffer.read())
    try:
        started = _launch(plan)
    except OSError as error:
        started = {"error": _explain(error)}
    except EOFError as error:
        started = {"error": str(error), "told": True}
    line = json.dumps(started)
    with Path(plan["report"]).open("a") as report:
        report.write(line + "\n")
    print(line)
    return 1 if "error" in started else 0


def _launch(plan: dict[str, Any]) -> dict[str, Any]:
    """Raises OSError, or EOFError if the container ended first: then its log says why."""
    stage = Path(plan["stage"])
    _prepare_namespace(stage, managed=plan["managed"])
    _make_root(plan, stage)
    ours, theirs = socket.socketpair()
    # From then on each message tells who sent it, as we number processes.
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    watcher = _start_nspawn(plan, ours, theirs)
    theirs.close()
    command = _wait_standing(ours)
    if not plan["gated"]:
        # gVisor's kernel said it: it is all that is to be seen of what runs inside.
        return {"init": _identify(command), "watchers": [_identify(_find_parent(command)), _identify(watcher)]}
    init = _find_parent(command)
    found = {
        "init": _identify(init),
        "command": _identify(command),
        "watchers": [_identify(_find_parent(init)), _identify(watcher)],
    }
    _close_what_is_open(init, plan)
    _let_go(ours, plan["inside"])
    return found


# -- the container's files ---------------------------------------------------------------------------------


def _prepare_namespace(stage: Path, *, managed: bool) -> None:
    calls.check(calls.libc.unshare(calls.CLONE_NEWNS), "unshare")
    # What the host unmounts goes here, too: a disk must not stay busy because of us.
    calls.mount(None, "/", None, calls.MS_REC | calls.MS_SLAVE)
    # nspawn leaves things there, which end with us like this; and the daemon's may be read-only.
    _HIDDEN.mkdir(exist_ok=True)
    calls.mount("tmpfs", str(_HIDDEN), "tmpfs", calls.MS_NOSUID | calls.MS_NOEXEC, "size=1m,mode=0755")
    nodes = _HIDDEN / "inaccessible"
    nodes.mkdir()
    (nodes / "dir").mkdir(mode=0)
    for name, kind in _INACCESSIBLE.items():
        os.mknod(nodes / name, kind)
    if managed:
        # By that programs know that systemd is there; it is spoken to elsewhere.
        (_HIDDEN / "system").mkdir()
    # gVisor's is in there.
    stage.mkdir(mode=0o755, exist_ok=True)
    calls.mount("tmpfs", str(stage), "tmpfs", calls.MS_NOSUID | calls.MS_NODEV, "size=4m,mode=0755")


def _make_root(plan: dict[str, Any], stage: Path) -> None:
    os.chdir(stage)
    own = stage / "own"
    own.mkdir(mode=0o755)
    _fill_own_layer(own, plan)
    namespace = calls.make_user_namespace(plan["base"])
    layers: list[str] = []
    for number, source in enumerate(plan["layers"]):
        layers.append(f"layer{number}")
        Path(layers[-1]).mkdir()
        calls.bind(source, layers[-1], calls.ATTR_RDONLY | calls.ATTR_NOSUID | calls.ATTR_NODEV, namespace)
    os.close(namespace)
    root = stage / "root"
    root.mkdir(mode=0o755)
    below = ":".join(["own", *layers])
    calls.mount(
        "overlay", str(root), "overlay", calls.MS_RDONLY | calls.MS_NOSUID | calls.MS_NODEV, f"lowerdir={below}"
    )
    for scratch in plan["scratch"]:
        options = "size={size},mode={mode},uid={uid},gid={uid}".format_map(scratch)
        calls.mount("tmpfs", f"{root}{scratch['target']}", "tmpfs", calls.MS_NOSUID | calls.MS_NODEV, options)
    for folder in plan["scratch_folders"]:
        _make_owned(Path(f"{root}{folder}"), plan["base"])
    for number, mount in enumerate(plan["mounts"]):
        target = f"{root}{mount['target']}"
        if mount["late"]:
            # nspawn lays memory over its place, and then binds it from here.
            target = str(stage / f"mount{number}")
        if mount["late"] or mount["in_scratch"]:
            _make_place(Path(target), mount["source"])
        flags = calls.ATTR_NOSUID | calls.ATTR_NODEV | (0 if mount["writable"] else calls.ATTR_RDONLY)
        calls.bind(mount["source"], target, flags)


def _fill_own_layer(own: Path, plan: dict[str, Any]) -> None:
    """The topmost layer: places for mounts, files, and in the place of what is not to be seen a mark that hides it."""
    base = plan["base"]
    os.chown(own, base, base)
    for folder in plan["folders"]:
        _make_owned(Path(f"{own}{folder}"), base)
    for path, content in plan["files"].items():
        file = Path(f"{own}{path}")
        file.write_text(content)
        file.chmod(0o644)
        os.chown(file, base, base)
    for path in plan["hidden"]:
        os.mknod(f"{own}{path}", stat.S_IFCHR, os.makedev(0, 0))
    for mount in plan["mounts"]:
        if not mount["late"] and not mount["in_scratch"]:
            _make_place(Path(f"{own}{mount['target']}"), mount["source"])


def _make_owned(folder: Path, uid: int) -> None:
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o755)
        os.chown(folder, uid, uid)


def _make_place(target: Path, source: str) -> None:
    """Where `source` can be bound: a folder or a file."""
    if Path(source).is_dir():
        target.mkdir(mode=0o755, exist_ok=True)
    else:
        target.touch(mode=0o644)


# -- the container's processes -----------------------------------------------------------------------------


def _start_nspawn(plan: dict[str, Any], ours: socket.socket, theirs: socket.socket) -> int:
    """Starts what watches, which starts nspawn. Returns its pid."""
    child = os.fork()
    if child != 0:
        return child
    try:
        os.setsid()
        # First away from the numbers that they are to have.
        inner, said, mine = (_move_up(number) for number in (theirs.fileno(), plan["output"], ours.fileno()))
        # The log is opened twice: of what two have open for writing, its owner inside can take no lease.
        errors = _move_up(os.open(f"/proc/self/fd/{said}", os.O_WRONLY | os.O_APPEND))
        for source, number in ((inner, 0), (said, 1), (errors, 2), (mine, _OUR_HANDLE)):
            os.dup2(source, number)
        os.close(3)
        # Also what we were given unasked: an event loop may leave us the other ends of what it hears us by.
        os.closerange(_OUR_HANDLE + 1, os.sysconf("SC_OPEN_MAX"))
        os.chdir("/")
        argv = ["sh", "-c", _WATCH, "watch", plan["report"], *plan["nspawn"]]
        os.execvpe(argv[0], argv, plan["nspawn_environment"])  # noqa: S606 - to start it is what this is for
    except OSError as error:
        print(f"sh cannot be started: {error}", file=sys.stderr)
    finally:
        os._exit(127)


def _move_up(number: int) -> int:
    return fcntl.fcntl(number, fcntl.F_DUPFD, _OUR_HANDLE + 1)


def _wait_standing(ours: socket.socket) -> int:
    """Waits for the word from inside, and returns the process that said it: the one that is to become the command."""
    message, told, _, _ = ours.recvmsg(64, socket.CMSG_SPACE(_CREDENTIALS.size))
    if not message or not told:
        raise EOFError("the container ended before its command could run")
    pid, _, _ = _CREDENTIALS.unpack(told[0][2][: _CREDENTIALS.size])
    return int(pid)


def _close_what_is_open(init: int, plan: dict[str, Any]) -> None:
    """Takes from the container what nspawn leaves to it."""
    namespaces = {name: os.open(f"/proc/{init}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in ("user", "mnt")}

    def forbid_namespaces() -> None:
        calls.check(calls.libc.setns(namespaces["user"], calls.CLONE_NEWUSER), "setns")
        # The limit is that of the user namespace of whoever opens the file.
        Path(_USER_NAMESPACES).write_text("0")

    def cover() -> None:
        calls.check(calls.libc.setns(namespaces["mnt"], calls.CLONE_NEWNS), "setns")
        flags = calls.MS_NOSUID | calls.MS_NODEV | calls.MS_NOEXEC
        calls.mount("tmpfs", "/sys", "tmpfs", flags | calls.MS_RDONLY, "size=4k,mode=0")
        options = f"size={plan['shared_memory_bytes']},mode=1777,uid={plan['base']},gid={plan['base']}"
        calls.mount("tmpfs", "/dev/shm", "tmpfs", flags, options)  # noqa: S108 - inside the container
        # Bound from the host where it could not be made.
        calls.libc.umount2(_TUNNELS.encode(), _MNT_DETACH)
        Path(_TUNNELS).unlink(missing_ok=True)

    for work in (forbid_namespaces, cover):
        _run_in_child(work)
    for handle in namespaces.values():
        os.close(handle)


def _let_go(ours: socket.socket, inside: dict[str, Any]) -> None:
    """Tells what to execute. Raises OSError if it cannot be."""
    failed, told = os.pipe()
    with os.fdopen(failed, "rb") as failure:
        content = json.dumps(inside).encode()
        socket.send_fds(ours, [_LENGTH.pack(len(content))], [told])
        os.close(told)
        ours.sendall(content)
        # Closed without a word by the very execution.
        if text := failure.read(4096):
            raise OSError(text.decode("utf-8", "replace"))


def _run_in_child(work: Callable[[], None]) -> None:
    """Does `work` in a process of its own, which may change its namespaces. Raises OSError."""
    failed, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
        except OSError as error:
            os.write(told, _explain(error).encode())
        finally:
            os._exit(0)
    os.close(told)
    with os.fdopen(failed, "rb") as failure:
        text = failure.read(4096)
    os.waitpid(child, 0)
    if text:
        raise OSError(text.decode("utf-8", "replace"))


def _identify(pid: int) -> dict[str, int]:
    """A process, told apart from a later one of the same number."""
    return {"pid": pid, "started_ticks": int(_read_fields(pid)[19])}


def _find_parent(pid: int) -> int:
    return int(_read_fields(pid)[1])


def _read_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on. Raises OSError."""
    return Path(f"/proc/{pid}/stat").read_bytes().decode("utf-8", "replace").rpartition(")")[2].split()


def _explain(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


if __name__ == "__main__":
    sys.exit(main())
