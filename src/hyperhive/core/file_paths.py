"""Names of files that agents choose: any bytes, spelled so that people can read, type and ask for each of them.

What is not UTF-8, cannot be seen, or changes how its surroundings read is spelled byte by byte as `\\xff`, a backslash
as `\\\\`. A spelling means one name only, and no two names have the same.
"""

import re

from hyperhive.core.errors import InvalidInputError

# The kernel's PATH_MAX: what is longer is no path.
PATH_LIMIT_BYTES = 4096
# Every byte of a path may be spelled with four characters.
SPELLING_LIMIT_CHARS = 4 * PATH_LIMIT_BYTES

_ESCAPE = re.compile(rb"\\(?:\\|x([0-9a-fA-F]{2}))")
_HINT = "a path is taken from the top of /state, such as notes.md or logs/today.txt"


def render_file_name(name: bytes) -> str:
    """The spelling of a name or a path."""
    # Bytes that are no UTF-8 come out as lone surrogates, which are not printable either.
    return "".join(_render_char(char) for char in name.decode("utf-8", "surrogateescape"))


def parse_file_path(text: str) -> bytes:
    """The path that `text` spells, without `.` and doubled slashes; empty for the top.

    A backslash that begins no escape stands for itself. Raises InvalidInputError for what leads out or cannot be one.
    """
    try:
        path = _ESCAPE.sub(_parse_escape, text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError as error:
        raise InvalidInputError("that is no path", _HINT) from error
    if b"\0" in path or len(path) > PATH_LIMIT_BYTES:
        raise InvalidInputError("that is no path: it is too long, or has a character that no name has", _HINT)
    if path.startswith(b"/"):
        raise InvalidInputError("the path is absolute", _HINT)
    names = [name for name in path.split(b"/") if name not in {b"", b"."}]
    if b".." in names:
        raise InvalidInputError("the path leads upwards", _HINT)
    return b"/".join(names)


def _parse_escape(found: re.Match[bytes]) -> bytes:
    digits = found.group(1)
    return b"\\" if digits is None else bytes.fromhex(digits.decode("ascii"))


def _render_char(char: str) -> str:
    if char == "\\":
        return "\\\\"
    if char.isprintable():
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
