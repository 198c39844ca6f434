"""The versions of an agent's notes in a real repository: each as it was, the oldest cut off, no name changed."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from git_rig import run_git
from hyperhive.core.errors import InvalidInputError, NotFoundError
from hyperhive.core.notes import TEXT_LIMIT_BYTES, NotesKind
from hyperhive.host.notes_repository import PRUNE_STEP, NotesRepository, Version

AT = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
BAD_NAMES = ["", "main", "HEAD", "--all", "a" * 39, "A" * 40, "a" * 41, "../x", "refs/heads/main", f"{'a' * 38}^0"]


@pytest.fixture
async def repository(tmp_path: Path) -> AsyncIterator[NotesRepository]:
    yield NotesRepository(tmp_path / "data/notes/alice", tmp_path / "staging")


@pytest.fixture(autouse=True)
def data(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()


async def add(repository: NotesRepository, *texts: str) -> list[Version]:
    return [await repository.add(NotesKind.KEPT, text.encode(), AT) for text in texts]


async def test_before_the_first_version_there_is_nothing(repository: NotesRepository, tmp_path: Path) -> None:
    assert await repository.list_versions(10) == []
    with pytest.raises(NotFoundError):
        await repository.get_version("a" * 40)
    assert list((tmp_path / "data").iterdir()) == []


async def test_versions_are_listed_newest_first_with_their_sizes(repository: NotesRepository, tmp_path: Path) -> None:
    first, second = await add(repository, "one\n", "three\n")
    third = await repository.add(NotesKind.RESTORED, b"one\n", AT)
    assert await repository.list_versions(10) == [third, second, first]
    assert await repository.list_versions(1) == [third]
    assert [(v.kind, v.size_before, v.size_after, v.parent) for v in (first, second, third)] == [
        (NotesKind.KEPT, 0, 4, ""),
        (NotesKind.KEPT, 4, 6, first.commit),
        (NotesKind.RESTORED, 6, 4, second.commit),
    ]
    assert {v.at for v in (first, second, third)} == {AT}
    assert run_git(tmp_path / "data/notes/alice", "fsck", "--strict") == ""
    assert (tmp_path / "data/notes").stat().st_mode & 0o777 == 0o700
    assert list((tmp_path / "staging").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"\0\xff\r\n", b"\n" * TEXT_LIMIT_BYTES, b"\xe2\x80\xa8" * 1000])
async def test_a_text_comes_back_byte_for_byte_and_can_be_compared(repository: NotesRepository, content: bytes) -> None:
    before = await repository.add(NotesKind.KEPT, b"x\n" * (TEXT_LIMIT_BYTES // 2), AT)
    version = await repository.add(NotesKind.COMPACTED, content, AT)
    assert await repository.read(version) == content
    [diff] = await repository.diff(version)
    assert (diff.path, diff.change, diff.new_size_bytes) == ("notes.md", "changed", len(content))
    [first] = await repository.diff(before)
    assert (first.change, first.added) == ("added", TEXT_LIMIT_BYTES // 2)


async def test_the_same_text_again_is_a_version_that_changes_nothing(repository: NotesRepository) -> None:
    _, again = await add(repository, "one\n", "one\n")
    assert await repository.diff(again) == []


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_what_is_no_full_name_of_a_commit_is_refused(repository: NotesRepository, name: str) -> None:
    await add(repository, "one\n")
    with pytest.raises(InvalidInputError):
        await repository.get_version(name)


async def test_what_is_in_the_repository_and_no_version_is_not_found(
    repository: NotesRepository, tmp_path: Path
) -> None:
    [version] = await add(repository, "one\n")
    folder = tmp_path / "data/notes/alice"
    tree = run_git(folder, "rev-parse", f"{version.commit}^{{tree}}")
    loose = run_git(folder, "commit-tree", tree, "-m", "not on main")
    for name in (tree, loose, "f" * 40):
        with pytest.raises(NotFoundError):
            await repository.get_version(name)


async def test_a_lock_that_a_killed_git_left_is_no_obstacle(repository: NotesRepository, tmp_path: Path) -> None:
    await add(repository, "one\n")
    for name in ("refs/heads/main.lock", "HEAD.lock", "packed-refs.lock"):
        (tmp_path / "data/notes/alice" / name).touch()
    await add(repository, "two\n")
    assert len(await repository.list_versions(10)) == 2


async def test_the_oldest_versions_are_cut_off_and_the_others_keep_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "data/notes/alice"
    repository = NotesRepository(folder, tmp_path / "staging", kept=3)
    versions = await add(repository, *(f"text {number}\n" for number in range(PRUNE_STEP + 3)))
    left = await repository.list_versions(500)
    assert [version.commit for version in left] == [version.commit for version in versions[:-4:-1]]
    assert [version.size_before for version in left] == [version.size_before for version in versions[:-4:-1]]
    assert left[-1].parent == ""
    assert await repository.read(left[-1]) == f"text {PRUNE_STEP}\n".encode()
    [whole] = await repository.diff(left[-1])
    assert whole.change == "added"
    with pytest.raises(NotFoundError):
        await repository.get_version(versions[0].commit)
    # What was cut off is gone from the disk.
    assert run_git(folder, "count-objects", "-v").splitlines()[0] == "count: 0"
    assert "in-pack: 9" in run_git(folder, "count-objects", "-v")
    assert run_git(folder, "fsck", "--strict") == ""
    # And it goes on.
    await add(repository, *(f"more {number}\n" for number in range(PRUNE_STEP)))
    assert len(await repository.list_versions(500)) == 3
