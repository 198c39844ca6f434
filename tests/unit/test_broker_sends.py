"""What messages are sent with: priorities, lifetimes, broadcasts, keys; and who is handed them at once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hyperhive.core.errors import InboxFullError, InvalidInputError, NotFoundError, TooLargeError
from hyperhive.core.events import Event, EventName
from hyperhive.core.messages import EVERYBODY, Message, MessageState, Priority
from hyperhive.core.names import MANAGER, OPERATOR
from hyperhive.core.policy import Policy
from hyperhive.host.agent_records import insert_agent
from hyperhive.host.broker import Broker
from hyperhive.host.feed import Feed
from hyperhive.host.sends import PAIR_LIMIT, QUEUE_LIMIT, Sending
from hyperhive.host.store.store import Store, Transaction

POLICIES = {"carol": Policy(allowed_recipients=("bob",))}


class Desk:
    def __init__(self, path: Path) -> None:
        self.events: list[Event] = []
        feed = Feed()
        self.store = Store(path, "hive", feed.publish_events)
        self.broker = Broker(self.store, self._get_policy, lambda name: POLICIES.get(name, Policy()))
        feed.listen(self.broker.on_event)
        feed.listen(self.events.append)

    async def _get_policy(self, name: str) -> Policy:
        return POLICIES.get(name, Policy())

    async def recv(self, name: str, wait_s: float = 0) -> list[Message]:
        async with asyncio.timeout(20):
            return (await self.broker.recv(name, 1, 10, wait_s))[0]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path / "hive.sqlite")
    for name in ("alice", "bob", "carol", "manager"):
        await desk.store.write(lambda tx, name=name: insert_agent(tx, name, None))
    yield desk
    desk.store.close()


async def wait_for_state(desk: Desk, sent: Message, state: MessageState) -> Message:
    async with asyncio.timeout(10):
        while True:
            [receipt] = await desk.broker.list_receipts(sent.sender, sent.id)
            if receipt.state is state:
                return receipt
            await asyncio.sleep(0.02)


async def test_what_is_urgent_comes_first_and_the_rest_in_order(desk: Desk) -> None:
    for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH, Priority.NORMAL, Priority.HIGH):
        await desk.broker.send("alice", "bob", priority.value, priority=priority)
    assert [message.body for message in await desk.recv("bob")] == ["high", "high", "normal", "normal", "low"]


async def test_a_message_that_nobody_fetched_in_time_expires_and_its_sender_can_see_it(desk: Desk) -> None:
    expiring = asyncio.create_task(desk.broker.expire_forever())
    sent = await desk.broker.send("alice", "bob", "soon or never", ttl_s=1)
    kept = await desk.broker.send("alice", "bob", "any time", ttl_s=3600)
    receipt = await wait_for_state(desk, sent, MessageState.EXPIRED)
    assert receipt.settled_at is not None
    assert [message.id for message in await desk.recv("bob")] == [kept.id]
    assert EventName.MESSAGE_EXPIRED in [event.name for event in desk.events]
    expiring.cancel()


async def test_what_was_fetched_in_time_does_not_expire(desk: Desk) -> None:
    expiring = asyncio.create_task(desk.broker.expire_forever())
    sent = await desk.broker.send("alice", "bob", "for now", ttl_s=1)
    other = await desk.broker.send("alice", "carol", "for now", ttl_s=1)
    assert [message.id for message in await desk.recv("bob")] == [sent.id]
    await wait_for_state(desk, other, MessageState.EXPIRED)
    assert await desk.broker.ack("bob", 1, [sent.id]) == 1
    expiring.cancel()


async def test_a_lifetime_out_of_range_is_refused(desk: Desk) -> None:
    for ttl_s in (0, -1, 1e9, float("nan")):
        with pytest.raises(InvalidInputError, match="ttl_seconds"):
            await desk.broker.send("alice", "bob", "hello", ttl_s=ttl_s)


async def test_a_broadcast_reaches_all_whom_its_sender_may_write_to(desk: Desk) -> None:
    waiting = asyncio.create_task(desk.recv("bob", 10))
    await asyncio.sleep(0)
    sent = await desk.broker.send_all("alice", "all hands")
    assert {message.recipient for message in sent} == {"bob", "carol", "manager"}
    [got] = await waiting
    assert got.body == "all hands" and got.broadcast == sent[0].id
    for name in ("carol", "manager"):
        assert [message.broadcast for message in await desk.recv(name)] == [sent[0].id]
    assert await desk.recv("alice") == []
    limited = await desk.broker.send_all("carol", "to mine")
    assert {message.recipient for message in limited} == {"bob", "manager"}


async def test_the_receipts_of_a_broadcast_are_found_by_the_id_of_its_first(desk: Desk) -> None:
    sent = await desk.broker.send_all("alice", "all hands")
    await desk.recv("bob")
    await desk.broker.ack("bob", 1, [message.id for message in sent if message.recipient == "bob"])
    states = {receipt.recipient: receipt.state for receipt in await desk.broker.list_receipts("alice", sent[0].id)}
    assert states == {
        "bob": MessageState.ACKED,
        "carol": MessageState.QUEUED,
        "manager": MessageState.QUEUED,
    }
    with pytest.raises(NotFoundError):
        await desk.broker.list_receipts("bob", sent[0].id)


async def test_a_repeated_broadcast_is_the_same_one(desk: Desk) -> None:
    for sender in ("alice", OPERATOR):
        first = await desk.broker.send_all(sender, "all hands", idempotency_key="the-broadcast")
        again = await desk.broker.send_all(sender, "all hands", idempotency_key="the-broadcast")
        assert [message.id for message in again] == [message.id for message in first]


async def test_a_broadcast_to_nobody_says_so(desk: Desk, tmp_path: Path) -> None:
    alone = Desk(tmp_path / "alone.sqlite")
    await alone.store.write(lambda tx: insert_agent(tx, "alice", None))
    with pytest.raises(NotFoundError, match="nobody"):
        await alone.broker.send_all("alice", "hello?")
    alone.store.close()


async def test_the_same_key_at_the_same_time_is_one_message(desk: Desk) -> None:
    sends = [desk.broker.send("alice", "bob", "once", idempotency_key="the-same-key") for _ in range(20)]
    assert len({message.id for message in await asyncio.gather(*sends)}) == 1
    assert len(await desk.recv("bob")) == 1


async def test_a_key_of_a_send_that_failed_can_be_used_again(desk: Desk) -> None:
    with pytest.raises(NotFoundError):
        await desk.broker.send("alice", "nobody", "hello", idempotency_key="the-same-key")
    sent = await desk.broker.send("alice", "bob", "hello", idempotency_key="the-same-key")
    assert [message.id for message in await desk.recv("bob")] == [sent.id]


async def test_keys_are_known_over_a_restart(desk: Desk, tmp_path: Path) -> None:
    first = await desk.broker.send("alice", "bob", "once", idempotency_key="the-same-key")
    other = Desk(tmp_path / "hive.sqlite")
    await other.broker.load()
    assert (await other.broker.send("alice", "bob", "once", idempotency_key="the-same-key")).id == first.id
    # A key is its sender's own.
    assert (await other.broker.send("carol", "bob", "mine", idempotency_key="the-same-key")).id != first.id
    other.store.close()


async def test_who_waits_is_handed_all_of_a_commit_in_order_and_not_again(desk: Desk) -> None:
    assert await desk.recv("bob") == []
    waiting = asyncio.create_task(desk.recv("bob", 10))
    await asyncio.sleep(0)
    sends = [desk.broker.send(sender, "bob", f"{sender} {n}") for n in range(3) for sender in ("alice", "carol")]
    sent = {message.id for message in await asyncio.gather(*sends)}
    got = await waiting
    ids = [message.id for message in got]
    assert ids == sorted(ids)
    while sent - set(ids):
        ids += [message.id for message in await desk.recv("bob")]
    assert ids == sorted(sent)


async def test_a_wait_that_was_given_up_gets_nothing(desk: Desk) -> None:
    assert await desk.recv("bob") == []
    waiting = asyncio.create_task(desk.recv("bob", 10))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    sent = await desk.broker.send("alice", "bob", "hello")
    assert [(message.id, message.deliveries) for message in await desk.recv("bob")] == [(sent.id, 1)]


async def test_of_several_who_wait_each_message_has_one(desk: Desk) -> None:
    assert await desk.recv("bob") == []
    waits = [asyncio.create_task(desk.recv("bob", 10)) for _ in range(3)]
    await asyncio.sleep(0)
    for n in range(3):
        await desk.broker.send("alice", "bob", str(n))
    got = await asyncio.gather(*waits)
    assert sorted(message.body for messages in got for message in messages) == ["0", "1", "2"]


async def test_another_harness_ends_the_waits_of_the_one_before(desk: Desk) -> None:
    assert await desk.recv("bob") == []
    waiting = asyncio.create_task(desk.recv("bob", 10))
    await asyncio.sleep(0)
    desk.broker.leave_all("bob")
    assert await waiting == []


async def test_a_dead_message_can_be_queued_again(desk: Desk) -> None:
    sent = await desk.broker.send("alice", "bob", "poison")
    for _ in range(5):
        await desk.recv("bob")
        await desk.broker.requeue("bob", 1, [sent.id], "the turn failed", failed=True)
    assert await desk.recv("bob") == []
    again = await desk.broker.requeue_dead(sent.id)
    assert again.state is MessageState.QUEUED
    [got] = await desk.recv("bob")
    assert got.id == sent.id and got.redelivered
    with pytest.raises(NotFoundError):
        await desk.broker.requeue_dead(sent.id)


async def test_a_queue_has_its_limit(desk: Desk) -> None:
    def fill(tx: Transaction) -> None:
        rest = (1, 0, None, None, None, None, None, "queued", None, 0)
        tx.insert_many("insert_sent", [(n, "alice", "bob", *rest) for n in range(1, QUEUE_LIMIT + 1)])

    await desk.store.write(fill)
    with pytest.raises(TooLargeError, match="10,000 messages wait for bob"):
        await desk.broker.send("alice", "bob", "one more")
    await desk.broker.send("alice", "carol", "hello")


def queue_many(sender: str, first: int, count: int) -> Callable[[Transaction], None]:
    def fill(tx: Transaction) -> None:
        rest = (1, 0, None, None, None, None, None, "queued", None, 0)
        tx.insert_many("insert_sent", [(n, sender, "bob", *rest) for n in range(first, first + count)])
        tx.insert_many("insert_body_row", [(n, "hello") for n in range(first, first + count)])

    return fill


async def test_one_sender_does_not_fill_the_inbox_of_another_and_is_told_so(desk: Desk) -> None:
    await desk.store.write(queue_many("alice", 1, PAIR_LIMIT))
    with pytest.raises(InboxFullError, match="2,000 messages of yours wait for bob") as caught:
        await desk.broker.send("alice", "bob", "one more")
    assert (caught.value.code, "put what you have to say into one" in caught.value.hint) == ("inbox_full", True)
    await desk.broker.send("carol", "bob", "another's")
    await desk.broker.send("alice", "carol", "to another")
    await desk.broker.send(OPERATOR, "bob", "the operator's")
    # What bob has read makes room again.
    assert await desk.recv("bob")
    await desk.broker.send("alice", "bob", "one more")


async def test_those_between_two_are_counted_on_as_they_come(desk: Desk) -> None:
    await desk.store.write(queue_many("alice", 1, PAIR_LIMIT - 3))
    outcomes = await asyncio.gather(
        *(desk.broker.send("alice", "bob", "more") for _ in range(6)), return_exceptions=True
    )
    assert [isinstance(outcome, InboxFullError) for outcome in outcomes] == [False] * 3 + [True] * 3


async def test_the_last_room_of_an_inbox_is_for_the_manager_and_the_operator(desk: Desk) -> None:
    for number, sender in enumerate(("a", "b", "c", "d", "e")):
        await desk.store.write(queue_many(sender, 1 + number * 1800, 1800))
    with pytest.raises(InboxFullError, match="9,000 messages wait for bob"):
        await desk.broker.send("alice", "bob", "one more")
    await desk.broker.send(MANAGER, "bob", "the manager's")
    await desk.store.write(queue_many("f", 20_000, 499))
    with pytest.raises(InboxFullError, match="9,500 messages wait"):
        await desk.broker.send(MANAGER, "bob", "the manager's")
    await desk.broker.send(OPERATOR, "bob", "the operator's")


async def test_a_reply_to_all_is_refused(desk: Desk) -> None:
    with pytest.raises(InvalidInputError, match="one recipient"):
        await desk.broker.send_checked(Sending("alice", EVERYBODY, "hello", in_reply_to=1))


async def test_one_of_many_that_cannot_be_sent_does_not_take_the_others_along(desk: Desk) -> None:
    recipients = ["bob", "nobody", "carol", "nobody", "bob"]
    sends = [desk.broker.send("alice", recipient, "hello") for recipient in recipients]
    outcomes = await asyncio.gather(*sends, return_exceptions=True)
    assert [isinstance(outcome, NotFoundError) for outcome in outcomes] == [False, True, False, True, False]
    assert (len(await desk.recv("bob")), len(await desk.recv("carol"))) == (2, 1)
