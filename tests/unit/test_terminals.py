"""Terminals in the daemon: real sockets and a real store, with a harness of the test's that speaks the protocol."""

import asyncio
import time
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import pytest

from hyperhive.core.errors import ConflictError, InvalidInputError, NotFoundError, TooManyError, UnavailableError
from hyperhive.core.events import EventName
from hyperhive.core.terminals import (
    HIVE_TERMINALS_LIMIT,
    RESET,
    SCROLLBACK_LIMIT_BYTES,
    TERMINALS_LIMIT,
    Ending,
    Scrollback,
)
from hyperhive.host.agent_records import insert_agent
from hyperhive.host.link.connection import Caller
from hyperhive.host.store.store import Transaction
from hyperhive.host.terminal_live import INPUT_LIMIT_BYTES, UNACKNOWLEDGED_LIMIT_BYTES, VIEWERS_LIMIT
from hyperhive.host.terminal_stream import HEAD_LIMIT_BYTES, STREAMS_LIMIT
from hyperhive.system.clock import now
from hyperhive.wire.agent_link import TERMINAL_CLOSE, TERMINAL_OPEN, TERMINAL_RESIZE
from hyperhive.wire.jsonrpc import METHOD_NOT_FOUND, ProtocolError
from terminal_rig import GENERATION, Rig, eventually, is_closed, open_rig
from terminal_viewer import Viewer

# -- what is kept of a terminal ----------------------------------------------------------------------------


def test_little_is_kept_as_it_is() -> None:
    scrollback = Scrollback(16)
    scrollback.add(b"one\ntwo")
    assert scrollback.read() == b"one\ntwo"


def test_what_is_kept_of_much_begins_at_a_line() -> None:
    scrollback = Scrollback(16)
    for number in range(1000):
        scrollback.add(b"line %d\n" % number)
        assert len(scrollback.read()) <= 16
    assert scrollback.read() == b"line 999\n"


def test_without_a_line_it_begins_with_a_sequence_and_without_one_anywhere() -> None:
    scrollback = Scrollback(16)
    scrollback.add(b"x" * 40 + b"\x1b[31mred")
    assert scrollback.read() == b"\x1b[31mred"
    scrollback.add(b"y" * 40)
    assert scrollback.read() == b"y" * 16


def test_what_is_cleared_is_gone() -> None:
    scrollback = Scrollback(16)
    scrollback.add(b"x" * 100)
    scrollback.clear()
    scrollback.add(b"new\nlines")
    assert scrollback.read() == b"new\nlines"


# -- the daemon's side -------------------------------------------------------------------------------------


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncGenerator[Rig]:
    async with open_rig(tmp_path) as rig:
        yield rig


async def test_opening_wakes_the_agent_and_bytes_go_both_ways(rig: Rig) -> None:
    terminal = await rig.open()
    assert rig.woken == ["alice"]
    assert rig.harness.asked == [(TERMINAL_OPEN, {"id": terminal.id, "columns": 80, "rows": 24})]
    viewer = Viewer()
    attachment = rig.attach(terminal, viewer)
    attachment.write(b"typed")
    assert await rig.harness.read(terminal, 5) == b"typed"
    await rig.harness.write(terminal, b"shown")
    await eventually(lambda: viewer.shown == b"shown")
    (row,) = await rig.terminals.list("alice")
    assert (row.viewers, row.bytes_in, row.bytes_out, row.opened_by) == (1, 5, 5, "me")
    assert rig.terminals.is_needed("alice")


async def test_the_shell_ends_once_all_that_it_wrote_was_shown(rig: Rig) -> None:
    terminal, viewer = await rig.open(), Viewer()
    rig.attach(terminal, viewer)
    rig.terminals.note_ended(Caller("alice", GENERATION), terminal.id, 3)
    await rig.harness.write(terminal, b"the last")
    rig.harness.streams[terminal.id].close()
    ended = await rig.ended(terminal)
    assert (ended.ending, ended.status, ended.bytes_out) == (Ending.EXITED, 3, 8)
    await eventually(lambda: viewer.endings)
    assert (viewer.shown, viewer.endings) == (b"the last", [3])
    await eventually(lambda: not rig.terminals.is_needed("alice"))


async def test_whoever_is_told_of_the_end_finds_it_written_down(rig: Rig) -> None:
    terminal, viewer = await rig.open(), Viewer()
    rig.attach(terminal, viewer)
    busy = asyncio.create_task(rig.store.write(lambda _: time.sleep(0.3)))
    rig.terminals.note_ended(Caller("alice", GENERATION), terminal.id, 3)
    rig.harness.streams[terminal.id].close()
    await eventually(lambda: viewer.endings)
    (row,) = await rig.terminals.list("alice")
    assert (row.ending, row.status) == (Ending.EXITED, 3)
    await busy


async def test_another_agent_reaches_nothing_of_a_terminal(rig: Rig) -> None:
    terminal = await rig.open()
    await rig.store.write(lambda tx: insert_agent(tx, "bob", None))
    rig.terminals.note_ended(Caller("bob", GENERATION), terminal.id, 0)
    rig.terminals.note_ended(Caller("alice", GENERATION + 1), terminal.id, 0)
    with pytest.raises(NotFoundError):
        rig.terminals.attach("bob", terminal.id, Viewer(), writes=False)
    with pytest.raises(NotFoundError):
        await rig.terminals.close("bob", terminal.id)
    assert rig.background.count() == 0
    assert [one.ended_at for one in await rig.terminals.list("alice")] == [None]


@pytest.mark.parametrize(
    "head",
    [
        b"\n",
        b"not json\n",
        b'{"terminal": 1, "generation": 7}\n',
        b'{"terminal": "nonsense", "generation": 7}\n',
        b'{"terminal": "ID", "generation": 6}\n',
        b'{"terminal": "ID", "generation": 7, "more": 1}\n',
        b'{"terminal": "ID", "generation": 7, "replay": 99999999}\n',
        b"x" * (HEAD_LIMIT_BYTES + 1),
        b"x" * 200_000,
        b"\xff" * 10 + b"\n",
    ],
)
async def test_a_connection_that_names_no_open_terminal_is_closed(rig: Rig, head: bytes) -> None:
    rig.harness.connects = False
    opening = asyncio.create_task(rig.open())
    ((_, asked),) = await eventually(lambda: rig.harness.asked)
    stream = rig.harness.connect_raw(head.replace(b"ID", asked["id"].encode()))
    await eventually(lambda: is_closed(stream))
    stream.close()
    rig.harness.streams[asked["id"]] = rig.harness.connect(asked["id"])
    await opening


async def test_a_terminal_has_one_connection_and_a_second_gets_nothing(rig: Rig) -> None:
    terminal = await rig.open()
    second = rig.harness.connect(terminal.id)
    await eventually(lambda: is_closed(second))
    second.close()
    rig.attach(terminal, Viewer()).write(b"typed")
    assert await rig.harness.read(terminal, 5) == b"typed"


async def test_connections_that_say_nothing_are_bounded(rig: Rig) -> None:
    streams = [rig.harness.connect_raw(b"") for _ in range(STREAMS_LIMIT + 1)]
    await eventually(lambda: is_closed(streams[-1]))
    assert not any(is_closed(stream) for stream in streams[:-1])
    for stream in streams:
        stream.close()


async def test_who_writes_and_is_behind_holds_the_harness_up_until_it_acknowledges(rig: Rig) -> None:
    terminal, viewer = await rig.open(), Viewer()
    attachment = rig.attach(terminal, viewer)
    writing = asyncio.create_task(rig.harness.write(terminal, b"x" * 4_000_000))
    await eventually(lambda: len(viewer.shown) > UNACKNOWLEDGED_LIMIT_BYTES)
    held = len(viewer.shown)
    # The loop goes round, and with what the socket holds nothing comes.
    await asyncio.wait([writing], timeout=0.3)
    assert len(viewer.shown) == held <= 3 * UNACKNOWLEDGED_LIMIT_BYTES
    assert not writing.done()

    def acknowledge() -> bool:
        attachment.acknowledge(2**40)
        return len(viewer.shown) == 4_000_000

    await eventually(acknowledge)
    await writing


async def test_who_only_reads_and_is_behind_misses_output_and_then_sees_all_anew(rig: Rig) -> None:
    terminal, viewer, writer = await rig.open(), Viewer(), Viewer()
    attachment = rig.attach(terminal, viewer, writes=False)
    writing = rig.attach(terminal, writer)
    sending = asyncio.create_task(rig.harness.write(terminal, b"line\n" * 400_000 + b"the end"))

    def acknowledge() -> bool:
        writing.acknowledge(2**40)
        return writer.shown.endswith(b"the end")

    await eventually(acknowledge)
    await sending
    assert len(viewer.shown) < 4 * UNACKNOWLEDGED_LIMIT_BYTES
    assert b"the end" not in viewer.shown
    attachment.acknowledge(len(viewer.shown))
    last = viewer.shown.rpartition(RESET)[2]
    assert last.startswith(b"line\n")
    assert last.endswith(b"the end")
    assert len(last) <= SCROLLBACK_LIMIT_BYTES


async def test_a_viewer_that_is_silent_for_long_is_detached_and_the_program_goes_on(rig: Rig) -> None:
    terminal, viewer = await rig.open(), Viewer()
    attachment = rig.attach(terminal, viewer)
    await rig.harness.write(terminal, b"x" * 4_000_000)
    assert viewer.is_dropped
    assert viewer.endings == []
    with pytest.raises(ConflictError):
        attachment.write(b"typed")
    assert [one.viewers for one in await rig.terminals.list("alice")] == [0]


async def test_what_is_typed_while_nothing_reads_is_bounded(rig: Rig) -> None:
    terminal = await rig.open()
    attachment = rig.attach(terminal, Viewer())
    with pytest.raises(TooManyError):
        for _ in range(1000):
            attachment.write(b"x" * 64 * 1024)
    assert len(await rig.harness.read(terminal, INPUT_LIMIT_BYTES)) == INPUT_LIMIT_BYTES


async def test_a_size_is_told_to_all_and_the_last_of_many_to_the_harness(rig: Rig) -> None:
    terminal, viewer, other = await rig.open(), Viewer(), Viewer()
    attachment = rig.attach(terminal, viewer)
    rig.attach(terminal, other, writes=False)
    for columns in range(100, 200):
        attachment.resize(columns, 50)
    attachment.resize(199, 50)
    await eventually(lambda: rig.background.count() == 0)
    sent = [asked["columns"] for asked in rig.harness.list_asked(TERMINAL_RESIZE)]
    assert sent[-1] == 199
    assert len(sent) <= 2
    assert viewer.sizes == other.sizes == [(columns, 50) for columns in range(100, 200)]
    with pytest.raises(InvalidInputError):
        attachment.resize(0, 50)


async def test_a_terminal_has_a_limit_of_viewers(rig: Rig) -> None:
    terminal = await rig.open()
    attachments = [rig.attach(terminal, Viewer()) for _ in range(VIEWERS_LIMIT)]
    with pytest.raises(TooManyError):
        rig.attach(terminal, Viewer())
    attachments[0].detach()
    attachments[0].detach()
    rig.attach(terminal, Viewer())


async def test_of_several_who_may_type_the_terminal_of_who_typed_last_answers(rig: Rig) -> None:
    terminal = await rig.open()
    looker = rig.attach(terminal, Viewer(), writes=False)
    first, second = rig.attach(terminal, Viewer()), rig.attach(terminal, Viewer())
    assert [one.answers for one in (looker, first, second)] == [False, True, False]
    second.write(b"vim\r")
    assert [one.answers for one in (looker, first, second)] == [False, False, True]
    # A size is not typed: windows change theirs by themselves.
    first.resize(90, 30)
    assert second.answers
    second.detach()
    assert [one.answers for one in (looker, first, second)] == [False, True, False]
    third = rig.attach(terminal, Viewer())
    first.detach()
    assert third.answers


async def test_a_new_agent_of_the_same_name_has_none_of_the_old_ones_terminals(rig: Rig) -> None:
    terminal = await rig.open()
    await rig.terminals.close("alice", terminal.id)
    await rig.ended(terminal)
    await rig.store.write(lambda tx: tx.list("mark_destroyed", name="alice", at=tx.at_ms))
    await rig.store.write(lambda tx: tx.list("revive_agent", name="alice"))
    assert [one.id for one in await rig.terminals.list("alice")] == [terminal.id]
    await rig.store.write(lambda tx: tx.list("delete_agent", name="alice"))
    # Instants are milliseconds.
    await eventually(lambda: now() - terminal.opened_at > timedelta(milliseconds=10))
    await rig.store.write(lambda tx: insert_agent(tx, "alice", None))
    assert await rig.terminals.list("alice") == []
    with pytest.raises(NotFoundError):
        await rig.terminals.close("alice", terminal.id)


async def test_what_was_open_when_the_daemon_died_ends_if_its_agent_is_gone(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        terminal = await rig.open()
        await rig.store.write(lambda tx: tx.list("mark_destroyed", name="alice", at=tx.at_ms))
    async with open_rig(tmp_path) as rig:
        (ended,) = [event for event in rig.events if event.name is EventName.TERMINAL_ENDED]
        assert (ended.body["id"], ended.body["ending"]) == (terminal.id, Ending.STOPPED)
        assert not rig.terminals.is_needed("alice")


async def test_the_next_daemon_goes_on_with_what_was_open_and_counts_no_replay(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        terminal = await rig.open()
        viewer = Viewer()
        rig.attach(terminal, viewer).write(b"typed")
        await rig.harness.write(terminal, b"shown")
        await eventually(lambda: viewer.shown)
    async with open_rig(tmp_path) as rig:
        viewer = Viewer()
        attachment = rig.attach(terminal, viewer)
        attachment.write(b"early")
        rig.terminals.greeted("alice", GENERATION)
        rig.harness.streams[terminal.id] = rig.harness.connect(terminal.id, replay=5)
        await rig.harness.write(terminal, b"shown and more")
        await eventually(lambda: viewer.shown == b"shown and more")
        assert viewer.replays == [5]
        assert await rig.harness.read(terminal, 5) == b"early"
        (row,) = await rig.terminals.list("alice")
        assert (row.bytes_in, row.bytes_out) == (10, 14)
        # The link alone was new: all is shown anew.
        rig.terminals.greeted("alice", GENERATION)
        old, rig.harness.streams[terminal.id] = (
            rig.harness.streams[terminal.id],
            rig.harness.connect(terminal.id, replay=14),
        )
        await rig.harness.write(terminal, b"shown and more")
        await eventually(lambda: viewer.shown == b"shown and more" + RESET + b"shown and more")
        late = Viewer()
        rig.attach(terminal, late)
        assert viewer.replays == [5, len(RESET) + 14]
        assert late.replays == [14]
        assert is_closed(old)
        old.close()
        assert viewer.endings == []


async def test_a_harness_of_another_start_of_the_container_has_none_of_the_old_terminals(rig: Rig) -> None:
    terminal, viewer = await rig.open(), Viewer()
    rig.attach(terminal, viewer)
    rig.terminals.greeted("alice", GENERATION + 1)
    assert (await rig.ended(terminal)).ending is Ending.STOPPED
    await eventually(lambda: viewer.endings)
    assert viewer.endings == [None]


async def test_a_container_that_ends_ends_them(rig: Rig) -> None:
    terminal = await rig.open()
    await rig.store.write(lambda tx: tx.emit(EventName.AGENT_CRASHED, "alice", {}))
    assert (await rig.ended(terminal)).ending is Ending.STOPPED


async def test_one_that_nobody_uses_is_closed_and_one_that_somebody_sees_is_not(tmp_path: Path) -> None:
    async with open_rig(tmp_path, idle_s=0.5) as rig:
        seen, unseen = await rig.open(), await rig.open()
        rig.attach(seen, Viewer(), writes=False)
        assert (await rig.ended(unseen)).ending is Ending.IDLE
        assert {asked["id"] for asked in rig.harness.list_asked(TERMINAL_CLOSE)} == {unseen.id}
        assert [one.id for one in await rig.terminals.list("alice")] == [seen.id, unseen.id]


async def test_a_harness_that_refuses_leaves_a_record_and_nothing_open(rig: Rig) -> None:
    rig.harness.error = ProtocolError(METHOD_NOT_FOUND, "there is no method 'terminal.open'")
    with pytest.raises(UnavailableError):
        await rig.open()
    await eventually(lambda: rig.background.count() == 0)
    assert [one.ending for one in await rig.terminals.list("alice")] == [Ending.FAILED]
    assert [event.name for event in rig.events][-2:] == [EventName.TERMINAL_OPENED, EventName.TERMINAL_ENDED]


async def test_an_opening_that_nobody_waits_for_any_more_leaves_nothing_open(rig: Rig) -> None:
    rig.harness.connects = False
    opening = asyncio.create_task(rig.open())
    await eventually(lambda: rig.harness.asked)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    await eventually(lambda: rig.background.count() == 0)
    assert [one.ending for one in await rig.terminals.list("alice")] == [Ending.FAILED]
    assert rig.harness.list_asked(TERMINAL_CLOSE)


@pytest.mark.parametrize(("agent", "error"), [("nobody", NotFoundError), ("not a name", InvalidInputError)])
async def test_an_unknown_agent_has_no_terminals(rig: Rig, agent: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await rig.terminals.open(agent, 80, 24, "me")
    with pytest.raises(error):
        await rig.terminals.list(agent)


async def test_no_terminal_without_a_harness_and_none_of_an_impossible_size(rig: Rig) -> None:
    with pytest.raises(InvalidInputError):
        await rig.terminals.open("alice", 0, 24, "me")
    rig.connections.clear()
    with pytest.raises(UnavailableError):
        await rig.open()
    assert await rig.terminals.list("alice") == []


async def test_all_agents_together_have_so_many_and_each_its_own_share(rig: Rig) -> None:
    def open_many(tx: Transaction, agent: str, count: int) -> None:
        for number in range(count):
            tx.get(
                "insert_terminal",
                id=f"{agent}-{number}",
                agent=agent,
                generation=GENERATION,
                opened_by="operator",
                at=tx.at_ms,
                columns=80,
                rows=24,
            )

    await rig.store.write(lambda tx: open_many(tx, "alice", TERMINALS_LIMIT))
    with pytest.raises(TooManyError, match="alice has 8 terminals open"):
        await rig.open()
    await rig.store.write(lambda tx: open_many(tx, "others", HIVE_TERMINALS_LIMIT - TERMINALS_LIMIT))
    with pytest.raises(TooManyError, match="128 terminals are open in all"):
        await rig.open()
