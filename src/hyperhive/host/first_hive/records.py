"""Rows of the first hive's database, as rows of ours: what each becomes, or why it is left. Pure.

`plan_message`, `plan_approval` and `plan_question` raise `LeftError` for a row that is left.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from hyperhive.core.approvals import ApprovalKind, ApprovalStatus
from hyperhive.core.errors import HiveError, InvalidInputError
from hyperhive.core.messages import MessageState, parse_body
from hyperhive.core.names import MANAGER, OPERATOR, SYSTEM, parse_agent_name
from hyperhive.core.questions import TTL_DEFAULT_S, TTL_LIMIT_S, QuestionStatus, check_question
from hyperhive.core.text import cut_text, render_safe_line
from hyperhive.host.first_hive.people import People
from hyperhive.host.first_hive.repositories import History
from hyperhive.host.first_hive.values import parse_flag, parse_instant, parse_options, parse_text

T = TypeVar("T")
Row = Mapping[str, object]
Values = dict[str, Any]

_KINDS = {
    **dict.fromkeys(("apply", "apply_commit", "request_apply_commit"), ApprovalKind.APPLY),
    **dict.fromkeys(("spawn", "request_spawn"), ApprovalKind.SPAWN),
}
_STATUSES = {
    "pending": ApprovalStatus.PENDING,
    "approved": ApprovalStatus.APPROVED,
    "building": ApprovalStatus.BUILDING,
    "deployed": ApprovalStatus.DEPLOYED,
    "denied": ApprovalStatus.DENIED,
    "rejected": ApprovalStatus.DENIED,
    "failed": ApprovalStatus.FAILED,
}
_UNFINISHED = "the first hive had approved it, and it is not known that it was deployed"
_BETWEEN = "asked of another agent in the first hive: ask again"


class LeftError(Exception):
    """A row is left; the text says why."""


@dataclass(frozen=True, slots=True)
class Past:
    """A row of ours. `kind` is what the report calls it."""

    kind: str
    key: str
    values: Values


def key_of(row: Row, fields: Collection[str]) -> str:
    """By what a row is known again: a digest of what never changes in it."""
    parts = [[field, _plain(row.get(field))] for field in sorted(fields)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _plain(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


# -- messages ----------------------------------------------------------------------------------------------


def plan_message(row: Row, people: People) -> Past:
    """What was delivered is history; what was not waits here."""
    sender, recipient = _name(row, "sender"), _name(row, "recipient")
    values: Values = {
        "sender": _require(people.find(sender), f"from {_show(sender)}, who is not taken over"),
        "recipient": _require(people.find(recipient), f"to {_show(recipient)}, who is not taken over"),
        "sent_at": _require_instant(row, "sent_at"),
        "body": _parse_body(row),
    }
    if values["recipient"] == SYSTEM:
        raise LeftError("to system, which reads no messages here")
    delivered_at = _instant(row, "delivered_at")
    if delivered_at is None:
        values |= {"state": MessageState.QUEUED, "deliveries": 0, "settled_at": None}
    else:
        values |= {"state": MessageState.ACKED, "deliveries": 1, "settled_at": delivered_at}
    key = key_of(row, ("id", "sender", "recipient", "sent_at", "body"))
    return Past("queued" if delivered_at is None else "delivered", key, values)


def _parse_body(row: Row) -> str:
    body = _require(parse_text(row["body"]), "its body is no UTF-8 text")
    try:
        return parse_body(body)
    except HiveError as error:
        # Of whatever size: as one reason, not as one for each.
        raise LeftError(
            "its body is empty" if not body.strip() else "its body is longer than one may be here"
        ) from error


# -- approvals ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of an agent that an approval is about. `descends`: which pending commits follow what is deployed.

    `history` is None for an agent that was taken over before.
    """

    history: History | None
    descends: Collection[str]


def plan_approval(row: Row, people: People, found: Mapping[str, Found], is_free: Callable[[str], bool]) -> Past:
    """What waits still waits if its commit was found; what was decided is history, with the outcome its tags tell."""
    origin = _name(row, "agent")
    kind, status = _parse_kind(row), _parse_status(row)
    agent = people.find_agent(origin)
    is_new = agent is None and kind is ApprovalKind.SPAWN and status is ApprovalStatus.PENDING and _may_be(origin)
    if agent is None and not is_new:
        raise LeftError(f"about {_show(origin)}, who is not taken over")
    name = agent or str(origin)
    number = _number(row["id"])
    about = found.get(name, Found(None, ()))
    commit = _find_commit(row, number, about.history)
    reason = parse_text(row.get("note")) or None
    if status in {ApprovalStatus.APPROVED, ApprovalStatus.BUILDING}:
        status = _find_outcome(kind, number, about.history)
        reason = reason or (_UNFINISHED if status is ApprovalStatus.FAILED else None)
    elif status is ApprovalStatus.PENDING:
        problem = _find_problem(kind, name, commit, about, is_new=is_new, is_free=is_free)
        if problem:
            status, reason = ApprovalStatus.FAILED, f"{problem}{f' (its note was: {reason})' if reason else ''}"
    requested_at = _require_instant(row, "requested_at")
    is_pending = status is ApprovalStatus.PENDING
    past = about.history.past if about.history else frozenset[str]()
    values: Values = {
        "kind": kind,
        "agent": name,
        "status": status,
        "requested_by": people.find(parse_text(row.get("requested_by"))) or MANAGER,
        "description": parse_text(row.get("description")) or "",
        "requested_at": requested_at,
        "resolved_at": None if is_pending else _instant(row, "resolved_at") or requested_at,
        "reason": None if is_pending else reason,
        "commit": commit,
        "base": about.history.deployed if is_pending and about.history and kind is ApprovalKind.APPLY else None,
        # main is never moved to a commit that it had left.
        "is_tagged": int(status is ApprovalStatus.DEPLOYED and commit is not None and commit not in past),
    }
    return Past("pending" if is_pending else str(status), key_of(row, ("id", "agent", "requested_at")), values)


def _parse_kind(row: Row) -> ApprovalKind:
    text = parse_text(row.get("kind"))
    if text is None:
        return ApprovalKind.APPLY if row.get("commit") else ApprovalKind.SPAWN
    kind = _KINDS.get(text.strip().lower())
    return _require(kind, f"its kind is {_show(text)}, which there is not here")


def _parse_status(row: Row) -> ApprovalStatus:
    text = parse_text(row["status"])
    return _require(_STATUSES.get((text or "").strip().lower()), f"its status {_show(text)} is not known")


def _number(value: object) -> int | None:
    try:
        return int(parse_text(value) or "")
    except ValueError:
        return None


def find_wanted(row: Row) -> str | None:
    """The commit that an approval names, if it names one."""
    text = parse_text(row.get("commit"))
    return text.strip().lower() if text else None


def _find_commit(row: Row, number: int | None, history: History | None) -> str | None:
    """The commit of an approval, whole: what it names, or what the tags of its number are on."""
    if history is None:
        return None
    wanted = find_wanted(row)
    if wanted and len(wanted) >= 7:
        matching = [commit for commit in history.commits if commit.startswith(wanted)]
        if len(matching) == 1:
            return matching[0]
    for status in ("proposal", "deployed", "approved", "building", "failed", "denied"):
        if (commit := history.tags.get(f"{status}/{number}")) is not None:
            return commit
    return None


def _find_outcome(kind: ApprovalKind, number: int | None, history: History | None) -> ApprovalStatus:
    if history is not None and (kind is ApprovalKind.SPAWN or f"deployed/{number}" in history.tags):
        return ApprovalStatus.DEPLOYED
    return ApprovalStatus.FAILED


def _find_problem(
    kind: ApprovalKind,
    name: str,
    commit: str | None,
    about: Found,
    *,
    is_new: bool,
    is_free: Callable[[str], bool],
) -> str:
    """Why what waited in the first hive cannot wait here; empty if it can."""
    if kind is ApprovalKind.SPAWN:
        return "" if is_new and is_free(name) else f"{name} is there already"
    if commit is None:
        return "taken over from the first hive without its commit, which was not found: propose it again"
    if commit not in about.descends:
        return f"{commit[:12]} does not follow from what is deployed: propose it again"
    return ""


def _may_be(name: str | None) -> bool:
    try:
        parse_agent_name(name or "")
    except InvalidInputError:
        return False
    return True


# -- questions ---------------------------------------------------------------------------------------------


def plan_question(row: Row, people: People, now_ms: int) -> Past:
    """An open one is asked again, as long as it has; or for a day, if that is not said. All others are history."""
    asker = _name(row, "asker")
    agent = _require(people.find_agent(asker), f"of {_show(asker)}, who is not taken over")
    target = parse_text(row.get("target")) or OPERATOR
    asked = _require(people.find(target), f"asked of {_show(target)}, who is not taken over")
    text = _require(parse_text(row["question"]), "its text is no UTF-8")
    options = _require(parse_options(row.get("options")), "its options are no list of texts")
    asked_at, ended_at = _require_instant(row, "asked_at"), _instant(row, "answered_at")
    deadline, answer = _instant(row, "deadline"), parse_text(row.get("answer"))
    values: Values = {
        "agent": agent,
        "asked": asked,
        "question": text,
        "options": json.dumps(options),
        "multi": int(_require(parse_flag(row.get("multi")), "its multi is neither yes nor no")),
        "asked_at": asked_at,
        "answer": None,
        "resolved_at": ended_at,
    }
    if ended_at is not None:
        status = QuestionStatus.CANCELLED if answer is None else QuestionStatus.ANSWERED
        values |= {"status": status, "answer": answer, "expires_at": max(deadline or ended_at, asked_at)}
    elif deadline is not None and deadline <= now_ms:
        values |= {"status": QuestionStatus.EXPIRED, "resolved_at": deadline, "expires_at": deadline}
    elif asked != OPERATOR:
        values |= {"status": QuestionStatus.CANCELLED, "answer": _BETWEEN, "resolved_at": now_ms, "expires_at": now_ms}
    else:
        _check_open(text, options)
        latest = now_ms + TTL_LIMIT_S * 1000
        values |= {"status": QuestionStatus.OPEN, "expires_at": min(deadline or now_ms + TTL_DEFAULT_S * 1000, latest)}
    return Past(str(values["status"]), key_of(row, ("id", "asker", "question", "asked_at")), values)


def _check_open(text: str, options: tuple[str, ...]) -> None:
    try:
        check_question(text, options, TTL_DEFAULT_S)
    except InvalidInputError as error:
        raise LeftError(f"open, and none that could be asked here: {error.message}") from error


# -- values ------------------------------------------------------------------------------------------------


def _require(value: T | None, reason: str) -> T:
    if value is None:
        raise LeftError(reason)
    return value


def _name(row: Row, field: str) -> str | None:
    return parse_text(row[field])


def _instant(row: Row, field: str) -> int | None:
    value = row.get(field)
    if value is None or value == b"":
        return None
    return _require(parse_instant(value), f"its {field} is no instant that is understood")


def _require_instant(row: Row, field: str) -> int:
    return _require(_instant(row, field), f"it has no {field}")


def _show(text: str | None) -> str:
    return "somebody" if text is None else repr(cut_text(render_safe_line(text), 40))
