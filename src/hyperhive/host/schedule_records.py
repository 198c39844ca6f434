"""What is remembered of reminders and schedules: each function is a part of a transaction, with its events.

A message is queued in the transaction that notes it as sent: whatever the daemon dies of, it is sent once.
"""

import hashlib
import json
from collections.abc import Collection, Sequence
from datetime import datetime

from hyperhive.core.errors import ConflictError, NotFoundError, TooLargeError
from hyperhive.core.events import EventName
from hyperhive.core.messages import Message, MessageState
from hyperhive.core.names import OPERATOR, SYSTEM
from hyperhive.core.reminders import WAITING_LIMIT, Reminder, ReminderState
from hyperhive.core.schedules import Due
from hyperhive.host.agent_records import get_agent
from hyperhive.host.message_records import queue_message
from hyperhive.host.store.rows import ScheduleRecord, to_message, to_reminder, to_schedule
from hyperhive.host.store.store import Transaction, View
from hyperhive.system.clock import to_millis

# How many that have ended are kept of an agent, so that a repeated call finds what it did.
ENDED_KEPT = 100


# -- reminders ---------------------------------------------------------------------------------------------


def find_by_key(view: View, agent: str, key: str) -> Reminder | None:
    """The reminder that the agent set with this idempotency key."""
    row = view.find("find_reminder_by_key", agent=agent, key=key)
    return None if row is None else to_reminder(row)


def set_reminder(tx: Transaction, agent: str, note: str, due_at: datetime, key: str) -> Reminder:
    """Remembers a reminder, already checked, or gives the one that was set with this key.

    Raises TooLargeError over WAITING_LIMIT of the agent, NotFoundError if there is no such agent (any more).
    """
    known = find_by_key(tx, agent, key)
    if known is not None:
        return known
    get_agent(tx, agent)
    if tx.get("count_waiting_reminders", agent=agent)["waiting"] >= WAITING_LIMIT:
        raise TooLargeError(
            f"{WAITING_LIMIT} reminders are waiting already", "cancel some, or keep the list in a file and set one"
        )
    tx.list("prune_reminders", agent=agent, kept=ENDED_KEPT)
    row = tx.get("insert_reminder", agent=agent, note=note, due_at=to_millis(due_at), at=tx.at_ms, key=key)
    reminder = to_reminder(row)
    _emit_reminder(tx, EventName.REMINDER_SET, reminder)
    return reminder


def cancel_reminder(tx: Transaction, reminder_id: int, by: str) -> None:
    """Drops a reminder that waits; again is no error. `by` is the operator or the agent whose it is.

    Raises NotFoundError if there is none of that id that `by` may see, ConflictError if it was sent.
    """
    row = tx.find("get_reminder", id=reminder_id)
    if row is None or by not in {OPERATOR, row["agent"]}:
        hint = "`hive reminders` lists them" if by == OPERATOR else "list_reminders lists yours"
        raise NotFoundError(f"there is no reminder {reminder_id}", hint)
    reminder = to_reminder(row)
    if reminder.state is ReminderState.SENT:
        raise ConflictError(f"reminder {reminder_id} was sent already", "nothing was changed")
    if tx.list("end_reminder", id=reminder_id, state=ReminderState.CANCELLED):
        _emit_reminder(tx, EventName.REMINDER_CANCELLED, reminder, by=by)


def send_reminders(tx: Transaction, at: datetime, limit: int) -> int:
    """Sends what is due at `at`, the oldest first, at most `limit`. Returns how many were."""
    rows = tx.list("list_due_reminders", at=to_millis(at), limit=limit)
    for reminder in map(to_reminder, rows):
        tx.list("end_reminder", id=reminder.id, state=ReminderState.SENT)
        body = {
            "event": "reminder",
            "note": reminder.note,
            "due_at": reminder.due_at.isoformat(),
            "late_s": round((at - reminder.due_at).total_seconds()),
            "id": reminder.id,
        }
        message = queue_message(
            tx, SYSTEM, reminder.agent, _render_body(body), idempotency_key=f"reminder/{reminder.id}"
        )
        _emit_reminder(tx, EventName.REMINDER_SENT, reminder, message=message.id)
    return len(rows)


def _emit_reminder(tx: Transaction, name: EventName, reminder: Reminder, **more: str | int) -> None:
    # The note stands in its own table: events are kept for good.
    body = {"id": reminder.id, "due_at": reminder.due_at.isoformat()}
    tx.emit(name, reminder.agent, body | more)


# -- schedules ---------------------------------------------------------------------------------------------


def save_schedule(tx: Transaction, agent: str, commit: str, entries: Collection[tuple[str, str]], at: datetime) -> None:
    """Takes over the entries (cron and message) of a deployed config, unless another one is deployed by now.

    What was there stays as it is; what is new counts from its deployment, never for the past.
    """
    row = tx.find("get_agent", name=agent)
    if row is None or row["deployed_commit"] != commit:
        return
    for known in map(to_schedule, tx.list("list_schedule_entries", agent=agent)):
        if (known.cron, known.message) not in entries:
            tx.list("delete_schedule", agent=agent, cron=known.cron, message=known.message)
    done_to = min(to_millis(at), row["deployed_at"] or tx.at_ms)
    for cron, message in entries:
        tx.list("insert_schedule", agent=agent, cron=cron, message=message, done_to=done_to)
    tx.list("note_schedule_read", name=agent, commit=commit)


def send_scheduled(tx: Transaction, due: Sequence[tuple[ScheduleRecord, Due]]) -> None:
    """Deals with what is due, each time of an entry once: another one deployed or an agent destroyed, none."""
    for record, found in due:
        keys = {"agent": record.agent, "cron": record.cron, "message": record.message}
        if tx.find("find_schedule", **keys) is None:
            continue
        at_ms = to_millis(found.at)
        last_at = None if found.too_late else at_ms
        if tx.list("advance_schedule", **keys, done_to=at_ms, last_at=last_at) and not found.too_late:
            _send_entry(tx, record, found)


def forget_schedule(tx: Transaction, agent: str) -> None:
    """Of an agent that is gone for good nothing is sent any more."""
    tx.list("forget_reminders", agent=agent)
    tx.list("forget_schedules", agent=agent)


def _send_entry(tx: Transaction, record: ScheduleRecord, due: Due) -> None:
    """Queues the message. One of the same entry that still waits tells of this time instead: they never pile up."""
    digest = hashlib.sha256(f"{record.cron}\n{record.message}".encode()).hexdigest()[:24]
    prefix = f"schedule/{record.agent}/{digest}"
    waiting = _find_waiting(tx, prefix)
    missed = due.missed
    if waiting is not None:
        missed += 1 + int(json.loads(waiting.body)["missed"])
    due_at = due.at.isoformat()
    body = _render_body(
        {"event": "schedule", "cron": record.cron, "message": record.message, "due_at": due_at, "missed": missed}
    )
    if waiting is None:
        waiting = queue_message(tx, SYSTEM, record.agent, body, idempotency_key=f"{prefix}/{to_millis(due.at):015d}")
    else:
        tx.list("replace_body", id=waiting.id, body=body)
    fields = {"cron": record.cron, "due_at": due_at, "missed": missed, "message": waiting.id}
    tx.emit(EventName.SCHEDULE_SENT, record.agent, fields)


def _find_waiting(view: View, prefix: str) -> Message | None:
    row = view.find("find_last_scheduled", first=f"{prefix}/", behind=f"{prefix}0")
    message = None if row is None else to_message(row)
    return message if message is not None and message.state is MessageState.QUEUED else None


def _render_body(fields: dict[str, str | int]) -> str:
    return json.dumps(fields, ensure_ascii=False)
