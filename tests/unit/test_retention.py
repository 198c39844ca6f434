"""What is settled goes after a while, and nothing else ever does."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyperhive.core.messages import MessageState
from hyperhive.core.names import OPERATOR
from hyperhive.host.message_records import queue_message
from hyperhive.host.retention import DELETE_LIMIT, Retention
from hyperhive.host.store.store import Transaction
from hyperhive.system.clock import now, to_millis
from message_desk import Desk, make_desk

DAYS = 30
SETTLED = (MessageState.ACKED, MessageState.EXPIRED)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = await make_desk(tmp_path)
    yield desk
    desk.close()


async def send_old(desk: Desk, state: MessageState, days_ago: float, body: str = "hello") -> int:
    sent = await desk.send("alice", "bob", body)
    desk.settle(sent, state, days_ago)
    return sent


async def list_ids(desk: Desk) -> list[int]:
    return [message.id for message in await desk.list_all()]


async def test_what_was_settled_long_ago_is_gone_with_its_text_and_its_words(desk: Desk) -> None:
    old = [await send_old(desk, state, DAYS + 1) for state in SETTLED]
    young = [await send_old(desk, state, DAYS - 1) for state in SETTLED]
    assert await desk.find("hello") == [*reversed(young), *reversed(old)]
    assert await desk.retention().delete_old() == 2
    assert await list_ids(desk) == young
    assert desk.execute("select id from bodies order by id") == [(id_,) for id_ in young]
    assert await desk.find("hello") == await desk.find(agent="alice") == young[::-1]
    assert desk.execute("select count(*) from messages") == [(2,)]
    left = await desk.index.run(lambda it: it.execute("select id from message_index_docsize").fetchall())
    assert [row[0] for row in left] == young


async def test_what_waits_stays_however_old_it_is(desk: Desk) -> None:
    kept = [await send_old(desk, state, 10 * DAYS) for state in (MessageState.QUEUED, MessageState.LEASED)]
    assert await desk.retention().delete_old() == 0
    assert await list_ids(desk) == kept


async def test_a_dead_message_goes_once_it_needs_nobody(desk: Desk) -> None:
    waits, dismissed, again, of_another = [await send_old(desk, MessageState.DEAD, DAYS + 1) for _ in range(4)]
    await desk.store.write(lambda tx: tx.list("dismiss_letter", id=dismissed))
    await desk.store.write(lambda tx: tx.list("dismiss_letter", id=again))
    # It was queued again, and died again.
    desk.settle(again, MessageState.DEAD, DAYS + 0.5)
    desk.execute("update messages set recipient = 'nobody' where id = ?", of_another)
    await desk.retention().delete_old()
    assert await list_ids(desk) == [waits, again]
    assert desk.execute("select message_id from dismissed") == [(again,)]


async def test_ids_are_never_used_again(desk: Desk) -> None:
    old = await send_old(desk, MessageState.ACKED, DAYS + 1)
    await desk.retention().delete_old()
    desk = desk.reopen()
    assert await desk.send("alice", "bob", "next") == old + 1
    desk.close()


async def test_what_is_left_of_a_thread_stays_together(desk: Desk) -> None:
    first = await desk.send("alice", "bob", "one")
    second = await desk.send("bob", "alice", "two", first)
    third = await desk.send("alice", "bob", "three", second)
    desk.settle(first, MessageState.ACKED, DAYS + 1)
    await desk.retention().delete_old()
    assert await desk.find(thread=first) == [third, second]
    assert (await desk.views.get_message(await desk.send("bob", "alice", "four", third))).thread == first


async def test_a_message_that_is_queued_again_meanwhile_is_not_deleted(desk: Desk) -> None:
    """What was over when it was looked at is looked at again when it is deleted."""
    sent = await send_old(desk, MessageState.DEAD, DAYS + 1)
    await desk.store.write(lambda tx: tx.list("dismiss_letter", id=sent))
    retention = desk.retention()
    read = desk.index.read
    rows = await read(lambda view: view.list("scan_old_messages", after=0, cutoff=2**62, limit=9))
    assert [(row["id"], row["is_over"]) for row in rows] == [(sent, 1)]
    desk.settle(sent, MessageState.QUEUED, DAYS + 1)
    assert await retention.delete([sent], 2**62) == 0
    assert await list_ids(desk) == [sent]


async def test_what_is_not_indexed_yet_can_be_deleted(desk: Desk) -> None:
    for _ in range(3):
        await send_old(desk, MessageState.ACKED, DAYS + 1)
    assert await desk.retention().delete_old() == 3
    sent = await desk.send("alice", "bob", "hello")
    assert await desk.find("hello") == [sent]


async def test_freed_room_is_used_again(desk: Desk) -> None:
    size = 0
    for round_ in range(4):
        for _ in range(40):
            await send_old(desk, MessageState.ACKED, DAYS + 1, "x" * 20_000)
        assert await desk.retention().delete_old() == 40
        desk.execute("pragma wal_checkpoint(truncate)")
        grown = (desk.folder / "hive.sqlite").stat().st_size
        assert round_ == 0 or grown <= size * 1.1
        size = max(size, grown)


async def test_zero_days_keep_everything(desk: Desk) -> None:
    sent = await send_old(desk, MessageState.ACKED, 1000)
    task = asyncio.ensure_future(desk.retention(0).run_forever())
    await asyncio.sleep(0)
    task.cancel()
    assert await list_ids(desk) == [sent]


async def test_much_goes_in_pieces_that_others_get_between(desk: Desk) -> None:
    """A transaction holds up everybody's messages: each deletes little."""
    count = 3 * DELETE_LIMIT

    def queue(tx: Transaction) -> None:
        for number in range(count):
            queue_message(tx, "alice", "bob", f"{number}" * 1000)

    await desk.store.write(queue)
    desk.execute("update messages set state = 'acked', sent_at = 0, settled_at = 0")
    deleting = asyncio.ensure_future(desk.retention().delete_old())
    seen: set[int] = set()
    while not deleting.done():
        seen.add(len(await desk.list_all()))
    assert await deleting == count
    assert len(seen - {0, count}) >= 2


STATES = st.sampled_from(list(MessageState))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    messages=st.lists(st.tuples(STATES, st.integers(0, 90), st.booleans(), st.sampled_from(["bob", OPERATOR]))),
    days=st.integers(1, 60),
    jump_days=st.integers(-5, 5),
)
async def test_nothing_unsettled_and_nothing_young_is_ever_deleted(
    desk: Desk, messages: list[tuple[MessageState, int, bool, str]], days: int, jump_days: int
) -> None:
    desk.execute("delete from messages")
    desk.execute("delete from bodies")
    kept: list[int] = []
    for state, days_ago, dismissed, recipient in messages:
        sent = await desk.send("alice", recipient, "hello")
        # Not on the day itself.
        desk.settle(sent, state, days_ago + 0.5)
        if dismissed and state is MessageState.DEAD:
            await desk.store.write(lambda tx, sent=sent: tx.list("dismiss_letter", id=sent))
        is_over = state in SETTLED or (state is MessageState.DEAD and (dismissed or recipient == OPERATOR))
        if not (is_over and days_ago + 0.5 > days - jump_days):
            kept.append(sent)
    clock = lambda: now() + timedelta(days=jump_days)  # noqa: E731
    await Retention(desk.store, desk.index, days, clock).delete_old()
    assert await list_ids(desk) == kept
    assert sorted(await desk.find("hello")) == kept


async def test_records_of_terminals_go_when_they_ended_long_ago(desk: Desk) -> None:
    def insert(tx: Transaction) -> None:
        for name, ended_days_ago in (("old", DAYS + 1), ("young", DAYS - 1), ("open", None)):
            opened_at = to_millis(now() - timedelta(days=3 * DAYS))
            size = {"generation": 1, "columns": 80, "rows": 24}
            tx.get("insert_terminal", id=name, agent="alice", opened_by="me", at=opened_at, **size)
            if ended_days_ago is not None:
                ended_at = to_millis(now() - timedelta(days=ended_days_ago))
                counts = {"columns": 80, "rows": 24, "bytes_in": 1, "bytes_out": 1}
                tx.get("end_terminal", id=name, at=ended_at, ending="exited", status=0, **counts)

    await desk.store.write(insert)
    assert await desk.retention().delete_old_terminals() == 1
    assert desk.execute("select id from terminals order by id") == [("open",), ("young",)]
    assert await desk.retention().delete_old_terminals() == 0
