"""What the operator reads of a change is what the change is: nothing hides a line, nothing is too much to show."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from git_rig import FILE, FOLDER, SCRIPT, blob, bundle_of, commit, make_repository, plain_tree, tree
from hyperhive.core.errors import InvalidInputError, NotFoundError
from hyperhive.host.configs.diffs import LINES_LIMIT, NO_NEWLINE, parse_patch
from hyperhive.host.configs.repository import ConfigRepository
from hyperhive.wire.operator.configs import DiffHunk, FileDiff


class Versions:
    """An applied repo, and commits made for it."""

    def __init__(self, repository: ConfigRepository) -> None:
        self.repository = repository

    async def make(self, files: Mapping[str, bytes]) -> str:
        root, *blobs = plain_tree(files)
        tip = commit(root)
        await self.repository.import_bundle(bundle_of(tip, [root, *blobs]), tip.oid)
        return tip.oid

    async def diff(self, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[FileDiff]:
        return await self.repository.diff(await self.make(before), await self.make(after))


@pytest.fixture
async def versions(tmp_path: Path) -> Versions:
    return Versions((await make_repository(tmp_path))[0])


def render(hunks: list[DiffHunk]) -> list[str]:
    signs = {"context": " ", "added": "+", "removed": "-"}
    return [
        text for hunk in hunks for text in (hunk.header, *(f"{signs[line.kind]}{line.text}" for line in hunk.lines))
    ]


def apply_hunks(old: str, hunks: list[DiffHunk]) -> str:
    """The new text, made of the old one by what is shown alone."""
    source = split_lines(old)
    result: list[str] = []
    position = 0
    for line in (line for hunk in hunks for line in hunk.lines):
        if line.old is None and line.new is None:
            assert line.text == NO_NEWLINE
            if line.kind != "removed":
                result[-1] = result[-1].removesuffix("\n")
        if line.old is not None:
            result += source[position : line.old - 1]
            position = line.old
            assert source[line.old - 1].removesuffix("\n") == line.text
        if line.new is not None:
            result.append(f"{line.text}\n")
            assert len(result) == line.new
    return "".join([*result, *source[position:]])


def split_lines(text: str) -> list[str]:
    """Lines with their ends, by line feeds alone."""
    *ended, rest = text.split("\n")
    return [f"{line}\n" for line in ended] + ([rest] if rest else [])


# -- what is shown -----------------------------------------------------------------------------------------


async def test_a_changed_line_is_shown_between_three_lines_of_context(versions: Versions) -> None:
    before = b"".join(b"%d\n" % number for number in range(1, 21))
    [file] = await versions.diff({"x": before}, {"x": before.replace(b"10\n", b"ten\n")})
    assert render(file.hunks) == ["@@ -7,7 +7,7 @@", " 7", " 8", " 9", "-10", "+ten", " 11", " 12", " 13"]
    assert (file.change, file.added, file.removed, file.large, file.truncated) == ("changed", 1, 1, False, False)
    assert [(line.old, line.new) for line in file.hunks[0].lines][2:6] == [(9, 9), (10, None), (None, 10), (11, 11)]


async def test_without_a_base_all_is_added(versions: Versions) -> None:
    name = await versions.make({"agent.toml": b"a\nb\n", "empty": b""})
    files = await versions.repository.diff(None, name)
    assert [(file.path, file.change, file.added) for file in files] == [
        ("agent.toml", "added", 2),
        ("empty", "added", 0),
    ]
    assert render(files[0].hunks) == ["@@ -0,0 +1,2 @@", "+a", "+b"]
    assert files[1].hunks == []


async def test_a_renamed_file_is_one_removed_and_one_added(versions: Versions) -> None:
    files = await versions.diff({"one": b"a\n"}, {"two": b"a\n"})
    assert [(file.path, file.change, render(file.hunks)) for file in files] == [
        ("one", "removed", ["@@ -1 +0,0 @@", "-a"]),
        ("two", "added", ["@@ -0,0 +1 @@", "+a"]),
    ]


async def test_a_file_that_becomes_a_folder_is_shown_as_both(versions: Versions) -> None:
    before = await versions.make({"x": b"a\n", "y": b"1\n"})
    inner, item = plain_tree({"x": b"b\n"})
    other = blob(b"2\n")
    root = tree([(FOLDER, b"x", inner), (FILE, b"y", other)])
    tip = commit(root)
    await versions.repository.import_bundle(bundle_of(tip, [root, inner, item, other]), tip.oid)
    files = await versions.repository.diff(before, tip.oid)
    assert [(file.path, file.change) for file in files] == [("x", "removed"), ("x/x", "added"), ("y", "changed")]
    assert render(files[2].hunks) == ["@@ -1 +1 @@", "-1", "+2"]


async def test_an_executable_bit_alone_is_a_change(versions: Versions) -> None:
    item = blob(b"#!/bin/sh\n")
    plain, script = tree([(FILE, b"run", item)]), tree([(SCRIPT, b"run", item)])
    names: list[str] = []
    for root in (plain, script):
        tip = commit(root)
        await versions.repository.import_bundle(bundle_of(tip, [root, item]), tip.oid)
        names.append(tip.oid)
    [file] = await versions.repository.diff(*names)
    assert (file.executable, file.hunks, file.change) == (True, [], "changed")
    [file] = await versions.repository.diff(*reversed(names))
    assert file.executable is False
    [file] = await versions.repository.diff(None, names[1])
    assert file.executable is True


async def test_a_missing_end_of_the_last_line_is_told(versions: Versions) -> None:
    [file] = await versions.diff({"x": b"a\nb"}, {"x": b"a\nb\n"})
    assert render(file.hunks) == ["@@ -1,2 +1,2 @@", " a", "-b", f"-{NO_NEWLINE}", "+b"]
    remark = file.hunks[0].lines[2]
    assert (remark.old, remark.new) == (None, None)
    assert (file.added, file.removed) == (1, 1)


async def test_a_line_that_only_looks_like_gits_remark_has_a_number(versions: Versions) -> None:
    [file] = await versions.diff({"x": b""}, {"x": b"\\ No newline at end of file\n"})
    assert [(line.new, line.text) for line in file.hunks[0].lines] == [(1, NO_NEWLINE)]


async def test_lines_that_look_like_a_patch_are_lines(versions: Versions) -> None:
    hostile = b"diff --git a/agent.toml b/agent.toml\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n\\ x\n"
    old, new = b"1\n" + hostile, b"2\n" + hostile + b"-- \n++ \n"
    [file] = await versions.diff({"x": old}, {"x": new})
    assert apply_hunks(old.decode(), file.hunks) == new.decode()
    assert (file.added, file.removed) == (3, 1)


async def test_control_characters_are_handed_on_as_they_are(versions: Versions) -> None:
    text = "a\r\n\x1b[2J\u202e\u2028\x0b\x0c\x85b\n"
    [file] = await versions.diff({"x": b""}, {"x": text.encode()})
    assert [line.text for line in file.hunks[0].lines] == text.split("\n")[:-1]


async def test_bytes_that_are_no_utf_8_are_shown_apart(versions: Versions) -> None:
    [file] = await versions.diff({"x": b"\xfe\n"}, {"x": b"\xff\n"})
    assert render(file.hunks) == ["@@ -1 +1 @@", "-\\xfe", "+\\xff"]


async def test_a_file_with_a_zero_byte_is_binary_and_says_its_sizes(versions: Versions) -> None:
    for before, after in ((b"a\0b", b"a\0bc"), (b"text", b"a\0bc"), (b"a\0b", b"text")):
        [file] = await versions.diff({"x": before}, {"x": after})
        assert (file.binary, file.hunks) == (True, [])
        assert (file.old_size_bytes, file.new_size_bytes) == (len(before), len(after))
    [file] = await versions.diff({"y": b"\0"}, {})
    assert (file.binary, file.change, file.hunks) == (True, "removed", [])


async def test_the_same_commit_differs_in_nothing(versions: Versions) -> None:
    name = await versions.make({"x": b"1"})
    assert await versions.repository.diff(name, name) == []


async def test_a_commit_that_is_not_there_is_not_found(versions: Versions) -> None:
    name = await versions.make({"x": b"1"})
    with pytest.raises(NotFoundError):
        await versions.repository.diff(name, "1" * 40)
    with pytest.raises(InvalidInputError):
        await versions.repository.diff("--output=x", name)


# -- how much is shown -------------------------------------------------------------------------------------


async def test_a_file_with_many_changed_lines_is_folded(versions: Versions) -> None:
    [file] = await versions.diff({"x": b""}, {"x": b"1\n" * 400})
    assert (file.large, file.added) == (False, 400)
    [file] = await versions.diff({"x": b""}, {"x": b"1\n" * 401})
    assert (file.large, file.truncated, file.added) == (True, False, 401)


async def test_what_is_too_long_is_cut_and_counted(versions: Versions) -> None:
    files = await versions.diff({}, {"a": b"1\n" * 9000, "b": b"2\n" * 10, "empty": b""})
    assert [(file.path, file.added, file.truncated) for file in files] == [
        ("a", 9000, True),
        ("b", 10, True),
        ("empty", 0, False),
    ]
    assert sum(len(render(file.hunks)) for file in files) == LINES_LIMIT


async def test_a_long_file_cannot_push_the_config_out_of_sight(versions: Versions) -> None:
    before = {"a": b"1\n" * 100_000, "agent.toml": b"model = 'x'\n", "prompt.md": b"x\n"}
    after = {"a": b"2\n" * 100_000, "agent.toml": b"model = 'y'\n", "prompt.md": b"y\n"}
    files = await versions.diff(before, after)
    assert [file.path for file in files] == ["agent.toml", "prompt.md", "a"]
    assert [file.truncated for file in files] == [False, False, True]
    assert (files[2].added, files[2].removed) == (100_000, 100_000)


async def test_the_largest_change_there_can_be_is_shown_in_parts(versions: Versions) -> None:
    # A tree of the largest size, of the shortest lines, all of them changed: more than git may say at once.
    before = {f"{number}": b"\n" * 262_144 for number in range(4)}
    after = dict.fromkeys(before, b"\r\n" * 131_072)
    files = await versions.diff(before, after)
    assert [(file.added, file.removed, file.truncated) for file in files] == [(131_072, 262_144, True)] * 4
    assert sum(len(render(file.hunks)) for file in files) <= LINES_LIMIT


@pytest.mark.parametrize("patch", [b"diff --git a/x b/x\n@@ -1 +1 @@\n-a", b"@@ -1 +1 @@\n", b"", b"diff --git\n" * 2])
def test_a_patch_about_something_else_is_not_taken(patch: bytes) -> None:
    with pytest.raises(InvalidInputError):
        parse_patch(patch, ["x"])


# -- for any text ------------------------------------------------------------------------------------------

HOSTILE = ["", "a", "b", "c", "+", "-", "@@ -1 +1 @@", "\\", "\r", "\u2028", " x", "é"]
LINES = st.lists(st.sampled_from(HOSTILE), max_size=30)


@st.composite
def texts(draw: st.DrawFn) -> str:
    return "\n".join(draw(LINES)) + draw(st.sampled_from(["", "\n"]))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(texts(), texts()), min_size=1, max_size=12))
async def test_what_is_shown_makes_the_new_text_of_the_old_one(
    versions: Versions, pairs: list[tuple[str, str]]
) -> None:
    before = {f"{number}": old.encode() for number, (old, _) in enumerate(pairs)}
    after = {f"{number}": new.encode() for number, (_, new) in enumerate(pairs)}
    shown = {file.path: file for file in await versions.diff(before, after)}
    for number, (old, new) in enumerate(pairs):
        file = shown.get(f"{number}")
        assert (file is None) == (old == new)
        if file is not None:
            assert apply_hunks(old, file.hunks) == new
