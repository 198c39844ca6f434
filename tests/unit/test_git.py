"""The door for git: what goes in cannot be an option, and what git may take is bounded."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from git_rig import FILE, blob, tree
from hyperhive.core.errors import InvalidInputError, UnavailableError
from hyperhive.system.git import Git, GitError, Limits, make_repository, parse_object_name, parse_tree, render_date

ZERO = "0" * 40


@pytest.fixture
async def git(tmp_path: Path) -> Git:
    return await make_repository(tmp_path / "repo")


async def write_blob(git: Git, content: bytes) -> str:
    return (await git.run("hash-object", "-w", "--stdin", stdin=content)).decode().strip()


@pytest.mark.parametrize(
    "name", ["", "HEAD", "-x", "a" * 39, "a" * 41, "A" * 40, "a" * 40 + "\n", "g" * 40, "\x1b" * 40]
)
def test_only_a_full_object_name_is_one(name: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_object_name(name)
    assert caught.value.message.isprintable()


def test_a_tree_is_read_as_it_is_written() -> None:
    item = blob()
    entries = parse_tree(tree([(FILE, b"\xff", item), ("40000", b"a", item)]).content)
    assert [(entry.mode, entry.name, entry.oid) for entry in entries] == [
        ("40000", b"a", item.oid),
        (FILE, b"\xff", item.oid),
    ]


@pytest.mark.parametrize("content", [b"x", b"100644 a\0", b"100644 a", b"100644 a\0" + bytes(19), b"\0" * 30])
def test_a_damaged_tree_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInputError):
        parse_tree(content)


def test_a_date_is_whole_seconds_in_utc() -> None:
    assert render_date(datetime(2026, 1, 1, 0, 0, 1, 999_999, tzinfo=UTC)) == "1767225601 +0000"


async def test_objects_come_in_the_order_of_their_names_and_missing_ones_are_told(git: Git) -> None:
    one, other = await write_blob(git, b"one\n\n"), await write_blob(git, b"")
    found = await git.read_objects([other, ZERO, one])
    assert [item and item.content for item in found] == [b"", None, b"one\n\n"]
    infos = await git.read_infos([one, ZERO])
    assert [info and (info.oid, info.kind, info.size_bytes) for info in infos] == [(one, "blob", 5), None]
    assert await git.read_objects([]) == []


async def test_a_failure_says_what_git_said_on_one_safe_line(git: Git) -> None:
    with pytest.raises(GitError) as caught:
        await git.run("rev-parse", "--verify", "\x1b[2J")
    assert caught.value.status == 128
    assert caught.value.message.isprintable()
    assert isinstance(caught.value, UnavailableError)


async def test_a_repository_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GitError):
        await Git(tmp_path / "missing").find_refs("refs/")


async def test_a_git_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GitError):
        await Git(tmp_path, program=str(tmp_path / "missing")).find_refs("refs/")


async def test_refs_change_all_or_none(git: Git) -> None:
    one = await write_blob(git, b"one")
    with pytest.raises(GitError):
        await git.update_refs([f"create refs/x/a {one}", f"create refs/x/b {ZERO[1:]}1"])
    assert await git.find_refs("refs/") == {}
    await git.update_refs([])


@pytest.mark.parametrize("lock", ["refs/x/a.lock", "HEAD.lock", "packed-refs.lock", "packed-refs.new"])
async def test_a_lock_that_a_killed_git_left_is_in_nobodys_way(git: Git, lock: str) -> None:
    one = await write_blob(git, b"one")
    (git.folder / lock).parent.mkdir(parents=True, exist_ok=True)
    (git.folder / lock).write_text("")
    await git.update_refs([f"create refs/x/a {one}"])
    await git.run("pack-refs", "--all")
    (git.folder / lock).parent.mkdir(parents=True, exist_ok=True)
    (git.folder / lock).write_text("")
    await git.update_refs([f"delete refs/x/a {one}"])
    assert await git.find_refs("refs/") == {}


async def test_more_output_than_is_read_is_an_error_and_not_a_part_of_it(git: Git) -> None:
    one = await write_blob(git, b"x" * 1_100_000)
    with pytest.raises(GitError, match="bytes of output"):
        await git.read_objects([one] * 5)


@pytest.mark.parametrize("limits", [Limits(memory_bytes=8 * 1024 * 1024), Limits(file_bytes=10), Limits(time_s=0.0)])
async def test_a_limit_ends_git(git: Git, limits: Limits) -> None:
    with pytest.raises(GitError):
        await Git(git.folder, limits=limits).run("hash-object", "-w", "--stdin", stdin=os.urandom(900_000))


async def test_a_new_repository_has_no_hooks_and_its_head_is_main(git: Git) -> None:
    assert not (git.folder / "hooks").exists()
    assert (git.folder / "HEAD").read_text() == "ref: refs/heads/main\n"
