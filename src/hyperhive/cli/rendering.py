"""What the commands print: tables and blocks for people, JSON for programs. Values in, text out.

All that an agent may have written goes through `core.text` first. A field that is not there is shown as `?`.
"""

import json
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hyperhive.core.text import cut_text, render_safe_line, render_safe_text, text_width

GAP = "  "

_AMBER, _MAUVE, _GREEN, _RED, _DIM, _BOLD = "33", "35", "32", "31", "2", "1"
_STATE_COLOURS = {
    "idle": _GREEN,
    "thinking": _AMBER,
    "compacting": _AMBER,
    "starting": _AMBER,
    "stopping": _AMBER,
    "parked": _MAUVE,
    "needs_login": _RED,
    "failed": _RED,
    "crashed": _RED,
    "unknown": _RED,
    "offline": _DIM,
    "hibernated": _DIM,
    "stopped": _DIM,
    "ok": _GREEN,
    "warn": _AMBER,
    "missing": _RED,
    "pending": _AMBER,
    "approved": _AMBER,
    "building": _AMBER,
    "deployed": _GREEN,
    "denied": _MAUVE,
    "allow": _GREEN,
    "ask": _AMBER,
    "deny": _RED,
    "allowed": _GREEN,
    "refused": _RED,
}
_CHANGE_COLOURS = {"added": _GREEN, "removed": _RED, "changed": _AMBER, "context": None}

# Joiners, fillers, variation selectors and a blank braille cell: shown by no glyph of their own, yet they make two
# texts differ that look the same. (Those that Unicode calls control or format characters are in `core.text`.)
_HIDDEN_RANGES = (
    (0x034F, 0x034F),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200C, 0x200D),
    (0x2800, 0x2800),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0),
    (0xE0100, 0xE01EF),
)
# Blanks that are no space, characters that no font knows.
_HIDDEN_CATEGORIES = frozenset({"Zs", "Cn", "Co"})
_INDENT = "    "
# A column of a table that wraps is not made narrower than this.
_COLUMN_MIN = 8


@dataclass(frozen=True, slots=True)
class Screen:
    """What the output can take. `width` is None when nothing is to be cut: the output is not a terminal."""

    now: datetime
    width: int | None = None
    colour: bool = False

    def paint(self, text: str, code: str | None) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and code else text

    def title(self, text: str) -> str:
        return self.paint(text, _BOLD)

    def dim(self, text: str) -> str:
        return self.paint(text, _DIM)

    def bad(self, text: str) -> str:
        return self.paint(text, _RED)

    def state(self, text: str) -> str:
        return self.paint(text, _STATE_COLOURS.get(text.strip()))

    def change(self, text: str, change: str) -> str:
        """`text` in the colour of what was added, removed or changed."""
        return self.paint(text, _CHANGE_COLOURS.get(change))


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: `value` makes a row's cell; `state` colours it by what it says."""

    title: str
    value: Callable[[Any], str]
    state: bool = False


def render_json(value: Any) -> str:
    """One line of JSON, ASCII only: safe on every terminal and in every locale."""
    return json.dumps(value, default=str)


def render_table(columns: Sequence[Column], rows: Iterable[Any], screen: Screen) -> str:
    """`rows` in aligned columns below their titles; the last column is cut where the screen ends."""
    cells = [[render_safe_line(column.value(row)) for column in columns] for row in rows]
    widths = [
        max(text_width(line[index]) for line in [[column.title for column in columns], *cells])
        for index in range(len(columns))
    ]
    if screen.width is not None:
        before = sum(widths[:-1]) + len(GAP) * (len(widths) - 1)
        widths[-1] = max(len(columns[-1].title), min(widths[-1], screen.width - before))
    head = GAP.join(_pad(column.title, width) for column, width in zip(columns, widths, strict=True))
    lines = [screen.dim(head.rstrip())]
    for line in cells:
        padded = [_pad(cell, width) for cell, width in zip(line, widths, strict=True)]
        padded[-1] = padded[-1].rstrip()
        shown = [screen.state(cell) if column.state else cell for column, cell in zip(columns, padded, strict=True)]
        lines.append(GAP.join(shown).rstrip())
    return "\n".join(lines)


def render_full_table(columns: Sequence[Column], rows: Iterable[Any], screen: Screen) -> str:
    """As `render_table`, but nothing is cut or left invisible: what is too wide goes on below, in its own column."""
    cells = [[render_exact_line(column.value(row)) for column in columns] for row in rows]
    titles = [column.title for column in columns]
    widths = [max(1, *(text_width(line[index]) for line in [titles, *cells])) for index in range(len(columns))]
    if screen.width is not None:
        widths = _plan_widths(widths, screen.width - len(GAP) * (len(columns) - 1))
    lines = [screen.dim(GAP.join(_pad(title, width) for title, width in zip(titles, widths, strict=True)).rstrip())]
    for row in cells:
        wrapped = [wrap_prose(cell, width) for cell, width in zip(row, widths, strict=True)]
        for index in range(max(len(cell) for cell in wrapped)):
            pieces = [cell[index] if index < len(cell) else "" for cell in wrapped]
            padded = [_pad(piece, width) for piece, width in zip(pieces, widths, strict=True)]
            shown = [screen.state(cell) if column.state else cell for column, cell in zip(columns, padded, strict=True)]
            lines.append(GAP.join(shown).rstrip())
    return "\n".join(lines)


def _plan_widths(widths: list[int], available: int) -> list[int]:
    """`widths` made to fit into `available` together: the widest give way first, none below `_COLUMN_MIN`."""
    planned = list(widths)
    while sum(planned) > available and max(planned) > _COLUMN_MIN:
        planned[planned.index(max(planned))] -= 1
    return planned


def wrap_text(text: str, width: int) -> list[str]:
    """`text`, already safe and of one line, in pieces of at most `width` columns; one piece at least."""
    if text.isascii():
        return [text[start : start + width] for start in range(0, len(text), width)] or [""]
    pieces = [""]
    used = 0
    for char in text:
        char_width = text_width(char)
        if used + char_width > width and pieces[-1]:
            pieces.append("")
            used = 0
        pieces[-1] += char
        used += char_width
    return pieces


def _pad(cell: str, width: int) -> str:
    shown = cut_text(cell, width)
    return shown + " " * (width - text_width(shown))


def wrap_prose(text: str, width: int) -> list[str]:
    """As `wrap_text`, at blanks where there are some."""
    pieces: list[str] = []
    start = 0
    while start < len(text):
        piece = wrap_text(text[start : start + width], width)[0]
        end = start + len(piece)
        blank = piece.rfind(" ") if end < len(text) and text[end] != " " else -1
        pieces.append(piece[: blank + 1] if blank > 0 else piece)
        start += len(pieces[-1])
    return pieces or [""]


def render_block(head: str, text: str, screen: Screen) -> str:
    """`text` of an agent below a line of ours; all of it indented, so that no line can pass for ours.

    It is wrapped here, not by the terminal: what a terminal wraps begins at its edge, as our own lines do.
    """
    lines = render_safe_text(text).expandtabs(4).split("\n")
    if screen.width is not None:
        room = max(screen.width - len(_INDENT), _COLUMN_MIN)
        lines = [piece for line in lines for piece in wrap_prose(line, room)]
    return "\n".join([head, *(f"{_INDENT}{line}".rstrip() for line in lines)])


def render_exact_text(text: str) -> str:
    """`text` where what is applied is shown: as `render_safe_text`, and what cannot be seen is named, too.

    Line feeds and tabs stay.
    """
    safe = render_safe_text(text)
    return safe if safe.isascii() else "".join(_name_hidden(char) for char in safe)


def render_exact_line(text: str) -> str:
    """As `render_exact_text`, on one line: line feeds and tabs are named as well."""
    return render_exact_text(text).replace("\n", "\\n").replace("\t", "\\t")


def _name_hidden(char: str) -> str:
    if char.isascii():
        return char
    hidden = unicodedata.category(char) in _HIDDEN_CATEGORIES or any(
        first <= ord(char) <= last for first, last in _HIDDEN_RANGES
    )
    return char.encode("ascii", "backslashreplace").decode() if hidden else char


def field(row: Any, name: str) -> str:
    """A field as text: empty for null, `?` when the row has no such field."""
    value = row.get(name, "?")
    return "" if value is None else str(value)


def line_field(row: Any, name: str) -> str:
    """A field as safe text on one line, for headings."""
    return render_safe_line(field(row, name))


def render_age(instant: str, now: datetime) -> str:
    """How long ago an RFC 3339 instant was, in its largest unit; `?` for what is none."""
    try:
        return _render_span((now - datetime.fromisoformat(instant)).total_seconds())
    except (TypeError, ValueError):
        return "?"


def render_wait(instant: str, now: datetime) -> str:
    """How long until an RFC 3339 instant, in its largest unit; `?` for what is none."""
    try:
        return _render_span((datetime.fromisoformat(instant) - now).total_seconds())
    except (TypeError, ValueError):
        return "?"


def _render_span(seconds: float) -> str:
    for unit, unit_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= unit_s:
            return f"{seconds // unit_s:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def render_size(size_bytes: float) -> str:
    """A size in its largest binary unit, with one decimal above KiB."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit in {"B", "KiB"} else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"
