"""Carries bytes between two connected sockets, both ways, until both sides have ended or nothing moves any more."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

PIECE_BYTES = 64 * 1024


@dataclass(slots=True)
class Traffic:
    """What was carried so far: `up` from the near socket to the far one, `down` the other way."""

    up: int = 0
    down: int = 0
    moved_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())


async def relay(near: socket.socket, far: socket.socket, idle_s: float, traffic: Traffic) -> None:
    """Returns when both sides have ended, one broke off, or nothing was carried for `idle_s`. Closes neither.

    An end of one side is passed on, and the other may go on. At most a piece for each way is held in memory: who
    reads slowly is sent to slowly. Both sockets have to be non-blocking.
    """

    def went_up(size: int) -> None:
        traffic.up += size

    def went_down(size: int) -> None:
        traffic.down += size

    pumps = {
        asyncio.ensure_future(_pump(near, far, traffic, went_up)),
        asyncio.ensure_future(_pump(far, near, traffic, went_down)),
    }
    waiting = pumps
    try:
        while waiting:
            left_s = traffic.moved_at + idle_s - asyncio.get_running_loop().time()
            if left_s <= 0:
                return
            done, waiting = await asyncio.wait(waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            for pump in done:
                pump.result()
    except OSError:
        return
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def relay_answer(
    near: socket.socket, far: socket.socket, body_bytes: int, idle_s: float, traffic: Traffic
) -> None:
    """Carries `body_bytes` up and all that comes down, until the far side has ended; as `relay` otherwise.

    What the near side sends beyond that is dropped: to the far side it would be a request that nobody has looked at.
    """

    def went_down(size: int) -> None:
        traffic.down += size

    up = asyncio.ensure_future(_pump_some(near, far, body_bytes, traffic))
    down = asyncio.ensure_future(_pump(far, near, traffic, went_down))
    try:
        while not down.done():
            left_s = traffic.moved_at + idle_s - asyncio.get_running_loop().time()
            if left_s <= 0:
                return
            await asyncio.wait({down}, timeout=left_s)
    finally:
        up.cancel()
        down.cancel()
        await asyncio.gather(up, down, return_exceptions=True)


async def _pump_some(source: socket.socket, sink: socket.socket, size: int, traffic: Traffic) -> None:
    loop = asyncio.get_running_loop()
    left = size
    # A server that has seen enough may answer and take no more.
    with contextlib.suppress(OSError):
        while piece := await loop.sock_recv(source, PIECE_BYTES):
            kept = piece[:left]
            if kept:
                await loop.sock_sendall(sink, kept)
                left -= len(kept)
                traffic.up += len(kept)
                traffic.moved_at = loop.time()
            await asyncio.sleep(0)
        sink.shutdown(socket.SHUT_WR)


async def _pump(source: socket.socket, sink: socket.socket, traffic: Traffic, count: Callable[[int], None]) -> None:
    loop = asyncio.get_running_loop()
    while piece := await loop.sock_recv(source, PIECE_BYTES):
        await loop.sock_sendall(sink, piece)
        count(len(piece))
        traffic.moved_at = loop.time()
        # While both sockets are ready the calls above never wait: everything else would.
        await asyncio.sleep(0)
    sink.shutdown(socket.SHUT_WR)
