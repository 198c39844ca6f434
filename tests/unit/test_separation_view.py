"""What root gives away of a hive's folders, whatever stands in them, and what its daemon is to see."""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hyperhive.core.errors import ConflictError
from hyperhive.core.paths import Roots
from hyperhive.core.uids import DAEMON_UID, FIRST_RANGED_UID
from hyperhive.host.separation.hand_over import give_file, hand_over
from hyperhive.host.separation.view import plan_covers

AGENT = FIRST_RANGED_UID
STRANGER = 1000
DEPTH = 3000
ODD = (b"two\nlines", b"\xff\xfe", b"-rf", b" ", b"a\x1b[2Jb", b"x" * 255)

pytestmark = pytest.mark.usefixtures("outside")


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    roots = Roots(tmp_path / "data", tmp_path / "run")
    roots.data.mkdir()
    roots.run.mkdir()
    return roots


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """What is root's and none of the hive's: it must be after a test what it was before."""
    folder = tmp_path / "outside"
    (folder / "deeper").mkdir(parents=True)
    for path in (folder / "shadow", folder / "deeper/shadow"):
        path.write_text("secret")
        path.chmod(0o640)
    before = [describe(path) for path in (folder, *sorted(folder.rglob("*")))]
    yield folder
    assert [describe(path) for path in (folder, *sorted(folder.rglob("*")))] == before


def describe(path: Path) -> tuple[str, int, int, int, str]:
    """With the names that a file has, but not their number: a test may give it another."""
    status = path.lstat()
    return str(path), status.st_uid, status.st_gid, status.st_mode, path.read_text() if path.is_file() else ""


def give(roots: Roots) -> None:
    hand_over(roots.data, roots.run, closed_of(roots), ())


def closed_of(roots: Roots) -> tuple[Path, ...]:
    return (roots.containers_folder, roots.images_folder, roots.helper_folder)


def owner(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


# -- what is given -------------------------------------------------------------------------------------------


def test_what_is_roots_becomes_the_daemons_but_for_the_folders_themselves_and_those_that_are_closed(
    roots: Roots,
) -> None:
    files = [roots.database, roots.applied_folder / "alice/HEAD", roots.run / "agents/alice/hive.sock"]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    kept = roots.images_folder / "base/root/etc/shadow"
    kept.parent.mkdir(parents=True)
    kept.touch()
    give(roots)
    for path in (*files, roots.applied_folder, roots.run / "agents"):
        assert owner(path) == (DAEMON_UID, DAEMON_UID)
    for path in (roots.data, roots.run, kept, *closed_of(roots)):
        assert owner(path)[0] == 0
    assert {stat.S_IMODE(path.stat().st_mode) for path in closed_of(roots)} == {0o700}
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600


def test_it_may_be_done_again_and_gives_what_root_has_made_since(roots: Roots) -> None:
    give(roots)
    (roots.data / "notes").mkdir()
    (roots.data / "notes/new").touch()
    give(roots)
    assert owner(roots.data / "notes/new") == (DAEMON_UID, DAEMON_UID)


def test_what_is_an_agents_or_a_strangers_stays_so_and_nothing_in_it_is_given(roots: Roots, outside: Path) -> None:
    for name, uid in (("of-agent", AGENT), ("of-stranger", STRANGER)):
        folder = roots.data / name
        folder.mkdir()
        # As a link of root's there would be, were somebody to get one.
        (folder / "planted").touch()
        os.link(outside / "shadow", folder / "hard")
        (folder / "soft").symlink_to(outside)
        os.chown(folder, uid, uid)
    give(roots)
    for name, uid in (("of-agent", AGENT), ("of-stranger", STRANGER)):
        folder = roots.data / name
        assert owner(folder) == (uid, uid)
        assert {owner(path) for path in folder.iterdir()} == {(0, 0)}


def test_a_link_is_given_and_not_what_it_points_to(roots: Roots, outside: Path) -> None:
    targets = {"file": outside / "shadow", "folder": outside, "up": Path("../outside"), "nothing": Path("/nowhere")}
    for name, target in targets.items():
        (roots.data / name).symlink_to(target)
    give(roots)
    for name in targets:
        assert owner(roots.data / name) == (DAEMON_UID, DAEMON_UID)


def test_a_file_of_two_names_is_left(roots: Roots, outside: Path) -> None:
    os.link(outside / "shadow", roots.data / "hard")
    os.link(outside / "deeper/shadow", roots.run / "hard")
    give(roots)
    assert owner(roots.data / "hard") == owner(roots.run / "hard") == (0, 0)


def test_whatever_a_name_or_a_kind_is_it_is_given_and_nothing_is_opened(roots: Roots) -> None:
    odd = [roots.data / os.fsdecode(name) for name in ODD]
    for folder in odd:
        folder.mkdir()
        (folder / folder.name).touch(mode=0o600)
    # Opening it would wait for somebody who writes.
    os.mkfifo(roots.data / "fifo")
    os.mknod(roots.data / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(roots.data / "socket"))
        give(roots)
    for folder in odd:
        assert owner(folder) == owner(folder / folder.name) == (DAEMON_UID, DAEMON_UID)
    for name in ("fifo", "null", "socket"):
        assert owner(roots.data / name) == (DAEMON_UID, DAEMON_UID)


def test_a_setuid_program_of_roots_is_none_any_more_once_it_is_given(roots: Roots) -> None:
    program = roots.data / "program"
    program.touch()
    program.chmod(0o6755)
    give(roots)
    assert owner(program) == (DAEMON_UID, DAEMON_UID)
    assert stat.S_IMODE(program.stat().st_mode) == 0o755


def test_folders_in_folders_without_end_are_given_as_deep_as_a_path_goes(roots: Roots) -> None:
    own = os.open(roots.data, os.O_RDONLY)
    depth = own
    for _ in range(DEPTH):
        os.mkdir("d", dir_fd=depth)
        inner = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=depth)
        os.close(depth)
        depth = inner
    (roots.data / "after").touch()
    give(roots)
    assert owner(roots.data / "after") == owner(roots.data / "/".join(["d"] * 1000)) == (DAEMON_UID, DAEMON_UID)
    os.close(depth)
    subprocess.run(["rm", "-rf", str(roots.data / "d")], check=True)


def test_another_file_system_is_not_entered(roots: Roots, outside: Path) -> None:
    """Neither one of its own, nor a part of this one that is shown there, too."""
    (roots.data / "shown").mkdir()
    (roots.data / "disk").mkdir()
    (roots.data / "after").touch()
    script = (
        "mount --bind $1 $2/shown && mount -t tmpfs none $2/disk && touch $2/disk/file $2/disk/.own && "
        'exec "$3" -c "$4" $2 $5'
    )
    program = (
        "import sys\nfrom pathlib import Path\nfrom hyperhive.host.separation.hand_over import hand_over\n"
        "data, run = map(Path, sys.argv[1:])\nhand_over(data, run, [data / 'images'], ())\n"
        "assert (data / 'disk').stat().st_uid == 0\n"
        "print(*(path.stat().st_uid for path in (data / 'disk').iterdir()))"
    )
    argv = ["unshare", "--mount", "sh", "-ec", script, "sh"]
    paths = [str(outside), str(roots.data), sys.executable, program, str(roots.run)]
    done = subprocess.run([*argv, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "0"]
    assert owner(roots.data / "after") == (DAEMON_UID, DAEMON_UID)


@pytest.mark.parametrize("name", ["containers", "images", "helper"])
@pytest.mark.parametrize("what", ["file", "link of the daemon's", "link to nothing", "folder of the daemon's"])
def test_something_else_in_the_place_of_a_closed_folder_ends_it(
    roots: Roots, outside: Path, name: str, what: str
) -> None:
    [place] = [folder for folder in closed_of(roots) if folder.name == name]
    match what:
        case "file":
            place.touch()
        case "folder of the daemon's":
            place.mkdir()
            os.chown(place, DAEMON_UID, DAEMON_UID)
        case _:
            place.symlink_to(outside if what == "link of the daemon's" else "/nowhere")
            os.chown(place, DAEMON_UID, DAEMON_UID, follow_symlinks=False)
    roots.database.touch()
    with pytest.raises((ConflictError, OSError)):
        give(roots)
    assert owner(roots.database) == (0, 0)


# -- a file that the operator names --------------------------------------------------------------------------


def test_only_a_plain_file_of_roots_with_one_name_is_given(tmp_path: Path, outside: Path) -> None:
    plain, stranger, hard, fifo = (tmp_path / name for name in ("plain", "stranger", "hard", "fifo"))
    plain.touch(mode=0o600)
    stranger.touch()
    os.chown(stranger, STRANGER, STRANGER)
    os.link(outside / "shadow", hard)
    os.mkfifo(fifo)
    for path in (plain, stranger, hard, fifo, outside):
        give_file(path)
    assert owner(plain) == (DAEMON_UID, 0)
    assert stat.S_IMODE(plain.stat().st_mode) == 0o600
    assert owner(stranger) == (STRANGER, STRANGER)
    assert owner(fifo) == (0, 0)


# -- what is covered ---------------------------------------------------------------------------------------------


def make(path: Path, mode: int, uid: int = 0, gid: int = 0) -> Path:
    path.mkdir()
    os.chown(path, uid, gid)
    path.chmod(mode)
    return path


@pytest.fixture
def open_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that everybody may pass, up to the root."""
    place = tmp_path_factory.mktemp("open")
    for folder in (place, *place.parents):
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(0o711)
    return place


def test_nothing_is_covered_where_all_may_pass(open_place: Path) -> None:
    assert plan_covers([make(make(open_place / "a", 0o755) / "b", 0o700)]) == []


def test_the_highest_closed_folder_is_covered_and_none_below_it(open_place: Path) -> None:
    top = make(open_place / "top", 0o700)
    places = [make(make(top / name, 0o700) / "place", 0o755) for name in ("one", "two")]
    beside = make(make(open_place / "beside", 0o750) / "place", 0o755)
    assert plan_covers([*places, beside]) == sorted([top, beside.parent])


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "is_covered"),
    [
        (0o700, DAEMON_UID, 0, False),
        # Of the owner only the owner's rights count, whatever others have.
        (0o077, DAEMON_UID, 0, True),
        (0o701, 0, 0, False),
        (0o710, 0, 0, True),
        (0o700, AGENT, AGENT, True),
        (0o744, 0, 0, True),
    ],
)
def test_a_folder_is_covered_unless_the_daemons_user_may_pass_it(
    open_place: Path, mode: int, uid: int, gid: int, is_covered: bool
) -> None:
    folder = make(open_place / "folder", 0o755)
    place = make(folder / "place", 0o755)
    os.chown(folder, uid, gid)
    folder.chmod(mode)
    assert plan_covers([place]) == ([folder] if is_covered else [])


def test_a_place_that_is_not_there_is_an_error(open_place: Path) -> None:
    with pytest.raises(FileNotFoundError):
        plan_covers([open_place / "nowhere/place"])
