"""Patterns of commands: the rules in `bash.allow`, `bash.deny` and `bash.ask`. See `docs/reference/policy.md`.

A pattern is a command, word by word. `*` in a word stands for any part of that word, and ` *` at the end for any
further words or none: `git *` is `git` with any arguments.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from hyperhive.core.bash_line import Word
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.text import cut_text, render_safe_line

_SHOWN_CHARS = 120


class Match(Enum):
    NO = auto()
    MAYBE = auto()
    """A word that only bash can tell stands where the pattern has one."""
    YES = auto()


@dataclass(frozen=True, slots=True)
class BashPattern:
    """`words` are matched one by one; `is_open` says that any further words may follow.

    `names_command`: the name of the command is written out, without a `*`.
    """

    source: str
    words: tuple[re.Pattern[str], ...]
    is_open: bool
    names_command: bool

    @property
    def is_anything(self) -> bool:
        return self.source == "*"

    def match(self, words: Sequence[Word], *, by_basename: bool) -> Match:
        """Whether a command of these words is meant. With `by_basename`, `/bin/x` is `x` as well."""
        for index, pattern in enumerate(self.words):
            if index >= len(words):
                return Match.NO
            text = words[index].text
            if text is None:
                return Match.MAYBE
            names = {text, text.rpartition("/")[2]} if index == 0 and by_basename else {text}
            if not any(pattern.fullmatch(name) for name in names):
                return Match.NO
        further = words[len(self.words) :]
        if self.is_open or not further:
            return Match.YES
        return Match.MAYBE if all(word.text is None for word in further) else Match.NO


def parse_bash_pattern(text: str) -> BashPattern:
    """`text` as a rule. Raises InvalidInputError if it is empty or not on one line, or the name is not in ASCII."""
    words = text.split(" ")
    words = [word for word in words if word]
    if not words or not text.isprintable() or not words[0].isascii():
        raise InvalidInputError(
            f"{cut_text(render_safe_line(text), _SHOWN_CHARS)!r} is no pattern of a command",
            "write a command on one line, such as 'git *'",
        )
    ends_open = len(words) > 1 and words[-1] == "*"
    fixed = words[:-1] if ends_open else words
    is_anything = words == ["*"]
    return BashPattern(" ".join(words), tuple(map(_compile, fixed)), ends_open or is_anything, "*" not in words[0])


def _compile(word: str) -> re.Pattern[str]:
    """A word of a pattern. Each piece between two `*` is taken where it is first found, so that the search is quick."""
    first, *pieces = re.split(r"\*+", word)
    if not pieces:
        return re.compile(re.escape(first))
    between = "".join(f"(?>.*?{re.escape(piece)})" for piece in pieces[:-1])
    return re.compile(f"{re.escape(first)}{between}.*{re.escape(pieces[-1])}", re.DOTALL)
