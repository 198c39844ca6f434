"""Questions an agent asks the operator or another agent, and the ways they end."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.names import OPERATOR

QUESTION_LIMIT_CHARS = 4_000
OPTIONS_LIMIT = 12
OPTION_LIMIT_CHARS = 200
TTL_DEFAULT_S = 24 * 3600
TTL_LIMIT_S = 30 * 24 * 3600
# Of an answer in an agent's own words.
ANSWER_LIMIT_CHARS = 16_000


# What a permission question offers, in the words that the operator reads, and what each comes to on the agent link.
PERMISSION_OPTIONS = {"allow once": "allow_once", "allow for 30 minutes": "allow_30m", "deny": "deny"}
# An agent that nobody answers goes on without: a night is longer than any wait.
PERMISSION_TTL_S = 600

# What a question about a rewrite of an agent's notes offers. Whatever is not the first leaves them as they are.
NOTES_OPTIONS = ("apply", "keep the old")
# Nobody waits for the answer, and until then the notes only go on growing.
NOTES_TTL_S = 7 * 24 * 3600


class QuestionKind(StrEnum):
    """`permission`: a tool call waits for the answer; without one it is denied at the deadline.

    `notes`: the hive asks whether a rewrite of the agent's notes may be written; without an answer it is not.
    """

    QUESTION = "question"
    PERMISSION = "permission"
    NOTES = "notes"


class QuestionStatus(StrEnum):
    OPEN = "open"
    ANSWERED = "answered"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Question:
    """One question of `agent` to `asked`, the operator or another agent.

    Free text is always possible beside `options`; `multi` allows several of them.
    """

    id: int
    kind: QuestionKind
    agent: str
    question: str
    options: tuple[str, ...]
    multi: bool
    status: QuestionStatus
    asked_at: datetime
    expires_at: datetime
    answer: str | None = None
    resolved_at: datetime | None = None
    asked: str = OPERATOR


def check_question(question: str, options: tuple[str, ...], ttl_s: float) -> None:
    """Raises InvalidInputError for an empty or oversized question, bad options or a lifetime out of range."""
    if not question.strip() or len(question) > QUESTION_LIMIT_CHARS:
        raise InvalidInputError(f"a question has 1 to {QUESTION_LIMIT_CHARS} characters", "ask one short question")
    if len(options) > OPTIONS_LIMIT:
        raise InvalidInputError(f"a question has at most {OPTIONS_LIMIT} options", "offer fewer options")
    if any(not option.strip() or len(option) > OPTION_LIMIT_CHARS for option in options):
        raise InvalidInputError(f"an option has 1 to {OPTION_LIMIT_CHARS} characters", "shorten the options")
    if len(set(options)) < len(options):
        raise InvalidInputError("two options are the same", "offer each once")
    if not 1 <= ttl_s <= TTL_LIMIT_S:
        raise InvalidInputError(f"ttl_seconds is from 1 to {TTL_LIMIT_S}", "leave it out for one day")
