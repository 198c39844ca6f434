"""What agents wrote, for the operator's claude to read: bounded, and nothing in it hides."""

from typing import Any, cast

from hyperhive.cli.client import Row
from hyperhive.core.text import render_safe_text

# Of one answer: about half of what claude takes from a tool unless it is told otherwise.
ANSWER_LIMIT_CHARS = 40_000
# Of one text in a list, and of one that is asked for by itself.
TEXT_LIMIT_CHARS = 4_000
WHOLE_LIMIT_CHARS = 30_000
LINE_LIMIT_CHARS = 500

# What a row still takes when nothing is left: enough to see what it is about.
_LEAST_CHARS = 80


class Space:
    """How much an answer may still hold. Each text that the hive did not write goes through `take`."""

    def __init__(self, limit_chars: int = ANSWER_LIMIT_CHARS) -> None:
        self._left_chars = limit_chars

    def take(self, text: Any, limit_chars: int = TEXT_LIMIT_CHARS, offset: int = 0) -> Row:
        """The text from `offset` on in a field that says what it is, and how much of it is left out behind."""
        safe = render_safe_text(str(text))[offset:]
        shown = safe[: min(limit_chars, max(self._left_chars, _LEAST_CHARS))]
        self._left_chars -= len(shown)
        left_out = len(safe) - len(shown)
        return {"untrusted": shown} | ({"left_out_chars": left_out} if left_out else {})

    def take_all(self, values: Any, limit_chars: int = LINE_LIMIT_CHARS) -> list[Row]:
        """Each of a list of texts, such as options; nothing for what is no list."""
        texts = cast("list[Any]", values) if isinstance(values, list) else []
        return [self.take(text, limit_chars) for text in texts]

    def take_if_any(self, row: Row, *names: str, limit_chars: int = LINE_LIMIT_CHARS) -> Row:
        """Those fields of `row` that hold something."""
        return {name: self.take(row[name], limit_chars) for name in names if row.get(name)}


def pick(row: Row, *names: str) -> Row:
    """Fields that only the hive fills: numbers, names, states, instants. Those that say nothing are left out."""
    return {name: row[name] for name in names if row.get(name) not in (None, "")}


def cut_rows(rows: list[Row], limit: int) -> tuple[list[Row], Row]:
    """The first `limit` rows, and a field that says how many more there are."""
    left_out = len(rows) - limit
    return rows[:limit], {"left_out": left_out} if left_out > 0 else {}
