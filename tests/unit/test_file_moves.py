"""What is put in place whole, where agents can write, and handed over to them."""

import errno
import os
import stat
from pathlib import Path

import pytest

from hyperhive.system.files import move_beneath, set_owner, write_folder

USER = 54321 if os.geteuid() == 0 else os.geteuid()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "staging"
    folder.mkdir()
    (folder / "file").write_text("x")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root/agent").mkdir(parents=True)
    return tmp_path / "root"


def test_a_folder_is_moved_where_nothing_is(source: Path, root: Path) -> None:
    assert move_beneath(source, root, ["agent", "config"])
    assert (root / "agent/config/file").read_text() == "x"
    assert not source.exists()


def test_an_empty_folder_is_replaced(source: Path, root: Path) -> None:
    (root / "agent/config").mkdir()
    assert move_beneath(source, root, ["agent", "config"])
    assert (root / "agent/config/file").exists()


def test_what_is_in_use_stays(source: Path, root: Path) -> None:
    target = root / "agent/config"
    target.mkdir()
    (target / "mine").write_text("y")
    assert not move_beneath(source, root, ["agent", "config"])
    assert [path.name for path in target.iterdir()] == ["mine"]
    assert source.exists()


@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "fifo"])
def test_what_is_no_folder_stays(source: Path, root: Path, tmp_path: Path, kind: str) -> None:
    target = root / "agent/config"
    (tmp_path / "elsewhere").mkdir()
    if kind == "file":
        target.write_text("mine")
    elif kind == "fifo":
        os.mkfifo(target)
    else:
        target.symlink_to(tmp_path / ("elsewhere" if kind == "link" else "nowhere"))
    before = target.lstat()
    assert not move_beneath(source, root, ["agent", "config"])
    assert target.lstat().st_ino == before.st_ino
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_link_on_the_way_is_not_followed(source: Path, root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError) as caught:
        move_beneath(source, root, ["linked", "config"])
    assert caught.value.errno in {errno.ENOTDIR, errno.ELOOP}
    assert not list((tmp_path / "elsewhere").iterdir())
    with pytest.raises(FileNotFoundError):
        move_beneath(source, root, ["missing", "config"])


def test_no_handle_is_left_open(source: Path, root: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError):
        move_beneath(source, root, ["agent", "missing", "config"])
    assert move_beneath(source, root, ["agent", "config"])
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_written_folder_can_be_read_by_everybody(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_folder(tmp_path / "out", {"a": (b"1", False), "deep/er/b": (b"2", True)})
    finally:
        os.umask(before)
    found = {str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert found == {"out": 0o755, "out/a": 0o644, "out/deep": 0o755, "out/deep/er": 0o755, "out/deep/er/b": 0o755}
    assert (tmp_path / "out/deep/er/b").read_bytes() == b"2"


def test_a_folder_is_not_written_twice(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", {})
    with pytest.raises(FileExistsError):
        write_folder(tmp_path / "out", {"a": (b"1", False)})


def test_all_of_a_folder_gets_its_owner_and_modes(source: Path) -> None:
    (source / "deep").mkdir(mode=0o700)
    (source / "deep/script").write_text("x")
    (source / "deep/script").chmod(0o500)
    set_owner(source, USER, mode=0o700)
    paths = [source, *source.rglob("*")]
    assert {path.stat().st_uid for path in paths} == {USER}
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in paths} == {
        "staging": 0o700,
        "file": 0o644,
        "deep": 0o755,
        "script": 0o755,
    }
