"""The index of messages on a real store: what is sent is found, whatever becomes of the file or the text."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyperhive.core.errors import NotFoundError, StorageError
from hyperhive.core.messages import MessageState, SenderKind
from hyperhive.core.names import MANAGER, OPERATOR, SYSTEM
from hyperhive.core.search import parse_search
from hyperhive.host.message_index import BATCH_BYTES, BATCH_MESSAGES, find_reach
from hyperhive.host.message_views import NEWEST, MessageFilter
from hyperhive.host.store.queries import QUERIES
from hyperhive.host.store.store import Transaction
from message_desk import Desk, make_desk, open_desk

NUMBERS = MessageFilter(search=parse_search("number"))


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = await make_desk(tmp_path)
    yield desk
    desk.close()


async def list_indexed(desk: Desk) -> list[int]:
    """The ids that are in the index. Fails if one is in it more than once."""

    def look(connection: sqlite3.Connection) -> tuple[list[int], bytes]:
        found = connection.execute("select rowid from message_index where message_index match 'who : s*'")
        averages = connection.execute("select block from message_index_data where id = 1").fetchone()[0]
        return sorted(row[0] for row in found), averages

    ids, averages = await desk.index.run(look)
    assert read_varint(averages) == len(ids)
    return ids


def read_varint(block: bytes) -> int:
    """How many rows FTS5 has counted: the first number of its averages."""
    value = 0
    for byte in block:
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            break
    return value


async def check_index(desk: Desk) -> None:
    statement = "insert into message_index (message_index) values ('integrity-check')"
    await desk.index.run(lambda connection: connection.execute(statement))


# -- searching -----------------------------------------------------------------------------------------------


async def test_a_message_just_sent_is_found(desk: Desk) -> None:
    sent = await desk.send("alice", "bob", "the build of retry_after is broken: src/app.py:12")
    for text in ("build", "BUILD broken", '"is broken"', "retry_after", "after", "app.py", "bro*", "src/app.py:12"):
        assert await desk.find(text) == [sent], text
    for text in ("buil", '"broken is"', "build missing", "++"):
        assert await desk.find(text) == [], text


async def test_what_is_found_is_the_newest_first_and_comes_in_pages(desk: Desk) -> None:
    ids = [await desk.send("alice", "bob", f"lease {number}") for number in range(7)]
    assert await desk.find("lease", limit=3) == ids[:-4:-1]
    assert await desk.find("lease", before=ids[4], limit=3) == [ids[3], ids[2], ids[1]]
    assert await desk.find("lease", before=ids[0]) == []


async def test_a_search_goes_with_every_filter(desk: Desk) -> None:
    first = await desk.send("alice", "bob", "lease")
    reply = await desk.send("bob", "alice", "lease, too", first)
    ordered = await desk.send(OPERATOR, "carol", "lease it")
    noticed = await desk.send(SYSTEM, MANAGER, "lease ended")
    asked = await desk.send(MANAGER, OPERATOR, "which lease")
    desk.settle(reply, MessageState.DEAD)
    desk.settle(ordered, MessageState.ACKED)
    assert await desk.find("lease", agent="alice") == [reply, first]
    assert await desk.find("lease", agent="alic") == []
    assert await desk.find("lease", state=MessageState.DEAD) == [reply]
    assert await desk.find("lease", state=MessageState.QUEUED) == [asked, noticed, first]
    assert await desk.find("lease", state=MessageState.ACKED, agent="carol") == [ordered]
    assert await desk.find("lease", state=MessageState.QUEUED, agent="bob") == [first]
    for kind, found in (
        (SenderKind.OPERATOR, [ordered]),
        (SenderKind.SYSTEM, [noticed]),
        (SenderKind.MANAGER, [asked]),
        (SenderKind.PEER, [reply, first]),
    ):
        assert await desk.find("lease", kind=kind) == found
        assert await desk.find(kind=kind) == found
    assert await desk.find("lease", thread=first) == [reply, first]
    assert await desk.find("too", thread=first) == [reply]
    assert await desk.find("lease", thread=999) == []


async def test_a_thread_is_its_first_message_and_all_that_answer_it(desk: Desk) -> None:
    first = await desk.send("alice", "bob", "one")
    second = await desk.send("bob", "alice", "two", first)
    third = await desk.send("alice", "bob", "three", second)
    await desk.send("alice", "bob", "apart")
    assert await desk.find(thread=first) == [third, second, first]
    assert await desk.find(thread=first, before=third) == [second, first]


async def test_the_list_of_an_agent_is_whole_however_far_the_index_is(desk: Desk, tmp_path: Path) -> None:
    ids = [await desk.send("alice", "bob" if number % 2 else "carol", f"n{number}") for number in range(2500)]
    desk.close()
    (tmp_path / "search.sqlite").unlink()
    desk = open_desk(tmp_path)
    new = [await desk.send("carol", "alice", "new") for _ in range(5)]
    wanted = sorted([*ids[::2], *new], reverse=True)
    lists = [await desk.find(agent="carol", limit=10**6)]
    while await desk.index.advance():
        lists.append(await desk.find(agent="carol", limit=10**6))
        reach = await desk.index.read(find_reach)
        assert (
            await desk.find(agent="carol", before=reach.low + 3, limit=4)
            == [id_ for id_ in wanted if id_ < reach.low + 3][:4]
        )
    assert len(lists) > 3
    assert all(found == wanted for found in lists)
    desk.close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text(st.characters(), max_size=200) | st.text('"*^()-+:{}\0\ud800 aBé', max_size=40))
async def test_no_search_is_an_error(desk: Desk, text: str) -> None:
    if not await desk.list_all():
        await desk.send("alice", "bob", "a B é")
    narrowed: list[dict[str, Any]] = [{}, {"agent": "alice"}, {"state": MessageState.QUEUED}, {"thread": 1}]
    for wanted in narrowed:
        await desk.find(text, **wanted)


@pytest.mark.parametrize(
    "agent", ['"', "'; drop table messages; --", "alice OR bob", "\0", "é" * 200, "s616c696365", ""]
)
async def test_a_name_that_is_none_finds_nothing(desk: Desk, agent: str) -> None:
    await desk.send("alice", "bob", "hello")
    for text in ("", "hello"):
        assert await desk.find(text, agent=agent) == []


async def test_a_message_that_is_not_there_is_not_found(desk: Desk) -> None:
    sent = await desk.send("alice", "bob", "hello")
    assert (await desk.views.get_message(sent)).body == "hello"
    assert [message.id for message in await desk.views.list_receipts(sent)] == [sent]
    with pytest.raises(NotFoundError):
        await desk.views.get_message(sent + 1)


async def test_the_inbox_is_the_operators_and_may_be_narrowed(desk: Desk) -> None:
    first = await desk.send("alice", OPERATOR, "one")
    other = await desk.send("bob", OPERATOR, "two")
    await desk.send(OPERATOR, "alice", "answer", first)
    reply = await desk.send("alice", OPERATOR, "three", first)
    desk.settle(first, MessageState.ACKED)

    async def list_inbox(thread: int | None = None, *, unread: bool = False, limit: int = 50) -> list[int]:
        messages = await desk.views.list_inbox(NEWEST, limit, thread, unread=unread)
        return [message.id for message in messages]

    assert await list_inbox() == [reply, other, first]
    assert await list_inbox(limit=1) == [reply]
    assert await list_inbox(first) == [reply, first]
    assert await list_inbox(unread=True) == [reply, other]
    assert await list_inbox(first, unread=True) == [reply]


# -- following -----------------------------------------------------------------------------------------------


async def test_each_message_is_indexed_once_in_bounded_batches(desk: Desk) -> None:
    ids = [await desk.send("alice", "bob", f"number {number}") for number in range(BATCH_MESSAGES + 10)]
    assert await desk.index.advance() == BATCH_MESSAGES
    assert await desk.index.advance() == 10
    assert await desk.index.advance() == 0
    assert await list_indexed(desk) == ids


async def test_large_messages_make_small_batches(desk: Desk) -> None:
    for _ in range(40):
        await desk.send("alice", "bob", "x" * 64 * 1024)
    assert await desk.index.advance() == BATCH_BYTES // (64 * 1024)


async def test_an_index_that_is_gone_is_made_anew_from_the_newest_on(desk: Desk, tmp_path: Path) -> None:
    ids = [await desk.send("alice", "bob", f"number {number}") for number in range(BATCH_MESSAGES + 500)]
    await desk.index.catch_up()
    desk.close()
    (tmp_path / "search.sqlite").unlink()
    desk = open_desk(tmp_path)
    found = await desk.views.find_messages(NUMBERS, NEWEST, 10)
    assert (found.messages, found.unsearched) == ([], len(ids))
    await desk.index.advance()
    found = await desk.views.find_messages(NUMBERS, NEWEST, 10)
    assert ([message.id for message in found.messages], found.unsearched) == (ids[:-11:-1], 500)
    while await desk.index.advance():
        pass
    found = await desk.views.find_messages(NUMBERS, NEWEST, 10)
    assert found.unsearched == 0
    assert await list_indexed(desk) == ids
    desk.close()


async def test_a_damaged_index_is_made_anew_when_it_is_opened(desk: Desk, tmp_path: Path) -> None:
    sent = await desk.send("alice", "bob", "hello")
    assert await desk.find("hello") == [sent]
    desk.close()
    (tmp_path / "search.sqlite").write_bytes(b"this is no database" * 1000)
    desk = open_desk(tmp_path)
    await desk.index.advance()
    assert await desk.find("hello") == [sent]
    desk.close()


async def test_an_index_damaged_while_in_use_is_made_anew(desk: Desk, tmp_path: Path) -> None:
    ids = [await desk.send("alice", "bob", f"hello {number}" * 20) for number in range(300)]
    await desk.index.catch_up()
    desk.close()
    with (tmp_path / "search.sqlite").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xaa" * (file.seek(0, 2) - 4096))
    desk = open_desk(tmp_path)
    while await desk.index.advance():
        pass
    assert await desk.find("hello", limit=500) == ids[::-1]
    desk.close()


async def test_the_index_of_other_messages_is_made_anew(desk: Desk, tmp_path: Path) -> None:
    """As when an older copy of the store was put back: its ids are used again."""
    await desk.send("alice", "bob", "kept")
    await desk.send("alice", "bob", "lost")
    await desk.index.catch_up()
    desk.execute("delete from messages where id = 2")
    desk.execute("delete from bodies where id = 2")
    desk.execute("update sqlite_sequence set seq = 1 where name = 'messages'")
    desk = desk.reopen()
    again = await desk.send("alice", "bob", "other")
    while await desk.index.advance():
        pass
    assert await desk.find("lost") == []
    assert await desk.find("other") == [again]
    assert await desk.find("kept") == [1]
    desk.execute("update messages set sent_at = 5 where id = 2")
    desk.execute("update bodies set body = 'changed' where id = 2")
    desk = desk.reopen()
    while await desk.index.advance():
        pass
    assert await desk.find("changed") == [again]
    await check_index(desk)
    desk.close()


async def test_a_notice_whose_text_is_replaced_is_found_by_the_new_text_alone(desk: Desk) -> None:
    sent = await desk.send(SYSTEM, "alice", "crashed once")
    assert await desk.find("once") == [sent]

    def replace(tx: Transaction) -> None:
        tx.list("replace_body", id=sent, body="crashed twice")

    await desk.store.write(replace)
    assert await desk.find("once") == []
    assert await desk.find("twice") == [sent]
    desk.settle(sent, MessageState.ACKED)
    assert await desk.find("twice") == [sent]
    assert await desk.index.run(lambda connection: connection.execute("select * from index_copies").fetchall()) == []
    await check_index(desk)


async def test_the_index_cannot_write_the_messages(desk: Desk) -> None:
    await desk.send("alice", "bob", "hello")
    for statement in (
        "delete from hive.messages",
        "update bodies set body = ''",
        "insert into hive.bodies values (9, '')",
    ):
        with pytest.raises(StorageError, match="not authorized"):
            await desk.index.run(lambda connection, statement=statement: connection.execute(statement))


# -- plans ---------------------------------------------------------------------------------------------------

INDEXED = {
    "list_waiting_messages": "messages_waiting",
    "list_waiting_for": "messages_waiting (recipient=?)",
    "list_dead_messages": "messages_dead",
    "list_thread_messages": "messages_by_thread (thread=?)",
    "find_messages": "VIRTUAL TABLE",
}


@pytest.mark.parametrize("query", INDEXED)
async def test_no_list_that_is_narrowed_down_reads_all_messages(desk: Desk, query: str) -> None:
    names = ("match", "before", "after", "agent", "recipient", "state", "kind", "thread", "limit")
    values = dict.fromkeys(names, 1) | {"match": "x"}

    def explain(connection: sqlite3.Connection) -> list[str]:
        return [row["detail"] for row in connection.execute("explain query plan " + QUERIES[query], values)]

    plan = await desk.index.run(explain)
    assert any(INDEXED[query] in step for step in plan), plan
    scans = [step for step in plan if step.startswith(("SCAN messages", "SCAN bodies")) and "messages_" not in step]
    assert scans == [], plan
