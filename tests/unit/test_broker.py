"""The broker on a real store: nothing lost, nothing again after ack, order kept."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hyperhive.core.errors import InvalidInputError, NotFoundError, RefusedError, TooLargeError
from hyperhive.core.messages import BODY_LIMIT_BYTES, DELIVERY_ATTEMPTS, RECV_LIMIT_BYTES, MessageState
from hyperhive.core.policy import Policy
from hyperhive.host.agent_records import insert_agent
from hyperhive.host.broker import Broker
from hyperhive.host.feed import Feed
from hyperhive.host.hibernation_records import mark_hibernated, mark_woken
from hyperhive.host.store.store import Store


async def get_policy(name: str) -> Policy:
    """Everybody may write to anyone, but for carol."""
    return Policy(allowed_recipients=("bob",)) if name == "carol" else Policy()


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    feed = Feed()
    store = Store(tmp_path / "hive.sqlite", "hive", feed.publish_events)
    broker = Broker(store, get_policy, lambda _: None)
    feed.listen(broker.on_event)
    for name in ("alice", "bob", "carol", "manager"):
        await store.write(lambda tx, name=name: insert_agent(tx, name, None))
    yield broker
    store.close()


async def test_a_message_is_leased_once_and_gone_after_its_ack(broker: Broker) -> None:
    sent = await broker.send("alice", "bob", "hello")
    messages, waiting = await broker.recv("bob", 1, 10, 0)
    assert [(m.id, m.sender, m.body, m.deliveries) for m in messages] == [(sent.id, "alice", "hello", 1)]
    assert waiting == 0
    assert (await broker.recv("bob", 1, 10, 0))[0] == []
    assert await broker.ack("bob", 1, [sent.id]) == 1
    assert await broker.ack("bob", 1, [sent.id]) == 0
    await broker.reclaim("bob", 2, [])
    assert (await broker.recv("bob", 2, 10, 0))[0] == []


async def test_a_wait_ends_with_the_message(broker: Broker) -> None:
    waiting = asyncio.ensure_future(broker.recv("bob", 1, 10, 30))
    await asyncio.sleep(0)
    await broker.send("alice", "bob", "hello")
    async with asyncio.timeout(5):
        messages, _ = await waiting
    assert [message.body for message in messages] == ["hello"]


async def test_what_a_failed_commit_did_not_hand_out_comes_before_what_is_sent_after_it(tmp_path: Path) -> None:
    feed = Feed()
    store = Store(tmp_path / "hive.sqlite", "hive", feed.publish_events)
    broker = Broker(store, get_policy, lambda _: None)
    feed.listen(broker.on_event)
    for name in ("alice", "bob", "carol"):
        await store.write(lambda tx, name=name: insert_agent(tx, name, None))
    first = await broker.send("alice", "bob", "first")
    gate = threading.Event()
    blocked = asyncio.ensure_future(store.write(lambda _: gate.wait(20)))
    await asyncio.sleep(0)
    # Both are looked for at once, and no number of SQLite's is as large: nothing of either is stored.
    taking = [broker.recv("bob", 1, 10, 30), broker.recv("carol", 2**70, 10, 30)]
    both = asyncio.gather(*taking, return_exceptions=True)
    await asyncio.sleep(0)
    gate.set()
    await blocked
    assert [type(outcome) for outcome in await both] == [OverflowError, OverflowError]
    again = asyncio.ensure_future(broker.recv("bob", 1, 10, 30))
    await asyncio.sleep(0)
    await broker.send("alice", "bob", "second")
    async with asyncio.timeout(20):
        messages, _ = await again
    assert messages[0].id == first.id
    store.close()


async def test_what_comes_while_its_container_is_being_stopped_is_not_handed_to_that_one(tmp_path: Path) -> None:
    feed = Feed()
    store = Store(tmp_path / "hive.sqlite", "hive", feed.publish_events)
    broker = Broker(store, get_policy, lambda _: None)
    feed.listen(broker.on_event)
    for name in ("alice", "bob"):
        await store.write(lambda tx, name=name: insert_agent(tx, name, None))
    waiting = asyncio.ensure_future(broker.recv("bob", 1, 10, 30))
    await asyncio.sleep(0)
    assert await store.write(lambda tx: mark_hibernated(tx, "bob", 0))
    await broker.send("alice", "bob", "hello")
    assert await broker.recv("bob", 1, 10, 0) == ([], 0)
    [message] = await broker.list_messages("bob", 99, 9)
    assert message.state is MessageState.QUEUED and not waiting.done()
    # What was not stopped after all gets it at once.
    await store.write(lambda tx: mark_woken(tx, "bob"))
    async with asyncio.timeout(5):
        messages, _ = await waiting
    assert [message.body for message in messages] == ["hello"]
    assert messages[0].deliveries == 1
    store.close()


async def test_looking_without_a_wait_returns_at_once(broker: Broker) -> None:
    async with asyncio.timeout(2):
        assert await broker.recv("bob", 1, 10, 0) == ([], 0)


async def test_order_is_kept_also_for_what_was_given_back(broker: Broker) -> None:
    ids = [(await broker.send("alice", "bob", str(n))).id for n in range(5)]
    first, waiting = await broker.recv("bob", 1, 2, 0)
    assert ([m.id for m in first], waiting) == (ids[:2], 3)
    await broker.requeue("bob", 1, ids[:2], "the turn failed", failed=True)
    again, _ = await broker.recv("bob", 1, 10, 0)
    assert [m.id for m in again] == ids
    assert [m.redelivered for m in again] == [True, True, False, False, False]


async def test_after_enough_failures_a_message_is_dead_and_says_why(broker: Broker) -> None:
    sent = await broker.send("alice", "bob", "poison")
    for _ in range(DELIVERY_ATTEMPTS):
        messages, _ = await broker.recv("bob", 1, 10, 0)
        assert [m.id for m in messages] == [sent.id]
        await broker.requeue("bob", 1, [sent.id], "the turn failed", failed=True)
    assert (await broker.recv("bob", 1, 10, 0))[0] == []
    [message] = await broker.list_messages("bob", 2**62, 10)
    assert (message.state, message.note) == (MessageState.DEAD, "the turn failed")


async def test_giving_back_unfailed_never_makes_a_message_dead(broker: Broker) -> None:
    sent = await broker.send("alice", "bob", "patience")
    for _ in range(DELIVERY_ATTEMPTS + 3):
        messages, _ = await broker.recv("bob", 1, 10, 0)
        assert [m.id for m in messages] == [sent.id]
        await broker.requeue("bob", 1, [sent.id], "needs login", failed=False)


async def test_a_new_harness_gets_what_the_old_one_held_and_the_old_one_cannot_ack_it(broker: Broker) -> None:
    sent = await broker.send("alice", "bob", "hello")
    await broker.recv("bob", 1, 10, 0)
    await broker.reclaim("bob", 2, [sent.id])
    messages, _ = await broker.recv("bob", 2, 10, 0)
    assert [(m.id, m.redelivered) for m in messages] == [(sent.id, True)]
    assert await broker.ack("bob", 1, [sent.id]) == 0
    assert await broker.ack("bob", 2, [sent.id]) == 1


async def test_what_ends_every_harness_that_reads_it_is_dead_in_the_end(broker: Broker) -> None:
    sent = await broker.send("alice", "bob", "run: kill -9 -1")
    for generation in range(1, DELIVERY_ATTEMPTS + 1):
        await broker.reclaim("bob", generation, [])
        messages, _ = await broker.recv("bob", generation, 10, 0)
        assert [m.id for m in messages] == [sent.id]
    await broker.reclaim("bob", DELIVERY_ATTEMPTS + 1, [])
    assert (await broker.recv("bob", DELIVERY_ATTEMPTS + 1, 10, 0))[0] == []
    [message] = await broker.list_messages("bob", 2**62, 10)
    assert message.state is MessageState.DEAD


async def test_a_harness_that_reconnects_keeps_what_it_holds(broker: Broker) -> None:
    held = await broker.send("alice", "bob", "held")
    lost = await broker.send("alice", "bob", "handed out, never arrived")
    await broker.recv("bob", 1, 10, 0)
    await broker.reclaim("bob", 1, [held.id])
    messages, _ = await broker.recv("bob", 1, 10, 0)
    assert [m.id for m in messages] == [lost.id]
    assert await broker.ack("bob", 1, [held.id]) == 1


async def test_one_key_makes_one_message(broker: Broker) -> None:
    sent = [await broker.send("alice", "bob", "hello", idempotency_key="key-1234") for _ in range(3)]
    assert len({message.id for message in sent}) == 1
    other = await broker.send("bob", "alice", "hello", idempotency_key="key-1234")
    assert other.id != sent[0].id


async def test_nobody_acks_for_another(broker: Broker) -> None:
    sent = await broker.send("alice", "bob", "hello")
    await broker.recv("bob", 1, 10, 0)
    assert await broker.ack("alice", 1, [sent.id]) == 0
    assert await broker.requeue("alice", 1, [sent.id], "", failed=True) == 0


async def test_what_cannot_be_sent_is_refused_and_nothing_is_queued(broker: Broker) -> None:
    with pytest.raises(NotFoundError):
        await broker.send("alice", "nobody", "hello")
    with pytest.raises(InvalidInputError):
        await broker.send("alice", "../bob", "hello")
    with pytest.raises(InvalidInputError):
        await broker.send("alice", "alice", "hello")
    with pytest.raises(InvalidInputError):
        await broker.send("alice", "bob", "  ")
    with pytest.raises(TooLargeError):
        await broker.send("alice", "bob", "x" * (BODY_LIMIT_BYTES + 1))
    assert await broker.list_messages(None, 2**62, 10) == []


async def test_a_reply_joins_the_thread_of_what_it_answers(broker: Broker) -> None:
    question = await broker.send("alice", "bob", "?")
    answer = await broker.send("bob", "alice", "!", in_reply_to=question.id)
    thanks = await broker.send("alice", "bob", "thanks", in_reply_to=answer.id)
    assert (answer.thread, thanks.thread) == (question.id, question.id)


async def test_nobody_replies_to_a_message_of_others(broker: Broker) -> None:
    private = await broker.send("alice", "operator", "between us")
    with pytest.raises(NotFoundError):
        await broker.send("bob", "operator", "listening in", in_reply_to=private.id)


async def test_the_operator_reads_without_a_lease(broker: Broker) -> None:
    sent = await broker.send("alice", "operator", "done")
    assert [m.id for m in await broker.list_inbox(2**62, 10)] == [sent.id]
    await broker.mark_read(sent.id)
    await broker.mark_read(sent.id)
    [message] = await broker.list_inbox(2**62, 10)
    assert message.state is MessageState.ACKED
    with pytest.raises(NotFoundError):
        await broker.mark_read(999)


async def test_one_answer_is_bounded_by_bytes_and_the_next_one_goes_on(broker: Broker) -> None:
    bodies = ["x" * BODY_LIMIT_BYTES for _ in range(5)]
    for body in bodies:
        await broker.send("alice", "bob", body)
    sizes: list[int] = []
    while messages := (await broker.recv("bob", 1, 32, 0))[0]:
        sizes.append(len(messages))
        assert sum(len(message.body) for message in messages) <= RECV_LIMIT_BYTES
    assert sizes == [2, 2, 1]


async def test_who_is_not_on_the_senders_list_gets_nothing_and_that_is_recorded(broker: Broker) -> None:
    with pytest.raises(RefusedError, match="may send to: bob, manager"):
        await broker.send("carol", "alice", "psst")
    assert await broker.recv("alice", 1, 10, 0) == ([], 0)
    assert (await broker.send("carol", "bob", "hello")).recipient == "bob"
    assert (await broker.send("carol", "manager", "help")).recipient == "manager"
    assert (await broker.send("operator", "carol", "hello")).recipient == "carol"
