"""Writing one file into a folder that an agent can write: nothing outside of it is touched, whatever lies there."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from hyperhive.system.files import replace_beneath

NAME = "hyperhive-model"
SECRET = b"the operator's"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "secret").chmod(0o600)
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def put(folder: Path, content: bytes = b"new\n") -> None:
    replace_beneath(folder, NAME, content, mode=0o644, uid=None)


def list_names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_file_is_made_and_replaced_with_its_mode(state: Path) -> None:
    put(state, b"old\n")
    put(state)
    assert (state / NAME).read_bytes() == b"new\n"
    assert stat.S_IMODE((state / NAME).stat().st_mode) == 0o644
    assert list_names(state) == [NAME]


def test_it_belongs_to_whom_it_is_for(state: Path) -> None:
    uid = 1_900_000_000 if os.geteuid() == 0 else os.geteuid()
    replace_beneath(state, NAME, b"new\n", mode=0o644, uid=uid)
    assert (state / NAME).stat().st_uid == uid


MAKERS: dict[str, Callable[[Path, Path], object]] = {
    "a link": lambda place, secret: place.symlink_to(secret),
    "a dangling link": lambda place, _: place.symlink_to("/nowhere/at/all"),
    "a hard link": lambda place, secret: place.hardlink_to(secret),
    "a fifo": lambda place, _: os.mkfifo(place),
}


@pytest.mark.parametrize("what", MAKERS)
def test_what_an_agent_put_there_is_replaced_and_what_it_leads_to_stays(state: Path, what: str) -> None:
    secret = state.parent / "secret"
    MAKERS[what](state / NAME, secret)
    put(state)
    assert (state / NAME).read_bytes() == b"new\n"
    assert not (state / NAME).is_symlink()
    assert secret.read_bytes() == SECRET
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_a_folder_in_the_way_stays_and_nothing_is_left_beside_it(state: Path) -> None:
    (state / NAME).mkdir()
    (state / NAME / "work").touch()
    with pytest.raises(IsADirectoryError):
        put(state)
    assert list_names(state) == [NAME]
    assert (state / NAME / "work").exists()


def test_a_link_in_the_place_of_the_folder_is_not_followed(state: Path) -> None:
    elsewhere = state.parent / "elsewhere"
    elsewhere.mkdir()
    state.rmdir()
    state.symlink_to(elsewhere)
    with pytest.raises(OSError) as caught:
        put(state)
    assert caught.value.errno in {errno.ELOOP, errno.ENOTDIR}
    assert list_names(elsewhere) == []


def test_no_handle_stays_open(state: Path) -> None:
    before = len(list_names(Path("/proc/self/fd")))
    put(state)
    (state / NAME).unlink()
    (state / NAME).mkdir()
    with pytest.raises(IsADirectoryError):
        put(state)
    assert len(list_names(Path("/proc/self/fd"))) == before
