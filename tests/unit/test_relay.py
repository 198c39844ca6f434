"""What is carried between two sockets, and what becomes of everything else meanwhile."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from hyperhive.system.relay import PIECE_BYTES, Traffic, relay

DEADLINE_S = 20.0


@dataclass
class Line:
    """`near` and `far` are relayed; `client` and `server` are at their other ends."""

    client: socket.socket
    near: socket.socket
    far: socket.socket
    server: socket.socket

    async def run(self, traffic: Traffic, idle_s: float = 60.0) -> None:
        async with asyncio.timeout(DEADLINE_S):
            await relay(self.near, self.far, idle_s, traffic)


@pytest.fixture
def line() -> Iterator[Line]:
    with contextlib.ExitStack() as stack:
        ends = [stack.enter_context(end) for pair in (socket.socketpair(), socket.socketpair()) for end in pair]
        for end in ends:
            end.setblocking(False)
        yield Line(*ends)


async def test_bytes_and_ends_go_both_ways(line: Line) -> None:
    line.client.send(b"question")
    line.client.shutdown(socket.SHUT_WR)
    line.server.send(b"an answer")
    line.server.shutdown(socket.SHUT_WR)
    traffic = Traffic()
    await line.run(traffic)
    assert (line.server.recv(100), line.server.recv(100)) == (b"question", b"")
    assert (line.client.recv(100), line.client.recv(100)) == (b"an answer", b"")
    assert (traffic.up, traffic.down) == (8, 9)


async def test_everything_else_goes_on_between_two_pieces(line: Line) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            line.client.send(bytes(PIECE_BYTES))
    line.client.shutdown(socket.SHUT_WR)
    line.server.shutdown(socket.SHUT_WR)
    traffic = Traffic()
    running = asyncio.create_task(line.run(traffic))
    seen: set[int] = set()
    while not running.done():
        seen.add(traffic.up)
        with contextlib.suppress(BlockingIOError):
            line.server.recv(PIECE_BYTES)
        await asyncio.sleep(0)
    assert traffic.up > 2 * PIECE_BYTES
    assert len(seen) > 2


async def test_one_that_broke_off_ends_it(line: Line) -> None:
    # What was not read makes the closed socket a broken one.
    line.near.send(b"unread")
    line.client.close()
    await line.run(Traffic())


async def test_one_that_takes_nothing_ends_it_after_a_while(line: Line) -> None:
    traffic = Traffic()
    running = asyncio.create_task(line.run(traffic, idle_s=0.2))
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(DEADLINE_S):
            while not running.done():
                with contextlib.suppress(BlockingIOError):
                    line.client.send(bytes(PIECE_BYTES))
                await asyncio.sleep(0.01)
    await running
    assert traffic.down == 0
