"""Rows to frozen objects: the only place that knows the columns."""

import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from hyperhive.core.approvals import Approval, ApprovalKind, ApprovalStatus
from hyperhive.core.events import Event, EventName
from hyperhive.core.messages import Message, MessageState, Priority
from hyperhive.core.parking import Park, ParkKind
from hyperhive.core.questions import Question, QuestionKind, QuestionStatus
from hyperhive.core.reminders import Reminder, ReminderState
from hyperhive.core.terminals import Ending, Terminal
from hyperhive.system.clock import from_millis

# As they are ranked in the table.
PRIORITIES: tuple[Priority, ...] = (Priority.LOW, Priority.NORMAL, Priority.HIGH)


class Desired(StrEnum):
    RUNNING = "running"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """What is remembered of an agent: what the operator wants of it, not what it is doing."""

    name: str
    uid: int | None
    generation: int
    desired: Desired
    failure: str
    spawned_at: datetime
    destroyed_at: datetime | None
    # what is deployed; what the present generation was started with, and whether that was to try it
    deployed_commit: str | None = None
    started_commit: str | None = None
    trying: bool = False
    config_error: str = ""
    # its container is stopped until a message comes
    hibernated: bool = False
    # it is to be built anew once its turn is over
    updating: bool = False
    # the approval that `config_error` is about
    failed_approval: int | None = None
    # why it was stopped for what its folders hold
    over_quota: str = ""


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """An entry of an agent's schedule: dealt with up to `done_to`; `last_at` is the newest time that was sent."""

    agent: str
    cron: str
    message: str
    done_to: datetime
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class TranscriptEntry:
    agent: str
    seq: int
    at: str
    kind: str
    body: dict[str, Any]


def _instant(millis: int | None) -> datetime | None:
    return None if millis is None else from_millis(millis)


def to_agent(row: sqlite3.Row) -> AgentRecord:
    return AgentRecord(
        name=row["name"],
        uid=row["uid"],
        generation=row["generation"],
        desired=Desired(row["desired"]),
        failure=row["failure"],
        spawned_at=from_millis(row["spawned_at"]),
        destroyed_at=_instant(row["destroyed_at"]),
        deployed_commit=row["deployed_commit"],
        started_commit=row["started_commit"],
        trying=bool(row["trying"]),
        config_error=row["config_error"],
        hibernated=bool(row["hibernated"]),
        updating=bool(row["updating"]),
        failed_approval=row["failed_approval"],
        over_quota=row["over_quota"],
    )


def to_message(row: sqlite3.Row) -> Message:
    return Message(
        id=row["id"],
        sender=row["sender"],
        recipient=row["recipient"],
        body=row["body"],
        sent_at=from_millis(row["sent_at"]),
        state=MessageState(row["state"]),
        deliveries=row["deliveries"],
        thread=row["thread"],
        in_reply_to=row["in_reply_to"],
        priority=PRIORITIES[int(row["priority"])],
        expires_at=_instant(row["expires_at"]),
        broadcast=row["broadcast"],
        settled_at=_instant(row["settled_at"]),
        note=row["note"],
        question=row["question"],
        answer_to=row["answer_to"],
    )


def to_approval(row: sqlite3.Row) -> Approval:
    return Approval(
        id=row["id"],
        kind=ApprovalKind(row["kind"]),
        agent=row["agent"],
        status=ApprovalStatus(row["status"]),
        requested_by=row["requested_by"],
        description=row["description"],
        requested_at=from_millis(row["requested_at"]),
        resolved_at=_instant(row["resolved_at"]),
        reason=row["reason"],
        commit=row["commit_sha"],
        base=row["base_sha"],
        notes=row["notes_sha"],
        reverts_to=row["reverts_to"],
    )


def to_question(row: sqlite3.Row) -> Question:
    return Question(
        id=row["id"],
        kind=QuestionKind(row["kind"]),
        agent=row["agent"],
        question=row["question"],
        options=tuple(json.loads(row["options"])),
        multi=bool(row["multi"]),
        status=QuestionStatus(row["status"]),
        asked_at=from_millis(row["asked_at"]),
        expires_at=from_millis(row["expires_at"]),
        answer=row["answer"],
        resolved_at=_instant(row["resolved_at"]),
        asked=row["asked"],
    )


def to_park(row: sqlite3.Row) -> Park:
    return Park(
        agent=row["agent"],
        kind=ParkKind(row["kind"]),
        since=from_millis(row["since"]),
        until=_instant(row["until"]),
        reason=row["reason"],
    )


def to_terminal(row: sqlite3.Row) -> Terminal:
    return Terminal(
        id=row["id"],
        agent=row["agent"],
        opened_by=row["opened_by"],
        opened_at=from_millis(row["opened_at"]),
        columns=row["columns"],
        rows=row["rows"],
        ended_at=_instant(row["ended_at"]),
        status=row["status"],
        ending=None if row["ending"] is None else Ending(row["ending"]),
        bytes_in=row["bytes_in"],
        bytes_out=row["bytes_out"],
    )


def to_reminder(row: sqlite3.Row) -> Reminder:
    return Reminder(
        id=row["id"],
        agent=row["agent"],
        note=row["note"],
        due_at=from_millis(row["due_at"]),
        created_at=from_millis(row["created_at"]),
        state=ReminderState(row["state"]),
    )


def to_schedule(row: sqlite3.Row) -> ScheduleRecord:
    return ScheduleRecord(
        agent=row["agent"],
        cron=row["cron"],
        message=row["message"],
        done_to=from_millis(row["done_to"]),
        last_at=_instant(row["last_at"]),
    )


def to_event(row: sqlite3.Row) -> Event:
    return Event(
        id=row["id"],
        at=from_millis(row["at"]),
        name=EventName(row["name"]),
        agent=row["agent"],
        body=json.loads(row["body"]),
    )


def to_transcript_entry(row: sqlite3.Row) -> TranscriptEntry:
    return TranscriptEntry(
        agent=row["agent"], seq=row["seq"], at=row["at"], kind=row["kind"], body=json.loads(row["body"])
    )
