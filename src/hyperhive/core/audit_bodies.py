"""Which events are part of the audit, and what of their bodies: who decided what, never what was written in words."""

import hashlib
from collections.abc import Mapping
from typing import Any, cast

from hyperhive.core.events import EventName
from hyperhive.core.names import OPERATOR
from hyperhive.core.questions import PERMISSION_OPTIONS, QuestionKind

# What agents, clocks and messages make happen, as often as they like, and nobody decides.
NOT_AUDITED = frozenset(
    {
        EventName.AGENT_HIBERNATED,
        EventName.AGENT_WOKEN,
        EventName.REMINDER_SET,
        EventName.REMINDER_SENT,
        EventName.REMINDER_CANCELLED,
        EventName.SCHEDULE_SENT,
        # What was asked is told by the answer; of permissions it is counted (see host/audit.py).
        EventName.QUESTION_ASKED,
        EventName.QUESTION_CANCELLED,
        EventName.QUESTION_EXPIRED,
    }
)
# Of an approval: what it is about, and whose words it came with.
_APPROVAL_FIELDS = ("id", "kind", "status", "requested_by", "requested_at", "reason", "commit", "base", "reverts_to")
# Writing messages, and having read them.
_TRAFFIC_PATHS = ("/api/messages", "/api/inbox/")


def plan_audit_body(name: EventName, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the audit has of an event; None if it is no part of it.

    What people and agents wrote to each other stands in there as a digest: it shows that the text was not changed
    since, and an exported audit gives none of it away. The reason of a denial is kept, as it is part of the decision.
    """
    if name in NOT_AUDITED or (name is EventName.TOKEN_ACTED and is_traffic(body["method"], body["path"])):
        return None
    if name is EventName.QUESTION_ANSWERED:
        return _plan_answered(body["question"])
    approval = body.get("approval")
    if isinstance(approval, Mapping):
        fields = cast("Mapping[str, Any]", approval)
        told = {field: fields.get(field) for field in _APPROVAL_FIELDS}
        return told | {"description_sha256": digest_text(str(fields.get("description") or ""))}
    return body


def is_traffic(method: str, path: str) -> bool:
    """Whether a request only writes a message, or says that some were read."""
    return method == "POST" and (path == _TRAFFIC_PATHS[0] or path.startswith(_TRAFFIC_PATHS[1]))


def digest_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def find_permission(body: Mapping[str, Any]) -> str | None:
    """What a permission is about, by the body of an event of a question; None for another question.

    It is the first line, which names the tool and the rule, and is the hive's (see host/permissions.py).
    """
    question = body["question"]
    return str(question["question"]).partition("\n")[0] if question["kind"] == QuestionKind.PERMISSION else None


def _plan_answered(question: Mapping[str, Any]) -> Mapping[str, Any] | None:
    # What agents ask each other is traffic.
    if question["asked"] != OPERATOR:
        return None
    text = str(question["question"])
    told: dict[str, Any] = {
        "id": question["id"],
        "kind": question["kind"],
        "status": question["status"],
        "asked_at": question["asked_at"],
        "question_sha256": digest_text(text),
    }
    answer = str(question["answer"] or "")
    about = find_permission({"question": question})
    if about is not None:
        told |= {"about": about, "decision": PERMISSION_OPTIONS.get(answer.partition("\n")[0], "deny")}
    return told | {"answer_sha256": digest_text(answer), "answer_chars": len(answer)}
