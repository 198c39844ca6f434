"""Names of files are spelled so that each can be read, typed and asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.file_paths import PATH_LIMIT_BYTES, parse_file_path, render_file_name
from hyperhive.core.text import render_safe_line

NAMES = st.binary(min_size=1, max_size=60).filter(lambda name: not {0, ord("/")} & set(name) and name not in DOTS)
DOTS = {b".", b".."}


@given(NAMES)
def test_every_name_comes_back_from_its_spelling(name: bytes) -> None:
    assert parse_file_path(render_file_name(name)) == name


@given(NAMES)
def test_a_spelling_hides_nothing_and_is_utf_8(name: bytes) -> None:
    spelling = render_file_name(name)
    assert spelling.isprintable()
    assert render_safe_line(spelling) == spelling
    spelling.encode()


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        (b"notes.md", "notes.md"),
        ("größe 💾".encode(), "größe 💾"),
        (b"new\nline", "new\\x0aline"),
        (b"\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("exe.\u202egpj".encode(), "exe.\\xe2\\x80\\xaegpj"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"back\\slash", "back\\\\slash"),
        (b"\\xff", "\\\\xff"),
    ],
)
def test_what_cannot_be_seen_is_spelled_by_its_bytes(name: bytes, spelling: str) -> None:
    assert render_file_name(name) == spelling


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", b""),
        (".", b""),
        ("./a//b/.", b"a/b"),
        ("logs/", b"logs"),
        ("a\\b", b"a\\b"),
        ("a\\xzz", b"a\\xzz"),
        ("a\\xFF", b"a\xff"),
        ("%2e%2e/%00", b"%2e%2e/%00"),
        ("...", b"..."),
    ],
)
def test_a_path_is_taken_as_it_is_typed(text: str, path: bytes) -> None:
    assert parse_file_path(text) == path


@pytest.mark.parametrize(
    "text",
    [
        "..",
        "a/../b",
        "\\x2e\\x2e",
        "a/\\x2e./b",
        "a\\x2f..",
        "/etc/passwd",
        "\\x2fetc",
        "a\0b",
        "a\\x00b",
        "\ud800",
        "x" * (PATH_LIMIT_BYTES + 1),
    ],
)
def test_what_leads_out_or_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_file_path(text)
