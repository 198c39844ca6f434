"""What the daemon could do to the machine after it has given up being root: it is tried, by a program in its place."""

import json
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from helper_rig import read_notes
from hyperhive.core.paths import Roots
from hyperhive.core.uids import DAEMON_UID, FIRST_RANGED_UID
from hyperhive.host.drivers.nspawn_plan import observe_program

PROBE = Path(__file__).parent.parent / "separated_probe.py"
CANARY = "of root"

DONE = {
    "write to the database": "['by root', 'by the daemon']",
    "make an agent's folder": "None",
    "read what an agent keeps to itself": "of the agent",
    "add to what an agent has": "13",
    "list the other": "['notes.md']",
    "remove an agent's folder": "None",
    "listen for an agent": str(FIRST_RANGED_UID),
    "read what was given to it": "json://127.0.0.1",
    "read what all may": "public",
    # As it sees itself.
    "who it is": "[(0, 0, 0), (0, 0, 0), []]",
    "make a file of its own": "None",
    # What that is to others is seen below.
    "make a program setuid": "0o6755",
    # Beside what is hidden, in folders that are its own.
    **{f"make another {name}": "None" for name in ("run", "containers", "images", "helper")},
}
# The error has the reason: EBUSY is a mount that would have to go first, EROFS a cover, EACCES and EPERM who it is.
REFUSED = {
    "read /etc/shadow": "EACCES",
    "write to /etc": "EACCES",
    "write to /etc/passwd": "EACCES",
    "write to /usr": "EACCES",
    "read a secret of root's": "EACCES",
    "connect to a socket of root's": "EACCES",
    "see what is beside its folder": "ENOENT",
    "write beside its folder": "EROFS",
    "read another hive's folder": "EACCES",
    "make a device": "EPERM",
    "give a file to a stranger": "EINVAL",
    "take a file of root's": "EPERM",
    "open a file of root's": "EPERM",
    "change who has its folder": "EPERM",
    "open its folder to all": "EPERM",
    "give a program capabilities": "EPERM",
    "open a file by its number": "EPERM",
    "move its folder away": "EROFS",
    "read the helper's audit": "EACCES",
    "move run away": "EBUSY",
    "remove run": "EBUSY",
    "put another in place of run": "EBUSY",
    "unmount run": "EPERM",
    **{
        what.replace("*", name): error
        for name in ("containers", "images", "helper")
        for what, error in {
            "move * away": "EBUSY",
            "remove *": "EBUSY",
            "put another in place of *": "EBUSY",
            "unmount *": "EPERM",
            "list *": "EACCES",
            "open *": "EROFS",
            "write to *": "EACCES",
        }.items()
    },
    **{
        what.replace("*", whose): error
        for whose in ("root's process", "the helper")
        for what, error in {
            "see the files of *": "EACCES",
            "see where * is": "EACCES",
            "see what * has open": "EACCES",
            "read the environment of *": "EACCES",
            "open the memory of *": "EACCES",
            "write to the memory of *": "EACCES",
            "find the mounts of *": "EACCES",
            "have * killed": "EACCES",
            "kill *": "EPERM",
            "stop * by a handle": "EPERM",
            "trace *": "EPERM",
            "read memory of * by a call": "EPERM",
        }.items()
    },
    "become a stranger": "EINVAL",
    "become an agent": "EPERM",
    "join an agent's group": "EPERM",
    "join groups": "EPERM",
    "leave its root": "EPERM",
    "have user namespaces": "EACCES",
    "make a user namespace": "ENOSPC",
    "make one with mounts": "ENOSPC",
    "make a mount namespace": "EPERM",
    "make a network": "EPERM",
    "make a pid namespace": "EPERM",
    "raise a limit": "EPERM",
    "be spared when memory is short": "EACCES",
    "come before others": "EACCES",
    "run in real time": "EPERM",
    "mount a file system": "EPERM",
    "mount the kernel's": "EPERM",
    "bind a folder": "EPERM",
    "make a cover writable": "EPERM",
    "copy mounts": "EPERM",
    "move a mount": "EPERM",
    "unmount its folder": "EPERM",
    "unmount a cover": "EPERM",
    "send raw packets": "EPERM",
    "listen to the wire": "EPERM",
    "name the machine": "EPERM",
    "say who gets cores": "EACCES",
}
# A kernel may lack what they are about.
REFUSED_OR_MISSING = {
    "load a module": "EPERM",
    "remove a module": "EPERM",
    "see others' bpf": "EPERM",
    "read a key of root's": "EACCES",
}


@dataclass
class Tried:
    """`found` is what the probe printed. `data` is the hive's folder, `open` one that everybody may pass."""

    data: Path
    open: Path
    found: dict[str, str] = field(default_factory=dict[str, str])


@pytest.fixture(scope="module")
def tried() -> Iterator[Tried]:
    """One run of the probe, in a hive's folders that lie in a folder closed to all but root."""
    with ExitStack() as stack:
        closed, opened, other = (
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hive-"))) for _ in range(3)
        )
        opened.chmod(0o755)
        tried = Tried(closed / "data", opened)
        listener = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
        listener.bind(str(opened / "root.sock"))
        listener.listen()
        (opened / "root.sock").chmod(0o600)
        put(opened / "secret", CANARY)
        put(opened / "public", "public", mode=0o644)
        put(closed / "beside", CANARY, mode=0o644)
        put(closed / "notify", "json://127.0.0.1")
        (other / "data").mkdir()
        fill(Roots(tried.data, tried.data / "run"))
        wanted = {
            "data": str(tried.data),
            "run": str(tried.data / "run"),
            "notify": str(closed / "notify"),
            "open": str(opened),
            "other": str(other / "data"),
            "root_pid": os.getpid(),
            "program": shutil.which("id"),
        }
        done = subprocess.run([sys.executable, PROBE, json.dumps(wanted)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        tried.found |= json.loads(done.stdout)
        yield tried


def fill(roots: Roots) -> None:
    """What root's hive had in its folders before."""
    roots.data.mkdir(mode=0o700)
    roots.run.mkdir(mode=0o751)
    with closing(sqlite3.connect(roots.database)) as database, database:
        database.execute("create table kept (what text)")
        database.execute("insert into kept values ('by root')")
    state = roots.state_folder("alice")
    state.mkdir(mode=0o700, parents=True)
    put(state / "own", "of the agent")
    for path in (state / "own", state, state.parent):
        os.chown(path, FIRST_RANGED_UID, FIRST_RANGED_UID)


def put(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


def test_each_attempt_is_judged_here(tried: Tried) -> None:
    judged = DONE.keys() | REFUSED.keys() | REFUSED_OR_MISSING.keys() | {"list root's home"}
    assert tried.found.keys() == judged


@pytest.mark.parametrize("what", DONE)
def test_it_can_do_what_it_is_there_for(tried: Tried, what: str) -> None:
    assert tried.found[what] == f"done: {DONE[what]}"


@pytest.mark.parametrize("what", REFUSED)
def test_it_cannot(tried: Tried, what: str) -> None:
    assert tried.found[what] == REFUSED[what]


@pytest.mark.parametrize("what", REFUSED_OR_MISSING)
def test_it_cannot_if_the_kernel_knows_it(tried: Tried, what: str) -> None:
    assert tried.found[what] in {REFUSED_OR_MISSING[what], "ENOSYS"}


def test_of_roots_home_it_sees_the_way_to_what_it_needs_and_no_more(tried: Tried) -> None:
    home = Path("/root")
    needed = {
        mount.source.relative_to(home).parts[0] for mount in observe_program().mounts if home in mount.source.parents
    }
    expected = f"done: {sorted(needed)}" if needed else "EACCES"
    assert tried.found["list root's home"] == expected


def test_a_setuid_program_of_its_own_makes_nobody_more_than_it_is(tried: Tried) -> None:
    program = tried.data / "setuid"
    status = program.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (DAEMON_UID, DAEMON_UID, 0o6755)
    shown = tried.open / "setuid"
    program.rename(shown)
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", str(shown)]
    asked = [
        subprocess.run([*other, option], capture_output=True, text=True, check=True).stdout for option in ("-u", "-g")
    ]
    assert asked == [f"{DAEMON_UID}\n"] * 2


def test_the_helper_has_seen_nothing_of_it(tried: Tried) -> None:
    assert read_notes(Roots(tried.data, tried.data / "run").helper_folder / "audit.jsonl") == []


def test_what_is_roots_is_as_it_was(tried: Tried) -> None:
    for path in (tried.open / "secret", tried.data.parent / "beside"):
        assert (path.read_text(), path.stat().st_uid) == (CANARY, 0)
    for name in ("run/containers", "images", "helper"):
        status = (tried.data / name).stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o700)
    assert [path.name for path in (tried.data / "run").iterdir()] != []
    assert not list(tried.data.parent.glob("of-the-probe"))
