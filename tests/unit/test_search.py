"""What is typed into a search: words, phrases, beginnings, and anything else, which is never an error."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.core.search import TERMS_LIMIT, Search, Term, parse_search, render_match


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("lease", [Term("lease")]),
        ("lease  ack", [Term("lease"), Term("ack")]),
        ('"lease and ack"', [Term("lease and ack")]),
        ("gener*", [Term("gener", is_prefix=True)]),
        ('"lease gener"*', [Term("lease gener", is_prefix=True)]),
        ("retry_after", [Term("retry after")]),
        ("src/app.py:12", [Term("src app py 12")]),
        ('say "no end', [Term("say"), Term("no"), Term("end")]),
        ("a* AND OR NOT NEAR(b)", [Term("a"), Term("AND"), Term("OR"), Term("NOT"), Term("NEAR b")]),
        ("body: who:x", [Term("body"), Term("who x")]),
        ("größe", [Term("größe")]),
        ("one one", [Term("one")]),
        ("C++ ->", [Term("C")]),
    ],
)
def test_a_text_is_words_phrases_and_beginnings(text: str, terms: list[Term]) -> None:
    assert parse_search(text) == Search(tuple(terms))


def test_blanks_ask_for_nothing_and_marks_for_what_is_not_there() -> None:
    assert parse_search(" \t\n\0") is None
    assert parse_search("++ ->") == Search(())


def test_more_words_than_anybody_types_are_left_out() -> None:
    search = parse_search(" ".join(f"w{number}" for number in range(1000)))
    assert search is not None
    assert len(search.terms) == TERMS_LIMIT


@given(st.text(st.characters(), max_size=400) | st.text('"*^()-+:{}\0\ud800 aBé漢NOTANDOR', max_size=60))
def test_no_text_is_an_error_of_the_index(text: str) -> None:
    search = parse_search(text)
    if search is None or not search.terms:
        return
    connection = sqlite3.connect(":memory:")
    connection.execute("create virtual table found using fts5 (body, who)")
    connection.execute("select rowid from found where found match ?", (f"body : ({render_match(search)})",)).fetchall()
    connection.close()


@given(st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0x24F), max_size=100))
def test_a_text_is_found_by_itself(text: str) -> None:
    search = parse_search(text.replace("*", " "))
    if search is None or not search.terms:
        return
    connection = sqlite3.connect(":memory:")
    connection.execute("create virtual table found using fts5 (body, tokenize = 'unicode61 remove_diacritics 2')")
    connection.execute("insert into found (rowid, body) values (1, ?)", (text,))
    rows = connection.execute("select rowid from found where found match ?", (render_match(search),)).fetchall()
    connection.close()
    assert rows == [(1,)]
