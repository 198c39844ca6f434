"""What programs ask a terminal, and what it answers by itself: neither is output, nor was it typed."""

import re

from hyperhive.core.terminals import ANSWER_LIMIT_CHARS

# Sequences begin with ESC and a letter, or with one character that stands for both. Each stops at the next: a text is
# gone through once, however they are put together.
_CSI = rb"(?:\x1b\[|\xc2\x9b)"
_STRING = rb"(?:\x1b[\]P_^X]|\xc2[\x90\x98\x9d\x9e\x9f])"
_BODY = rb"(?:[^\x07\x1b\xc2]|\xc2(?![\x90\x98\x9b-\x9f]))*"
_STRING_END = rb"(?:\x07|\x1b\\|\xc2\x9c)"

# What it is, its state and modes, where its cursor is, checksums, sizes of its window, its name, its keyboard, colours
# and keys; then ENQ and DECID.
_QUERY = re.compile(
    _CSI + rb"(?:[0-?]*(?:[cnx]|\$[puw]|\*y|\+p)|(?:1[1-9]|2[01])(?:;[\d;]*)?t|>[\d;]*q|\?u|\?[\d;]*[Sm])"
    rb"|\x05|\x1bZ|\xc2\x9a"
)
_WHOLE_STRING = re.compile(_STRING + _BODY + _STRING_END)
# Titles, folders, links, and colours that are set. Of others some are questions, and more will be.
_HARMLESS = re.compile(rb"(?:\x1b\]|\xc2\x9d)(?:[01278]|4|1[0-279]|104|11[0-279]|133)(?:;|" + _STRING_END + rb")")
_QUESTION = re.compile(rb";\?(?:;|" + _STRING_END + rb")")
_BEGUN = re.compile(rb"(?:" + _CSI + rb"[0-?]*[ -/]*|" + _STRING + _BODY + rb"[\x1b\xc2]?|\x1b|\xc2)\Z")
# A longer one is an image, or none.
_BEGUN_LIMIT_BYTES = 8192

# As in the page: sequences that no key sends.
_ANSWER = re.compile(
    rb"\x1b\[(?:[?>=]?[\d;]{0,40}(?:\$y|[cnRt])|\?[\d;]{0,40}u)|\x1b[\]P][ -~]{0,%d}(?:\x07|\x1b\\)"
    % (ANSWER_LIMIT_CHARS - 4)
)


class ReplayFilter:
    """Takes out of what was on a terminal before what programs asked of it: that was answered then."""

    def __init__(self) -> None:
        self._begun = b""

    def feed(self, data: bytes) -> bytes:
        """What may be shown of it by now: a sequence that has only begun waits for the rest."""
        data = self._begun + data
        begun = _BEGUN.search(data)
        whole = data if begun is None or len(begun[0]) > _BEGUN_LIMIT_BYTES else data[: begun.start()]
        self._begun = data[len(whole) :]
        return _QUERY.sub(b"", _WHOLE_STRING.sub(_keep_harmless, whole))

    def end(self) -> bytes:
        """What waits: what follows is new, and so is a question that ends in it."""
        begun, self._begun = self._begun, b""
        return begun


def _keep_harmless(found: re.Match[bytes]) -> bytes:
    return found[0] if _HARMLESS.match(found[0]) and not _QUESTION.search(found[0]) else b""


def split_answers(data: bytes) -> list[tuple[bytes, bool]]:
    """What came from a keyboard, in pieces: each with whether the terminal answered it, and nobody typed it.

    An answer that comes in two reads counts as typed: to wait for its rest would hold up the escape key.
    """
    pieces: list[tuple[bytes, bool]] = []
    at = 0
    for answer in _ANSWER.finditer(data):
        pieces += [(data[at : answer.start()], False), (answer[0], True)]
        at = answer.end()
    pieces.append((data[at:], False))
    return [piece for piece in pieces if piece[0]]
