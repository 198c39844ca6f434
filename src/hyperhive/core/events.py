"""Facts: what happened, named in the past tense. Written with the change they tell of, published after its commit."""

from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from hyperhive.core.messages import Message


class EventName(StrEnum):
    MESSAGE_SENT = "message.sent"
    MESSAGE_LEASED = "message.leased"
    MESSAGE_ACKED = "message.acked"
    MESSAGE_REQUEUED = "message.requeued"
    MESSAGE_DEAD = "message.dead"
    MESSAGE_EXPIRED = "message.expired"
    MESSAGE_DISMISSED = "message.dismissed"
    APPROVAL_REQUESTED = "approval.requested"
    APPROVAL_APPROVED = "approval.approved"
    APPROVAL_BUILDING = "approval.building"
    APPROVAL_DENIED = "approval.denied"
    APPROVAL_DEPLOYED = "approval.deployed"
    APPROVAL_FAILED = "approval.failed"
    QUESTION_ASKED = "question.asked"
    QUESTION_ANSWERED = "question.answered"
    QUESTION_CANCELLED = "question.cancelled"
    QUESTION_EXPIRED = "question.expired"
    DRAFT_CREATED = "draft.created"
    DRAFT_DISCARDED = "draft.discarded"
    AGENT_SPAWNED = "agent.spawned"
    AGENT_STARTED = "agent.started"
    AGENT_STOPPED = "agent.stopped"
    AGENT_CRASHED = "agent.crashed"
    AGENT_FAILED = "agent.failed"
    AGENT_DESTROYED = "agent.destroyed"
    AGENT_REVIVED = "agent.revived"
    AGENT_PURGED = "agent.purged"
    AGENT_CONFIGURED = "agent.configured"
    MESSAGE_REFUSED = "message.refused"
    PAIR_PARKED = "pair.parked"
    PAIR_RESUMED = "pair.resumed"
    AGENT_PARKED = "agent.parked"
    AGENT_RESUMED = "agent.resumed"
    AGENT_HIBERNATED = "agent.hibernated"
    AGENT_WOKEN = "agent.woken"
    AGENT_UPDATING = "agent.updating"
    AGENT_UPDATED = "agent.updated"
    AGENT_HELD = "agent.held"
    AGENT_RELEASED = "agent.released"
    AGENT_SNAPSHOTTED = "agent.snapshotted"
    AGENT_RESTORED = "agent.restored"
    AGENT_FORKED = "agent.forked"
    SNAPSHOT_REMOVED = "snapshot.removed"
    SNAPSHOT_EXPORTED = "snapshot.exported"
    AGENT_OVER_QUOTA = "agent.over_quota"
    AGENT_THROTTLED = "agent.throttled"
    QUOTA_WARNED = "quota.warned"
    QUOTA_ALLOWED = "quota.allowed"
    DISK_LOW = "disk.low"
    DISK_FREED = "disk.freed"
    AGENT_LOGGED_IN = "agent.logged_in"
    AGENT_MODEL_CHOSEN = "agent.model_chosen"
    BUDGET_WARNED = "budget.warned"
    BUDGET_GRANTED = "budget.granted"
    BUDGET_CHANGED = "budget.changed"
    REMINDER_SET = "reminder.set"
    REMINDER_SENT = "reminder.sent"
    REMINDER_CANCELLED = "reminder.cancelled"
    SCHEDULE_SENT = "schedule.sent"
    NOTES_CHANGED = "notes.changed"
    DEVICE_ADDED = "device.added"
    DEVICE_REMOVED = "device.removed"
    TERMINAL_OPENED = "terminal.opened"
    TERMINAL_ENDED = "terminal.ended"
    TOKEN_CREATED = "token.created"  # noqa: S105
    TOKEN_REVOKED = "token.revoked"  # noqa: S105
    TOKEN_ACTED = "token.acted"  # noqa: S105
    WEBHOOK_ADDED = "webhook.added"
    WEBHOOK_REMOVED = "webhook.removed"
    WEBHOOK_DROPPED = "webhook.dropped"
    EGRESS_REFUSED = "egress.refused"
    EGRESS_GRANTED = "egress.granted"
    EGRESS_REVOKED = "egress.revoked"


# What happens thousands of times where other events happen once.
TRAFFIC = frozenset({EventName.MESSAGE_SENT, EventName.MESSAGE_LEASED, EventName.MESSAGE_ACKED})


class Event(NamedTuple):
    """One fact. `id` grows without reuse; `agent` is whom it concerns, if anyone.

    What happens to messages is told live and stands in their own table: those events have no id. `message` is the one
    that was sent.
    """

    id: int | None
    at: datetime
    name: EventName
    agent: str | None
    body: dict[str, Any]
    message: Message | None = None
