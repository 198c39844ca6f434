"""The broker: messages are durable before `send` returns, leased to one turn at a time, and acked or given back.

At least once: a message is handed out again until the turn that got it ended well. Nothing acked comes again. Order
holds for each sender, recipient and priority, since messages are leased by their ids and keep them when requeued.

Sends and acks of all agents share their statements and their commits (`Lane`), and a message to one who waits is leased
by the transaction that stores it. Whether somebody may be handed something without a look into the store is known by
`Waiting`; where it is not, the store is asked.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from hyperhive.core.errors import HiveError, InboxFullError, InvalidInputError, NotFoundError
from hyperhive.core.events import Event, EventName
from hyperhive.core.messages import EVERYBODY, Message, MessageState, Priority, check_ttl, parse_body
from hyperhive.core.names import OPERATOR, parse_recipient
from hyperhive.core.policy import Policy, Verdict, decide_recipient
from hyperhive.host.leases import (
    count_queued,
    expire_messages,
    give_back,
    is_held,
    lease_messages,
    release_leases,
    tell_state,
)
from hyperhive.host.message_records import get_message
from hyperhive.host.recent_keys import RecentKeys
from hyperhive.host.recipients import Recipients
from hyperhive.host.sends import Sending, store_sends
from hyperhive.host.store.rows import to_message
from hyperhive.host.store.store import Store, Transaction
from hyperhive.host.waiting import Waiter, Waiting
from hyperhive.system.clock import now, to_millis

_WAKING = frozenset(
    {
        EventName.MESSAGE_SENT,
        EventName.MESSAGE_REQUEUED,
        EventName.AGENT_RESUMED,
        EventName.AGENT_WOKEN,
        EventName.AGENT_UPDATED,
        EventName.AGENT_RELEASED,
    }
)
# A wake is only a hint: for whoever waits the store is asked again after this long all the same.
RECHECK_S = 60.0
# How late a wait in vain may end. One look at all who wait is cheaper than a timer for each.
LATE_S = 0.25
# What expires sooner than this may last as long.
EXPIRY_CHECK_S = 1.0
EXPIRY_WAIT_S = 60.0
_GONE = "the harness that held it is gone"


@dataclass(slots=True)
class Acking:
    """Messages that a harness has handled. `done` is called with how many of them were its own, or what went wrong."""

    recipient: str
    generation: int
    ids: Sequence[int]
    done: Callable[[int | Exception], None]
    acked: int = 0


class _FutureWaiter(Waiter):
    """Of a caller with a task of its own."""

    __slots__ = ("future",)

    def __init__(self, recipient: str, generation: int, max_messages: int) -> None:
        super().__init__(recipient, generation, max_messages)
        self.future: asyncio.Future[tuple[list[Message], int]] = asyncio.get_running_loop().create_future()

    def deliver(self, messages: list[Message], waiting: int) -> None:
        if not self.future.done():
            self.future.set_result((messages, waiting))

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Broker:
    """All that happens to messages. Callers name who they are: identity was established before they got here."""

    def __init__(
        self,
        store: Store,
        get_policy: Callable[[str], Awaitable[Policy]],
        find_policy: Callable[[str], Policy | None] = lambda _: None,
        check_rate: Callable[[str, str], None] = lambda sender, recipient: None,
        note_full: Callable[[str, str], None] = lambda sender, recipient: None,
    ) -> None:
        """`get_policy` gives the applied policy of an agent, or raises a HiveError: then it may not send.

        `find_policy` gives the same if it is in memory. `check_rate` is told the sender and recipient of each message,
        and raises a HiveError if it is one too many. `note_full` is told of each for which the inbox was full.
        """
        self._store = store
        self._get_policy = get_policy
        # What is sent too often is refused later: a message that was sent before does not count again.
        self._recipients = Recipients(store, get_policy)
        self._find_policy = find_policy
        self._check_rate = check_rate
        self._note_full = note_full
        self._waiting = Waiting()
        self._keys = RecentKeys()
        self._loop = asyncio.get_running_loop()
        self._expiring = asyncio.Event()
        self._watching: asyncio.TimerHandle | None = None
        self._sends = store.open_lane(lambda tx, items: store_sends(tx, items, self._waiting), self._sent)
        self._acks = store.open_lane(_store_acks, _acked)
        self._looks = store.open_lane(self._look, self._looked)
        store.watch(self._waiting.on_change, self._waiting.forget)

    async def load(self) -> None:
        """At the daemon's start, before any harness connects: which keys were used of late."""
        self._keys.load(await self._store.read(self._keys.list_recent))

    def on_event(self, event: Event) -> None:
        """Has the store asked for whoever may get messages now; called by the feed after each commit."""
        if event.name not in _WAKING:
            return
        if event.agent is None:
            self._ask_for(*self._waiting.list_recipients())
        elif not self._waiting.is_clear(event.agent):
            self._ask_for(event.agent)

    # -- sending -------------------------------------------------------------------------------------------

    async def send(
        self,
        sender: str,
        recipient: str,
        body: str,
        *,
        in_reply_to: int | None = None,
        idempotency_key: str | None = None,
        priority: Priority = Priority.NORMAL,
        ttl_s: float | None = None,
    ) -> Message:
        """Queues a message and returns it once it is durable.

        Whoever has not been handed it after `ttl_s` never is. Raises InvalidInputError or TooLargeError for what
        cannot be sent, NotFoundError for an unknown recipient, RefusedError for one that the sender's config does not
        allow, TooManyError for what is sent too fast, StorageError if the disk refused: then nothing was queued.
        """
        sending = Sending(sender, recipient, body, in_reply_to, idempotency_key, priority, ttl_s)
        [message_id] = await self.send_checked(sending)
        return await self._store.read(lambda view: get_message(view, message_id))

    async def send_all(
        self,
        sender: str,
        body: str,
        *,
        idempotency_key: str | None = None,
        priority: Priority = Priority.NORMAL,
        ttl_s: float | None = None,
    ) -> list[Message]:
        """Queues a message to each agent that the sender may write to. Raises like `send`."""
        sending = Sending(sender, EVERYBODY, body, None, idempotency_key, priority, ttl_s)
        ids = await self.send_checked(sending)
        return await self._store.read(lambda view: [get_message(view, message_id) for message_id in ids])

    async def send_checked(self, sending: Sending) -> Sequence[int]:
        """Checks and queues what is sent and returns the ids, one for each recipient. Raises like `send`."""
        _check(sending)
        if sending.sender != OPERATOR:
            await self._check_allowed(sending)
        future: asyncio.Future[Sequence[int]] = asyncio.get_running_loop().create_future()

        def settle(done: Sending) -> None:
            if future.done():
                return
            if done.error is not None:
                future.set_exception(done.error)
            else:
                future.set_result(done.ids)

        sending.done = settle
        self._put(sending)
        return await future

    def send_soon(self, sending: Sending) -> bool:
        """The same for an agent whose policy is in memory, without a task: `sending.done` is called.

        False: nothing was done, `send_checked` is to be used. Raises InvalidInputError or TooLargeError.
        """
        _check(sending)
        policy = self._find_policy(sending.sender)
        if policy is None or sending.recipient == EVERYBODY:
            return False
        if policy.allowed_recipients and _decide(policy, sending) is not Verdict.ALLOW:
            return False
        self._put(sending)
        return True

    async def _check_allowed(self, sending: Sending) -> None:
        """Raises RefusedError, and records it, unless the sender's applied config lets it write to the recipient."""
        sender = sending.sender
        if sending.recipient != EVERYBODY:
            await self._recipients.check(sender, sending.recipient)
            return
        policy = await self._get_policy(sender)
        sending.allows = lambda name: decide_recipient(policy, sender, name).verdict is Verdict.ALLOW

    def _put(self, sending: Sending) -> None:
        if sending.key is not None and sending.sender != OPERATOR and self._keys.join(sending):
            return
        try:
            self._check_rate(sending.sender, sending.recipient)
            self._sends.put(sending)
        except HiveError as error:
            sending.error = error
            self._keys.settle(sending)
            raise
        if sending.ttl_s is not None:
            self._expiring.set()

    def _sent(self, sendings: Sequence[Sending], outcome: Exception | None) -> None:
        """After the commit, or instead of it. Who waits for what was queued is woken by its event."""
        handed: dict[Waiter, list[Message]] = {}
        for sending in sendings:
            for waiter, message in sending.handed:
                handed.setdefault(waiter, []).append(message)
            if isinstance(outcome, Exception):
                sending.error = _to_hive_error(outcome)
            if isinstance(sending.error, InboxFullError):
                self._note_full(sending.sender, sending.recipient)
            self._keys.settle(sending)
            sending.finish()
        for waiter, messages in handed.items():
            if isinstance(outcome, Exception):
                # It was taken for what is not there: it waits on.
                self._looks.put(waiter)
            else:
                waiter.deliver(messages, 0)

    # -- receiving -----------------------------------------------------------------------------------------

    async def recv(
        self, recipient: str, generation: int, max_messages: int, wait_s: float
    ) -> tuple[list[Message], int]:
        """Leases up to `max_messages` to the harness of that generation, waiting up to `wait_s` for the first.

        Returns them, the most urgent and then the oldest first, and how many more are queued. Both empty and 0 after a
        wait in vain, and whatever is queued while the recipient is parked, or its container is being stopped to
        hibernate. Raises StorageError.
        """
        waiter = _FutureWaiter(recipient, generation, max_messages)
        self.recv_soon(waiter, wait_s)
        try:
            return await waiter.future
        finally:
            waiter.leave()

    def recv_soon(self, waiter: Waiter, wait_s: float) -> None:
        """The same without a task: the waiter is answered."""
        waiter.deadline_s = self._loop.time() + wait_s
        if self._waiting.is_clear(waiter.recipient):
            self._wait_on(waiter)
        elif waiter.take():
            self._looks.put(waiter)

    def leave_all(self, recipient: str) -> None:
        """Answers all who wait for messages to `recipient`, with none: another harness takes their place."""
        for waiter in self._waiting.take_all(recipient):
            waiter.deliver([], 0)

    def _wait_on(self, waiter: Waiter) -> None:
        """Puts one in line that nobody has taken, or answers it if its time is over."""
        at_s = self._loop.time()
        if at_s >= waiter.deadline_s:
            if waiter.take():
                waiter.deliver([], 0)
            return
        waiter.check_at_s = min(waiter.deadline_s, at_s + RECHECK_S)
        self._waiting.add(waiter)
        if self._watching is None:
            self._watching = self._loop.call_later(LATE_S, self._recheck)

    def _recheck(self) -> None:
        """Has the store asked for those whose time it is."""
        at_s = self._loop.time()
        waiters = self._waiting.list_waiters()
        for waiter in waiters:
            if at_s >= waiter.check_at_s and waiter.take():
                self._looks.put(waiter)
        self._watching = self._loop.call_later(LATE_S, self._recheck) if waiters else None

    def _ask_for(self, *recipients: str) -> None:
        for recipient in recipients:
            for waiter in self._waiting.take_all(recipient):
                self._looks.put(waiter)

    def _look(self, tx: Transaction, waiters: Sequence[Waiter]) -> None:
        """Leases to each what is queued for it; on the writer's thread."""
        for waiter in waiters:
            waiter.found = ([], 0)
            if is_held(tx, waiter.recipient):
                continue
            messages = lease_messages(tx, waiter.recipient, waiter.generation, waiter.max_messages)
            queued = count_queued(tx, waiter.recipient)
            if not queued:
                self._waiting.note_clear(waiter.recipient)
            waiter.found = (messages, queued)

    def _looked(self, waiters: Sequence[Waiter], outcome: Exception | None) -> None:
        for waiter in waiters:
            messages, queued = waiter.found
            if outcome is not None:
                waiter.fail(outcome)
            elif messages:
                waiter.deliver(messages, queued)
            elif not waiter.is_gone:
                waiter.let_go()
                self._wait_on(waiter)

    # -- settling ------------------------------------------------------------------------------------------

    async def ack(self, recipient: str, generation: int, ids: Sequence[int]) -> int:
        """Settles leased messages for good; returns how many were. Others are ignored: acking twice is harmless."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def done(outcome: int | Exception) -> None:
            if future.done():
                return
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        self.ack_soon(Acking(recipient, generation, ids, done))
        return await future

    def ack_soon(self, acking: Acking) -> None:
        """The same without a task: `acking.done` is called."""
        self._acks.put(acking)

    async def mark_read(self, message_id: int) -> None:
        """Settles a message to the operator. Raises NotFoundError if there is none of that id."""

        def settle(tx: Transaction) -> None:
            row = tx.find("get_message", id=message_id)
            if row is None or row["recipient"] != OPERATOR:
                raise NotFoundError(f"there is no message {message_id} to the operator", "see `hive inbox`")
            if tx.list("read_message", id=message_id, at=tx.at_ms):
                tell_state(tx, EventName.MESSAGE_ACKED, OPERATOR, [message_id], MessageState.ACKED)

        await self._store.write(settle)

    async def requeue(self, recipient: str, generation: int, ids: Sequence[int], reason: str, failed: bool) -> int:
        """Gives leased messages back and returns how many. `failed` counts against DELIVERY_ATTEMPTS, then dead."""
        return await self._store.write(lambda tx: give_back(tx, recipient, generation, ids, reason, failed))

    async def reclaim(self, recipient: str, generation: int, holding: Collection[int]) -> None:
        """Settles who holds what when a harness connects: it keeps what it holds, all else is queued again.

        What an earlier harness held when it ended without giving it back counts as a failure: what ends every
        container that reads it is dead in the end.
        """

        def sort_out(tx: Transaction) -> None:
            leased = tx.list("list_leased", recipient=recipient)
            for is_own in (True, False):
                ids = [
                    row["id"]
                    for row in leased
                    if (row["generation"] == generation) is is_own and not (is_own and row["id"] in holding)
                ]
                release_leases(tx, recipient, ids, _GONE, failed=not is_own)

        await self._store.write(sort_out)

    async def requeue_dead(self, message_id: int) -> Message:
        """Queues a dead message again, with all its attempts before it. Raises NotFoundError if it is not dead."""

        def revive(tx: Transaction) -> Message:
            if not tx.list("requeue_dead", id=message_id, reason="queued again by the operator"):
                raise NotFoundError(f"there is no dead message {message_id}", "`hive needs` shows those that are")
            message = get_message(tx, message_id)
            tell_state(
                tx, EventName.MESSAGE_REQUEUED, message.recipient, [message_id], MessageState.QUEUED, message.note
            )
            return message

        return await self._store.write(revive)

    async def expire_forever(self) -> None:
        """Ends what was not handed out in its time, for as long as the daemon runs."""
        while True:
            self._expiring.clear()
            row = await self._store.read(lambda view: view.get("next_expiry"))
            left_s = EXPIRY_WAIT_S if row["at"] is None else (row["at"] - to_millis(now())) / 1000
            if left_s <= 0:
                await self._store.write(expire_messages)
                continue
            try:
                async with asyncio.timeout(min(max(left_s, EXPIRY_CHECK_S), EXPIRY_WAIT_S)):
                    await self._expiring.wait()
                # What was sent is on its way to the disk.
                await asyncio.sleep(EXPIRY_CHECK_S)
            except TimeoutError:
                pass

    # -- looking -------------------------------------------------------------------------------------------

    async def list_receipts(self, sender: str, message_id: int) -> list[Message]:
        """What became of a message of the sender's, or of all of a broadcast by the id of its first.

        Raises NotFoundError if the sender sent no message of that id.
        """
        rows = await self._store.read(lambda view: view.list("list_receipts", sender=sender, id=message_id))
        if not rows:
            raise NotFoundError(f"you sent no message {message_id}", "use the id that send returned")
        return [to_message(row) for row in rows]

    async def list_messages(self, agent: str | None, before: int, limit: int) -> list[Message]:
        """The newest messages with an id below `before`, newest first; of one agent or of all."""
        rows = await self._store.read(lambda view: view.list("list_messages", agent=agent, before=before, limit=limit))
        return [to_message(row) for row in rows]

    async def list_inbox(self, before: int, limit: int) -> list[Message]:
        """The operator's messages with an id below `before`, newest first."""
        rows = await self._store.read(lambda view: view.list("list_inbox", before=before, limit=limit))
        return [to_message(row) for row in rows]


def _check(sending: Sending) -> None:
    if sending.recipient != EVERYBODY:
        parse_recipient(sending.recipient)
    parse_body(sending.body)
    check_ttl(sending.ttl_s)
    if sending.sender == sending.recipient:
        raise InvalidInputError("you cannot send to yourself", "write what matters to your notes instead")
    if sending.recipient == EVERYBODY and sending.in_reply_to is not None:
        raise InvalidInputError("a reply goes to one recipient", "leave in_reply_to out, or name whom to send to")


def _decide(policy: Policy, sending: Sending) -> Verdict:
    return decide_recipient(policy, sending.sender, sending.recipient).verdict


def _to_hive_error(error: Exception) -> HiveError:
    return error if isinstance(error, HiveError) else HiveError(f"the message could not be stored: {error}")


def _store_acks(tx: Transaction, ackings: Sequence[Acking]) -> None:
    rows = [[id_, acking.recipient, acking.generation] for acking in ackings for id_ in acking.ids]
    found = tx.get("find_leased", rows=json.dumps(rows))["ids"]
    held: set[int] = set(json.loads(found))
    tx.list("ack_messages", ids=found, at=tx.at_ms)
    for acking in ackings:
        # Of two that ack the same message one did.
        ids = [id_ for id_ in dict.fromkeys(acking.ids) if id_ in held]
        held.difference_update(ids)
        acking.acked = len(ids)
        tell_state(tx, EventName.MESSAGE_ACKED, acking.recipient, ids, MessageState.ACKED)


def _acked(ackings: Sequence[Acking], outcome: Exception | None) -> None:
    for acking in ackings:
        acking.done(acking.acked if outcome is None else outcome)
