"""Measuring folders that an adversary can write: all is counted once, nothing is followed, and nothing holds it up."""

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperhive.system.disk_usage import (
    EndedError,
    Pace,
    list_container,
    measure_folders,
    measure_unlinked,
    observe_room,
)

LIMIT = 1_000_000


def make_deep(folder: Path, depth: int) -> None:
    """Folders in one another, further down than any path reaches, with a file in the last."""
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
        os.close(at)
        at = inner
    handle = os.open("deep", os.O_WRONLY | os.O_CREAT, dir_fd=at)
    os.write(handle, b"x" * 64 * 1024)
    os.close(handle)
    os.close(at)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "state"
    made.mkdir()
    yield made
    # Not by Python, which goes no deeper than it can recurse.
    subprocess.run(["rm", "-rf", str(made)], check=True)


def test_what_is_there_is_counted_once_by_the_blocks_that_it_takes(folder: Path) -> None:
    (folder / "file").write_bytes(b"x" * 100_000)
    os.link(folder / "file", folder / "again")
    with (folder / "sparse").open("wb") as file:
        file.truncate(1024**4)
    found = measure_folders([folder], LIMIT)
    assert 100_000 <= found.size_bytes < 200_000
    assert (found.entries, found.complete) == (3, True)


def test_no_link_is_followed_and_nothing_that_blocks_is_opened(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "big").write_bytes(b"x" * 1_000_000)
    (folder / "link").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "fifo")
    (folder / os.fsdecode(b"\xff\n\x1b[31m")).mkdir()
    found = measure_folders([folder], LIMIT)
    assert found.size_bytes < 100_000
    assert (found.entries, found.complete) == (4, True)


def test_a_folder_that_is_a_link_and_one_that_is_not_there_count_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "file").write_bytes(b"x" * 100_000)
    (tmp_path / "link").symlink_to(folder)
    assert measure_folders([tmp_path / "link"], LIMIT).size_bytes == 0
    assert measure_folders([tmp_path / "none"], LIMIT).entries == 0


def test_folders_deeper_than_any_path_and_any_recursion_are_counted_to_their_end(folder: Path) -> None:
    make_deep(folder, 1_500)
    handles = len(list(Path("/proc/self/fd").iterdir()))
    found = measure_folders([folder], LIMIT)
    assert (found.entries, found.complete) == (1_501, True)
    assert found.size_bytes >= 64 * 1024
    assert len(list(Path("/proc/self/fd").iterdir())) == handles


def test_more_names_than_may_be_are_not_looked_at(folder: Path) -> None:
    for number in range(50):
        (folder / str(number)).touch()
    found = measure_folders([folder], 20)
    assert (found.entries, found.complete) == (20, False)


def test_folders_that_are_moved_all_the_while_do_not_hide_what_is_in_them(folder: Path) -> None:
    for number in range(20):
        (folder / "a" / str(number)).mkdir(parents=True)
        make_deep(folder / "a" / str(number), 10)
    (folder / "b").mkdir()
    whole = measure_folders([folder], LIMIT).size_bytes
    done = threading.Event()

    def move() -> None:
        while not done.is_set():
            for number in range(20):
                with contextlib.suppress(OSError):
                    (folder / "a" / str(number)).rename(folder / "b" / str(number))
                with contextlib.suppress(OSError):
                    (folder / "b" / str(number)).rename(folder / "a" / str(number))

    mover = threading.Thread(target=move)
    mover.start()
    try:
        found = [measure_folders([folder], LIMIT).size_bytes for _ in range(20)]
    finally:
        done.set()
        mover.join()
    # Each folder is counted once wherever it is met; one that is always elsewhere may be missed now and then.
    assert max(found) <= whole * 1.1
    assert sorted(found)[len(found) // 2] >= whole * 0.7


def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "big").write_bytes(b"x" * 4_000_000)
    swapped, real, link = folder / "swapped", folder / "real", folder / "link"
    real.mkdir()
    link.symlink_to(outside)
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            for source in (real, link):
                with contextlib.suppress(OSError):
                    source.rename(swapped)
                    swapped.rename(source)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        assert all(measure_folders([folder], LIMIT).size_bytes < 1_000_000 for _ in range(300))
    finally:
        done.set()
        swapper.join()


def test_a_walk_rests_as_its_pace_says_and_ends_when_it_is_told(folder: Path) -> None:
    for number in range(2_000):
        (folder / str(number)).touch()
    pace = Pace(0.05)
    began = time.process_time(), time.monotonic()
    measure_folders([folder], LIMIT, pace.rest)
    worked_s, took_s = time.process_time() - began[0], time.monotonic() - began[1]
    assert worked_s < took_s / 4
    pace.end()
    with pytest.raises(EndedError):
        measure_folders([folder], LIMIT, pace.rest)


def test_files_without_a_name_are_found_where_they_are_held_open(folder: Path) -> None:
    with (folder / "gone").open("wb") as file:
        file.write(b"x" * 1_000_000)
        file.flush()
        os.fsync(file.fileno())
        (folder / "gone").unlink()
        assert measure_folders([folder], LIMIT).size_bytes < 100_000
        assert measure_unlinked([os.getpid()], folder.stat().st_dev) >= 1_000_000
    assert measure_unlinked([os.getpid(), 2**22], folder.stat().st_dev) < 1_000_000


def test_the_processes_below_one_are_found() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            assert {os.getpid(), child.pid} <= set(list_container(os.getpid()))
            assert list_container(child.pid) == [child.pid]
        finally:
            child.kill()


def test_the_room_of_a_disk_is_told(folder: Path) -> None:
    room = observe_room(folder)
    assert 0 <= room.free_bytes <= room.total_bytes
    assert room.total_bytes == shutil.disk_usage(folder).total
