"""Which questions may be answered on the operator's behalf: those that allow nothing."""

from hyperhive.cli.client import Client, Row
from hyperhive.cli.own_hand import check_own_hand, is_run_by_claude
from hyperhive.cli.rendering import line_field
from hyperhive.core.errors import NotFoundError
from hyperhive.core.questions import QuestionKind, QuestionStatus


def is_decision(question: Row) -> bool:
    """Whether an answer allows something, as an approval does: a tool call that waits, a rewrite of notes.

    A kind that is not known counts as one.
    """
    return question.get("kind") != QuestionKind.QUESTION


def load_open_question(hive: Client, question_id: int) -> Row:
    """Raises NotFoundError if there is no open one of that number."""
    rows = hive.get_rows("/api/questions", {"status": QuestionStatus.OPEN, "everyone": "true"})
    found = next((row for row in rows if row.get("id") == question_id), None)
    if found is None:
        raise NotFoundError(f"no question {question_id} is open", "the list of questions shows those that are")
    return found


def check_may_answer(hive: Client, question_id: int) -> None:
    """Raises RefusedError when a claude of the operator's runs this and the answer would allow something."""
    if is_run_by_claude() and is_decision(load_open_question(hive, question_id)):
        check_own_hand(f"hive answer {question_id} --option …")


def render_need_link(question: Row) -> str:
    """Its place in the pages (see `core.needs`)."""
    return f"/#need-{line_field(question, 'kind')}-{line_field(question, 'id')}"
