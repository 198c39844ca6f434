"""Storing what is sent: many messages by few statements, each handed to whoever waits for it by the same commit."""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hyperhive.core.errors import HiveError, InboxFullError, NotFoundError
from hyperhive.core.events import EventName
from hyperhive.core.messages import EVERYBODY, RECV_LIMIT_BYTES, Message, MessageState, Priority
from hyperhive.core.names import MANAGER, OPERATOR
from hyperhive.host.leases import count_queued
from hyperhive.host.message_records import find_thread, no_recipient
from hyperhive.host.store.rows import PRIORITIES
from hyperhive.host.store.store import Transaction
from hyperhive.host.waiting import Waiter, Waiting
from hyperhive.system.clock import to_millis

# Of one recipient, those to the operator as well: what is over it would not be read in days. The last of it only the
# operator may fill, what is before that the manager, too.
QUEUE_LIMIT = 10_000
MANAGER_LIMIT = 9_500
AGENTS_LIMIT = 9_000
# Of one agent to one recipient.
PAIR_LIMIT = 2_000

_LIMITS = {OPERATOR: QUEUE_LIMIT, MANAGER: MANAGER_LIMIT}


@dataclass(slots=True)
class Sending:
    """A message on its way to the disk. `allows` says to whom a broadcast may go.

    Once it was stored or refused, `done` is called: then either `ids` has one id for each recipient or `error` says
    why there are none. `repeats` are the same sent again meanwhile. `handed` are those who got it at once.
    """

    sender: str
    recipient: str
    body: str
    in_reply_to: int | None = None
    key: str | None = None
    priority: Priority = Priority.NORMAL
    ttl_s: float | None = None
    done: Callable[["Sending"], None] = lambda _: None
    allows: Callable[[str], bool] = lambda _: True
    ids: Sequence[int] = ()
    error: HiveError | None = None
    handed: Sequence[tuple[Waiter, Message]] = ()
    repeats: Sequence["Sending"] = ()

    def finish(self) -> None:
        """To be called once `ids` or `error` is set."""
        self.done(self)
        for sending in self.repeats:
            sending.ids, sending.error = self.ids, self.error
            sending.done(sending)


def store_sends(tx: Transaction, sendings: Sequence[Sending], waiting: Waiting) -> None:
    """Stores them, and hands them to who waits. What cannot be stored gets its `error` set."""
    batch = _Batch(tx, waiting, {sending.recipient for sending in sendings})
    for sending in sendings:
        try:
            batch.add(sending)
        except HiveError as error:
            sending.error = error
    tx.insert_many("insert_sent", batch.rows)
    tx.insert_many("insert_body_row", batch.bodies)


class _Batch:
    def __init__(self, tx: Transaction, waiting: Waiting, recipients: Collection[str]) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.bodies: list[tuple[int, str]] = []
        self._tx = tx
        self._waiting = waiting
        # As one row: after each the writer has to get the interpreter back from a busy event loop.
        row = tx.get("plan_sends", recipients=json.dumps(list(recipients)))
        self._last_id = int(row["newest"])
        self._known = {OPERATOR, *json.loads(row["known"])}
        self._sent_keys: dict[tuple[str, str], Sequence[int]] = {}
        # Who is being handed messages in this transaction, and for how many bytes.
        self._claims: dict[str, tuple[Waiter, int, int]] = {}

    def add(self, sending: Sending) -> None:
        """Raises HiveError if it cannot be sent: then nothing of it is stored."""
        if (known := self._find_sent(sending)) is not None:
            sending.ids = known
            return
        recipients = self._list_recipients(sending)
        thread = find_thread(self._tx, sending.sender, sending.in_reply_to)
        for recipient in recipients:
            self._check_length(sending.sender, recipient)
        first = self._last_id + 1
        broadcast = first if sending.recipient == EVERYBODY else None
        handed: list[tuple[Waiter, Message]] = []
        for recipient in recipients:
            self._last_id += 1
            waiter = self._claim(recipient, len(sending.body))
            message = self._plan(sending, recipient, thread, broadcast, waiter)
            self._store(sending, message, waiter)
            if waiter is not None:
                handed.append((waiter, message))
        sending.ids, sending.handed = range(first, self._last_id + 1), handed
        if sending.key is not None and sending.sender == OPERATOR:
            self._sent_keys[sending.sender, sending.key] = sending.ids

    def _find_sent(self, sending: Sending) -> Sequence[int] | None:
        """The ids that the operator's message with this key got before. Agents' keys are known to the broker."""
        if sending.key is None or sending.sender != OPERATOR:
            return None
        if (ids := self._sent_keys.get((sending.sender, sending.key))) is not None:
            return ids
        row = self._tx.find("find_message_by_key", sender=sending.sender, key=sending.key)
        if row is None:
            return None
        return [row["id"]] if row["broadcast"] is None else list_broadcast(self._tx, row["broadcast"])

    def _list_recipients(self, sending: Sending) -> list[str]:
        if sending.recipient != EVERYBODY:
            if sending.recipient not in self._known:
                raise no_recipient(sending.recipient)
            return [sending.recipient]
        names = [str(row["name"]) for row in self._tx.list("list_agents")]
        found = [name for name in names if name != sending.sender and sending.allows(name)]
        if not found:
            raise NotFoundError("there is nobody to send to", "no other agent is there that you may write to")
        return found

    def _check_length(self, sender: str, recipient: str) -> None:
        """Raises InboxFullError if so much waits for the recipient that this sender may add nothing."""
        length = 0 if self._waiting.is_clear(recipient) else self._waiting.find_length(recipient)
        if length is None:
            length = count_queued(self._tx, recipient)
            self._waiting.note_length(recipient, length)
        if length >= _LIMITS.get(sender, AGENTS_LIMIT):
            raise InboxFullError(
                f"{length:,} messages wait for {recipient} already", "wait until it has read some, and send less"
            )
        # Of fewer in all no one can have sent so many.
        if length >= PAIR_LIMIT and sender != OPERATOR and self._count_between(sender, recipient) >= PAIR_LIMIT:
            raise InboxFullError(
                f"{PAIR_LIMIT:,} messages of yours wait for {recipient} already",
                "wait until it has read some; put what you have to say into one message",
            )

    def _count_between(self, sender: str, recipient: str) -> int:
        count = self._waiting.find_between(sender, recipient)
        if count is None:
            count = int(self._tx.get("count_queued_between", sender=sender, recipient=recipient)["waiting"])
            # What comes with this transaction is stored at its end.
            count += sum(row[1:3] == (sender, recipient) for row in self.rows)
            self._waiting.note_between(sender, recipient, count)
        return count

    def _plan(
        self, sending: Sending, recipient: str, thread: int | None, broadcast: int | None, waiter: Waiter | None
    ) -> Message:
        tx = self._tx
        return Message(
            id=self._last_id,
            sender=sending.sender,
            recipient=recipient,
            body=sending.body,
            sent_at=tx.at,
            state=MessageState.QUEUED if waiter is None else MessageState.LEASED,
            deliveries=0 if waiter is None else 1,
            thread=thread,
            in_reply_to=sending.in_reply_to,
            priority=sending.priority,
            expires_at=None if sending.ttl_s is None else tx.at + timedelta(seconds=sending.ttl_s),
            broadcast=broadcast,
        )

    def _store(self, sending: Sending, message: Message, waiter: Waiter | None) -> None:
        if waiter is None:
            self._waiting.note_queued(message.sender, message.recipient)
        # Of a broadcast the first has the key: the table holds one of each.
        key = sending.key if message.broadcast in (None, message.id) else None
        self.rows.append(
            (
                message.id,
                message.sender,
                message.recipient,
                PRIORITIES.index(message.priority),
                self._tx.at_ms,
                None if message.expires_at is None else to_millis(message.expires_at),
                message.thread,
                message.in_reply_to,
                message.broadcast,
                key,
                message.state.value,
                None if waiter is None else waiter.generation,
                message.deliveries,
            )
        )
        self.bodies.append((message.id, message.body))
        self._tx.tell(EventName.MESSAGE_SENT, message.recipient, {"id": message.id}, message)

    def _claim(self, recipient: str, size: int) -> Waiter | None:
        """Who is handed a message of so many characters at once, with those of before in this transaction."""
        found = self._claims.get(recipient)
        if found is None:
            waiter = self._waiting.claim(recipient)
            if waiter is None:
                return None
            self._claims[recipient] = waiter, 1, size
            return waiter
        waiter, count, total = found
        # A character may take four bytes.
        if (
            not self._waiting.is_clear(recipient)
            or count >= waiter.max_messages
            or 4 * (total + size) > RECV_LIMIT_BYTES
        ):
            return None
        self._claims[recipient] = waiter, count + 1, total + size
        return waiter


def list_broadcast(tx: Transaction, broadcast: int) -> list[int]:
    """The ids of all messages of a broadcast."""
    return [int(row["id"]) for row in tx.list("list_broadcast", broadcast=broadcast)]
