"""The broker: messages are durable before `send` returns, leased to one turn at a time, and acked or given back.

At least once: a message is handed out again until the turn that got it ended well. Nothing acked comes again.
Order holds for each sender and recipient, since messages are leased by their ids and keep them when requeued.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence

from hyperhive.core.errors import InvalidInputError, NotFoundError, RefusedError
from hyperhive.core.events import Event, EventName
from hyperhive.core.messages import DELIVERY_ATTEMPTS, RECV_LIMIT_BYTES, Message, MessageState, parse_body
from hyperhive.core.names import OPERATOR, parse_recipient
from hyperhive.core.parking import Park, decide_park
from hyperhive.core.policy import Policy, Verdict, decide_recipient
from hyperhive.host.present import show_message
from hyperhive.host.store.rows import to_message, to_park
from hyperhive.host.store.store import Store, Transaction, View

_WAKING = frozenset(
    {EventName.MESSAGE_SENT, EventName.MESSAGE_REQUEUED, EventName.AGENT_RESUMED, EventName.AGENT_WOKEN}
)
# A wake is only a hint: whoever waits looks again after this long all the same.
RECHECK_S = 20.0
REFUSED_EVERY_S = 10.0


def queue_message(
    tx: Transaction,
    sender: str,
    recipient: str,
    body: str,
    *,
    in_reply_to: int | None = None,
    idempotency_key: str | None = None,
) -> Message:
    """Puts a message into the queue as part of a larger change. A key the sender used before gives that message.

    Raises NotFoundError if the recipient or the message that it replies to does not exist.
    """
    if idempotency_key is not None:
        row = tx.find("find_message_by_key", sender=sender, key=idempotency_key)
        if row is not None:
            return to_message(row)
    _check_recipient(tx, recipient)
    row = tx.get(
        "insert_message",
        sender=sender,
        recipient=recipient,
        body=body,
        at=tx.at_ms,
        thread=_find_thread(tx, sender, in_reply_to),
        in_reply_to=in_reply_to,
        key=idempotency_key,
    )
    message = to_message(row)
    # The body is stored once, in its own table: the event only names it.
    tx.emit(
        EventName.MESSAGE_SENT,
        recipient,
        {"id": message.id},
        live={"message": show_message(message).model_dump(mode="json")},
    )
    return message


def _check_recipient(tx: Transaction, recipient: str) -> None:
    if recipient == OPERATOR:
        return
    row = tx.find("get_agent", name=recipient)
    if row is None or row["destroyed_at"] is not None:
        raise NotFoundError(f"there is no agent {recipient!r}", "the manager's list_agents or `hive ps` names them")


def _find_thread(tx: Transaction, sender: str, in_reply_to: int | None) -> int | None:
    """The thread of a reply: that of the message it answers, which must have been to or from the sender."""
    if in_reply_to is None:
        return None
    row = tx.find("get_message", id=in_reply_to)
    if row is None or sender not in (row["recipient"], row["sender"]):
        raise NotFoundError(
            f"there is no message {in_reply_to} to or from {sender}", "leave in_reply_to out, or use an envelope's id"
        )
    return row["thread"] or row["id"]


class Broker:
    """All that happens to messages. Callers name who they are: identity was established before they got here."""

    def __init__(
        self,
        store: Store,
        get_policy: Callable[[str], Awaitable[Policy]],
        find_park: Callable[[str], Park | None],
    ) -> None:
        """`get_policy` gives the applied policy of an agent, or raises a HiveError: then it may not send.

        `find_park` tells what keeps an agent from its messages, from memory.
        """
        self._store = store
        self._get_policy = get_policy
        self._find_park = find_park
        self._waiters: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._refused_at_s: dict[str, float] = {}

    def on_event(self, event: Event) -> None:
        """Wakes whoever may get messages now; called by the feed after each commit."""
        if event.name is EventName.AGENT_RESUMED and event.agent is None:
            self._wake(*self._waiters)
        elif event.name in _WAKING and event.agent is not None:
            self._wake(event.agent)

    def _wake(self, *recipients: str) -> None:
        for recipient in recipients:
            for waiter in self._waiters.get(recipient, ()):
                waiter.set()

    async def send(
        self,
        sender: str,
        recipient: str,
        body: str,
        *,
        in_reply_to: int | None = None,
        idempotency_key: str | None = None,
    ) -> Message:
        """Queues a message and returns it once it is durable.

        Raises InvalidInputError or TooLargeError for what cannot be sent, NotFoundError for an unknown recipient,
        RefusedError for one that the sender's config does not allow, StorageError if the disk refused: then nothing
        was queued.
        """
        parse_recipient(recipient)
        parse_body(body)
        if sender == recipient:
            raise InvalidInputError("you cannot send to yourself", "write what matters to your notes instead")
        await self._check_allowed(sender, recipient)
        return await self._store.write(
            lambda tx: queue_message(
                tx, sender, recipient, body, in_reply_to=in_reply_to, idempotency_key=idempotency_key
            )
        )

    async def _check_allowed(self, sender: str, recipient: str) -> None:
        """Raises RefusedError, and records it, unless the sender's applied config lets it write to `recipient`."""
        if sender == OPERATOR:
            return
        decision = decide_recipient(await self._get_policy(sender), sender, recipient)
        if decision.verdict is not Verdict.ALLOW:
            await self._record_refusal(sender, recipient, decision.rule)
            raise RefusedError(decision.reason, "the manager can propose a change of your config")

    async def _record_refusal(self, sender: str, recipient: str, rule: str) -> None:
        """Once in a while for each sender: one that tries on and on must not fill the disk."""
        at_s = asyncio.get_running_loop().time()
        if at_s - self._refused_at_s.get(sender, -REFUSED_EVERY_S) < REFUSED_EVERY_S:
            return
        self._refused_at_s[sender] = at_s
        body = {"recipient": recipient, "rule": rule}
        await self._store.write(lambda tx: tx.emit(EventName.MESSAGE_REFUSED, sender, body))

    async def recv(
        self, recipient: str, generation: int, max_messages: int, wait_s: float
    ) -> tuple[list[Message], int]:
        """Leases up to `max_messages` to the harness of that generation, waiting up to `wait_s` for the first.

        Returns them, oldest first, and how many more are queued. Both empty and 0 after a wait in vain, and whatever
        is queued while the recipient is parked, or its container is being stopped to hibernate.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        waiter = asyncio.Event()
        self._waiters[recipient].add(waiter)
        try:
            while True:
                waiter.clear()
                messages, waiting = await self._lease(recipient, generation, max_messages)
                left_s = deadline - loop.time()
                if messages or left_s <= 0:
                    return messages, waiting
                try:
                    async with asyncio.timeout(min(left_s, RECHECK_S)):
                        await waiter.wait()
                except TimeoutError:
                    continue
        finally:
            self._waiters[recipient].discard(waiter)

    async def _lease(self, recipient: str, generation: int, max_messages: int) -> tuple[list[Message], int]:
        # Looking first keeps a wait in vain from writing.
        if self._find_park(recipient) or not await self._store.read(lambda view: count_queued(view, recipient)):
            return [], 0

        def lease(tx: Transaction) -> tuple[list[Message], int]:
            if _is_held(tx, recipient):
                return [], 0
            rows = tx.list(
                "lease_messages",
                recipient=recipient,
                generation=generation,
                max=max_messages,
                bytes=RECV_LIMIT_BYTES,
            )
            messages = sorted((to_message(row) for row in rows), key=lambda message: message.id)
            _emit_state(tx, EventName.MESSAGE_LEASED, recipient, messages)
            return messages, count_queued(tx, recipient)

        return await self._store.write(lease)

    async def ack(self, recipient: str, generation: int, ids: Sequence[int]) -> int:
        """Settles leased messages for good; returns how many were. Others are ignored: acking twice is harmless."""

        def settle(tx: Transaction) -> int:
            acked = [
                to_message(row)
                for id_ in ids
                for row in tx.list("ack_message", id=id_, recipient=recipient, generation=generation, at=tx.at_ms)
            ]
            _emit_state(tx, EventName.MESSAGE_ACKED, recipient, acked)
            return len(acked)

        return await self._store.write(settle)

    async def mark_read(self, message_id: int) -> None:
        """Settles a message to the operator. Raises NotFoundError if there is none of that id."""

        def settle(tx: Transaction) -> None:
            row = tx.find("get_message", id=message_id)
            if row is None or row["recipient"] != OPERATOR:
                raise NotFoundError(f"there is no message {message_id} to the operator", "see `hive inbox`")
            read = [to_message(row) for row in tx.list("read_message", id=message_id, at=tx.at_ms)]
            _emit_state(tx, EventName.MESSAGE_ACKED, OPERATOR, read)

        await self._store.write(settle)

    async def requeue(self, recipient: str, generation: int, ids: Sequence[int], reason: str, failed: bool) -> int:
        """Gives leased messages back and returns how many. `failed` counts against DELIVERY_ATTEMPTS, then dead."""

        def give_back(tx: Transaction) -> int:
            messages = [
                to_message(row)
                for id_ in ids
                for row in tx.list(
                    "requeue_message",
                    id=id_,
                    recipient=recipient,
                    generation=generation,
                    reason=reason,
                    failed=int(failed),
                    attempts=DELIVERY_ATTEMPTS,
                )
            ]
            _emit_given_back(tx, recipient, messages)
            return len(messages)

        return await self._store.write(give_back)

    async def reclaim(self, recipient: str, generation: int, holding: Collection[int]) -> None:
        """Settles who holds what when a harness connects: it keeps what it holds, all else is queued again.

        What an earlier harness held when it ended without giving it back counts as a failure: what ends every
        container that reads it is dead in the end.
        """

        def sort_out(tx: Transaction) -> None:
            released: list[Message] = []
            for row in tx.list("list_leased", recipient=recipient):
                if row["id"] in holding and row["generation"] == generation:
                    continue
                rows = tx.list(
                    "release_lease",
                    id=row["id"],
                    reason="the harness that held it is gone",
                    failed=int(row["generation"] != generation),
                    attempts=DELIVERY_ATTEMPTS,
                )
                released += [to_message(released_row) for released_row in rows]
            _emit_given_back(tx, recipient, released)

        await self._store.write(sort_out)

    async def list_messages(self, agent: str | None, before: int, limit: int) -> list[Message]:
        """The newest messages with an id below `before`, newest first; of one agent or of all."""
        rows = await self._store.read(lambda view: view.list("list_messages", agent=agent, before=before, limit=limit))
        return [to_message(row) for row in rows]

    async def list_inbox(self, before: int, limit: int) -> list[Message]:
        """The operator's messages with an id below `before`, newest first."""
        rows = await self._store.read(lambda view: view.list("list_inbox", before=before, limit=limit))
        return [to_message(row) for row in rows]


def _is_held(tx: Transaction, recipient: str) -> bool:
    """Whether nothing may be handed out now: parked, though nobody may have been told of it yet, or hibernating."""
    row = tx.find("get_agent", name=recipient)
    # Its harness is about to end; what it got now would be lost with it until the next one asks.
    if row is not None and row["hibernated"]:
        return True
    return decide_park(map(to_park, tx.list("list_parks_over", agent=recipient)), tx.at) is not None


def count_queued(view: View, recipient: str) -> int:
    return int(view.get("count_queued", recipient=recipient)["waiting"])


def bury_messages(tx: Transaction, recipient: str, reason: str) -> None:
    """Makes dead what waits for a recipient that is gone for good, as part of a larger change."""
    dead = [to_message(row) for row in tx.list("bury_messages", recipient=recipient, reason=reason)]
    _emit_state(tx, EventName.MESSAGE_DEAD, recipient, dead)


def _emit_given_back(tx: Transaction, recipient: str, messages: Sequence[Message]) -> None:
    dead = [message for message in messages if message.state is MessageState.DEAD]
    queued = [message for message in messages if message.state is MessageState.QUEUED]
    _emit_state(tx, EventName.MESSAGE_DEAD, recipient, dead)
    _emit_state(tx, EventName.MESSAGE_REQUEUED, recipient, queued)


def _emit_state(tx: Transaction, name: EventName, recipient: str, messages: Sequence[Message]) -> None:
    if messages:
        first = messages[0]
        body = {"ids": [message.id for message in messages], "state": first.state.value, "note": first.note}
        tx.emit(name, recipient, body)
