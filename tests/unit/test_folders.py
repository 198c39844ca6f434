"""An agent's folders can be removed whatever it put there, and nothing else goes with them."""

import os
from datetime import UTC, datetime
from pathlib import Path

from hyperhive.core.paths import Roots
from hyperhive.host import folders
from hyperhive.host.store.rows import AgentRecord, Desired


async def test_no_link_and_no_depth_keeps_a_purge_from_its_end(tmp_path: Path) -> None:
    roots = Roots(tmp_path / "data", tmp_path / "run")
    state = roots.state_folder("alice")
    state.mkdir(parents=True)
    other = roots.state_folder("bob")
    other.mkdir(parents=True)
    (other / "notes.md").write_text("bob's")
    (state / "link").symlink_to(other)
    (state / "-rf").mkdir()
    handle = os.open(state, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deep", dir_fd=handle)
        deeper = os.open("deep", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = deeper
    os.close(handle)
    assert await folders.measure(roots, "alice") > 0
    await folders.remove(roots, "alice")
    assert not roots.agent_folder("alice").exists()
    assert (other / "notes.md").read_text() == "bob's"
    await folders.remove(roots, "alice")


async def test_a_link_that_the_manager_put_in_the_way_is_not_followed(tmp_path: Path) -> None:
    roots = Roots(tmp_path / "data", tmp_path / "run")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    roots.data.mkdir()
    place = roots.proposed_folder / "evil"
    place.parent.mkdir(parents=True)
    place.symlink_to(elsewhere)
    record = AgentRecord("evil", None, 1, Desired.RUNNING, "", datetime.now(UTC), None)
    await folders.make_folders(roots, record, None)
    assert list(elsewhere.iterdir()) == []
    # It keeps nobody but the manager from starting.
    assert roots.state_folder("evil").is_dir()


async def test_folders_are_made_once_and_then_left_as_they_are(tmp_path: Path) -> None:
    roots = Roots(tmp_path / "data", tmp_path / "run")
    roots.data.mkdir()
    record = AgentRecord("alice", None, 1, Desired.RUNNING, "", datetime.now(UTC), None)
    await folders.make_folders(roots, record, None)
    roots.state_folder("alice").chmod(0o750)
    await folders.make_folders(roots, record, None)
    assert roots.state_folder("alice").stat().st_mode & 0o777 == 0o750
    assert roots.claude_folder("alice").stat().st_mode & 0o777 == 0o700
    assert (roots.proposed_folder / "alice").is_dir()


async def test_a_folder_that_was_made_and_not_handed_over_is_handed_over_now(tmp_path: Path) -> None:
    """As a daemon leaves it that dies between the two."""
    roots = Roots(tmp_path / "data", tmp_path / "run")
    uid = 1_900_000_001 if os.geteuid() == 0 else None
    record = AgentRecord("alice", uid, 0, Desired.RUNNING, "", datetime(2026, 1, 1, tzinfo=UTC), None)
    state = roots.state_folder("alice")
    state.mkdir(mode=0o700, parents=True)
    await folders.make_folders(roots, record, None)
    found = state.stat()
    assert (found.st_uid, found.st_mode & 0o777) == (os.geteuid() if uid is None else uid, 0o700)
