"""ASGI applications on sockets, by uvicorn's protocols without its server loop, which wakes ten times a second."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from hyperhive.system.http_types import Application
from hyperhive.system.sockets import peer_uid, serve_socket
from hyperhive.system.web_socket import MESSAGE_LIMIT_BYTES, PING_INTERVAL_S, BoundedWebSocket

# Slow clients hold a connection no longer than this between two requests.
KEEP_ALIVE_S = 75
# A request's line and headers have to be there this long after its first byte, the first one's after connecting.
HEAD_TIMEOUT_S = 20.0
# Of one socket, so that whoever opens more than any client needs takes nobody else's files.
CONNECTIONS_LIMIT = 256
# Request line and headers together: the CLI's are about 4 KiB.
HEADERS_LIMIT_BYTES = 32 * 1024
# In the `state` of a request that came through a unix socket: who is at the other end.
PEER_UID = "peer_uid"
# How one is found out who is at the other end of a unix socket.
FindUid = Callable[[socket.socket], int]


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
    app: Application,
    listener: socket.socket,
    allow_peer: Callable[[int], bool] | None = None,
    *,
    find_uid: FindUid | None = None,
    connections_limit: int = CONNECTIONS_LIMIT,
    head_timeout_s: float = HEAD_TIMEOUT_S,
    web_sockets: bool = False,
) -> HttpListener:
    """Serves `app` on a bound socket. `allow_peer` gets the uid at the other end of a unix socket, by `find_uid`.

    With `web_sockets`, `app` is also given the scope type `websocket` (see `web_socket`); else that is plain HTTP.

    A peer that is not allowed, or one connection too many, is cut off before its first byte is read.
    """
    config = Config(
        app,
        http="h11",
        ws=BoundedWebSocket if web_sockets else "none",
        ws_max_size=MESSAGE_LIMIT_BYTES,
        ws_ping_interval=PING_INTERVAL_S,
        ws_ping_timeout=PING_INTERVAL_S,
        # What is sent is read on this machine: no memory and no time for packing it.
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        # What is wrong with a request is told to who sent it: nobody fills the log with garbage.
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        h11_max_incomplete_event_size=HEADERS_LIMIT_BYTES,
    )
    config.load()
    state = ServerState()
    server = await serve_socket(
        lambda: _GuardedProtocol(config, state, allow_peer, find_uid or peer_uid, connections_limit, head_timeout_s),
        listener,
    )
    return HttpListener(server, state)


class _GuardedProtocol(H11Protocol):
    """uvicorn's, with bounds on who connects, on how many do, and on how long the head of a request may take."""

    def __init__(
        self,
        config: Config,
        state: ServerState,
        allow_peer: Callable[[int], bool] | None,
        find_uid: FindUid,
        connections_limit: int,
        head_timeout_s: float,
    ) -> None:
        super().__init__(config=config, server_state=state, app_state={})
        self._allow_peer = allow_peer
        self._find_uid = find_uid
        self._connections_limit = connections_limit
        self._head_timeout_s = head_timeout_s
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        is_stranger = False
        if self._allow_peer is not None:
            uid = self._find_uid(transport.get_extra_info("socket"))
            is_stranger = not self._allow_peer(uid)
            # Each request of the connection has it, for those that want to know.
            self.app_state = {PEER_UID: uid}
        if is_stranger or len(self.connections) > self._connections_limit:
            transport.abort()
        else:
            self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_watch()
        # uvicorn leaves its own timer, and with it the connection, where the other side broke off.
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Also for garbage within a body whose request is being answered: then there is nothing left to say."""
        if self.cycle is not None:  # pyright: ignore[reportUnnecessaryComparison]  # it is until the first request
            # Whoever answers it has nobody to answer any more.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.close()

    def _watch_head(self) -> None:
        """Runs while the head of a request is awaited, each for as long as it may take."""
        if self.conn.their_state is not h11.IDLE:
            self._end_watch()
        elif self._head_timer is None and self.timeout_keep_alive_task is None:
            self._head_timer = self.loop.call_later(self._head_timeout_s, self.transport.close)

    def _end_watch(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def own_uid_or_root(uid: int) -> bool:
    """Whether a peer is the user this process runs as, or root."""
    return uid in (0, os.geteuid())
