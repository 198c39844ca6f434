"""What is remembered of messages: each function is a part of a transaction, with the events that belong to it."""

from collections.abc import Iterable

from hyperhive.core.errors import NotFoundError
from hyperhive.core.events import EventName
from hyperhive.core.messages import Message, Priority
from hyperhive.core.names import OPERATOR
from hyperhive.host.store.rows import PRIORITIES, to_message
from hyperhive.host.store.store import Transaction, View


def queue_message(
    tx: Transaction,
    sender: str,
    recipient: str,
    body: str,
    *,
    in_reply_to: int | None = None,
    idempotency_key: str | None = None,
) -> Message:
    """Puts a message into the queue as part of a larger change. A key that the operator or `system` used before gives
    that message.

    Raises NotFoundError if the recipient or the message that it replies to does not exist.
    """
    if idempotency_key is not None:
        row = tx.find("find_message_by_key", sender=sender, key=idempotency_key)
        if row is not None:
            return to_message(row)
    if not list_known(tx, [recipient]):
        raise no_recipient(recipient)
    message_id = tx.get(
        "insert_message",
        sender=sender,
        recipient=recipient,
        priority=PRIORITIES.index(Priority.NORMAL),
        at=tx.at_ms,
        expires_at=None,
        thread=find_thread(tx, sender, in_reply_to),
        in_reply_to=in_reply_to,
        broadcast=None,
        key=idempotency_key,
    )["id"]
    tx.list("insert_body", id=message_id, body=body)
    message = get_message(tx, message_id)
    tx.tell(EventName.MESSAGE_SENT, recipient, {"id": message.id}, message)
    return message


def get_message(view: View, message_id: int) -> Message:
    return to_message(view.get("get_message", id=message_id))


def list_known(view: View, recipients: Iterable[str]) -> set[str]:
    """Those of `recipients` that can be sent to: the operator, and agents that are not destroyed."""
    known = {OPERATOR}
    for recipient in recipients:
        row = view.find("get_agent", name=recipient)
        if row is not None and row["destroyed_at"] is None:
            known.add(recipient)
    return known.intersection(recipients)


def no_recipient(recipient: str) -> NotFoundError:
    return NotFoundError(f"there is no agent {recipient!r}", "the manager's list_agents or `hive ps` names them")


def find_thread(view: View, sender: str, in_reply_to: int | None) -> int | None:
    """The thread of a reply: that of the message it answers, which must have been to or from the sender.

    Raises NotFoundError if it was not.
    """
    if in_reply_to is None:
        return None
    row = view.find("get_message", id=in_reply_to)
    if row is None or sender not in (row["recipient"], row["sender"]):
        raise NotFoundError(
            f"there is no message {in_reply_to} to or from {sender}", "leave in_reply_to out, or use an envelope's id"
        )
    return row["thread"] or row["id"]
