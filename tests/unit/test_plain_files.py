"""One file in a folder that an agent can write: never followed, never waited for, replaced whole or not at all."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from hyperhive.system.plain_files import find_size_bytes, read_plain, replace_plain

OTHER_UID = 1_900_000_123

PLANTS: dict[str, Callable[[Path, Path], object]] = {
    "a link": lambda place, secret: place.symlink_to(secret),
    "a dangling link": lambda place, secret: place.symlink_to(secret.with_name("nowhere")),
    "a link to itself": lambda place, _: place.symlink_to(place.name),
    "a FIFO": lambda place, _: os.mkfifo(place),
    "a folder": lambda place, _: place.mkdir(),
    "a link to a device": lambda place, _: place.symlink_to("/dev/zero"),
}


def replace(folder: Path, content: bytes, before: bytes | None = None, uid: int | None = None) -> bool:
    return replace_plain(
        folder, "notes.md", content, uid=uid, limit_bytes=100, may_replace=lambda found: before in (None, found)
    )


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("secret")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir()
    return path


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_no_plain_file_is_not_read(plant: str, folder: Path, secret: Path) -> None:
    PLANTS[plant](folder / "notes.md", secret)
    with pytest.raises(OSError, match="not a plain file"):
        read_plain(folder, "notes.md", 100)
    assert find_size_bytes(folder, "notes.md") is None


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_no_plain_file_is_replaced_and_what_it_leads_to_stays(plant: str, folder: Path, secret: Path) -> None:
    place = folder / "notes.md"
    PLANTS[plant](place, secret)
    if plant == "a folder":
        with pytest.raises(IsADirectoryError):
            replace(folder, b"new")
    else:
        assert replace(folder, b"new", before=b"")
        assert (place.is_symlink(), place.read_bytes()) == (False, b"new")
    assert secret.read_text() == "secret"
    assert [path.name for path in folder.iterdir()] == ["notes.md"]


def test_a_hard_link_is_not_written_through(folder: Path, secret: Path) -> None:
    (folder / "notes.md").hardlink_to(secret)
    assert replace(folder, b"new")
    assert secret.read_text() == "secret"


def test_a_file_that_is_not_what_it_was_stays(folder: Path) -> None:
    (folder / "notes.md").write_bytes(b"by the agent")
    assert not replace(folder, b"new", before=b"old")
    assert (folder / "notes.md").read_bytes() == b"by the agent"
    assert replace(folder, b"new", before=b"by the agent")
    assert (folder / "notes.md").read_bytes() == b"new"


def test_the_new_file_has_the_mode_of_the_old_one_but_no_more_rights(folder: Path) -> None:
    assert replace(folder, b"first")
    assert stat.S_IMODE((folder / "notes.md").stat().st_mode) == 0o644
    (folder / "notes.md").chmod(0o4600)
    assert replace(folder, b"second")
    assert stat.S_IMODE((folder / "notes.md").stat().st_mode) == 0o600


def test_the_new_file_belongs_to_the_agent(folder: Path) -> None:
    uid = OTHER_UID if os.geteuid() == 0 else os.geteuid()
    assert replace(folder, b"new", uid=uid)
    assert (folder / "notes.md").stat().st_uid == uid


def test_no_more_than_the_limit_is_read_of_a_file_of_any_size(folder: Path) -> None:
    with (folder / "notes.md").open("wb") as file:
        file.truncate(2**40)
    assert read_plain(folder, "notes.md", 10) == bytes(10)
    assert find_size_bytes(folder, "notes.md") == 2**40
    assert not replace(folder, b"new", before=bytes(99))


@pytest.mark.parametrize("name", ["", ".", "..", "../secret", "a/b", "/etc/passwd"])
def test_a_name_leads_nowhere_else(name: str, folder: Path, secret: Path) -> None:
    assert secret.exists()
    with pytest.raises(OSError) as caught:
        read_plain(folder, name, 10)
    assert caught.value.errno == errno.EINVAL


def test_a_folder_that_is_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (folder / "notes.md").write_bytes(b"old")
    (tmp_path / "alias").symlink_to(folder)
    with pytest.raises(OSError):  # ELOOP or ENOTDIR, as the kernel likes
        read_plain(tmp_path / "alias", "notes.md", 10)
    with pytest.raises(OSError):
        replace(tmp_path / "alias", b"new")
    assert (folder / "notes.md").read_bytes() == b"old"
