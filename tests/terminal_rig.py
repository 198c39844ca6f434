"""Terminals in the daemon, on real sockets and a real store, with a harness of the test's that speaks the protocol."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hyperhive.core.errors import UnavailableError
from hyperhive.core.events import Event, EventName
from hyperhive.core.terminals import Terminal
from hyperhive.host.agent_records import insert_agent
from hyperhive.host.background import Background
from hyperhive.host.feed import Feed
from hyperhive.host.link.connection import Caller, LinkConnection
from hyperhive.host.store.store import Store
from hyperhive.host.terminal_stream import TerminalListener
from hyperhive.host.terminals import Attachment, Terminals
from hyperhive.system.sockets import bind_unix, connect_unix
from hyperhive.wire.agent_link import TERMINAL_OPEN
from hyperhive.wire.jsonrpc import METHOD_NOT_FOUND, ProtocolError, Request, decode_line, encode_error, encode_result
from terminal_viewer import Viewer

T = TypeVar("T")
DEADLINE_S = 30.0
GENERATION = 7


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
