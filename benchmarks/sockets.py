"""The client of the benchmarks: many unix sockets in one thread, with as little in the way as Python allows."""

import select
import socket
import time
from collections.abc import Callable
from pathlib import Path

_READ_BYTES = 256 * 1024


class Sockets:
    """Waits on all connections at once and hands what arrives to the one it arrived at."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._connections: dict[int, tuple[socket.socket, Callable[[bytes], None]]] = {}

    def connect(self, path: Path, receive: Callable[[bytes], None]) -> socket.socket:
        """A connection whose writes block and whose reads come to `receive`. Raises OSError."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(str(path))
        return self._add(connection, receive)

    def connect_port(self, port: int, receive: Callable[[bytes], None]) -> socket.socket:
        """The same over TCP, for a server that has no unix socket."""
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._add(connection, receive)

    def pump(self, timeout_s: float) -> None:
        """Takes what has arrived, waiting up to `timeout_s` for something. Raises EOFError if a peer hung up."""
        for number, _ in self._poll.poll(timeout_s):
            connection, receive = self._connections[number]
            data = connection.recv(_READ_BYTES)
            if not data:
                raise EOFError("the peer hung up")
            receive(data)

    def pump_until(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
        """Pumps until `condition` holds. Raises TimeoutError."""
        deadline = time.perf_counter() + timeout_s
        while not condition():
            left_s = deadline - time.perf_counter()
            if left_s <= 0:
                raise TimeoutError(f"waited {timeout_s:g} s in vain")
            self.pump(left_s)

    def pump_for(self, duration_s: float) -> None:
        """Pumps for `duration_s`, to the tenth of a millisecond or so."""
        deadline = time.perf_counter() + duration_s
        while (left_s := deadline - time.perf_counter()) > 0:
            self.pump(left_s)

    def _add(self, connection: socket.socket, receive: Callable[[bytes], None]) -> socket.socket:
        self._connections[connection.fileno()] = (connection, receive)
        self._poll.register(connection.fileno(), select.EPOLLIN)
        return connection

    def close(self) -> None:
        for connection, _ in self._connections.values():
            connection.close()
        self._connections.clear()
        self._poll.close()
