"""Who holds which message: each function is a part of a transaction, with the events that belong to it."""

from collections.abc import Collection, Sequence

from hyperhive.core.events import EventName
from hyperhive.core.messages import DELIVERY_ATTEMPTS, RECV_LIMIT_BYTES, Message, MessageState
from hyperhive.core.names import MANAGER
from hyperhive.core.parking import decide_park
from hyperhive.host.message_records import get_message
from hyperhive.host.notices import notify_manager
from hyperhive.host.store.rows import PRIORITIES, to_park
from hyperhive.host.store.store import Transaction, View

# How many messages are expired in one transaction.
EXPIRED_LIMIT = 500


def count_queued(view: View, recipient: str) -> int:
    return int(view.get("count_queued", recipient=recipient)["waiting"])


def is_held(tx: Transaction, recipient: str) -> bool:
    """Whether nothing may be handed out now: parked, though nobody may have been told of it yet, or about to stop."""
    row = tx.find("get_agent", name=recipient)
    # Its harness is about to end; what it got now would be lost with it until the next one asks.
    if row is not None and (row["hibernated"] or row["updating"] or row["held"]):
        return True
    return decide_park(map(to_park, tx.list("list_parks_over", agent=recipient)), tx.at) is not None


def lease_messages(tx: Transaction, recipient: str, generation: int, max_messages: int) -> list[Message]:
    """Hands out what waits to the harness of that generation, the most urgent and then the oldest first."""
    ids = tx.list(
        "lease_messages",
        recipient=recipient,
        generation=generation,
        at=tx.at_ms,
        max=max_messages,
        bytes=RECV_LIMIT_BYTES,
    )
    messages = [get_message(tx, row["id"]) for row in ids]
    messages.sort(key=lambda message: (-PRIORITIES.index(message.priority), message.id))
    tell_state(tx, EventName.MESSAGE_LEASED, recipient, [message.id for message in messages], MessageState.LEASED)
    return messages


def give_back(tx: Transaction, recipient: str, generation: int, ids: Collection[int], reason: str, failed: bool) -> int:
    """Queues again what that generation holds; returns how many were. `failed` counts against DELIVERY_ATTEMPTS."""
    rows = [
        row
        for id_ in ids
        for row in tx.list(
            "requeue_message",
            id=id_,
            recipient=recipient,
            generation=generation,
            at=tx.at_ms,
            reason=reason,
            failed=int(failed),
            attempts=DELIVERY_ATTEMPTS,
        )
    ]
    _tell_given_back(tx, recipient, [(row["id"], row["state"]) for row in rows], reason)
    return len(rows)


def release_leases(tx: Transaction, recipient: str, ids: Collection[int], reason: str, failed: bool) -> int:
    """Queues again what is leased, whoever holds it; returns how many were."""
    rows = [
        row
        for id_ in ids
        for row in tx.list(
            "release_lease", id=id_, at=tx.at_ms, reason=reason, failed=int(failed), attempts=DELIVERY_ATTEMPTS
        )
    ]
    _tell_given_back(tx, recipient, [(row["id"], row["state"]) for row in rows], reason)
    return len(rows)


def bury_messages(tx: Transaction, recipient: str, reason: str) -> None:
    """Makes dead what waits for a recipient that is gone for good, as part of a larger change."""
    rows = tx.list("bury_messages", recipient=recipient, at=tx.at_ms, reason=reason)
    tell_state(tx, EventName.MESSAGE_DEAD, recipient, [row["id"] for row in rows], MessageState.DEAD, reason)


def expire_messages(tx: Transaction) -> int:
    """Ends what was not handed out in its time, up to EXPIRED_LIMIT; returns how many were."""
    rows = tx.list("expire_messages", at=tx.at_ms, limit=EXPIRED_LIMIT)
    for recipient in {row["recipient"] for row in rows}:
        ids = [row["id"] for row in rows if row["recipient"] == recipient]
        tell_state(tx, EventName.MESSAGE_EXPIRED, recipient, ids, MessageState.EXPIRED)
    return len(rows)


def tell_state(
    tx: Transaction,
    name: EventName,
    recipient: str,
    ids: Sequence[int],
    state: MessageState,
    note: str | None = None,
) -> None:
    """Has it told that messages of one recipient are in another state; nothing if there are none."""
    if ids:
        tx.tell(name, recipient, {"ids": list(ids), "state": state.value, "note": note})


def _tell_given_back(tx: Transaction, recipient: str, rows: Sequence[tuple[int, str]], reason: str) -> None:
    dead = [id_ for id_, state in rows if state == MessageState.DEAD]
    queued = [id_ for id_, state in rows if state == MessageState.QUEUED]
    tell_state(tx, EventName.MESSAGE_DEAD, recipient, dead, MessageState.DEAD, reason)
    for message_id in dead if recipient != MANAGER else ():
        message = get_message(tx, message_id)
        notify_manager(tx, "dead_letter", id=message_id, sender=message.sender, recipient=recipient, reason=reason)
    tell_state(tx, EventName.MESSAGE_REQUEUED, recipient, queued, MessageState.QUEUED, reason)
