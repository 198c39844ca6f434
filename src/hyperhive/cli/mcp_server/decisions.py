"""The tools about what waits for the operator.

None of them decides an approval, or a question whose answer allows something: those give back what the operator does.
"""

import os
import shlex
from typing import Annotated, Any, Literal

from pydantic import Field

from hyperhive.cli.answering import is_decision, load_open_question, render_need_link
from hyperhive.cli.client import Client, Row, parse_row, parse_rows
from hyperhive.cli.mcp_server.texts import LINE_LIMIT_CHARS, TEXT_LIMIT_CHARS, WHOLE_LIMIT_CHARS, Space, cut_rows, pick
from hyperhive.cli.mcp_server.tool import AnyTool, NoParams, Params, Tool
from hyperhive.cli.needs import render_acts
from hyperhive.core.approvals import ApprovalStatus
from hyperhive.core.errors import ConflictError, InvalidInputError, RefusedError
from hyperhive.core.paths import DATA_VARIABLE
from hyperhive.core.questions import OPTIONS_LIMIT, QuestionStatus
from hyperhive.core.text import render_safe_line, render_safe_text

ROWS_LIMIT = 100
FILES_LIMIT = 100
_SIGNS = {"added": "+", "removed": "-"}

Id = Annotated[int, Field(ge=1, lt=2**63)]


def list_needs(hive: Client, params: NoParams) -> Row:
    del params
    space = Space()
    rows, more = cut_rows(hive.get_rows("/api/needs"), ROWS_LIMIT)
    return {"needs": [_show_need(row, space) for row in rows], **more}


def _show_need(row: Row, space: Space) -> Row:
    shown = pick(row, "key", "kind", "ref", "agent", "title", "since", "deadline", "by_default", "link")
    shown |= space.take_if_any(row, "detail", limit_chars=LINE_LIMIT_CHARS)
    return shown | {"operator_types": render_acts(row)}


# -- questions ---------------------------------------------------------------------------------------------


class ListQuestions(Params):
    ended: bool = Field(default=False, description="Also those already answered, cancelled or expired.")


def list_questions(hive: Client, params: ListQuestions) -> Row:
    space = Space()
    found = hive.get_rows("/api/questions", {} if params.ended else {"status": QuestionStatus.OPEN})
    rows, more = cut_rows(found, ROWS_LIMIT)
    return {"questions": [_show_question(row, space) for row in rows], **more}


def _show_question(row: Row, space: Space) -> Row:
    shown = pick(row, "id", "kind", "agent", "multi", "status", "asked_at", "expires_at", "resolved_at")
    shown["question"] = space.take(row.get("question", ""))
    shown["options"] = space.take_all(row.get("options"))
    shown |= space.take_if_any(row, "answer", limit_chars=TEXT_LIMIT_CHARS)
    decision = is_decision(row)
    return shown | {"link": render_need_link(row), "answered_by_the_operator_alone": decision}


class AnswerQuestion(Params):
    question: Id
    options: list[str] = Field(
        default_factory=list[str], max_length=OPTIONS_LIMIT, description="Offered options, as they are written."
    )
    text: str = Field(default="", max_length=16_000)


def answer_question(hive: Client, params: AnswerQuestion) -> Row:
    if not params.options and not params.text.strip():
        raise InvalidInputError("an answer needs an option or a text", "ask the operator what to answer")
    question = load_open_question(hive, params.question)
    _check_no_decision(question)
    request = {"options": _find_options(question, params.options), "text": params.text}
    row = parse_row(hive.post(f"/api/questions/{params.question}/answer", request))
    return {"answered": pick(row, "id", "agent", "status")}


def _find_options(question: Row, chosen: list[str]) -> list[str]:
    """The options as the asker wrote them, by how they were shown. Raises InvalidInputError for another one."""
    options: list[Any] = question.get("options") or []
    offered = {render_safe_text(str(option)): str(option) for option in options}
    unknown = [option for option in chosen if option not in offered]
    if unknown:
        raise InvalidInputError(f"{unknown[0][:80]!r} is no option of it", "take them as they are written, or use text")
    return [offered[option] for option in chosen]


class CancelQuestion(Params):
    question: Id


def cancel_question(hive: Client, params: CancelQuestion) -> Row:
    _check_no_decision(load_open_question(hive, params.question))
    row = parse_row(hive.post(f"/api/questions/{params.question}/cancel"))
    return {"cancelled": pick(row, "id", "agent", "status")}


def _check_no_decision(question: Row) -> None:
    """Raises RefusedError if the answer allows something."""
    if is_decision(question):
        command = _render_command("answer", str(question.get("id")))
        raise RefusedError(
            f"question {question.get('id')} decides what an agent may do: only the operator answers it",
            f"the operator types `{command} --option …` in a terminal of their own, or "
            f"opens {render_need_link(question)} in the dashboard",
        )


# -- approvals ---------------------------------------------------------------------------------------------


class ListApprovals(Params):
    status: ApprovalStatus | None = Field(default=ApprovalStatus.PENDING, description="null: all of them.")


def list_approvals(hive: Client, params: ListApprovals) -> Row:
    space = Space()
    found = hive.get_rows("/api/approvals", {"status": params.status} if params.status else {})
    rows, more = cut_rows(found, ROWS_LIMIT)
    return {"approvals": [_show_approval(row, space) for row in rows], **more}


def _show_approval(row: Row, space: Space) -> Row:
    names = ("id", "kind", "agent", "status", "requested_by", "requested_at", "resolved_at", "commit", "reverts_to")
    shown = pick(row, *names) | space.take_if_any(row, "description", "reason", limit_chars=TEXT_LIMIT_CHARS)
    return shown | {"link": f"/#need-approval-{row.get('id')}"}


class ReviewApproval(Params):
    approval: Id
    path: str | None = Field(default=None, max_length=1000, description="The diff of this file alone.")


def review_approval(hive: Client, params: ReviewApproval) -> Row:
    review = hive.get_row(f"/api/approvals/{params.approval}/review")
    space = Space()
    answer: Row = {"approval": _show_approval(parse_row(review.get("approval")), space)}
    answer["warnings"] = space.take_all(review.get("warnings"))
    comparison = parse_row(review["comparison"]) if review.get("comparison") else {}
    answer |= pick(comparison, "effect", "base", "commit")
    meaning, more = cut_rows(parse_rows(comparison.get("meaning") or []), FILES_LIMIT)
    answer["meaning"] = [_show_meaning(row, space) for row in meaning]
    if more:
        answer["meaning_left_out"] = more["left_out"]
    answer["files"] = _show_files(parse_rows(comparison.get("files") or []), params.path, space)
    answer["notes"] = _show_files(parse_rows(review.get("notes") or []), params.path, space)
    if review.get("system"):
        # Working it out may take longer than a client waits for a tool.
        command = _render_command("show", str(params.approval))
        answer["packages"] = f"not here: `{command}` tells the operator which packages of the agent's system change"
    return answer


def _show_meaning(row: Row, space: Space) -> Row:
    return pick(row, "area", "change", "effect") | space.take_if_any(row, "subject", "before", "after")


def _show_files(rows: list[Row], path: str | None, space: Space) -> list[Row]:
    wanted = [row for row in rows if path in (None, row.get("path"))]
    shown, _ = cut_rows(wanted, FILES_LIMIT)
    return [_show_file(row, space, whole=path is not None) for row in shown]


def _show_file(row: Row, space: Space, *, whole: bool) -> Row:
    names = ("change", "binary", "executable", "added", "removed", "old_size_bytes", "new_size_bytes", "truncated")
    shown = {"path": space.take(row.get("path", ""), LINE_LIMIT_CHARS)} | pick(row, *names)
    return shown | {"diff": space.take(_render_diff(row), WHOLE_LIMIT_CHARS if whole else TEXT_LIMIT_CHARS)}


def _render_diff(row: Row) -> str:
    lines: list[str] = []
    for hunk in parse_rows(row.get("hunks") or []):
        lines.append(str(hunk.get("header", "")))
        lines += [f"{_SIGNS.get(str(line.get('kind')), ' ')}{line.get('text')}" for line in parse_rows(hunk["lines"])]
    return "\n".join(lines)


class ProposeDecision(Params):
    approval: Id
    decision: Literal["approve", "deny"]
    reason: str = Field(default="", max_length=2000, description="Of a denial: the one who asked reads it.")


def propose_decision(hive: Client, params: ProposeDecision) -> Row:
    """Decides nothing and records nothing: gives back what the operator types or opens."""
    row = hive.get_row(f"/api/approvals/{params.approval}")
    if row.get("status") != ApprovalStatus.PENDING:
        raise ConflictError(
            f"approval {params.approval} is already {row.get('status')}", "list_approvals shows the rest"
        )
    number = str(params.approval)
    reason = render_safe_line(params.reason.strip())
    more = (f"--reason={reason}",) if reason and params.decision == "deny" else ()
    return {
        "decided": False,
        "next": "Nothing was decided, and no tool decides. Show the operator what the approval changes and these; "
        "they decide in a terminal of their own, or in the dashboard. Do not run the command yourself.",
        "approval": _show_approval(row, Space()),
        "operator_looks": _render_command("show", number),
        "operator_types": _render_command(params.decision, number, *more),
        "operator_opens": f"/#need-approval-{number}",
    }


def _render_command(*words: str) -> str:
    """A `hive` command for a shell, for the hive that this one speaks to."""
    data = os.environ.get(DATA_VARIABLE)
    prefix = f"{DATA_VARIABLE}={shlex.quote(data)} " if data else ""
    return f"{prefix}hive {shlex.join(words)}"


TOOLS: tuple[AnyTool, ...] = (
    Tool(
        "list_needs",
        "Lists all that waits for the operator, the most urgent first, what happens if nobody acts, and what the "
        "operator types to deal with it.",
        NoParams,
        list_needs,
    ),
    Tool("list_questions", "Lists what agents ask the operator.", ListQuestions, list_questions),
    Tool(
        "answer_question",
        "Answers an agent's question in the operator's name, with what the operator wants answered. A request for "
        "permission, and one about notes, is refused: only the operator answers those.",
        AnswerQuestion,
        answer_question,
        changes=True,
        final=True,
    ),
    Tool(
        "cancel_question",
        "Ends a question without an answer; the asker is told. Refused for the same ones as answer_question.",
        CancelQuestion,
        cancel_question,
        changes=True,
        final=True,
    ),
    Tool("list_approvals", "Lists what waits for the operator's approval.", ListApprovals, list_approvals),
    Tool(
        "review_approval",
        "Shows what an approval changes: what that means, warnings, and the diff. What is cut says so: then it is to "
        "be read file by file (path), or by the operator.",
        ReviewApproval,
        review_approval,
    ),
    Tool(
        "propose_decision",
        "Gives the command and the link with which the operator decides an approval. It decides nothing and records "
        "nothing: no tool approves or denies.",
        ProposeDecision,
        propose_decision,
    ),
)
