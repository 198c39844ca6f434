"""Text diffs as the operator reads them: unified or side by side. Values in, text out.

What an agent wrote stands behind a gutter of ours, also where a long line goes on: none of it can pass for a heading or
for another line. A tab is as wide as on a terminal; anywhere else it stays a tab.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from hyperhive.cli.client import Row, parse_rows
from hyperhive.cli.rendering import Screen, field, render_exact_line, render_exact_text, render_size, wrap_text
from hyperhive.core.text import text_width

# Two halves in which a line of code is still one line.
SIDE_BY_SIDE_COLUMNS = 110
TAB_COLUMNS = 8
# Below that, wrapping makes a text harder to read than the terminal's own.
TEXT_MIN_COLUMNS = 16

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}
_MARK = " │ "


@dataclass(frozen=True, slots=True)
class DiffStyle:
    """`full` shows large files too. `side_by_side` is followed where the screen is wide enough."""

    full: bool = False
    side_by_side: bool = False


def render_sign(change: str) -> str:
    """`+`, `-` or `~`; `?` for a change that is none of ours."""
    return _SIGNS.get(change, "?")


def render_stat(files: Sequence[Row]) -> str:
    """How much differs, on one line."""
    added, removed = (sum(_count(file, name) for file in files) for name in ("added", "removed"))
    noun = "file" if len(files) == 1 else "files"
    return f"{len(files)} {noun}, +{added} -{removed} lines"


def render_file_head(file: Row, screen: Screen) -> str:
    """One line: what becomes of the file, its name, lines, sizes and all that is special about it."""
    change = field(file, "change")
    head = screen.change(f"{render_sign(change)} {render_exact_line(field(file, 'path'))}", change)
    facts = [render_exact_line(change)]
    if file.get("binary"):
        facts.append("binary")
    else:
        facts.append(f"+{_count(file, 'added')} -{_count(file, 'removed')}")
    facts.append(_render_sizes(file, change))
    if file.get("executable") is not None:
        facts.append("may be executed now" if file["executable"] else "may not be executed any more")
    return f"{head}  {screen.dim(', '.join(facts))}"


def _render_sizes(file: Row, change: str) -> str:
    old, new = (render_size(_count(file, name)) for name in ("old_size_bytes", "new_size_bytes"))
    return {"added": new, "removed": old}.get(change, f"{old} → {new}")


def _count(row: Row, name: str) -> int:
    value = row.get(name)
    return value if isinstance(value, int) else 0


def render_files(files: Sequence[Row], screen: Screen, style: DiffStyle) -> str:
    """The diff of each file below its heading."""
    return "\n\n".join("\n".join(_render_file(file, screen, style)) for file in files)


def _render_file(file: Row, screen: Screen, style: DiffStyle) -> Iterator[str]:
    hunks = parse_rows(file.get("hunks") or [])
    yield render_file_head(file, screen)
    if file.get("large") and hunks and not style.full:
        yield screen.dim("  a large file, folded: --full shows it")
        return
    digits = len(str(max((_last_number(hunk) for hunk in hunks), default=0)))
    wide = style.side_by_side and is_wide(screen)
    for hunk in hunks:
        yield "  " + screen.dim(render_exact_line(field(hunk, "header")))
        lines = parse_rows(hunk.get("lines") or [])
        yield from _render_halves(lines, digits, screen) if wide else _render_unified(lines, digits, screen)
    if file.get("truncated"):
        yield screen.bad("  too long: not all of this file's diff is here")


def is_wide(screen: Screen) -> bool:
    """Whether two texts fit side by side."""
    return screen.width is not None and screen.width >= SIDE_BY_SIDE_COLUMNS


def _last_number(hunk: Row) -> int:
    lines = parse_rows(hunk.get("lines") or [])
    return max((max(_count(line, "old"), _count(line, "new")) for line in lines), default=0)


def _render_unified(lines: Sequence[Row], digits: int, screen: Screen) -> Iterator[str]:
    for line in lines:
        kind = field(line, "kind")
        sign = " " if kind == "context" else render_sign(kind)
        gutter = f"  {_number(line, 'old', digits)} {_number(line, 'new', digits)} "
        # The gutter, the sign and a blank.
        room = None if screen.width is None else screen.width - len(gutter) - 2
        for index, piece in enumerate(_render_text(line, room)):
            start = gutter if index == 0 else " " * len(gutter)
            yield screen.dim(start) + screen.change(f"{sign} {piece}".rstrip(), kind)


def _number(line: Row, name: str, digits: int) -> str:
    value = line.get(name)
    return (str(value) if isinstance(value, int) else "").rjust(digits)


def _render_text(line: Row, room: int | None) -> list[str]:
    """A line's text in pieces that fit; one piece if no room is given."""
    text = render_exact_text(field(line, "text")).replace("\n", "\\n")
    # A blank at the end is the one that nobody sees.
    if text.endswith((" ", "\t")):
        text = text[:-1] + ("\\x20" if text[-1] == " " else "\\t")
    if room is None:
        return [text]
    return wrap_text(text.expandtabs(TAB_COLUMNS), max(room, TEXT_MIN_COLUMNS))


def _render_halves(lines: Sequence[Row], digits: int, screen: Screen) -> Iterator[str]:
    """What was on the left, what will be on the right; a changed line stands beside what it becomes."""
    half = ((screen.width or SIDE_BY_SIDE_COLUMNS) - len(_MARK)) // 2
    for old, new in _pair_lines(lines):
        left = _render_half(old, "old", digits, half, screen)
        right = _render_half(new, "new", digits, half, screen)
        blank = " " * half
        for first, second in zip_longest(left, right, fillvalue=blank):
            yield f"{first}{screen.dim(_MARK)}{second}".rstrip()


def _pair_lines(lines: Sequence[Row]) -> Iterator[tuple[Row | None, Row | None]]:
    removed: list[Row] = []
    added: list[Row] = []
    for line in lines:
        kind = line.get("kind")
        if kind == "removed" and not added:
            removed.append(line)
        elif kind == "added":
            added.append(line)
        else:
            yield from zip_longest(removed, added)
            removed, added = ([line], []) if kind == "removed" else ([], [])
            if kind != "removed":
                yield line, line
    yield from zip_longest(removed, added)


def _render_half(line: Row | None, number: str, digits: int, half: int, screen: Screen) -> list[str]:
    if line is None:
        return []
    kind = field(line, "kind")
    sign = " " if kind == "context" else render_sign(kind)
    gutter = f"{_number(line, number, digits)} "
    pieces = _render_text(line, half - len(gutter) - 2)
    shown: list[str] = []
    for index, piece in enumerate(pieces):
        start = gutter if index == 0 else " " * len(gutter)
        text = f"{sign} {piece}"
        shown.append(screen.dim(start) + screen.change(text, kind) + " " * (half - len(gutter) - text_width(text)))
    return shown
