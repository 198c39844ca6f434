"""A port on the container's loopback that leads to one of the daemon's sockets, for programs that want a port.

Nothing is judged here: which socket a request comes through is who it is from, and the daemon answers it.
"""

import asyncio
import logging
import socket
from pathlib import Path

from hyperhive.system.relay import Traffic, relay
from hyperhive.system.sockets import connect_unix

log = logging.getLogger("hive.ports")

# More than the daemon lets through, so that it is the daemon that refuses, with a reason.
CONNECTIONS_LIMIT = 128
# The daemon ends what is idle long before.
_IDLE_S = 3600.0
_RETRY_S = 5.0


class LocalPort:
    """`run` it for as long as the harness lives; `port` 0 means that there is to be none."""

    def __init__(self, port: int, path: Path) -> None:
        self._port = port
        self._path = path
        self._relays: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Takes connections until it is cancelled; then all of them end. A port that is taken is tried again."""
        try:
            if self._port == 0:
                await asyncio.Event().wait()
            with await self._bind() as listener:
                await self._accept_forever(listener)
        finally:
            for task in self._relays:
                task.cancel()
            await asyncio.gather(*self._relays, return_exceptions=True)

    async def _bind(self) -> socket.socket:
        told = False
        while True:
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.setblocking(False)
                listener.bind(("127.0.0.1", self._port))
                listener.listen(CONNECTIONS_LIMIT)
            except OSError as error:
                listener.close()
                if not told:
                    log.warning("port %d for %s cannot be had: %s", self._port, self._path.name, error.strerror)
                    told = True
                await asyncio.sleep(_RETRY_S)
            else:
                return listener

    async def _accept_forever(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                near, _ = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("a connection was not taken: %s", error.strerror)
                await asyncio.sleep(_RETRY_S)
                continue
            near.setblocking(False)
            if len(self._relays) >= CONNECTIONS_LIMIT:
                near.close()
            else:
                task = asyncio.create_task(self._relay(near))
                self._relays.add(task)
                task.add_done_callback(self._relays.discard)
            # While somebody waits to be taken nothing above does: everything else would.
            await asyncio.sleep(0)

    async def _relay(self, near: socket.socket) -> None:
        with near:
            try:
                # Without waiting: the daemon listens, or it is away.
                far = connect_unix(self._path, timeout_s=0)
            except OSError:
                return
            with far:
                await relay(near, far, _IDLE_S, Traffic())
