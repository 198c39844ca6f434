"""Listeners on the loopback that answer every HTTP request with a redirect, then hang up.

What a request asks for is not looked at: only its `Host` is given to whoever decides where it is sent.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence

import h11

# All listeners together, so that whoever connects to many ports takes nobody else's files. Browsers connect ahead.
CONNECTIONS_LIMIT = 64
# From connecting until the answer was taken.
ANSWER_TIMEOUT_S = 5.0
HEAD_LIMIT_BYTES = 16 * 1024
# Never more is waiting for a listener that answers at once.
_BACKLOG = 16
_PIECE_BYTES = 4096
_PIECES_READ_OUT = 64

# After a failure to take a connection: too many files are open, of whoever.
_ACCEPT_PAUSE_S = 1.0

Decide = Callable[[Sequence[str]], str]


class RedirectListener:
    """A port that is listened on, until `close`."""

    def __init__(self, listener: socket.socket, take: Callable[[socket.socket], None]) -> None:
        """`take` is given each connection."""
        self._listener = listener
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._begin()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        """Frees the port at once; requests that were taken are still answered."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def _begin(self) -> None:
        # Not a server of asyncio: one that is closed while it takes a connection leaves that hanging.
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError:
            # It is waiting still, and would be told of again at once.
            self._loop.remove_reader(self._listener)
            self._pause = self._loop.call_later(_ACCEPT_PAUSE_S, self._begin)
            return
        connection.setblocking(False)
        self._take(connection)


class Redirects:
    """The listeners' shared connections, and with them the bounds on those."""

    def __init__(
        self, *, connections_limit: int = CONNECTIONS_LIMIT, answer_timeout_s: float = ANSWER_TIMEOUT_S
    ) -> None:
        self._connections_limit = connections_limit
        self._answer_timeout_s = answer_timeout_s
        self._tasks: set[asyncio.Task[None]] = set()

    def listen(self, port: int, decide: Decide) -> RedirectListener:
        """Listens on `port` of 127.0.0.1 until that is closed. Raises OSError if the port is not to be had.

        `decide` gets the values of the request's Host headers and returns the address that the browser is sent to;
        that it holds nothing unchecked of theirs is its own business.
        """
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen(_BACKLOG)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        return RedirectListener(listener, lambda connection: self._take(connection, decide))

    async def close(self) -> None:
        """Drops the connections. The listeners are closed by who has them."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take(self, connection: socket.socket, decide: Decide) -> None:
        if len(self._tasks) >= self._connections_limit:
            connection.close()
            return
        task = asyncio.create_task(self._answer(connection, decide))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Also that of a task which is cancelled before it began.
        task.add_done_callback(lambda _: connection.close())

    async def _answer(self, connection: socket.socket, decide: Decide) -> None:
        protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT_BYTES)
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                answer = await _read_and_decide(protocol, connection, decide)
                if answer is not None:
                    await asyncio.get_running_loop().sock_sendall(connection, _render(protocol, answer))
                    await _read_out(connection)
        except (TimeoutError, OSError):
            # Whoever says nothing, or is gone, has nothing to be told.
            return


async def _read_and_decide(protocol: h11.Connection, connection: socket.socket, decide: Decide) -> h11.Response | None:
    """The answer to the head of a request; None if the other side hangs up before its end."""
    try:
        while not isinstance(event := protocol.next_event(), h11.Request):
            if event is not h11.NEED_DATA:
                return None
            protocol.receive_data(await asyncio.get_running_loop().sock_recv(connection, _PIECE_BYTES))
    except h11.RemoteProtocolError as error:
        return _make_response(error.error_status_hint)
    hosts = [value.decode("latin-1") for name, value in event.headers if name == b"host"]
    return _make_response(307, ("location", decide(hosts)))


async def _read_out(connection: socket.socket) -> None:
    """Takes what is still coming, within bounds: a socket that is closed before takes the answer along."""
    connection.shutdown(socket.SHUT_WR)
    for _ in range(_PIECES_READ_OUT):
        if not await asyncio.get_running_loop().sock_recv(connection, _PIECE_BYTES):
            return


def _make_response(status: int, *headers: tuple[str, str]) -> h11.Response:
    # Whose port it is may change.
    always = [("content-length", "0"), ("cache-control", "no-store"), ("connection", "close")]
    return h11.Response(status_code=status, headers=[*headers, *always])


def _render(protocol: h11.Connection, response: h11.Response) -> bytes:
    return (protocol.send(response) or b"") + (protocol.send(h11.EndOfMessage()) or b"")
