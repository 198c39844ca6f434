"""What agents read of questions: the messages that ask one and that tell its end. Pure.

The first lines, up to an empty one, are always the hive's own words. What an agent wrote is quoted there as JSON on one
line, and follows as it is only after the empty line: so it cannot add a line of that kind.
"""

import json
from collections.abc import Sequence
from datetime import UTC

from hyperhive.core.questions import Question, QuestionStatus
from hyperhive.core.text import cut_chars

# Of the question that an answer is to: enough to know which one it was.
QUOTE_LIMIT_CHARS = 300


def render_asking(question: Question) -> str:
    """The message by which a question reaches the agent that it is asked of."""
    until = question.expires_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = [f"{question.agent} asks you question {question.id}: answer with the tool `answer`, id {question.id}."]
    if question.options:
        choose = "any of these, " if question.multi else "one of these, "
        lines.append(f"Choose {choose}or answer in your own words: {_quote_all(question.options)}")
    lines.append(f"It is open until {until}.")
    return "\n".join([*lines, "", question.question])


def render_answer(question: Question, chosen: Sequence[str], text: str) -> str:
    """The message by which the asker gets the answer: chosen options, free text, or both."""
    lines = [f"{question.asked} answers your question {question.id}, {_quote(_cut(question.question))}."]
    if chosen:
        lines.append(f"Chosen: {_quote_all(chosen)}")
    return "\n".join([*lines, "", text] if text else lines)


def render_end(question: Question, status: QuestionStatus, reason: str) -> str:
    """What the hive tells both sides of a question that ended without an answer, as JSON."""
    return json.dumps(
        {
            "event": "question_ended",
            "question_id": question.id,
            "status": status.value,
            "reason": reason,
            "asker": question.agent,
            "asked": question.asked,
            "question": _cut(question.question),
        }
    )


def _quote(text: str) -> str:
    """`text` as JSON on one line, whatever it holds: all that is not printed is escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in quoted)


def _quote_all(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(_quote, texts))}]"


def _cut(text: str) -> str:
    return cut_chars(text, QUOTE_LIMIT_CHARS)
