"""Terminals in the daemon: real sockets and a real store, with a harness of the test's that speaks the protocol."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from hyperhive.core.errors import ConflictError, InvalidInputError, NotFoundError, TooManyError, UnavailableError
from hyperhive.core.events import Event, EventName
from hyperhive.core.terminals import RESET, SCROLLBACK_LIMIT_BYTES, Ending, Scrollback, Terminal
from hyperhive.host.agent_records import insert_agent
from hyperhive.host.background import Background
from hyperhive.host.feed import Feed
from hyperhive.host.link.connection import Caller, LinkConnection
from hyperhive.host.store.store import Store
from hyperhive.host.terminal_live import INPUT_LIMIT_BYTES, UNACKNOWLEDGED_LIMIT_BYTES, VIEWERS_LIMIT
from hyperhive.host.terminal_stream import HEAD_LIMIT_BYTES, STREAMS_LIMIT, TerminalListener
from hyperhive.host.terminals import Attachment, Terminals
from hyperhive.system.sockets import bind_unix, connect_unix
from hyperhive.wire.agent_link import TERMINAL_CLOSE, TERMINAL_OPEN, TERMINAL_RESIZE
from hyperhive.wire.jsonrpc import METHOD_NOT_FOUND, ProtocolError, Request, decode_line, encode_error, encode_result
from terminal_viewer import Viewer

T = TypeVar("T")
DEADLINE_S = 30.0
GENERATION = 7


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


async def eventually(look: Callable[[], T | None]) -> T:
    end_s = time.monotonic() + DEADLINE_S
    while not (seen := look()):
        assert time.monotonic() < end_s, f"not seen within {DEADLINE_S} s"
        await asyncio.sleep(0.01)
    return seen


class FakeHarness:
    """The far end of an agent's link and of its terminal.sock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.streams: dict[str, socket.socket] = {}
        self.connects = True
        self.error: Exception | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        reader, writer = await asyncio.open_unix_connection(self._folder / "hive.sock")
        self._serving = asyncio.create_task(self._serve(reader, writer))

    async def close(self) -> None:
        assert self._serving is not None
        self._serving.cancel()
        await asyncio.gather(self._serving, return_exceptions=True)
        for stream in self.streams.values():
            stream.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            request = decode_line(line)
            assert isinstance(request, Request)
            self.asked.append((request.method, request.params))
            if self.error is not None:
                writer.write(encode_error(request.id, self.error))
                continue
            if request.method == TERMINAL_OPEN and self.connects:
                self.streams[request.params["id"]] = self.connect(request.params["id"])
            writer.write(encode_result(request.id, {}))

    def connect(self, terminal_id: str, **fields: Any) -> socket.socket:
        head = {"terminal": terminal_id, "generation": GENERATION} | fields
        return self.connect_raw(json.dumps(head).encode() + b"\n")

    def connect_raw(self, head: bytes) -> socket.socket:
        stream = connect_unix(self._folder / "terminal.sock", timeout_s=DEADLINE_S)
        stream.sendall(head)
        stream.setblocking(False)
        return stream

    async def read(self, terminal: Terminal, size: int) -> bytes:
        data = b""
        async with asyncio.timeout(DEADLINE_S):
            while len(data) < size:
                data += await asyncio.get_running_loop().sock_recv(self.streams[terminal.id], size - len(data))
        return data

    async def write(self, terminal: Terminal, data: bytes) -> None:
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.get_running_loop().sock_sendall(self.streams[terminal.id], data)

    def list_asked(self, method: str) -> list[dict[str, Any]]:
        return [params for asked, params in self.asked if asked == method]


@dataclass
class Rig:
    store: Store
    terminals: Terminals
    background: Background
    harness: FakeHarness
    connections: list[LinkConnection]
    woken: list[str]
    events: list[Event] = field(default_factory=list[Event])

    async def open(self) -> Terminal:
        return await self.terminals.open("alice", 80, 24, "me")

    def attach(self, terminal: Terminal, viewer: Viewer, *, writes: bool = True) -> Attachment:
        return self.terminals.attach("alice", terminal.id, viewer, writes=writes)

    async def ended(self, terminal: Terminal) -> Terminal:
        await eventually(lambda: [event for event in self.events if event.name is EventName.TERMINAL_ENDED] or None)
        return next(one for one in await self.terminals.list("alice") if one.id == terminal.id)


def is_closed(stream: socket.socket) -> bool:
    try:
        return stream.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@contextlib.asynccontextmanager
async def open_rig(folder: Path, idle_s: float = 0) -> AsyncGenerator[Rig]:
    """A daemon's terminals; over the same folder again they are those of the next daemon."""
    feed = Feed()
    store = Store(folder / "hive.sqlite", "hive", feed.publish_events)
    background, connections, woken = Background(), list[LinkConnection](), list[str]()

    async def wake(agent: str) -> None:
        woken.append(agent)

    terminals = Terminals(store, background, wake, idle_s, look_every_s=0.05)

    def find_connection(agent: str) -> LinkConnection:
        if not connections:
            raise UnavailableError(f"{agent} is not connected")
        return connections[-1]

    links: list[LinkConnection] = []

    def lost(connection: LinkConnection) -> None:
        if connection in connections:
            connections.remove(connection)

    def take_link() -> LinkConnection:
        connection = LinkConnection("alice", refuse, lost)
        connection.caller = Caller("alice", GENERATION)
        connections.append(connection)
        links.append(connection)
        return connection

    terminals.call_over(find_connection)
    listener = TerminalListener("alice", terminals.accept)
    await listener.serve(bind_unix(folder / "terminal.sock"))
    link = await asyncio.get_running_loop().create_unix_server(take_link, sock=bind_unix(folder / "hive.sock"))
    harness = FakeHarness(folder)
    await harness.start()
    await eventually(lambda: connections)
    rig = Rig(store, terminals, background, harness, connections, woken)
    feed.listen(rig.events.append)
    feed.listen(terminals.on_event)
    running = asyncio.create_task(terminals.run_forever())
    try:
        if not await store.read(lambda view: view.find("get_agent", name="alice")):
            await store.write(lambda tx: insert_agent(tx, "alice", None))
        await terminals.load()
        yield rig
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        link.close()
        listener.close()
        await harness.close()
        for connection in links:
            connection.close()
        await eventually(lambda: not connections)
        await background.finish()
        await terminals.save()
        store.close()


def refuse(_connection: LinkConnection, request: Request) -> Awaitable[Any] | None:
    raise ProtocolError(METHOD_NOT_FOUND, request.method)


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
    assert (viewer.shown, viewer.endings) == (b"the last", [3])
    assert not rig.terminals.is_needed("alice")


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
        assert [asked["id"] for asked in rig.harness.list_asked(TERMINAL_CLOSE)] == [unseen.id]
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
