"""ASGI applications on sockets, by uvicorn's protocol without its server loop, which wakes ten times a second."""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from hyperhive.system.http_types import Application

# Slow clients hold a connection no longer than this between two requests.
KEEP_ALIVE_S = 75
# Request line and headers together: the CLI's are about 4 KiB.
HEADERS_LIMIT_BYTES = 32 * 1024


class HttpListener:
    """A listening socket and its connections, until `close`."""

    def __init__(self, server: asyncio.Server, state: ServerState) -> None:
        self._server = server
        self._state = state

    async def close(self, timeout_s: float) -> None:
        """Stops listening, lets running requests end for up to `timeout_s`, then drops them."""
        self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        tasks = set(self._state.tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
        for connection in list(self._state.connections):
            with contextlib.suppress(Exception):
                connection.transport.abort()


async def serve_http(
    app: Application, listener: socket.socket, allow_peer: Callable[[int], bool] | None = None
) -> HttpListener:
    """Serves `app` on a bound socket. `allow_peer` gets the uid at the other end of a unix socket.

    A peer that is not allowed is cut off before its first byte is read.
    """
    config = Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        h11_max_incomplete_event_size=HEADERS_LIMIT_BYTES,
    )
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: _GuardedProtocol(config, state, allow_peer), sock=listener, start_serving=True
    )
    return HttpListener(server, state)


class _GuardedProtocol(H11Protocol):
    def __init__(self, config: Config, state: ServerState, allow_peer: Callable[[int], bool] | None) -> None:
        super().__init__(config=config, server_state=state, app_state={})
        self._allow_peer = allow_peer

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self._allow_peer is not None and not self._allow_peer(peer_uid(transport.get_extra_info("socket"))):
            transport.abort()


def peer_uid(connection: socket.socket) -> int:
    """The uid of the process at the other end of a unix socket, as the kernel recorded it at connect."""
    size = struct.calcsize("3i")
    _pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return uid


def own_uid_or_root(uid: int) -> bool:
    """Whether a peer is the user this process runs as, or root."""
    return uid in (0, os.geteuid())
