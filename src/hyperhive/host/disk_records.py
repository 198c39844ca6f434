"""What is remembered of quotas of the disk: each function is a part of a transaction, with the events of it."""

import json

from hyperhive.core.events import EventName
from hyperhive.core.names import MANAGER, SYSTEM
from hyperhive.core.quotas import DiskUse, Quota, render_bytes
from hyperhive.host.message_records import queue_message
from hyperhive.host.notices import notify_manager
from hyperhive.host.store.store import Transaction


def mark_over_quota(
    tx: Transaction,
    name: str,
    quota: Quota,
    reason: str,
    used_bytes: int | None = None,
    limit_bytes: int | None = None,
) -> None:
    """An agent is not to run until `clear_over_quota`. It is told when it runs again, and the manager now."""
    if not tx.list("set_over_quota", name=name, reason=reason):
        return
    body = {"quota": quota.value, "used_bytes": used_bytes, "limit_bytes": limit_bytes, "reason": reason}
    tx.emit(EventName.AGENT_OVER_QUOTA, name, body)
    text = "your container was stopped for this: see to it that it does not happen again"
    queue_message(tx, SYSTEM, name, json.dumps({"event": "over_quota", "reason": reason, "note": text}))
    if name != MANAGER:
        notify_manager(tx, "over_quota", agent=name, reason=reason)


def clear_over_quota(tx: Transaction, name: str) -> None:
    """It may run again."""
    tx.list("set_over_quota", name=name, reason="")


def tell_warned(tx: Transaction, name: str, use: DiskUse, limit_bytes: int | None) -> None:
    """An agent is near its limit: it and the operator are told, the agent once a day at the most."""
    limit = "any size" if limit_bytes is None else render_bytes(limit_bytes)
    held = f"{render_bytes(use.size_bytes)} of {limit}, in {use.entries:,} files"
    note = "remove what you do not need from /state and ~/.claude: over the limit your container is stopped"
    body = {"quota": "disk", "used_bytes": use.size_bytes, "limit_bytes": limit_bytes, "entries": use.entries}
    tx.emit(EventName.QUOTA_WARNED, name, body)
    message = json.dumps({"event": "quota_warning", "your_folders_hold": held, "note": note})
    queue_message(tx, SYSTEM, name, message, idempotency_key=f"quota/{name}/{tx.at:%Y-%m-%d}")
