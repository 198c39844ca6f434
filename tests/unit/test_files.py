"""The door for files that others may write: nothing is followed out of a folder, nothing blocks, all is bounded."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hyperhive.system.files import (
    folder_size_bytes,
    free_beginning,
    open_beneath,
    read_beneath,
    write_atomically,
)

SECRET = b"the operator's"
MINE = b"the agent's"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """An agent's folder beside a secret that is not the agent's."""
    (tmp_path / "secret").write_bytes(SECRET)
    folder = tmp_path / "state"
    (folder / "deep/er").mkdir(parents=True)
    (folder / "notes").write_bytes(MINE)
    (folder / "deep/er/notes").write_bytes(MINE)
    return folder


def count_handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def refused(folder: Path, relative: str) -> int:
    """The error number that reading it ends with."""
    before = count_handles()
    with pytest.raises(OSError) as caught:
        read_beneath(folder, relative, 1000)
    assert count_handles() == before
    return caught.value.errno or 0


@pytest.mark.parametrize("relative", ["notes", "./notes", "deep/er/notes", "deep/../notes", "deep/er/../../notes"])
def test_a_plain_file_below_is_read(state: Path, relative: str) -> None:
    assert read_beneath(state, relative, 1000) == MINE


def test_no_more_than_the_limit_is_read(state: Path) -> None:
    with (state / "huge").open("wb") as file:
        file.truncate(2**40)
    assert read_beneath(state, "huge", 5) == bytes(5)
    assert read_beneath(state, "notes", 0) == b""


@pytest.mark.parametrize(
    ("relative", "error"),
    [
        ("..", errno.EXDEV),
        ("../secret", errno.EXDEV),
        ("deep/../../secret", errno.EXDEV),
        ("{secret}", errno.EXDEV),
        ("/etc/passwd", errno.EXDEV),
        ("nothing", errno.ENOENT),
        ("notes/x", errno.ENOTDIR),
        ("deep", errno.EINVAL),
        (".", errno.EINVAL),
        ("", errno.ENOENT),
        ("notes\0x", errno.EINVAL),
        ("\ud800", errno.EINVAL),
        ("x" * 300, errno.ENAMETOOLONG),
        ("x/" * 3000, errno.ENAMETOOLONG),
    ],
)
def test_what_is_not_below_is_refused(state: Path, relative: str, error: int) -> None:
    assert refused(state, relative.format(secret=state.parent / "secret")) == error


@pytest.mark.parametrize("target", ["{secret}", "../secret", "notes", "/proc/self/environ"])
def test_a_link_is_not_followed_wherever_it_leads(state: Path, target: str) -> None:
    (state / "link").symlink_to(target.format(secret=state.parent / "secret"))
    assert refused(state, "link") == errno.ELOOP


def test_a_folder_that_is_a_link_is_not_followed(state: Path) -> None:
    (state / "out").symlink_to(state.parent)
    (state / "self").symlink_to(".")
    assert refused(state, "out/secret") == errno.ELOOP
    assert refused(state, "self/notes") == errno.ELOOP
    (state.parent / "other").symlink_to(state)
    assert refused(state.parent / "other", "notes") in {errno.ELOOP, errno.ENOTDIR}


def test_a_hard_link_is_not_read(state: Path) -> None:
    os.link(state.parent / "secret", state / "hard")
    assert refused(state, "hard") == errno.EINVAL


def test_a_fifo_neither_blocks_nor_wakes_its_writer(state: Path) -> None:
    os.mkfifo(state / "fifo")
    assert refused(state, "fifo") == errno.EINVAL
    with pytest.raises(OSError, match="No such device or address"):
        os.open(state / "fifo", os.O_WRONLY | os.O_NONBLOCK)


def test_devices_sockets_and_other_file_systems_are_not_read(state: Path) -> None:
    assert refused(Path("/dev"), "null") == errno.EINVAL
    assert refused(Path("/dev"), "tty") == errno.EINVAL
    assert refused(Path("/"), "proc/version") == errno.EXDEV
    assert refused(Path("/proc/self/fd"), "0") == errno.ELOOP


def test_a_lease_on_a_file_does_not_hold_the_reader_up(state: Path) -> None:
    code = (
        "import fcntl, sys; file = open(sys.argv[1], 'r+'); fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK);"
        "import signal; signal.signal(signal.SIGIO, signal.SIG_IGN); print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(state / "notes")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"\n"
        assert refused(state, "notes") == errno.EAGAIN
        holder.communicate()
    assert read_beneath(state, "notes", 1000) == MINE


@contextmanager
def swapping(*states: Callable[[], None]) -> Generator[None]:
    """Another thread brings about one of `states` after the other, as fast as it can."""
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            for bring_about in states:
                bring_about()

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def read_often(state: Path, relative: str) -> set[bytes]:
    """What is found in many reads, and as many more as it takes to find ours: another program may have the machine."""
    found: set[bytes] = set()
    for tries in range(500_000):
        if tries >= 5000 and MINE in found:
            break
        try:
            found.add(read_beneath(state, relative, 1000))
        except OSError as error:
            assert error.errno in {errno.ELOOP, errno.EINVAL, errno.ENOENT, errno.EXDEV, errno.EAGAIN}
    return found


def put(state: Path, make: Callable[[Path], object]) -> Callable[[], None]:
    """Puts what `make` makes in the place of state/file, without a moment of nothing."""

    def bring_about() -> None:
        draft = state.parent / "draft"
        make(draft)
        draft.replace(state / "file")

    return bring_about


def test_a_file_swapped_for_a_link_at_any_moment_never_shows_the_other(state: Path) -> None:
    secret = state.parent / "secret"
    states = [
        put(state, lambda path: path.write_bytes(MINE)),
        put(state, lambda path: path.symlink_to(secret)),
        put(state, os.mkfifo),
    ]
    if os.geteuid() == 0:
        # Another's file: only root can make one here, and only by its owner is it known for certain.
        os.chown(secret, 12345, 12345)
        states.insert(2, put(state, lambda path: path.hardlink_to(secret)))
    with swapping(*states):
        assert read_often(state, "file") - {b""} == {MINE}


def test_a_file_of_another_owner_than_the_folders_is_not_read(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        (tmp_path / "notes").write_bytes(MINE)
        os.chown(tmp_path / "notes", 12345, 12345)
        assert refused(tmp_path, "notes") == errno.EINVAL


def test_a_folder_swapped_for_a_link_at_any_moment_never_shows_the_other(state: Path) -> None:
    place, own, link = state / "place", state / "own", state / "link"
    own.mkdir()
    (own / "secret").write_bytes(MINE)
    link.symlink_to(state.parent)
    own.rename(place)

    def swap(first: Path, second: Path) -> Callable[[], None]:
        def bring_about() -> None:
            place.rename(first)
            second.rename(place)

        return bring_about

    with swapping(swap(own, link), swap(link, own)):
        assert read_often(state, "place/secret") == {MINE}


def test_a_handle_stays_on_its_file(state: Path) -> None:
    handle = open_beneath(state, "notes")
    try:
        (state / "notes").unlink()
        (state / "notes").symlink_to(state.parent / "secret")
        assert os.read(handle, 100) == MINE
        assert fcntl.fcntl(handle, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(handle, b"x")
    finally:
        os.close(handle)


# -- writing -----------------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "record"
    write_atomically(path, b"1" * 100_000, 0o644)
    with path.open("rb") as old:
        write_atomically(path, b"2", 0o600)
        assert old.read() == b"1" * 100_000
    assert path.read_bytes() == b"2"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_the_place_of_the_file_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"kept")
    (tmp_path / "record").symlink_to("other")
    write_atomically(tmp_path / "record", b"new", 0o600)
    assert (tmp_path / "other").read_bytes() == b"kept"
    assert not (tmp_path / "record").is_symlink()


def test_a_disk_that_takes_only_a_part_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "record"
    write_atomically(path, b"before", 0o600)
    code = (
        "import resource, signal, sys; from pathlib import Path;"
        "from hyperhive.system.files import write_atomically;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "write_atomically(Path(sys.argv[1]), b'x' * 5000, 0o600)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing/record", b"x", 0o600)


# -- measuring and giving back -----------------------------------------------------------------------------


def test_a_folders_size_is_what_it_takes_on_the_disk(state: Path) -> None:
    before = folder_size_bytes(state)
    (state / "full").write_bytes(os.urandom(1_000_000))
    with (state / "hole").open("wb") as file:
        file.truncate(2**40)
    os.link(state / "full", state / "deep/same")
    (state / "link").symlink_to(state.parent)
    (state / "loop").symlink_to(".")
    os.mkfifo(state / "fifo")
    assert 1_000_000 <= folder_size_bytes(state) - before < 1_100_000


def test_a_folders_size_never_counts_what_a_link_leads_to(state: Path) -> None:
    (state.parent / "outside").mkdir()
    (state.parent / "outside/big").write_bytes(os.urandom(5_000_000))
    place, own, link = state / "place", state / "own", state / "link"
    place.mkdir()
    link.symlink_to(state.parent / "outside")

    def swap() -> None:
        place.rename(own)
        link.rename(place)
        place.rename(link)
        own.rename(place)

    with swapping(swap):
        assert max(folder_size_bytes(state) for _ in range(500)) < 1_000_000


def test_a_tree_as_deep_as_anyone_makes_it_is_measured_without_harm(tmp_path: Path) -> None:
    code = "import os\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    try:
        assert folder_size_bytes(tmp_path) > 1_000_000
    finally:
        # Deeper than what pytest's own removal can recurse.
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)


def test_a_missing_folder_has_no_size(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        folder_size_bytes(tmp_path / "missing")


def test_a_beginning_is_given_back_and_the_rest_stays_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "log"
    content = os.urandom(1_000_000)
    path.write_bytes(content)
    handle = os.open(path, os.O_RDWR)
    try:
        free_beginning(handle, 100_000)
        assert path.stat().st_size == 1_000_000
        assert path.stat().st_blocks * 512 <= 100_000 + 2 * path.stat().st_blksize
        assert path.read_bytes()[-100_000:] == content[-100_000:]
        free_beginning(handle, 2_000_000)
        assert path.read_bytes()[-100_000:] == content[-100_000:]
    finally:
        os.close(handle)
