"""Hostile text on a terminal: nothing of it is obeyed."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.core.text import cut_text, render_safe_line, render_safe_text, text_width


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[2J\x1b]0;owned\x07", "\\x1b[2J\\x1b]0;owned\\x07"),
        ("approved\rdenied  ", "approved\\x0ddenied  "),
        ("\x9b31m", "\\x9b31m"),
        ("abc\u202egnp.exe", "abc\\u202egnp.exe"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("line\u2028sep", "line\\u2028sep"),
        ("hidden \U000e0041", "hidden \\U000e0041"),
        ("lone \ud800", "lone \\ud800"),
        ("grüße 你好 👩‍💻", "grüße 你好 👩‍💻"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_instead(text: str, shown: str) -> None:
    assert render_safe_text(text) == shown


@given(st.text(st.characters(codec=None)))
def test_safe_text_holds_nothing_unsafe_and_can_be_encoded(text: str) -> None:
    for char in render_safe_text(text).encode().decode():
        assert char in "\n\t\u200c\u200d" or unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(st.text())
def test_a_safe_line_is_one_line(text: str) -> None:
    assert len(render_safe_line(text).splitlines()) <= 1


@given(st.text(), st.integers(1, 30))
def test_cut_text_keeps_within_its_width(text: str, width: int) -> None:
    line = render_safe_line(text)
    cut = cut_text(line, width)
    assert text_width(cut) <= width
    assert cut == line or cut.endswith("…")
