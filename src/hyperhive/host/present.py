"""What the operator's API shows of our own objects."""

from typing import Any

from hyperhive.core.approvals import Approval
from hyperhive.core.events import Event, EventName
from hyperhive.core.messages import Message, sender_kind
from hyperhive.core.parking import EVERYONE, Park
from hyperhive.core.questions import Question
from hyperhive.core.reminders import Reminder
from hyperhive.host.store.rows import TranscriptEntry, to_message
from hyperhive.host.store.store import View
from hyperhive.wire import operator as wire


def show_message(message: Message) -> wire.Message:
    return wire.Message(
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
        acked_at=message.acked_at,
        note=message.note,
    )


def show_approval(approval: Approval) -> wire.Approval:
    return wire.Approval.model_validate(approval, from_attributes=True)


def show_question(question: Question) -> wire.Question:
    return wire.Question.model_validate(question, from_attributes=True)


def show_reminder(reminder: Reminder) -> wire.Reminder:
    return wire.Reminder(
        id=reminder.id,
        agent=reminder.agent,
        note=reminder.note,
        due_at=reminder.due_at,
        created_at=reminder.created_at,
    )


def show_found_park(park: Park | None) -> wire.Park | None:
    return None if park is None else show_park(park)


def show_park(park: Park) -> wire.Park:
    return wire.Park(
        kind=park.kind, since=park.since, until=park.until, reason=park.reason, hive=park.agent == EVERYONE
    )


def show_transcript_entry(entry: TranscriptEntry) -> dict[str, Any]:
    return {"seq": entry.seq, "at": entry.at, "kind": entry.kind, "body": entry.body}


def complete_event(view: View, event: Event) -> dict[str, Any]:
    """The body of a stored event as it was when it was published (see `Transaction.emit`)."""
    if event.name is not EventName.MESSAGE_SENT:
        return event.body
    row = view.find("get_message", id=event.body["id"])
    if row is None:
        return event.body
    return event.body | {"message": show_message(to_message(row)).model_dump(mode="json")}
