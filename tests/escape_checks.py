"""What an agent, or root of its container, might try to get out; what it leaves lying for the daemon to fall into.

As the agent on every kind of driver. As root where a container can have one, with every capability there is in it,
once with the container's filter of system calls and once without any. Nothing makes an agent root of its container:
what if it were. Where nobody can be root, that is what is asserted.
"""

import asyncio
import ctypes
import gzip
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from driver_checks import SLEEP, Check
from driver_rig import FIRST_UID, Rig
from hyperhive.core.uids import INNER_UID, RANGE_WIDTH
from hyperhive.host.drivers.seccomp import render_own_filter
from hyperhive.system.archives import Packer
from hyperhive.system.disk_usage import measure_folders
from hyperhive.system.files import list_beneath, open_regular_beneath, read_beneath, stat_beneath, walk_beneath
from hyperhive.system.plain_files import read_plain
from hyperhive.system.tree_copies import Room, copy_tree

PROBE = Path(__file__).with_name("escape_probe.py").read_text()
_CANARY = f"escape-canary-{os.getpid()}"
_REFUSALS = {
    *("EPERM", "EACCES", "ENOSYS", "ESRCH", "ENOENT", "EINVAL", "ENOSPC", "ENOTTY", "EXDEV", "EROFS", "ENODEV"),
    *("EAFNOSUPPORT", "ENETUNREACH", "ECONNREFUSED", "ENXIO", "EADDRNOTAVAIL", "ENOKEY", "ESTALE", "EBUSY"),
}
# What root of a container may do to the container: all of it is in namespaces of its own.
_ROOTS_OWN = {
    *("open_tree", "fsopen ext4", "uncover what is hidden"),
    *(f"mount {kind}" for kind in ("proc", "sysfs", "cgroup", "cgroup2", "binfmt_misc", "mqueue", "overlay", "bpf")),
}
# And what only the filter of system calls refuses: without it, this is seen of the kernel.
_BEHIND_THE_FILTER = {
    *("io_uring_setup", "userfaultfd", "bpf", "perf_event_open", "add a key to the user's", "request a key"),
    *("the session's keyring", "read the user's keyring", "read the kernel's log"),
    *(f"family {number}" for number in (socket.AF_VSOCK, 30, 38, 44)),
}
# Settings that each namespace has for itself; and pressure, which says when there is much of it.
_OF_NAMESPACES = re.compile(
    r"/proc/(sys/(net|user)/|sys/fs/mqueue/|pressure/(io|cpu|memory|irq)$|kmsg$"
    r"|sys/kernel/(auto_msgmni|ms[g]\w+|sem\w*|shm\w+|ns_last_pid|pid_max|hostname|domainname)$)"
)
# Of version 2 only what sorts processes below its own group; no limit, and nothing at all of version 1.
_OF_GROUPS = re.compile(r"cgroup2: /(cgroup\.(events|procs|stat|threads|controllers|subtree_control|type))$")
_DEADLINE_S = 20.0
_SWAPPING_S = 1.2


# -- calls of the kernel -----------------------------------------------------------------------------------


async def no_call_of_the_kernel_gets_the_agent_anywhere(rig: Rig) -> None:
    await rig.run(SLEEP)
    with _prepared(rig) as wanted, _settings_kept() as changed:
        found = json.loads(await rig.ask(sys.executable, "-c", PROBE, json.dumps(wanted)))
        _check(found["attempts"], set())
        assert found["opened"] == []
        _assert_none([path for path in found["writable"] if not _OF_NAMESPACES.match(path)])
        changed |= found["changed"]


async def no_call_of_the_kernel_gets_its_root_anywhere(rig: Rig) -> None:
    await rig.run(SLEEP)
    if not await _may_have_root(rig):
        return
    for program in (render_own_filter(), b""):
        with _prepared(rig) as wanted, _settings_kept() as changed:
            wanted["place"] = f"/tmp/root-{len(program)}"
            done = await _run_as_root(rig, sys.executable, "-c", PROBE, json.dumps(wanted | {"filter": program.hex()}))
            assert done.returncode == 0, done.stderr
            found = json.loads(done.stdout)
            _check(found["attempts"], _ROOTS_OWN | (set() if program else _BEHIND_THE_FILTER))
            opened = [path for path in found["opened"] if not _OF_GROUPS.match(path)]
            opened = [path.replace("proc: ", "/proc") for path in opened if not path.startswith("binfmt_misc: ")]
            _assert_none([path for path in opened if not _OF_NAMESPACES.match(path)])
            _assert_none([path for path in found["writable"] if not _OF_NAMESPACES.match(path)])
            assert len(found["changed"]) > 100
            changed |= found["changed"]
        # Its root has changed what binds it there, such as how many namespaces there may be.
        await rig.driver.destroy("alice")
        await rig.run(SLEEP)


async def nobody_is_root_of_a_container(rig: Rig) -> None:
    await rig.run(SLEEP)
    code = "import os, pathlib; print(*{p.stat().st_uid for p in pathlib.Path('/proc').glob('[0-9]*')})"
    assert await rig.ask(sys.executable, "-c", code) == "1000\n"
    for program in ("su -c id", "sudo -n id", "pkexec id", "mount -t tmpfs none /state", "newuidmap $$ 0 0 1"):
        assert not (await rig.driver.exec("alice", ("sh", "-c", program), 10)).ok, program


async def _may_have_root(rig: Rig) -> bool:
    """Whether the container knows a uid 0; if not, nobody becomes it, neither from inside nor from outside."""
    init = (await rig.driver.observe("alice")).pid
    inside, _, count = Path(f"/proc/{init}/uid_map").read_text().split()
    if inside == "0":
        return True
    assert (inside, count) == (str(INNER_UID), "1")
    become = "import os; os.setuid(0)"
    refused = await rig.driver.exec("alice", (sys.executable, "-c", become), _DEADLINE_S)
    assert b"Invalid argument" in refused.stderr or b"not permitted" in refused.stderr, refused
    assert (await _run_as_root(rig, "true")).returncode != 0
    return False


async def _run_as_root(rig: Rig, *command: str) -> "subprocess.CompletedProcess[str]":
    init = (await rig.driver.observe("alice")).pid
    place = ["nsenter", f"--target={init}", "--all", "--setuid=0", "--setgid=0", "--"]
    return await asyncio.to_thread(
        subprocess.run, [*place, *command], capture_output=True, text=True, timeout=60, check=False
    )


def _assert_none(paths: list[str]) -> None:
    assert not paths, paths


def _check(attempts: dict[str, str], own: set[str]) -> None:
    assert len(attempts) > 75
    # What the machine cannot do at all, nobody can: then there is another error.
    wrong = {name: outcome for name, outcome in attempts.items() if outcome not in _REFUSALS and name not in own}
    assert wrong == {}, wrong
    ends = {name: attempts[name] for name in own & attempts.keys()}
    assert set(ends.values()) <= {*_REFUSALS, "done"}, ends


@contextmanager
def _settings_kept() -> Generator[dict[str, str]]:
    """The caller adds which settings of the kernel were changed inside to what; none of the host's is that now."""
    before = {
        path: _read(path) for folder, _, names in os.walk("/proc/sys") for path in map(Path(folder).joinpath, names)
    }
    changed: dict[str, str] = {}
    yield changed
    wrong: list[Path] = []
    for setting, value in changed.items():
        path = Path("/proc/sys", setting)
        # Others of this machine may change one meanwhile, but not to that.
        if path in before and before[path] != value.encode() == _read(path) and setting != "kernel/ns_last_pid":
            wrong.append(path)
            path.write_bytes(before[path])
    assert not wrong, wrong
    _check_formats()


def _check_formats() -> None:
    """The container did not choose what runs programs of the machine."""
    unknown = Path("/tmp") / f"{_CANARY}-format"
    unknown.write_bytes(b"HIVETEST")
    unknown.chmod(0o755)
    try:
        subprocess.run([str(unknown)], check=False)
    except OSError:
        return
    finally:
        unknown.unlink()
    raise AssertionError("a program of the machine was run by what the container chose")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@contextmanager
def _prepared(rig: Rig) -> Generator[dict[str, Any]]:
    """Things of the host to be found: shared memory, messages, a queue, a port, a process, files and their numbers."""
    library = ctypes.CDLL(None, use_errno=True)
    key = 0x48_00_00_00 | os.getpid()
    segment = library.shmget(key, 4096, 0o1666)
    messages = library.msgget(key, 0o1666)
    queue = f"/{_CANARY}"
    opened = library.mq_open(queue.encode(), os.O_CREAT | os.O_RDWR, 0o666, None)
    shared = Path("/dev/shm") / _CANARY
    shared.write_text(_CANARY)
    secret = rig.folder / _CANARY
    secret.write_text(_CANARY)
    disk = rig.folder.stat().st_dev
    assert min(segment, messages, opened) >= 0
    try:
        with socket.create_server(("0.0.0.0", 0)) as server:
            port = server.getsockname()[1]
            yield {
                "place": "/tmp/agent",
                "host_pid": os.getpid(),
                "links": ["/etc/passwd", "/run/hive", "/usr/bin/true", "/proc/self/exe", "/proc/1/root"],
                "inodes": [2, secret.stat().st_ino, Path("/etc").stat().st_ino],
                "disk": [os.major(disk), os.minor(disk)],
                "uid": rig.uid_outside("bob"),
                "ipc_key": key,
                "shm_id": segment,
                "queue": queue,
                "shm_name": _CANARY,
                # Metadata of clouds, this machine by all its names, and its neighbours.
                "addresses": [
                    *(("169.254.169.254", 80), ("169.254.170.2", 80), ("100.100.100.200", 80), ("fd00:ec2::254", 80)),
                    *((host, port) for host in ("127.0.0.1", "0.0.0.0", "::1", "::ffff:127.0.0.1")),
                    *((host, port) for host in _list_addresses()),
                    *(("10.0.0.1", 22), ("192.168.0.1", 80), ("224.0.0.1", 53), ("fe80::1", 80)),
                ],
            }
    finally:
        shared.unlink()
        library.mq_unlink(queue.encode())
        os.close(opened)
        # IPC_RMID
        library.shmctl(segment, 0, None)
        library.msgctl(messages, 0, None)


def _list_addresses() -> list[str]:
    return subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout.split()


# -- what is left in its folder ----------------------------------------------------------------------------

# Owner, group and everybody; both bits; and capabilities for whoever runs it.
_LEAVE_PROGRAMS = """
import os, shutil, struct, sys
for name in ("plain", "bits"):
    path = f"/state/{sys.argv[1]}-{name}"
    shutil.copy("/usr/bin/grep", path)
    try:
        os.setxattr(path, "security.capability", struct.pack("<5I", 0x02000001, 0xffffffff, 0, 0x1ff, 0))
    except OSError:
        pass
    os.chmod(path, 0o6755 if name == "bits" else 0o755)
"""


async def programs_that_it_leaves_give_nobody_more_than_he_has(rig: Rig) -> None:
    await rig.run(SLEEP)
    os.chmod(rig.state(), 0o755)  # noqa: PTH101 - the hive's own are closed; here even that is left out
    await rig.ask(sys.executable, "-c", _LEAVE_PROGRAMS, "agent")
    owners = {rig.uid_outside()}
    if await _may_have_root(rig):
        done = await _run_as_root(rig, sys.executable, "-c", _LEAVE_PROGRAMS, "root")
        assert done.returncode == 0, done.stderr
        owners.add(rig.uid_outside() - INNER_UID)
    programs = sorted(rig.state().glob("*-*"))
    assert len(programs) == 2 * len(owners)
    for program in programs:
        # Nobody's of this machine, and nobody's of another container.
        assert program.stat().st_uid in owners
        if os.geteuid() == 0:
            assert program.stat().st_uid in range(FIRST_UID - INNER_UID, FIRST_UID - INNER_UID + RANGE_WIDTH)
        status = _run_as_somebody(str(program), "-E", "^(Uid|Gid|CapPrm|CapEff)", "/proc/self/status")
        uids = {int(uid) for line in status if line.startswith(("Uid", "Gid")) for uid in line.split()[1:]}
        assert 0 not in uids or os.geteuid() != 0
        assert uids <= {*owners, _somebody()}
        assert {int(line.split()[1], 16) for line in status if line.startswith("Cap")} == {0}, (program, status)
    # And inside, the bits of the folder count for nothing.
    inside = await rig.ask("/state/agent-bits", "-E", "^(Uid|CapPrm|NoNewPrivs)", "/proc/self/status")
    assert inside.split() == ["Uid:", *["1000"] * 4, "CapPrm:", "0" * 16, "NoNewPrivs:", "1"]


def _somebody() -> int:
    """Another user of the machine."""
    return 65533 if os.geteuid() == 0 else os.geteuid()


def _run_as_somebody(*argv: str) -> list[str]:
    drop = ("setpriv", f"--reuid={_somebody()}", f"--regid={_somebody()}", "--clear-groups", "--")
    command = [*(drop if os.geteuid() == 0 else ()), *argv]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


_LEAVE_TRAPS = """
import os, socket, stat, sys
os.chdir("/state")
os.mkdir("traps")
os.chdir("traps")
os.mkfifo("pipe"); os.chmod("pipe", 0o666)
socket.socket(socket.AF_UNIX).bind("socket")
for number, (kind, device) in enumerate(((stat.S_IFBLK, (8, 0)), (stat.S_IFCHR, (1, 5)), (stat.S_IFCHR, (5, 0)))):
    try:
        os.mknod(f"device{number}", kind | 0o666, os.makedev(*device))
        print("made")
    except PermissionError:
        pass
os.mknod("whiteout", stat.S_IFCHR | 0o600, 0) if "whiteout" in sys.argv else None
for name, target in (("zero", "/dev/zero"), ("secret", sys.argv[1]), ("up", "../../../../" + sys.argv[1]),
                     ("magic", "/proc/self/fd/0"), ("itself", "itself")):
    os.symlink(target, name)
open("plain", "w").write("plain")
os.link("plain", "linked")
with open("holes", "w") as file:
    file.truncate(2**42)
os.mkdir("closed", 0)
"""


async def pipes_sockets_devices_and_links_stop_and_mislead_no_reader(rig: Rig) -> None:
    secret = _make_secret(rig)
    await rig.run(SLEEP)
    # A device is nothing that it can make; what a root could leave is the same.
    assert await rig.ask(sys.executable, "-c", _LEAVE_TRAPS, str(secret)) == ""
    if await _may_have_root(rig):
        (rig.state() / "traps").rename(rig.state() / "of-the-agent")
        done = await _run_as_root(rig, sys.executable, "-c", _LEAVE_TRAPS, str(secret))
        assert (done.returncode, done.stdout) == (0, ""), done
    for _ in range(3):
        _read_everything(rig, "traps")


def _make_secret(rig: Rig) -> Path:
    folder = rig.folder / "of-the-operator"
    folder.mkdir()
    (folder / "notes.md").write_text(_CANARY)
    return folder / "notes.md"


_SWAP = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
number = 316 if os.uname().machine == "x86_64" else 276
os.chdir("/state")
target = sys.argv[1]
os.mkdir("race"); os.chdir("race")
os.mkdir("folder"); open("folder/notes.md", "w").write("its own")
os.symlink(os.path.dirname(target), "other-folder")
open("file", "w").write("its own"); os.symlink(target, "other-file")
open("pipe", "w").write("its own"); os.mkfifo("other-pipe")
os.mkdir("depth"); os.makedirs("depth/a/b"); open("depth/a/b/notes.md", "w").write("its own")
os.mkdir("other-depth"); os.mkdir("other-depth/a"); os.symlink(os.path.dirname(target), "other-depth/a/b")
print(flush=True)
names = [(name.encode(), b"other-" + name.encode()) for name in ("folder", "file", "pipe", "depth")]
while True:
    for one, other in names:
        # RENAME_EXCHANGE: there is always something of that name.
        libc.syscall(number, -100, one, -100, other, 2)
    try:
        os.link("file", "hard"); os.unlink("hard")
    except OSError:
        pass
"""


async def what_it_swaps_while_it_is_read_shows_nothing_of_the_host(rig: Rig) -> None:
    secret = _make_secret(rig)
    await _start_swapping(rig, secret)
    rounds = 0
    end = time.monotonic() + _SWAPPING_S
    while time.monotonic() < end or rounds < 3:
        await asyncio.to_thread(_read_everything, rig, "race")
        rounds += 1


async def what_it_swaps_while_it_is_removed_takes_nothing_of_the_host_along(rig: Rig) -> None:
    secret = _make_secret(rig)
    await _start_swapping(rig, secret)
    end = time.monotonic() + _SWAPPING_S
    while time.monotonic() < end:
        # As `host/folders.py` does it.
        remove = ["rm", "-rf", "--", str(rig.state() / "race")]
        await asyncio.to_thread(subprocess.run, remove, stderr=subprocess.DEVNULL, check=False)
        if not (rig.state() / "race").exists():
            await rig.driver.stop("alice", 0.1)
            await rig.driver.destroy("alice")
            await _start_swapping(rig, secret)
    assert secret.read_text() == _CANARY


async def _start_swapping(rig: Rig, secret: Path) -> None:
    log = rig.state() / "swapping"
    log.unlink(missing_ok=True)
    await rig.run(f"{sys.executable} -c '{_SWAP}' {secret} >/state/swapping 2>&1")
    assert await rig.wait_file("swapping") == "\n"


def _read_everything(rig: Rig, name: str) -> None:
    """All ways in which the daemon reads what an agent can write. It ends soon, and has seen nothing of the host."""
    began_s = time.monotonic()
    state = rig.state()
    seen = _read_by_name(state, name)
    copies = rig.folder / f"copies-{time.monotonic_ns()}"
    # As it is for a snapshot; then as it is packed for a backup, from the live folder.
    copy_tree(state, copies, Room(2**30, 10_000), refuse=lambda _: "", left_out=_ignore)
    for path in copies.rglob("*"):
        if path.is_file() and not path.is_symlink():
            seen += path.read_bytes()
            assert path.stat().st_size < 2**20
    shutil.rmtree(copies)
    seen += _pack(state, rig.folder / "packed")
    assert _CANARY.encode() not in seen
    assert b"its own" in seen or b"plain" in seen
    usage = measure_folders([state], 10_000)
    assert usage.size_bytes < 2**20 and usage.entries < 1000
    assert time.monotonic() - began_s < _DEADLINE_S


def _read_by_name(state: Path, name: str) -> bytes:
    seen = b""
    paths = [f"{name}/{path}" for path in ("folder/notes.md", "file", "pipe", "depth/a/b/notes.md", "secret", "up")]
    for path in (*paths, *(f"{name}/{trap}" for trap in ("socket", "zero", "magic", "itself", "linked", "device0"))):
        seen += _swallow(lambda path=path: read_beneath(state, path, 1024))
        seen += _swallow(lambda path=path: repr(list_beneath(state, path, 100)).encode())
        seen += _swallow(lambda path=path: str(stat_beneath(state, path).st_mtime).encode())
        seen += _swallow(lambda path=path: read_plain(state / name, path.rpartition("/")[2], 1024) or b"")
    for path, status in walk_beneath(state, _ignore):
        if stat.S_ISREG(status.st_mode):
            seen += _swallow(lambda path=path: _read_regular(state, path))
    return seen


def _ignore(_path: bytes, _why: object) -> None:
    """What is left out is left out."""


def _swallow(read: Callable[[], bytes]) -> bytes:
    try:
        return read()
    except OSError:
        return b""


def _read_regular(state: Path, path: bytes) -> bytes:
    with os.fdopen(open_regular_beneath(state, path), "rb") as file:
        return file.read(1024)


def _pack(state: Path, target: Path) -> bytes:
    """All that is in an archive of the folder."""
    with target.open("wb") as file:
        packer = Packer(file, advance=lambda _: None, left_out=_ignore, may_link=lambda _one, _other: True)
        packer.add_tree(state, b"state", lambda _name, _status: "")
        packer.close()
    return gzip.decompress(target.read_bytes())


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        no_call_of_the_kernel_gets_the_agent_anywhere,
        no_call_of_the_kernel_gets_its_root_anywhere,
        nobody_is_root_of_a_container,
        programs_that_it_leaves_give_nobody_more_than_he_has,
        pipes_sockets_devices_and_links_stop_and_mislead_no_reader,
        what_it_swaps_while_it_is_read_shows_nothing_of_the_host,
        what_it_swaps_while_it_is_removed_takes_nothing_of_the_host_along,
    )
}
