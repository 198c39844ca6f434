"""A terminal's WebSocket behind the guard, on a real listener: who gets in, what is relayed, what ends it."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from hyperhive.core.errors import NotFoundError, RefusedError, TooManyError
from hyperhive.core.terminals import ANSWER_LIMIT_CHARS
from hyperhive.host.api import guard
from hyperhive.host.api.errors import add_error_handlers
from hyperhive.host.api.guard import Guard, cookie_name
from hyperhive.host.api.services import Services
from hyperhive.host.api.terminal_routes import terminal_routes
from hyperhive.host.api.terminal_socket import TEXT_LIMIT_CHARS, TYPED_LIMIT_BYTES
from hyperhive.host.terminal_live import UNACKNOWLEDGED_LIMIT_BYTES, TerminalViewer
from hyperhive.system.http_server import serve_http
from hyperhive.system.http_types import Receive, Scope, Send
from hyperhive.system.sockets import bind_unix
from hyperhive.system.web_socket import FRAGMENTS_LIMIT, MESSAGE_LIMIT_BYTES

SCREEN = b"$ ls\r\nnotes.md\r\n$ "
KNOWN = ("alice", "a" * 32)
TIMEOUT_S = 20


@dataclass
class FakeTerminals:
    """One terminal of `alice`, for one viewer at a time; it does what the test says."""

    viewer: TerminalViewer | None = None
    typed: bytearray = field(default_factory=bytearray)
    sizes: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    acknowledged: int = 0
    detached: int = 0
    takes: bool = True
    hears: bool = True

    def attach(self, agent: str, terminal_id: str, viewer: TerminalViewer, *, writes: bool) -> "FakeAttachment":
        if (agent, terminal_id) != KNOWN:
            raise NotFoundError(f"{agent} has no terminal {terminal_id!r} open", "list its terminals")
        self.viewer = viewer
        viewer.output(SCREEN)
        return FakeAttachment(self, writes)


@dataclass
class FakeAttachment:
    terminals: FakeTerminals
    writes: bool

    @property
    def answers(self) -> bool:
        return self.terminals.hears and self.writes

    def write(self, data: bytes) -> None:
        self._check()
        if not self.terminals.takes:
            raise TooManyError("the program in this terminal reads nothing")
        self.terminals.typed += data

    def resize(self, columns: int, rows: int) -> None:
        self._check()
        self.terminals.sizes.append((columns, rows))

    def acknowledge(self, count: int) -> None:
        self.terminals.acknowledged += count

    def detach(self) -> None:
        self.terminals.detached += 1

    def _check(self) -> None:
        if not self.writes:
            raise RefusedError("this is attached for reading", "attach for writing")


@dataclass
class Place:
    """A listener with a guard before it; `sessions` are the open ones."""

    port: int
    terminals: FakeTerminals
    sessions: set[str]

    async def attach(self, path: str = "", mode: str = "write", **headers: str) -> ClientConnection:
        origin = f"http://127.0.0.1:{self.port}"
        sent = {"cookie": f"{cookie_name(self.port)}=good", "origin": origin} | {
            name.replace("_", "-"): value.format(port=self.port) for name, value in headers.items()
        }
        path = path or f"/api/agents/{KNOWN[0]}/terminals/{KNOWN[1]}/socket?mode={mode}"
        return await connect(
            f"ws://127.0.0.1:{self.port}{path}",
            additional_headers={name: value for name, value in sent.items() if value},
            compression=None,
            proxy=None,
            max_size=None,
        )


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    terminals = FakeTerminals()
    sessions = {"good"}
    app = FastAPI()
    add_error_handlers(app)
    app.include_router(terminal_routes(cast("Services", SimpleNamespace(terminals=terminals))))

    async def is_session(session: str) -> bool:
        return session in sessions

    async def no_token(_: str) -> Any:
        raise AssertionError("a WebSocket with a token is refused before the token is looked at")

    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    listener = await serve_http(Guard(app, port, is_session, no_token), listening, web_sockets=True)
    async with asyncio.timeout(TIMEOUT_S):
        yield Place(port, terminals, sessions)
    await listener.close(timeout_s=1)


async def wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def end_of(connection: ClientConnection) -> int | None:
    """The code that it was closed with; what was sent before is read."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await connection.recv()
    return connection.close_code


async def refusal_of(attaching: Awaitable[ClientConnection]) -> tuple[int, dict[str, Any]]:
    with pytest.raises(InvalidStatus) as caught:
        await attaching
    response = caught.value.response
    return response.status_code, json.loads(response.body or b"{}")


async def test_what_is_on_the_terminal_comes_first_and_what_is_typed_arrives(place: Place) -> None:
    connection = await place.attach()
    assert await connection.recv() == SCREEN
    await connection.send(b"echo hi\r")
    await connection.send(json.dumps({"kind": "ack", "count": len(SCREEN)}))
    await connection.send(json.dumps({"kind": "resize", "columns": 120, "rows": 40}))
    await wait_for(lambda: bool(place.terminals.sizes))
    assert (bytes(place.terminals.typed), place.terminals.sizes) == (b"echo hi\r", [(120, 40)])
    assert place.terminals.acknowledged == len(SCREEN)
    await connection.close()
    await wait_for(lambda: place.terminals.detached > 0)


async def test_what_a_terminal_answers_is_written_where_it_is_heard_alone(place: Place) -> None:
    connection = await place.attach()
    answer = json.dumps({"kind": "answer", "text": "\x1b[?1;2c"})
    await connection.send(answer)
    await connection.send(b"x")
    await wait_for(lambda: place.terminals.typed.endswith(b"x"))
    place.terminals.hears = False
    await connection.send(answer)
    await connection.send(b"y")
    await wait_for(lambda: place.terminals.typed.endswith(b"y"))
    assert bytes(place.terminals.typed) == b"\x1b[?1;2cxy"
    reader = await place.attach(mode="read")
    place.terminals.hears = True
    await reader.send(answer)
    await reader.send(json.dumps({"kind": "ack", "count": len(SCREEN)}))
    await wait_for(lambda: place.terminals.acknowledged == len(SCREEN))
    assert bytes(place.terminals.typed) == b"\x1b[?1;2cxy"
    await connection.close()
    await reader.close()


async def test_an_answer_keeps_its_place_among_what_was_typed(place: Place) -> None:
    place.terminals.takes = False
    connection = await place.attach()
    await connection.recv()
    await connection.send(b"before ")
    await connection.send(json.dumps({"kind": "answer", "text": "\x1b[0n"}))
    await connection.send(b" after")
    await connection.send(json.dumps({"kind": "ack", "count": 5}))
    await wait_for(lambda: place.terminals.acknowledged == 5)
    place.terminals.takes = True
    await wait_for(lambda: place.terminals.typed.endswith(b"after"))
    assert bytes(place.terminals.typed) == b"before \x1b[0n after"
    await connection.close()


async def test_the_end_and_changes_of_size_are_told_in_order(place: Place) -> None:
    connection = await place.attach()
    assert await connection.recv() == SCREEN
    viewer = place.terminals.viewer
    assert viewer is not None
    viewer.output(b"one")
    viewer.resized(100, 30)
    viewer.output(b"two")
    viewer.ended(7)
    viewer.output(b"too late")
    assert await connection.recv() == b"one"
    assert json.loads(await connection.recv()) == {"kind": "resized", "columns": 100, "rows": 30}
    assert await connection.recv() == b"two"
    assert json.loads(await connection.recv()) == {"kind": "ended", "status": 7}
    assert await end_of(connection) == 1000


async def test_much_output_comes_in_frames_of_bounded_size_and_unchanged(place: Place) -> None:
    connection = await place.attach()
    viewer = place.terminals.viewer
    assert viewer is not None
    sent = bytes(range(256)) * 800
    for start in range(0, len(sent), 50_000):
        viewer.output(sent[start : start + 50_000])
    viewer.ended(0)
    frames: list[bytes] = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            frame = await connection.recv()
            if isinstance(frame, bytes):
                frames.append(frame)
    assert b"".join(frames) == SCREEN + sent
    assert max(map(len, frames)) <= 64 * 1024


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": ""}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://localhost:{port}"}, 403),
        ({"origin": "https://127.0.0.1:{port}"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "none"}, 403),
        ({"cookie": ""}, 401),
        ({"cookie": "hive_session_{port}=stolen"}, 401),
        ({"cookie": "hive_session_1=good"}, 401),
        ({"authorization": "Bearer hive_x"}, 403),
        ({"origin": "", "cookie": "", "authorization": "Bearer hive_x"}, 403),
    ],
)
async def test_whoever_is_not_the_operators_page_is_refused_with_a_reason(
    place: Place, headers: dict[str, str], status: int
) -> None:
    refused, body = await refusal_of(place.attach(**headers))
    assert refused == status
    assert body["message"]
    assert place.terminals.viewer is None


async def test_a_page_of_the_hive_itself_is_let_in(place: Place) -> None:
    connection = await place.attach(sec_fetch_site="same-origin")
    assert await connection.recv() == SCREEN
    await connection.close()


async def test_a_foreign_host_is_refused(place: Place) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    writer.write(
        f"GET /api/agents/alice/terminals/{KNOWN[1]}/socket HTTP/1.1\r\nhost: evil.example\r\n"
        f"origin: http://evil.example\r\ncookie: {cookie_name(place.port)}=good\r\nconnection: Upgrade\r\n"
        "upgrade: websocket\r\nsec-websocket-version: 13\r\n"
        "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 421 ")
    assert b"content-security-policy" in answer.lower()
    writer.close()


@pytest.mark.parametrize(
    "path",
    [
        f"/api/agents/bob/terminals/{KNOWN[1]}/socket",
        f"/api/agents/alice/terminals/{'b' * 32}/socket",
        "/api/agents/alice/terminals/..%2f/socket",
    ],
)
async def test_a_terminal_of_another_agent_or_none_is_not_found(place: Place, path: str) -> None:
    status, _ = await refusal_of(place.attach(path))
    assert status in (403, 404)
    assert place.terminals.viewer is None


async def test_a_mode_that_is_none_is_refused(place: Place) -> None:
    status, body = await refusal_of(place.attach(mode="both"))
    assert (status, body["code"]) == (400, "invalid_input")


@pytest.mark.parametrize(
    "message", [b"rm -rf /\r", json.dumps({"kind": "resize", "columns": 80, "rows": 24})], ids=["input", "resize"]
)
async def test_who_only_reads_and_writes_all_the_same_is_cut_off(place: Place, message: bytes | str) -> None:
    connection = await place.attach(mode="read")
    await connection.send(message)
    assert await end_of(connection) == 1008
    assert connection.close_reason == "this is attached for reading"
    assert not place.terminals.typed
    assert not place.terminals.sizes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '{"kind": "type"}',
        '{"kind": "ack"}',
        '{"kind": "ack", "count": 0}',
        '{"kind": "ack", "count": -1}',
        '{"kind": "ack", "count": 1e99}',
        '{"kind": "ack", "count": 1000000}',
        '{"kind": "answer"}',
        '{"kind": "answer", "text": ""}',
        '{"kind": "answer", "text": "\\ud800"}',
        json.dumps({"kind": "answer", "text": "x" * (ANSWER_LIMIT_CHARS + 1)}),
        '{"kind": "resize", "columns": 0, "rows": 24}',
        '{"kind": "resize", "columns": 80, "rows": 99999}',
        '{"kind": "resize", "columns": 80, "rows": 24, "more": 1}',
        "x" * (TEXT_LIMIT_CHARS + 1),
    ],
)
async def test_a_text_that_is_no_control_ends_the_connection(place: Place, text: str) -> None:
    connection = await place.attach()
    await connection.recv()
    await connection.send(text)
    assert await end_of(connection) == 1008
    await wait_for(lambda: place.terminals.detached > 0)


async def test_a_message_over_the_limit_ends_the_connection_and_is_not_typed(place: Place) -> None:
    connection = await place.attach()
    with contextlib.suppress(ConnectionClosed):
        await connection.send(b"x" * (MESSAGE_LIMIT_BYTES + 1))
    assert await end_of(connection) == 1009
    assert not place.terminals.typed


async def test_pieces_without_content_are_not_collected_for_ever(place: Place) -> None:
    connection = await place.attach()
    with contextlib.suppress(ConnectionClosed):
        await connection.send([b""] * (FRAGMENTS_LIMIT + 10))
    assert await end_of(connection) == 1009


async def test_a_text_that_is_no_utf_8_ends_the_connection(place: Place) -> None:
    connection = await place.attach()
    with contextlib.suppress(ConnectionClosed):
        await connection.send(b"\xff\xfe", text=True)
    assert await end_of(connection) == 1007


async def test_what_a_program_does_not_take_waits_and_acknowledgements_go_past_it(place: Place) -> None:
    place.terminals.takes = False
    connection = await place.attach()
    await connection.recv()
    for number in range(8):
        await connection.send(bytes([65 + number]) * 1000)
    await connection.send(json.dumps({"kind": "ack", "count": 5}))
    await wait_for(lambda: place.terminals.acknowledged == 5)
    place.terminals.takes = True
    await wait_for(lambda: len(place.terminals.typed) == 8000)
    assert bytes(place.terminals.typed) == b"".join(bytes([65 + number]) * 1000 for number in range(8))
    await connection.close()


async def test_more_than_anyone_types_ends_the_connection(place: Place) -> None:
    place.terminals.takes = False
    connection = await place.attach()
    with contextlib.suppress(ConnectionClosed):
        for _ in range(TYPED_LIMIT_BYTES // MESSAGE_LIMIT_BYTES + 1):
            await connection.send(b"x" * MESSAGE_LIMIT_BYTES)
    assert await end_of(connection) == 1008


async def test_a_viewer_that_was_too_slow_is_told_so_and_not_that_the_shell_ended(place: Place) -> None:
    connection = await place.attach()
    viewer = place.terminals.viewer
    assert viewer is not None
    viewer.output(b"x" * UNACKNOWLEDGED_LIMIT_BYTES)
    viewer.dropped()
    assert await end_of(connection) == 1013


async def test_a_viewer_that_reads_nothing_costs_bounded_memory_and_is_let_go(place: Place) -> None:
    connection = await place.attach()
    connection.transport.pause_reading()
    viewer = place.terminals.viewer
    assert viewer is not None
    for _ in range(100):
        viewer.output(b"x" * 64 * 1024)
    await wait_for(lambda: place.terminals.detached > 0)
    connection.transport.abort()


async def test_a_session_that_is_over_ends_its_terminals(place: Place) -> None:
    connection = await place.attach()
    await connection.recv()
    place.sessions.clear()
    looked_s = guard.SESSION_LOOK_S
    deadline = asyncio.get_running_loop().time() + looked_s + 5
    with contextlib.suppress(ConnectionClosed):
        while asyncio.get_running_loop().time() < deadline:
            await connection.send(b"x")
            await asyncio.sleep(0.1)
    assert await end_of(connection) == 1008
    assert connection.close_reason == "the session is over"


async def test_a_head_that_is_no_handshake_is_answered_and_closed(place: Place) -> None:
    for request in (
        b"POST / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"GET /"
        + b"a" * 9000
        + b" HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        writer.write(request)
        assert (await reader.read()).startswith(b"HTTP/1.1 4")
        writer.close()


async def test_frames_before_the_handshake_is_done_are_not_looked_at(place: Place) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    writer.write(
        f"GET /api/agents/alice/terminals/{KNOWN[1]}/socket HTTP/1.1\r\nhost: 127.0.0.1:{place.port}\r\n"
        "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    writer.write(b"\xff" * 5000)
    with contextlib.suppress(ConnectionResetError):
        assert (await reader.read()).startswith(b"HTTP/1.1 403 ")
    writer.close()


async def test_pings_of_a_client_that_reads_nothing_end_the_connection(place: Place) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    writer.write(
        f"GET /api/agents/alice/terminals/{KNOWN[1]}/socket HTTP/1.1\r\nhost: 127.0.0.1:{place.port}\r\n"
        f"origin: http://127.0.0.1:{place.port}\r\ncookie: {cookie_name(place.port)}=good\r\n"
        "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    assert (await reader.readline()).startswith(b"HTTP/1.1 101 ")
    ping = b"\x89\xfd\0\0\0\0" + b"x" * 125
    with pytest.raises(ConnectionError):
        while True:
            writer.write(ping * 500)
            await writer.drain()
    await wait_for(lambda: place.terminals.detached > 0)
    writer.close()


async def test_a_listener_without_websockets_answers_a_handshake_as_any_request(tmp_path: Path) -> None:
    async def answer(scope: Scope, _: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": scope["type"].encode()})

    listener = await serve_http(answer, bind_unix(tmp_path / "s"))
    reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
    writer.write(
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    assert (await reader.readuntil(b"\r\n\r\nhttp")).startswith(b"HTTP/1.1 200 ")
    writer.close()
    await listener.close(timeout_s=1)
