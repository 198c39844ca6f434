"""An agent's notes, `/state/notes.md`: when a rewrite of them may be written without asking. Pure."""

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

NOTES_FILE = "notes.md"

TEXT_LIMIT_BYTES = 512 * 1024
"""Longer notes are neither rewritten nor kept on the host: two such texts, and how they differ, still fit anywhere."""

KEPT_SHARE_MIN = 0.2
"""A rewrite that keeps less of the bytes than this is asked about."""

LANDMARKS_LOST_MAX = 0.5
"""And so is one that drops more than this part of the headings, or of the open tasks."""

_HEADING = re.compile(r"#{1,6}[ \t]+\S")
_OPEN_TASK = re.compile(r"[-*+][ \t]+\[ \][ \t]*\S")


class NotesKind(StrEnum):
    """Why a version of the notes is kept: `kept` is what stood there, `asked` what the operator is asked about."""

    COMPACTED = "compacted"
    ASKED = "asked"
    RESTORED = "restored"
    KEPT = "kept"


class RewriteDecision(StrEnum):
    """What becomes of a rewrite: it is written, the operator is asked first, or the notes stay as they are."""

    APPLY = "apply"
    ASKED = "asked"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Loss:
    """What a rewrite drops. Headings and open tasks are counted as often as they stood there."""

    bytes_before: int
    bytes_after: int
    headings: int
    headings_lost: int
    tasks: int
    tasks_lost: int


def decide_rewrite(before: str, after: str) -> RewriteDecision:
    """Whether `after` may take the place of `before` by itself."""
    loss = measure_loss(before, after)
    if not after.strip() or loss.bytes_after >= loss.bytes_before:
        return RewriteDecision.KEEP
    if (
        loss.bytes_after < KEPT_SHARE_MIN * loss.bytes_before
        or loss.headings_lost > LANDMARKS_LOST_MAX * loss.headings
        or loss.tasks_lost > LANDMARKS_LOST_MAX * loss.tasks
    ):
        return RewriteDecision.ASKED
    return RewriteDecision.APPLY


def measure_loss(before: str, after: str) -> Loss:
    """What is in `before` and not in `after`. A heading counts as kept at any level."""
    headings, tasks = _count_landmarks(before)
    headings_left, tasks_left = _count_landmarks(after)
    return Loss(
        bytes_before=len(encode_notes(before)),
        bytes_after=len(encode_notes(after)),
        headings=headings.total(),
        headings_lost=(headings - headings_left).total(),
        tasks=tasks.total(),
        tasks_lost=(tasks - tasks_left).total(),
    )


def encode_notes(text: str) -> bytes:
    """The notes as they are written to a file. What is no text (half of a surrogate pair) becomes `?`."""
    return text.encode("utf-8", "replace")


def decode_notes(content: bytes) -> str:
    """A file's content as text; bytes that are no UTF-8 become U+FFFD."""
    return content.decode("utf-8", "replace")


def hash_notes(text: str) -> str:
    """What `notes.set` names a text by. No notes are the same as empty ones."""
    return hashlib.sha256(encode_notes(text)).hexdigest()


def _count_landmarks(text: str) -> tuple[Counter[str], Counter[str]]:
    """The headings and the open tasks, in lower case and without what Markdown does not show."""
    headings: Counter[str] = Counter()
    tasks: Counter[str] = Counter()
    # Not `splitlines`, to which a form feed or a U+2028 within a line is the beginning of another one.
    for line in text.split("\n"):
        words = line.strip()
        if _HEADING.match(words):
            headings[" ".join(words.strip("#").casefold().split())] += 1
        elif _OPEN_TASK.match(words):
            tasks[" ".join(words.partition("]")[2].casefold().split())] += 1
    return headings, tasks
