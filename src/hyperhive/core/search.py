"""What somebody searches for in messages: words, "phrases" and beginnings*. Any text is a search; none is an error."""

import re
import unicodedata
from dataclasses import dataclass

# Of the operator's API, in an answer to a search: how many messages could not be searched yet. Without it all were.
UNSEARCHED_HEADER = "X-Hive-Unsearched"
# More than anybody types; each costs a look into the index.
TERMS_LIMIT = 32
# Beginnings of one letter are in nearly all messages: they take seconds, and tell nothing.
PREFIX_MIN_CHARS = 2

_TERM = re.compile(r'"([^"]*)"(\*?)|([^\s"]+)')


@dataclass(frozen=True, slots=True)
class Term:
    """Words that follow each other. `is_prefix`: of the last one its beginning is enough."""

    text: str
    is_prefix: bool = False


@dataclass(frozen=True, slots=True)
class Search:
    """All of `terms` must be in a message. Without any nothing is found."""

    terms: tuple[Term, ...]


def parse_search(text: str) -> Search | None:
    """What `text` asks for; None for blanks: it asks for nothing.

    Marks only divide words: `retry_after` is `retry` and `after` next to each other. A term that is made of marks alone
    counts for nothing beside others, and finds nothing by itself. Of a single letter with a `*` the `*` is left out.
    """
    cleaned = "".join(" " if unicodedata.category(char) in ("Cc", "Cs") else char for char in text)
    if not cleaned.strip():
        return None
    terms: list[Term] = []
    for found in _TERM.finditer(cleaned):
        phrase, star, word = found.groups()
        words = _list_words(phrase if word is None else word)
        is_prefix = bool(star) if word is None else word.endswith("*")
        if words:
            terms.append(Term(" ".join(words), is_prefix and len(words[-1]) >= PREFIX_MIN_CHARS))
    return Search(tuple(dict.fromkeys(terms[:TERMS_LIMIT])))


def render_match(search: Search) -> str:
    """The same for SQLite's FTS5, as an expression that is valid whatever was searched for."""
    # In a string of FTS5 nothing but a quotation mark has a meaning, and a word has none.
    return " AND ".join(f'"{term.text}"{" *" if term.is_prefix else ""}' for term in search.terms)


def _list_words(text: str) -> list[str]:
    return "".join(char if _is_in_word(char) else " " for char in text).split()


def _is_in_word(char: str) -> bool:
    """Whether the index takes it for a part of a word: letters with their accents, and numbers."""
    category = unicodedata.category(char)
    return category[0] in "LNM" or category == "Co"
