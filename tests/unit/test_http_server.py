"""The bounds of an HTTP listener: how many connect, and how long the head of a request may take."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from hyperhive.system.http_server import serve_http
from hyperhive.system.http_types import Receive, Scope, Send
from hyperhive.system.sockets import bind_unix

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]

HEAD_TIMEOUT_S = 0.3
GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


async def answer(_: Scope, __: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
async def connect(tmp_path: Path) -> AsyncIterator[Connect]:
    path = tmp_path / "s"
    opened: list[asyncio.StreamWriter] = []
    listener = await serve_http(answer, bind_unix(path), connections_limit=2, head_timeout_s=HEAD_TIMEOUT_S)

    async def open_one() -> Streams:
        reader, writer = await asyncio.open_unix_connection(path)
        opened.append(writer)
        return reader, writer

    yield open_one
    for writer in opened:
        writer.close()
    await listener.close(timeout_s=1)


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        return await reader.read()


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nhost:"])
async def test_a_head_that_does_not_come_to_an_end_is_not_waited_for(connect: Connect, start: bytes) -> None:
    reader, writer = await connect()
    writer.write(start)
    assert await read_to_end(reader) == b""


async def test_after_an_answer_a_head_has_its_time_from_its_first_byte_on(connect: Connect) -> None:
    reader, writer = await connect()
    for _ in range(3):
        writer.write(GET)
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
    writer.write(GET[:10])
    assert await read_to_end(reader) == b""


async def test_one_connection_too_many_is_cut_off_and_the_others_go_on(connect: Connect) -> None:
    first, second = await connect(), await connect()
    for reader, writer in (first, second):
        writer.write(GET)
        await reader.readuntil(b"ok")
    third, _ = await connect()
    with contextlib.suppress(ConnectionResetError):
        assert await read_to_end(third) == b""
    first[1].write(GET)
    assert (await first[0].readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")


async def test_garbage_after_an_answer_that_came_early_just_ends_the_connection(connect: Connect) -> None:
    reader, writer = await connect()
    writer.write(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
    await reader.readuntil(b"ok")
    writer.write(b"ZZZ\r\n")
    assert await read_to_end(reader) == b""
