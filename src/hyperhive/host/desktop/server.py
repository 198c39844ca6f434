"""host.sock: who is connected. What is idle makes room for what is new, so that nobody can keep others out."""

import asyncio
import socket
from pathlib import Path

import structlog

from hyperhive.core.errors import TooManyError
from hyperhive.host.desktop.connection import Connection
from hyperhive.host.desktop.desktop import Desktop
from hyperhive.host.desktop.lines import Times
from hyperhive.system.http_server import FindUid
from hyperhive.system.sockets import BACKLOG

log = structlog.get_logger(__name__)

# A client needs one, and another to listen on.
CONNECTIONS_LIMIT = 128
CLOSE_TIMEOUT_S = 2.0


class DesktopServer:
    """Serves a bound socket, which it takes over, from `open` until `close`."""

    def __init__(self, desktop: Desktop, path: Path, find_uid: FindUid, times: Times | None = None) -> None:
        """`find_uid` tells whose a connection is."""
        self._find_uid = find_uid
        self._desktop = desktop
        self._path = path
        self._times = times or Times()
        self._server: asyncio.Server
        # The one that asked last is the last.
        self._open: dict[Connection, asyncio.Task[None]] = {}

    async def open(self, listener: socket.socket) -> None:
        self._server = await asyncio.start_unix_server(self._accept, sock=listener, backlog=BACKLOG)

    async def close(self) -> None:
        """Stops listening and ends all connections; what is being answered has a moment for it."""
        self._server.close()
        self._path.unlink(missing_ok=True)
        tasks = list(self._open.values())
        for connection, task in list(self._open.items()):
            if connection.is_idle or connection.is_listening:
                task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT_S)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own: of one that asyncio makes here, Python 3.11 complains when it is cancelled.
        uid = self._find_uid(writer.get_extra_info("socket"))
        connection = Connection(self._desktop, (reader, writer), self._times, self._note_used, uid)
        if len(self._open) >= CONNECTIONS_LIMIT and not self._make_room():
            connection.refuse(TooManyError(f"{CONNECTIONS_LIMIT} connections are open and busy: close some"))
            return
        self._open[connection] = asyncio.create_task(self._serve(connection))

    async def _serve(self, connection: Connection) -> None:
        try:
            await connection.serve()
        except Exception:
            log.exception("desktop.connection_failed")
        finally:
            self._open.pop(connection, None)

    def _note_used(self, connection: Connection) -> None:
        self._open[connection] = self._open.pop(connection)

    def _make_room(self) -> bool:
        """Ends the connection that has been idle for the longest time. False if none is."""
        for connection, task in self._open.items():
            if connection.is_idle:
                task.cancel()
                del self._open[connection]
                return True
        return False
