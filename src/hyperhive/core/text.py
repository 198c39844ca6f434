"""Text of agents made safe to show: nothing in it moves a cursor, hides or turns around what is read."""

import unicodedata

# Control and format characters, lone surrogates, line and paragraph separators: what a terminal or a reader
# obeys instead of showing.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Two format characters that only join letters or emoji and that scripts cannot be written without.
_JOINERS = frozenset("\u200c\u200d")
_LINE_KEEPERS = frozenset("\n\t")


def render_safe_text(text: str) -> str:
    """`text` for a terminal: line feeds and tabs stay, the unsafe rest becomes `\\x1b`, `\\u202e`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char in _LINE_KEEPERS else _render_char(char) for char in text)


def render_safe_line(text: str) -> str:
    """`text` on one line, for a cell of a table: as `render_safe_text`, line feeds and tabs as spaces."""
    return render_safe_text(text.replace("\n", " ").replace("\t", " "))


def _render_char(char: str) -> str:
    if unicodedata.category(char) in _UNSAFE_CATEGORIES and char not in _JOINERS:
        return char.encode("ascii", "backslashreplace").decode() if not char.isascii() else f"\\x{ord(char):02x}"
    return char


def text_width(text: str) -> int:
    """How many terminal columns `text`, already safe and of one line, takes."""
    return len(text) if text.isascii() else sum(_char_width(char) for char in text)


def cut_text(text: str, width: int) -> str:
    """`text` in at most `width` columns, ending in `…` if something was cut off."""
    if text_width(text) <= width:
        return text
    used = 0
    for index, char in enumerate(text):
        used += _char_width(char)
        if used > width - 1:
            return text[:index] + "…"
    return text


def cut_chars(text: str, limit: int) -> str:
    """`text` in at most `limit` characters, however wide, ending in `…` if something was cut off."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _char_width(char: str) -> int:
    if unicodedata.combining(char) or char in _JOINERS:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
