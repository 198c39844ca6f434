"""`python -m benchmarks.pty_relay SOCKET`: the least that relays a PTY over a WebSocket, as a peer of the hive's.

Each connection gets a shell of its own. There is nothing between the PTY and the socket: no container, no scrollback,
no second viewer, no audit.
"""

import asyncio
import contextlib
import os
import pty
import signal
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, unix_serve

_READ_BYTES = 64 * 1024


async def _relay(connection: ServerConnection) -> None:
    pid, master = pty.fork()
    if not pid:
        os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
    os.set_blocking(master, False)
    up = asyncio.create_task(_send_output(connection, master))
    with contextlib.suppress(OSError):
        async for data in connection:
            os.write(master, data if isinstance(data, bytes) else data.encode())
    up.cancel()
    await asyncio.gather(up, return_exceptions=True)
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(os.waitpid, pid, 0)
    os.close(master)


async def _send_output(connection: ServerConnection, master: int) -> None:
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(master, readable.set)
    try:
        while True:
            await readable.wait()
            readable.clear()
            while data := _read_all(master):
                await connection.send(data)
    finally:
        loop.remove_reader(master)


def _read_all(master: int) -> bytes:
    """What is there, up to _READ_BYTES: the kernel gives 4 KiB at a time."""
    pieces: list[bytes] = []
    size = 0
    with contextlib.suppress(BlockingIOError):
        while size < _READ_BYTES:
            piece = os.read(master, _READ_BYTES - size)
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
    return b"".join(pieces)


async def _serve(path: str) -> None:
    async with unix_serve(_relay, path, compression=None):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))
