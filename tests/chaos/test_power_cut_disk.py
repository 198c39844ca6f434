"""The instrument of the power cuts itself: what it takes away, what it leaves, and that nothing goes past it."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from power_cut import SECTOR_BYTES, Disk, Kind, Mercy, Record, compile_disk, read_log, save_survivors

TESTS = Path(__file__).parent.parent
SEEDS = range(200)
BEGIN = """
import mmap, os, signal, sqlite3, sys
from pathlib import Path
from power_cut import cut_after, watch_folder
folder = Path(sys.argv[1])
os.chdir(folder)
watch_folder(folder, Path(sys.argv[2]), 0, 1)
"""
END = """
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_disk(tmp_path_factory.mktemp("library"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


@pytest.fixture
def run(library: Path, folder: Path, tmp_path: Path) -> Callable[[str], Disk]:
    """Runs a program in the folder, to be killed at its end. Gives the disk of that moment."""

    def run(program: str) -> Disk:
        disk = Disk(folder)
        log = tmp_path / "log"
        done = subprocess.run(
            [sys.executable, "-c", BEGIN + program + END, folder, log],
            env=os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": str(TESTS)},
            check=False,
        )
        assert done.returncode == -signal.SIGKILL
        disk.follow(read_log(log))
        return disk

    return run


def cut(disk: Disk, mercy: Mercy, seed: int = 1) -> dict[str, bytes]:
    return disk.cut(Random(seed), mercy)


def test_what_was_synced_is_there_and_what_was_not_is_gone(run: Callable[[str], Disk], folder: Path) -> None:
    disk = run("""
fd = os.open("synced", os.O_CREAT | os.O_RDWR)
os.write(fd, b"safe")
os.fsync(fd)
os.fdatasync(os.open(".", os.O_RDONLY))
os.write(fd, b" and not safe")
Path("unsynced").write_text("gone")
""")
    assert cut(disk, Mercy.NOTHING) == {"synced": b"safe"}
    assert disk.find_unlogged(folder) == []
    assert (folder / "unsynced").read_text() == "gone"


def test_a_file_whose_folder_was_not_synced_has_no_name(run: Callable[[str], Disk]) -> None:
    disk = run("""
fd = os.open("file", os.O_CREAT | os.O_RDWR)
os.write(fd, b"content")
os.fsync(fd)
""")
    assert cut(disk, Mercy.NOTHING) == {}
    assert {tuple(cut(disk, Mercy.ANY, seed).items()) for seed in SEEDS} == {(), (("file", b"content"),)}


def test_what_a_name_was_and_was_moved_to_comes_back_until_the_folder_is_synced(
    run: Callable[[str], Disk], folder: Path
) -> None:
    (folder / "old").write_text("old")
    (folder / "new").write_text("new")
    (folder / "other").write_text("other")
    disk = run("""
os.unlink("other")
os.rename("new", "old")
""")
    assert cut(disk, Mercy.NOTHING) == {"old": b"old", "new": b"new", "other": b"other"}
    assert {tuple(sorted(cut(disk, Mercy.ANY, seed))) for seed in SEEDS} == {
        ("new", "old", "other"),
        ("new", "old"),
        ("old",),
    }
    assert disk.find_unlogged(folder) == []


def test_a_sync_makes_safe_what_was_written_before_it_was_asked_for_and_only_when_it_is_done(folder: Path) -> None:
    (folder / "file").write_bytes(b"....")
    disk = Disk(folder)
    disk.follow(
        [
            Record(Kind.OPEN, 7, 0, b"file"),
            Record(Kind.WRITE, 7, 0, b"a"),
            Record(Kind.SYNC_ASKED, 7, 1, b""),
            Record(Kind.WRITE, 7, 1, b"b"),
        ]
    )
    assert cut(disk, Mercy.NOTHING) == {"file": b"...."}
    disk.follow([Record(Kind.SYNC_DONE, 7, 1, b"")])
    assert cut(disk, Mercy.NOTHING) == {"file": b"a..."}


def test_a_program_is_killed_in_its_sync(run: Callable[[str], Disk]) -> None:
    disk = run("""
fd = os.open("file", os.O_CREAT | os.O_RDWR)
os.fsync(os.open(".", os.O_RDONLY))
os.write(fd, b"content")
cut_after(1)
os.fsync(fd)
""")
    assert cut(disk, Mercy.NOTHING) == {"file": b""}


def test_a_write_is_torn_at_sectors(run: Callable[[str], Disk], folder: Path) -> None:
    (folder / "file").write_bytes(b"a" * 8 * SECTOR_BYTES)
    disk = run("""
fd = os.open("file", os.O_RDWR)
os.pwrite(fd, b"b" * 2048, 512)
os.pwrite(fd, b"c" * 512, 1024)
""")
    patterns = {read_sectors(cut(disk, Mercy.ANY, seed)["file"]) for seed in SEEDS}
    # All that was not written stays, what was written once is old or new, what was written twice is any of the three.
    assert all(set(pattern[0] + pattern[5:]) == {"a"} for pattern in patterns)
    assert {pattern[1] for pattern in patterns} == {"a", "b", "?"}
    assert {pattern[2] for pattern in patterns} == {"a", "b", "c", "?"}
    # A later sector without an earlier one: in any order.
    assert any(pattern[1] == "a" and pattern[4] == "b" for pattern in patterns)
    beginnings = {read_sectors(cut(disk, Mercy.BEGINNING, seed)["file"]) for seed in SEEDS}
    assert beginnings == {"aaaaaaaa", "abaaaaaa", "abbaaaaa", "abbbaaaa", "abbbbaaa", "abcbbaaa"}


def read_sectors(content: bytes) -> str:
    """A letter for each sector; `?` is garbage."""
    sectors = [content[at : at + SECTOR_BYTES] for at in range(0, len(content), SECTOR_BYTES)]
    return "".join(chr(sector[0]) if len(set(sector)) == 1 else "?" for sector in sectors)


def test_a_write_of_part_of_a_sector_leaves_its_neighbours_in_it(run: Callable[[str], Disk], folder: Path) -> None:
    (folder / "file").write_bytes(b"neighbour")
    disk = run("""
fd = os.open("file", os.O_RDWR)
os.pwrite(fd, b"new", 9)
""")
    assert {cut(disk, mercy, seed)["file"] for mercy in Mercy for seed in SEEDS} == {
        b"neighbour",
        b"neighbournew",
        # The size came through and the data did not.
        b"neighbour\0\0\0",
    }


def test_what_was_cut_off_may_come_back_but_not_below_what_was_written_after_it(
    run: Callable[[str], Disk], folder: Path
) -> None:
    (folder / "file").write_bytes(b"a" * 2 * SECTOR_BYTES)
    disk = run("""
fd = os.open("file", os.O_RDWR)
os.ftruncate(fd, 0)
os.ftruncate(fd, 1024)
os.pwrite(fd, b"b" * 512, 512)
""")
    zero, a, b = (bytes([byte]) * SECTOR_BYTES for byte in (0, ord("a"), ord("b")))
    left = {cut(disk, Mercy.ANY, seed)["file"] for seed in SEEDS}
    assert {a + a, b"", zero + zero, zero + b} <= left
    assert a + b not in left


def test_what_goes_past_the_log_is_found(run: Callable[[str], Disk], folder: Path) -> None:
    (folder / "file").write_bytes(b"a" * 4096)
    disk = run("""
fd = os.open("file", os.O_RDWR)
mapped = mmap.mmap(fd, 4096)
mapped[10] = 0
""")
    assert disk.find_unlogged(folder) == ["file"]


@pytest.mark.parametrize("records", [*range(1, 40, 3), 100, 200, 400])
def test_the_log_of_a_database_is_the_database(
    run: Callable[[str], Disk], folder: Path, tmp_path: Path, records: int
) -> None:
    disk = run(f"""
cut_after({records})
database = sqlite3.connect("database", isolation_level=None)
database.execute("pragma journal_mode = wal")
database.execute("pragma wal_autocheckpoint = 5")
database.execute("create table numbers (number)")
for number in range(100):
    database.execute("insert into numbers values (?)", (number,))
""")
    assert disk.find_unlogged(folder) == []
    save_survivors(cut(disk, Mercy.NOTHING), tmp_path / "survivors")
    assert (tmp_path / "survivors").is_dir()


@pytest.mark.parametrize(
    ("journal_mode", "synchronous", "is_there"),
    [
        ("wal", "normal", False),
        ("wal", "full", True),
        ("delete", "normal", False),
        # Only `extra` syncs the folder after the journal's name is gone: until then it may come back and undo it all.
        ("delete", "full", False),
        ("delete", "extra", True),
        ("truncate", "full", True),
    ],
)
def test_sqlite_loses_a_commit_just_where_its_documentation_says_so(
    run: Callable[[str], Disk], tmp_path: Path, journal_mode: str, synchronous: str, is_there: bool
) -> None:
    disk = run(f"""
database = sqlite3.connect("database", isolation_level=None)
database.execute("pragma journal_mode = {journal_mode}")
database.execute("pragma synchronous = extra")
database.execute("create table numbers (number)")
os.fsync(os.open(".", os.O_RDONLY))
database.execute("pragma synchronous = {synchronous}")
database.execute("insert into numbers values (1)")
""")
    survivors = tmp_path / "survivors"
    save_survivors(cut(disk, Mercy.NOTHING), survivors)
    with contextlib.closing(sqlite3.connect(survivors / "database")) as database:
        assert database.execute("select * from numbers").fetchall() == ([(1,)] if is_there else [])
