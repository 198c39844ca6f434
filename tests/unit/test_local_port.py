"""The harness's port on the loopback: everything of it goes to egress.sock, whatever becomes of either side."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from egress_rig import DEADLINE_S, echo, serve_socket
from hyperhive.harness.local_port import CONNECTIONS_LIMIT, LocalPort
from hyperhive.system.sockets import bind_unix


def find_port() -> int:
    """A port that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.asynccontextmanager
async def run_port(port: int, path: Path) -> AsyncGenerator[None]:
    running = asyncio.create_task(LocalPort(port, path).run())
    try:
        await wait_open(port)
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def wait_open(port: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.01)


async def exchange(port: int, content: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(DEADLINE_S):
        writer.write(content)
        writer.write_eof()
        answer = await reader.read()
    writer.close()
    return answer


async def test_what_comes_in_goes_to_the_socket_and_back(tmp_path: Path) -> None:
    port, path = find_port(), tmp_path / "egress.sock"
    content = bytes(range(256)) * 8192
    async with serve_socket(echo, bind_unix(path)), run_port(port, path):
        assert await asyncio.gather(*(exchange(port, content) for _ in range(8))) == [content] * 8


async def test_while_the_daemon_is_away_connections_end_and_then_they_work_again(tmp_path: Path) -> None:
    port, path = find_port(), tmp_path / "egress.sock"
    async with run_port(port, path):
        assert await exchange(port, b"") == b""
        # A socket file that a daemon has left, and one that takes nobody.
        bind_unix(path).close()
        assert await exchange(port, b"") == b""
        async with serve_socket(echo, bind_unix(path)):
            assert await exchange(port, b"hello") == b"hello"


async def test_a_port_that_is_taken_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        running = asyncio.create_task(LocalPort(other.getsockname()[1], tmp_path / "egress.sock").run())
        async with asyncio.timeout(DEADLINE_S):
            while "cannot be had" not in caplog.text:
                await asyncio.sleep(0.01)
        assert not running.done()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_it_holds_no_more_connections_than_so_many_and_all_end_with_it(tmp_path: Path) -> None:
    port, path = find_port(), tmp_path / "egress.sock"
    async with serve_socket(echo, bind_unix(path)):
        async with run_port(port, path):
            opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS_LIMIT)]
            async with asyncio.timeout(DEADLINE_S):
                for reader, writer in opened:
                    writer.write(b"x")
                    assert await reader.readexactly(1) == b"x"
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                assert await reader.read() == b""
                writer.close()
        async with asyncio.timeout(DEADLINE_S):
            for reader, writer in opened:
                assert await reader.read() == b""
                writer.close()


async def test_port_0_means_none(tmp_path: Path) -> None:
    running = asyncio.create_task(LocalPort(0, tmp_path / "egress.sock").run())
    done, _ = await asyncio.wait([running], timeout=0.05)
    assert not done
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
