"""What the commands print: tables and blocks for people, JSON for programs. Values in, text out.

All that an agent may have written goes through `core.text` first. A field that is not there is shown as `?`.
"""

import json
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
    "stopped": _DIM,
    "ok": _GREEN,
    "warn": _AMBER,
    "missing": _RED,
}


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

    def state(self, text: str) -> str:
        return self.paint(text, _STATE_COLOURS.get(text.strip()))


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


def _pad(cell: str, width: int) -> str:
    shown = cut_text(cell, width)
    return shown + " " * (width - text_width(shown))


def render_block(head: str, text: str) -> str:
    """`text` of an agent below a line of ours; every line of it indented, so that none can pass for ours."""
    lines = render_safe_text(text).expandtabs(4).split("\n")
    return "\n".join([head, *(f"    {line}".rstrip() for line in lines)])


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
        seconds = (now - datetime.fromisoformat(instant)).total_seconds()
    except (TypeError, ValueError):
        return "?"
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
