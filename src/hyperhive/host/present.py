"""What the operator's API shows of our own objects."""

from typing import Any

from hyperhive.core.approvals import Approval
from hyperhive.core.events import Event
from hyperhive.core.messages import Message, sender_kind
from hyperhive.core.parking import EVERYONE, Park
from hyperhive.core.questions import Question
from hyperhive.core.reminders import Reminder
from hyperhive.host.store.rows import TranscriptEntry
from hyperhive.wire.operator import agents, configs, messages, records


def show_message(message: Message) -> messages.Message:
    return messages.Message(
        id=message.id,
        sender=message.sender,
        kind=sender_kind(message.sender),
        recipient=message.recipient,
        body=message.body,
        sent_at=message.sent_at,
        state=message.state,
        deliveries=message.deliveries,
        thread=message.thread,
        in_reply_to=message.in_reply_to,
        priority=message.priority,
        expires_at=message.expires_at,
        broadcast=message.broadcast,
        settled_at=message.settled_at,
        note=message.note,
    )


def show_approval(approval: Approval) -> configs.Approval:
    return configs.Approval.model_validate(approval, from_attributes=True)


def show_question(question: Question) -> messages.Question:
    return messages.Question.model_validate(question, from_attributes=True)


def show_reminder(reminder: Reminder) -> records.Reminder:
    return records.Reminder(
        id=reminder.id,
        agent=reminder.agent,
        note=reminder.note,
        due_at=reminder.due_at,
        created_at=reminder.created_at,
    )


def show_found_park(park: Park | None) -> agents.Park | None:
    return None if park is None else show_park(park)


def show_park(park: Park) -> agents.Park:
    return agents.Park(
        kind=park.kind, since=park.since, until=park.until, reason=park.reason, hive=park.agent == EVERYONE
    )


def show_transcript_entry(entry: TranscriptEntry) -> dict[str, Any]:
    return {"seq": entry.seq, "at": entry.at, "kind": entry.kind, "body": entry.body}


def show_event(event: Event) -> dict[str, Any]:
    """An event as the operator's API shows it."""
    body = event.body
    if event.message is not None:
        body = body | {"message": show_message(event.message).model_dump(mode="json")}
    return {
        "id": event.id,
        "at": event.at.isoformat(),
        "name": event.name.value,
        "agent": event.agent,
        "body": body,
    }
