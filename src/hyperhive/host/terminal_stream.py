"""The agents' terminal.sock: one connection a terminal, a line that says which, then bytes both ways.

The other side is the agent's. What it sends is bounded in size, time and speed; which connection it may have is not
decided here.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol, cast

import structlog
from pydantic import ValidationError

from hyperhive.core.errors import HiveError
from hyperhive.core.terminals import TERMINALS_LIMIT
from hyperhive.host.link.params import TerminalHead
from hyperhive.system.sockets import serve_socket

log = structlog.get_logger(__name__)

HEAD_LIMIT_BYTES = 512
HEAD_TIMEOUT_S = 5.0
# Each terminal needs one, and another while the first is about to end.
STREAMS_LIMIT = 2 * TERMINALS_LIMIT
# While nobody looks who has to keep up: a program that writes without end leaves the daemon its time for others.
BYTES_PER_S = 8 * 1024 * 1024
_PACE_S = 0.1
_PACE_BYTES = int(BYTES_PER_S * _PACE_S)


class StreamSink(Protocol):
    """Where the bytes of a terminal go. Called on the event loop; has to return at once and never raise."""

    def received(self, data: bytes) -> None: ...
    def stream_lost(self, stream: "TerminalStream") -> None: ...


# Who takes a connection that named itself. Raises HiveError for one that is not to be.
Accept = Callable[[str, TerminalHead, "TerminalStream"], StreamSink]


class TerminalStream(asyncio.Protocol):
    """One connection of a harness. `closed` is called once at its end."""

    def __init__(self, agent: str, accept: Accept, closed: Callable[["TerminalStream"], None]) -> None:
        self.agent = agent
        self._accept = accept
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._sink: StreamSink | None = None
        self._head = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._is_paced = True
        # Reading waits for either of them to end.
        self._is_held = False
        self._slowed: asyncio.TimerHandle | None = None
        self._is_paused = False
        self._paced_from_s = 0.0
        self._paced_bytes = 0

    # -- asyncio.Protocol ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is no subclass of it.
        self._transport = cast("asyncio.Transport", transport)
        self._timer = self._loop.call_later(HEAD_TIMEOUT_S, self.close)

    def data_received(self, data: bytes) -> None:
        if self._sink is not None:
            self._deliver(self._sink, data)
            return
        # No more is kept of what is no head than of one.
        head, newline, rest = bytes(self._head + data[: HEAD_LIMIT_BYTES + 1]).partition(b"\n")
        if not newline and len(head) <= HEAD_LIMIT_BYTES:
            self._head += data
            return
        rest = data[len(head) + 1 - len(self._head) :]
        self._head.clear()
        if not newline or not self._begin(head):
            self.close()
        elif rest and self._sink is not None:
            self._deliver(self._sink, rest)

    def eof_received(self) -> None:
        """Nothing is sent to who sends nothing any more: the connection ends."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for timer in (self._timer, self._slowed):
            if timer is not None:
                timer.cancel()
        self._closed(self)
        if self._sink is not None:
            self._sink.stream_lost(self)

    # -- for the daemon ------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def count_unsent(self) -> int:
        """How many bytes the other side has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def hold(self, is_held: bool, is_paced: bool) -> None:
        """Whether nothing is to be read for now: what is not read, the other side cannot send for ever. And whether
        what is read is held to BYTES_PER_S."""
        self._is_held, self._is_paced = is_held, is_paced
        self._pause()

    def close(self) -> None:
        """Ends it at once: what was not read or sent by now is lost."""
        if self._transport is not None:
            self._transport.abort()

    # -- inside --------------------------------------------------------------------------------------------

    def _begin(self, line: bytes) -> bool:
        try:
            self._sink = self._accept(self.agent, TerminalHead.model_validate_json(line), self)
        except ValidationError:
            log.warning("terminal.bad_head", agent=self.agent)
            return False
        except HiveError as error:
            log.info("terminal.refused", agent=self.agent, message=error.message)
            return False
        if self._timer is not None:
            self._timer.cancel()
        return True

    def _deliver(self, sink: StreamSink, data: bytes) -> None:
        at_s = self._loop.time()
        if at_s - self._paced_from_s >= _PACE_S:
            self._paced_from_s, self._paced_bytes = at_s, 0
        self._paced_bytes += len(data)
        if self._is_paced and self._paced_bytes >= _PACE_BYTES and self._slowed is None:
            self._slowed = self._loop.call_later(_PACE_S * self._paced_bytes / _PACE_BYTES, self._go_on)
            self._pause()
        sink.received(data)

    def _go_on(self) -> None:
        self._slowed = None
        self._pause()

    def _pause(self) -> None:
        is_paused = self._is_held or self._slowed is not None
        if is_paused is self._is_paused or self._transport is None or self._transport.is_closing():
            return
        self._is_paused = is_paused
        if is_paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


class TerminalListener:
    """One agent's terminal.sock and its connections, until `close`."""

    def __init__(self, agent: str, accept: Accept) -> None:
        self._agent = agent
        self._accept = accept
        self._open: set[TerminalStream] = set()
        self._server: asyncio.Server | None = None

    async def serve(self, listener: socket.socket) -> None:
        """Takes over a bound, non-blocking socket."""
        self._server = await serve_socket(self._take, listener)

    def close(self) -> None:
        """Stops listening and drops all connections."""
        if self._server is not None:
            self._server.close()
        for stream in list(self._open):
            stream.close()

    def _take(self) -> asyncio.Protocol:
        if len(self._open) >= STREAMS_LIMIT:
            log.warning("terminal.too_many_connections", agent=self._agent)
            return _Refused()
        stream = TerminalStream(self._agent, self._accept, self._open.discard)
        self._open.add(stream)
        return stream


class _Refused(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
