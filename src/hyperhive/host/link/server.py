"""The agents' sockets: one folder an agent, with `hive.sock` (the link), `model.sock` (the gateway), `egress.sock` and
`terminal.sock`.

Which socket a connection came through is who it is from. The newest harness of an agent is the one that counts:
a newer connection drops the older one, and one of an earlier container start is refused.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hyperhive.core.errors import ConflictError, TooManyError, UnavailableError
from hyperhive.core.paths import Roots
from hyperhive.host.egress import EgressListener
from hyperhive.host.link.connection import Caller, LinkConnection, RefusedConnection, Serve
from hyperhive.host.terminal_stream import Accept, TerminalListener
from hyperhive.system.http_server import HttpListener, serve_http
from hyperhive.system.http_types import Application
from hyperhive.system.sockets import bind_unix, serve_socket

HIVE_SOCKET = "hive.sock"
MODEL_SOCKET = "model.sock"
EGRESS_SOCKET = "egress.sock"
TERMINAL_SOCKET = "terminal.sock"
SOCKETS = (HIVE_SOCKET, MODEL_SOCKET, EGRESS_SOCKET, TERMINAL_SOCKET)
# A harness needs one, and another while the first is about to end. Each costs the daemon a file and some memory.
LINKS_LIMIT = 8
# The gateway answers 16 requests of an agent at once; the rest are idle.
MODEL_CONNECTIONS_LIMIT = 64


@dataclass(slots=True)
class _Listening:
    link: asyncio.Server
    model: HttpListener
    egress: EgressListener
    terminals: TerminalListener


class LinkServer:
    """Opens and closes the sockets of agents, and knows which harness is connected."""

    def __init__(
        self,
        roots: Roots,
        serve: Serve,
        gateway: Callable[[str], Application],
        egress: Callable[[str, socket.socket], EgressListener],
        accept_terminal: Accept,
    ) -> None:
        """`serve` answers link requests; `gateway` gives the application behind an agent's model.sock; `egress`
        serves its egress.sock; `accept_terminal` takes the connections to its terminal.sock."""
        self._roots = roots
        self._serve = serve
        self._gateway = gateway
        self._egress = egress
        self._accept_terminal = accept_terminal
        self._listening: dict[str, _Listening] = {}
        self._open: set[LinkConnection] = set()
        self._current: dict[str, LinkConnection] = {}
        self._on_lost: Callable[[str], None] = lambda _: None

    def on_lost(self, listener: Callable[[str], None]) -> None:
        """`listener` is called with the agent's name when its harness's connection is gone."""
        self._on_lost = listener

    async def open(self, agent: str, uid: int | None) -> None:
        """Listens for `agent`, whose container runs as `uid`. Opening again replaces the sockets.

        Cancelled, or when a socket cannot be bound (OSError), nothing of it stays open.
        """
        await self.close(agent)
        folder = self._roots.agent_sockets_folder(agent)
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        async with contextlib.AsyncExitStack() as undo:
            sockets = [undo.enter_context(bind_unix(folder / name)) for name in SOCKETS]
            if uid is not None:
                for name in SOCKETS:
                    os.chown(folder / name, uid, uid, follow_symlinks=False)
            link = await serve_socket(lambda: self._accept(agent), sockets[0])
            undo.callback(link.close)
            model = await serve_http(self._gateway(agent), sockets[1], connections_limit=MODEL_CONNECTIONS_LIMIT)
            undo.push_async_callback(model.close, timeout_s=0.0)
            terminals = TerminalListener(agent, self._accept_terminal)
            undo.callback(terminals.close)
            await terminals.serve(sockets[3])
            self._listening[agent] = _Listening(link, model, self._egress(agent, sockets[2]), terminals)
            undo.pop_all()

    async def close(self, agent: str) -> None:
        """Stops listening for `agent` and drops its connections, at once if cancelled."""
        listening = self._listening.pop(agent, None)
        if listening is None:
            return
        listening.link.close()
        listening.terminals.close()
        for connection in [open_ for open_ in self._open if open_.agent == agent]:
            connection.close()
        for name in SOCKETS:
            (self._folder(agent) / name).unlink(missing_ok=True)
        try:
            await listening.model.close(timeout_s=1.0)
        finally:
            await listening.egress.close()

    async def close_all(self) -> None:
        # All at once: each may have to wait for requests on their way.
        await asyncio.gather(*(self.close(agent) for agent in list(self._listening)))

    def register(self, connection: LinkConnection, generation: int, newest_generation: int) -> None:
        """Makes `connection` the one of its agent. Raises ConflictError for a harness of an earlier start."""
        if generation != newest_generation:
            raise ConflictError(
                f"this harness is of start {generation}, the newest is {newest_generation}",
                "stop: a newer container of this agent was started",
            )
        connection.caller = Caller(connection.agent, generation)
        older = self._current.get(connection.agent)
        self._current[connection.agent] = connection
        if older is not None and older is not connection:
            older.close()

    def get_connection(self, agent: str) -> LinkConnection:
        """The harness of `agent`. Raises UnavailableError if it is not connected."""
        connection = self._current.get(agent)
        if connection is None:
            raise UnavailableError(f"{agent} is not connected", "start it, or wait until it has started")
        return connection

    def list_connected(self) -> list[str]:
        """The agents whose harness is connected."""
        return list(self._current)

    def _folder(self, agent: str) -> Path:
        return self._roots.agent_sockets_folder(agent)

    def _accept(self, agent: str) -> asyncio.Protocol:
        if sum(open_.agent == agent for open_ in self._open) >= LINKS_LIMIT:
            return RefusedConnection(TooManyError(f"{agent} has {LINKS_LIMIT} connections open", "close one of them"))
        connection = LinkConnection(agent, self._serve, self._closed)
        self._open.add(connection)
        return connection

    def _closed(self, connection: LinkConnection) -> None:
        self._open.discard(connection)
        if self._current.get(connection.agent) is connection:
            del self._current[connection.agent]
            self._on_lost(connection.agent)
