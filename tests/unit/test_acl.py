"""Rights of users and groups of their own on a folder, seen by processes that are those users."""

import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperhive.system.acl import find_user_rights, grant

UID, GID = 4711, 4712
AS_ROOT = os.geteuid() == 0


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where others may come, too."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        inner = Path(name, "inner")
        inner.mkdir()
        yield inner


def can(folder: Path, mode: int, *, uid: int = 65534, gid: int = 65534) -> bool:
    code = "import os, sys; sys.exit(not os.access(sys.argv[1], int(sys.argv[2])))"
    ids = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--"]
    return subprocess.run([*ids, "/usr/bin/python3", "-c", code, str(folder), str(mode)], check=False).returncode == 0


def test_who_was_granted_something_has_that_and_nobody_else_does(folder: Path) -> None:
    grant(folder, 0o701, users={UID: 7}, groups={GID: 5})
    assert (find_user_rights(folder, UID), find_user_rights(folder, UID + 1)) == (7, 0)
    if not AS_ROOT:
        # Nobody else makes processes of others.
        return
    assert can(folder, os.R_OK | os.W_OK | os.X_OK, uid=UID)
    assert can(folder, os.R_OK | os.X_OK, gid=GID)
    assert not can(folder, os.W_OK, gid=GID)
    assert can(folder, os.X_OK)
    assert not can(folder, os.R_OK)


def test_a_chmod_cuts_what_was_granted_and_granting_again_gives_it_back(folder: Path) -> None:
    grant(folder, 0o700, users={UID: 7})
    folder.chmod(0o700)
    assert find_user_rights(folder, UID) == 0
    assert not AS_ROOT or not can(folder, os.X_OK, uid=UID)
    grant(folder, 0o700, users={UID: 7})
    assert find_user_rights(folder, UID) == 7
    assert not AS_ROOT or can(folder, os.W_OK | os.X_OK, uid=UID)


def test_nothing_granted_is_a_plain_mode(folder: Path) -> None:
    grant(folder, 0o700, users={UID: 7})
    grant(folder, 0o750)
    assert find_user_rights(folder, UID) == 0
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert os.listxattr(folder) == []


def test_a_link_to_a_folder_is_not_followed(folder: Path) -> None:
    link = folder / "link"
    link.symlink_to("/")
    with pytest.raises(NotADirectoryError):
        grant(link, 0o700, users={UID: 7})
