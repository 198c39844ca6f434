"""What an agent, or root of its container, leaves in its folder for the daemon to fall into. See `escape_checks.py`."""

import asyncio
import gzip
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from driver_checks import SLEEP, Check
from driver_rig import FIRST_UID, Rig
from escape_root import may_have_root, run_as_root
from hyperhive.core.uids import INNER_UID, RANGE_WIDTH
from hyperhive.system.archives import Packer
from hyperhive.system.disk_usage import measure_folders
from hyperhive.system.files import list_beneath, open_regular_beneath, read_beneath, stat_beneath, walk_beneath
from hyperhive.system.plain_files import read_plain
from hyperhive.system.tree_copies import Room, copy_tree

CANARY = f"escape-canary-{os.getpid()}"
_DEADLINE_S = 20.0
_SWAPPING_S = 1.2


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
    if await may_have_root(rig):
        done = await run_as_root(rig, sys.executable, "-c", _LEAVE_PROGRAMS, "root")
        assert done.returncode == 0, done.stderr
        owners.add(rig.uid_outside() - INNER_UID)
    # Inside, the bits of the folder count for nothing. gVisor says nothing of new privileges, as there are none.
    inside = await rig.ask("/state/agent-bits", "-E", "^(Uid|CapPrm|NoNewPrivs)", "/proc/self/status")
    assert inside.split() == [
        *("Uid:", *["1000"] * 4, "CapPrm:", "0" * 16),
        *(() if rig.has_own_kernel else ("NoNewPrivs:", "1")),
    ]
    # No kernel holds them open for writing any more.
    await rig.driver.stop("alice", 0.1)
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


def _somebody() -> int:
    """Another user of the machine."""
    return 65533 if os.geteuid() == 0 else os.geteuid()


def _run_as_somebody(*argv: str) -> list[str]:
    drop = ("setpriv", f"--reuid={_somebody()}", f"--regid={_somebody()}", "--clear-groups", "--")
    command = [*(drop if os.geteuid() == 0 else ()), *argv]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


LEAVE_TRAPS = """
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
    secret = make_secret(rig)
    await rig.run(SLEEP)
    # A device is nothing that it can make; what a root could leave is the same.
    assert await rig.ask(sys.executable, "-c", LEAVE_TRAPS, str(secret)) == ""
    if await may_have_root(rig):
        (rig.state() / "traps").rename(rig.state() / "of-the-agent")
        done = await run_as_root(rig, sys.executable, "-c", LEAVE_TRAPS, str(secret))
        assert (done.returncode, done.stdout) == (0, ""), done
    for _ in range(3):
        _read_everything(rig, "traps")


def make_secret(rig: Rig) -> Path:
    folder = rig.folder / "of-the-operator"
    folder.mkdir()
    (folder / "notes.md").write_text(CANARY)
    return folder / "notes.md"


SWAP = """
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
    secret = make_secret(rig)
    await _start_swapping(rig, secret)
    rounds = 0
    end = time.monotonic() + _SWAPPING_S
    while time.monotonic() < end or rounds < 3:
        await asyncio.to_thread(_read_everything, rig, "race")
        rounds += 1


async def what_it_swaps_while_it_is_removed_takes_nothing_of_the_host_along(rig: Rig) -> None:
    secret = make_secret(rig)
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
    assert secret.read_text() == CANARY


async def _start_swapping(rig: Rig, secret: Path) -> None:
    log = rig.state() / "swapping"
    log.unlink(missing_ok=True)
    await rig.run(f"{sys.executable} -c '{SWAP}' {secret} >/state/swapping 2>&1")
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
    assert CANARY.encode() not in seen
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


# Its log is a file of its own, outside: all that an owner can do to one.
_SPOIL_LOG = """
import fcntl, os, signal, time
# Who is told that somebody waits for its lease need not give it back: the kernel takes it after 45 s.
signal.signal(signal.SIGIO, signal.SIG_IGN)
for spoil in (
    lambda: os.fchmod(1, 0o6777),
    lambda: fcntl.flock(1, fcntl.LOCK_EX),
    lambda: fcntl.fcntl(1, 1024, fcntl.F_WRLCK),
    lambda: os.posix_fallocate(1, 2**22, 2**20),
    lambda: os.ftruncate(1, 2**43),
):
    try:
        spoil()
    except OSError:
        pass
os.write(1, b"said\\n")
open("/state/spoilt", "w").write("\\n")
time.sleep(1000)
"""


async def what_it_does_to_its_own_log_misleads_and_stops_no_reader(rig: Rig) -> None:
    began_s = time.monotonic()
    await rig.run(f"{sys.executable} -c '{_SPOIL_LOG}'")
    await rig.wait_file("spoilt")
    for _ in range(3):
        first, last = await rig.driver.log_range("alice")
        assert 0 <= first <= last
        assert await rig.driver.logs("alice", last - 5, 100) == (b"said\n", last)
        piece, _ = await rig.driver.logs("alice", 0, 2**40)
        assert len(piece) <= 2**20
    log = rig.folder / "containers/alice/log"
    assert log.stat().st_blocks * 512 < 2**24
    if os.geteuid() == 0:
        # Whatever it holds and whatever its mode, nobody else gets there.
        assert log.stat().st_uid in {0, rig.uid_outside()}
        assert not any(mode & 0o077 for mode in (log.parent.stat().st_mode, log.parent.parent.stat().st_mode))
    assert time.monotonic() - began_s < _DEADLINE_S


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        programs_that_it_leaves_give_nobody_more_than_he_has,
        pipes_sockets_devices_and_links_stop_and_mislead_no_reader,
        what_it_swaps_while_it_is_read_shows_nothing_of_the_host,
        what_it_swaps_while_it_is_removed_takes_nothing_of_the_host_along,
        what_it_does_to_its_own_log_misleads_and_stops_no_reader,
    )
}
