"""What systemd reads of an EnvironmentFile, after systemd.exec(5): a character at a time, and nothing of ours in it."""

from dataclasses import dataclass

_NEWLINE = "\r\n"
_BLANK = " \t"


@dataclass
class Statement:
    """A piece of the file with its end. `value` is None for what assigns nothing."""

    text: str
    key: str = ""
    value: str | None = None


def read_assignments(text: str) -> dict[str, str]:
    """The variables that are set, the last assignment of each."""
    return {found.key: found.value for found in list_statements(text) if found.value is not None}


def list_statements(text: str) -> list[Statement]:
    found: list[Statement] = []
    position = 0
    while position < len(text):
        start = position
        position, key, value = _read_statement(text, position)
        # A carriage return with its line feed is one end.
        position += 2 if text[position : position + 2] == "\r\n" else 1
        found.append(Statement(text[start:position], key, value))
    return found


def _read_statement(text: str, position: int) -> tuple[int, str, str | None]:
    """Where its end is, and what it assigns."""
    while position < len(text) and text[position] in _BLANK:
        position += 1
    if position < len(text) and text[position] in "#;":
        return _skip_line(text, position), "", None
    start = position
    while position < len(text) and text[position] not in _NEWLINE:
        # A key has at least one character, whichever.
        if text[position] == "=" and position > start:
            key = text[start:position].rstrip(_BLANK)
            position, value = _read_value(text, position + 1)
            return position, key, value
        position += 1
    return position, "", None


def _skip_line(text: str, position: int) -> int:
    while position < len(text) and text[position] not in _NEWLINE:
        position += 1
    return position


def _read_value(text: str, position: int) -> tuple[int, str]:
    value = ""
    while position < len(text) and text[position] not in _NEWLINE:
        char = text[position]
        if char in _BLANK:
            position += 1
        elif char in "'\"":
            position, piece = _read_quoted(text, position + 1, char)
            value += piece
        else:
            position, piece = _read_bare(text, position)
            return position, value + piece
    return position, value


def _read_quoted(text: str, position: int, quote: str) -> tuple[int, str]:
    value = ""
    while position < len(text) and text[position] != quote:
        char, position = text[position], position + 1
        if char == "\\" and quote == '"' and position < len(text):
            escaped, position = text[position], position + 1
            if escaped == "\n":
                continue
            char = escaped if escaped in '"\\`$' else char + escaped
        value += char
    return position + 1, value


def _read_bare(text: str, position: int) -> tuple[int, str]:
    value, kept = "", 0
    while position < len(text) and text[position] not in _NEWLINE:
        char, position = text[position], position + 1
        if char == "\\":
            if position < len(text) and text[position] not in _NEWLINE:
                value += text[position]
            position += 1
            kept = len(value)
        else:
            value += char
            kept = kept if char in _BLANK else len(value)
    return min(position, len(text)), value[:kept]
