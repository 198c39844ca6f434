"""How two trees of configs differ, line by line, for the operator to decide on.

What is text is told by the content alone: no attribute can make a file look binary, or hide what changed in it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from hyperhive.core.errors import InvalidInputError
from hyperhive.host.configs.trees import PlainFile
from hyperhive.wire.agent_config import CONFIG_FILE, PROMPT_FILE
from hyperhive.wire.agent_nix import NIX_FILE
from hyperhive.wire.operator.configs import DiffHunk, DiffLine, FileDiff

# A file with more changed lines is shown folded.
LARGE_LINES = 400
# Of one comparison; what is beyond is counted, and not sent.
LINES_LIMIT = 5000
# Of one run of git: what it says must stay below the limit of its output.
PATCH_LIMIT_BYTES = 3 * 1024 * 1024

NO_NEWLINE = "\\ No newline at end of file"
"""The text of a line without numbers, of the kind of the line before it: that one is not ended by a line feed."""

# These say what the agent may do: however much else there is, they are not what is left out.
_FIRST = (CONFIG_FILE, NIX_FILE, PROMPT_FILE)
_HUNK = re.compile(rb"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@")
_KINDS: dict[bytes, Literal["context", "added", "removed"]] = {b" ": "context", b"+": "added", b"-": "removed"}


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs; `old` or `new` is None where it is not there."""

    path: str
    old: PlainFile | None
    new: PlainFile | None


def plan_changes(before: Sequence[PlainFile], after: Sequence[PlainFile]) -> list[Change]:
    """The paths that differ, what matters most first. A renamed file is one removed and one added."""
    old = {file.path: file for file in before}
    new = {file.path: file for file in after}
    changes = [Change(path, old.get(path), new.get(path)) for path in old.keys() | new.keys()]
    return sorted(
        (change for change in changes if change.old != change.new),
        key=lambda change: (change.path not in _FIRST, change.path),
    )


def plan_patches(changes: Sequence[Change], contents: Mapping[str, bytes]) -> list[list[str]]:
    """Paths to ask git about, in portions whose patches fit into its output: text that is there before and after."""
    portions: list[list[str]] = []
    room = 0
    for change in changes:
        old, new = _find_contents(change, contents)
        if change.old is None or change.new is None or old == new or is_binary(old) or is_binary(new):
            continue
        # Every line gets one more character; the rest are headers, with the path a few times.
        needed = sum(len(side) + side.count(b"\n") for side in (old, new)) + 8 * len(change.path.encode()) + 1000
        if needed > room:
            portions.append([])
            room = PATCH_LIMIT_BYTES
        portions[-1].append(change.path)
        room -= needed
    return portions


def render_whole(change: Change, contents: Mapping[str, bytes]) -> bytes:
    """The hunk of a text that is added or removed as a whole, as git writes it."""
    old, new = _find_contents(change, contents)
    content = old + new
    if not content or is_binary(content):
        return b""
    ended = content.endswith(b"\n")
    count = content.count(b"\n") + (not ended)
    span = "1" if count == 1 else f"1,{count}"
    sign, numbers = (b"+", f"@@ -0,0 +{span} @@") if change.old is None else (b"-", f"@@ -{span} +0,0 @@")
    lines = sign + content.removesuffix(b"\n").replace(b"\n", b"\n" + sign)
    return b"\n".join([numbers.encode(), lines, *([] if ended else [NO_NEWLINE.encode()]), b""])


def parse_patch(patch: bytes, paths: Iterable[str]) -> dict[str, bytes]:
    """The hunks of each of `paths` in a patch of git about them. Raises InvalidInputError if it is something else.

    No name in the patch has to be trusted: git goes through the files in the order of their bytes.
    """
    # No line of a hunk can begin so: it has a blank, a sign or a backslash before it.
    starts = [match.start() for match in re.finditer(rb"^diff --git ", patch, re.MULTILINE)]
    ordered = sorted(paths, key=lambda path: path.encode())
    if len(ordered) != len(starts) or (patch and not patch.endswith(b"\n")):
        raise InvalidInputError(f"git compared {len(starts)} files and not {len(ordered)}")
    bodies: dict[str, bytes] = {}
    for path, start, end in zip(ordered, starts, [*starts[1:], len(patch)], strict=True):
        hunks = patch.find(b"\n@@ ", start, end)
        # None of an empty file, and of one of which only the mode changed.
        bodies[path] = b"" if hunks < 0 else patch[hunks + 1 : end]
    return bodies


def render_diffs(
    changes: Sequence[Change], contents: Mapping[str, bytes], patches: Mapping[str, bytes]
) -> list[FileDiff]:
    """The differences as they are sent, in the order of `changes`, with at most LINES_LIMIT lines in all."""
    diffs: list[FileDiff] = []
    room = LINES_LIMIT
    for change in changes:
        whole = change.old is None or change.new is None
        body = render_whole(change, contents) if whole else patches.get(change.path, b"")
        # Not all lines are made objects of: they can be half a million.
        lines = body.split(b"\n", room)
        rest = lines.pop()
        room -= len(lines)
        diffs.append(_render_diff(change, contents, body, list(_parse_hunks(lines)), truncated=rest != b""))
    return diffs


def _render_diff(
    change: Change, contents: Mapping[str, bytes], body: bytes, hunks: list[DiffHunk], *, truncated: bool
) -> FileDiff:
    old, new = _find_contents(change, contents)
    added, removed = body.count(b"\n+"), body.count(b"\n-")
    was, now = change.old is not None and change.old.executable, change.new is not None and change.new.executable
    return FileDiff(
        path=change.path,
        change="added" if change.old is None else "removed" if change.new is None else "changed",
        binary=is_binary(old) or is_binary(new),
        executable=now if change.new is not None and was != now else None,
        old_size_bytes=len(old),
        new_size_bytes=len(new),
        added=added,
        removed=removed,
        large=added + removed > LARGE_LINES,
        truncated=truncated,
        hunks=hunks,
    )


def _parse_hunks(lines: Sequence[bytes]) -> Iterator[DiffHunk]:
    starts = [index for index, line in enumerate(lines) if line.startswith(b"@@ ")]
    for start, end in pairwise([*starts, len(lines)]):
        match = _HUNK.match(lines[start])
        if match is None:
            raise InvalidInputError("git's patch has a hunk without numbers")
        numbered = list(_number_lines(lines[start + 1 : end], int(match[1]), int(match[2])))
        # What git adds behind the numbers is a line of the file.
        yield DiffHunk(header=match[0].decode(), lines=numbered)


def _number_lines(lines: Sequence[bytes], old: int, new: int) -> Iterator[DiffLine]:
    kind: Literal["context", "added", "removed"] = "context"
    for line in lines:
        if line.startswith(b"\\"):
            yield DiffLine(kind=kind, old=None, new=None, text=NO_NEWLINE)
            continue
        kind = _KINDS[line[:1]]
        in_old, in_new = kind != "added", kind != "removed"
        # Bytes that are no UTF-8 are shown as what they are: two that differ never look the same.
        text = line[1:].decode("utf-8", "backslashreplace")
        yield DiffLine(kind=kind, old=old if in_old else None, new=new if in_new else None, text=text)
        old += in_old
        new += in_new


def is_binary(content: bytes) -> bool:
    return b"\0" in content


def _find_contents(change: Change, contents: Mapping[str, bytes]) -> tuple[bytes, bytes]:
    """The content before and after; of what is not there, none."""
    old, new = change.old, change.new
    return (contents[old.oid] if old else b"", contents[new.oid] if new else b"")
