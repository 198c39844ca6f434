"""The egress proxy of one agent on a real socket, and servers behind it: what its tests are written with."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from hyperhive.core.egress import EgressPolicy, Target
from hyperhive.core.egress_entries import HTTPS_PORT
from hyperhive.core.errors import HiveError
from hyperhive.core.events import Event
from hyperhive.host.agent_records import insert_agent
from hyperhive.host.egress import Egress, EgressListener, Times
from hyperhive.host.egress_dial import Dialer, LookUp
from hyperhive.host.egress_grants import EgressGrants
from hyperhive.host.egress_log import EgressLog
from hyperhive.host.store.store import Store, Transaction
from hyperhive.system.sockets import bind_unix
from hyperhive.wire.operator.records import EgressRequest

DEADLINE_S = 20.0
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Connect = Callable[[Sequence[tuple[str, int]]], Awaitable[socket.socket]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Rig:
    """`policy` is what counts from the next request on; `places` is the operator's map.

    `events` are those of the hive's store, in which alice is an agent.
    """

    path: Path
    store: Store
    log: EgressLog
    policy: EgressPolicy | HiveError
    places: dict[Target, tuple[str, int]]
    clock: list[float]
    hive: Store
    events: list[Event]
    egress: Egress = field(init=False)
    listener: EgressListener = field(init=False)
    grants: EgressGrants = field(init=False)

    def put(self, host: str, place: tuple[str, int], port: int = HTTPS_PORT) -> None:
        """Has connections to `host` go to `place`."""
        self.places[Target(host, port)] = place

    async def ask(self, request: bytes) -> Streams:
        """A connection of the agent's that has sent `request`."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        writer.write(request)
        return reader, writer

    async def get_answer(self, request: bytes) -> bytes:
        """All that is answered until the other side ends."""
        reader, writer = await self.ask(request)
        with contextlib.closing(writer):
            async with asyncio.timeout(DEADLINE_S):
                return await reader.read()

    async def connect(self, target: str) -> Streams:
        """A tunnel to `target`, which has to be given."""
        reader, writer = await self.ask(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.readexactly(len(CONNECTED)) == CONNECTED
        return reader, writer

    async def get_refusal(self, target: str) -> bytes:
        return await self.get_answer(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())

    async def wait_requests(self, count: int) -> list[EgressRequest]:
        """The recorded requests, once there are `count`, the newest first."""
        async with asyncio.timeout(DEADLINE_S):
            while len(found := await self.log.list_requests("alice", 1000)) < count:
                await asyncio.sleep(0.01)
        assert len(found) == count, found
        return found


def look_up_in(table: Mapping[str, list[str]]) -> LookUp:
    """Looks names up in `table`; what is not in it is not known."""

    def look_up(name: str) -> list[str]:
        if name not in table:
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        return table[name]

    return look_up


@asynccontextmanager
async def open_rig(
    folder: Path,
    policy: EgressPolicy | HiveError = EgressPolicy("proxied", ("example.org", "*.example.org")),  # noqa: B008
    *,
    look_up: LookUp | None = None,
    times: Times | None = None,
    connect: Connect | None = None,
) -> AsyncGenerator[Rig]:
    """A proxy for the agent alice; all of it ends with the context. `connect` is that of `Dialer`."""
    store = Store(folder / "telemetry.sqlite", "telemetry")
    events: list[Event] = []
    hive = Store(folder / "hive.sqlite", "hive", events.extend)
    await hive.write(ensure_alice)
    clock = [0.0]
    log = EgressLog(store, hive, lambda: clock[0])
    rig = Rig(folder / "egress.sock", store, log, policy, {}, clock, hive, events)

    async def find_policy(agent: str) -> EgressPolicy:
        assert agent == "alice"
        if isinstance(rig.policy, HiveError):
            raise rig.policy
        return replace(rig.policy, granted=await rig.grants.find_targets(agent))

    async def find_mode(_: str) -> str:
        return rig.policy.mode if isinstance(rig.policy, EgressPolicy) else ""

    dialer = Dialer(rig.places, look_up or look_up_in({}), connect)
    rig.egress = Egress(find_policy, dialer.connect, log, times)
    rig.grants = EgressGrants(hive, find_mode, rig.egress.cut)
    rig.listener = rig.egress.open("alice", bind_unix(rig.path))
    try:
        yield rig
    finally:
        await rig.listener.close()
        store.close()
        hive.close()


def ensure_alice(tx: Transaction) -> None:
    if tx.find("get_agent", name="alice") is None:
        insert_agent(tx, "alice", None)


@asynccontextmanager
async def serve(handle: Handler, tls: ssl.SSLContext | None = None) -> AsyncGenerator[tuple[str, int]]:
    """A server on the loopback; its address and port."""
    listener = socket.create_server(("127.0.0.1", 0))
    address, port = listener.getsockname()
    async with serve_socket(handle, listener, tls):
        yield address, port


@asynccontextmanager
async def serve_socket(
    handle: Handler, listener: socket.socket, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[None]:
    """A server on `listener`, whose connections end with it."""
    tasks: set[asyncio.Task[None]] = set()

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handle(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(keep, sock=listener, ssl=tls)
    try:
        yield
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends everything back, then ends."""
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
