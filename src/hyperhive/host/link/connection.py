"""One connection of a harness: JSON-RPC lines in both directions, with bounds on all that a peer could pile up."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from hyperhive.core.errors import HiveError, UnavailableError
from hyperhive.wire.jsonrpc import (
    INVALID_REQUEST,
    LINE_LIMIT_BYTES,
    ProtocolError,
    Request,
    Response,
    decode_line,
    encode_error,
    encode_request,
    encode_result,
)

log = structlog.get_logger(__name__)

# Requests of one connection that are worked on at once; more wait unread in the socket, so that an agent that
# pipelines without end delays only itself.
IN_FLIGHT_LIMIT = 32
# A harness that does not read its answers is cut off above this many bytes.
UNREAD_LIMIT_BYTES = 8 * 1024 * 1024

Serve = Callable[["LinkConnection", Request], Awaitable[Any]]


class LinkConnection(asyncio.Protocol):
    """Made for each accepted connection. `serve` answers requests; `closed` is called once at the end."""

    def __init__(self, agent: str, serve: Serve, closed: Callable[["LinkConnection"], None]) -> None:
        self.agent = agent
        # Set by a good hello; until then nothing else is answered.
        self.generation: int | None = None
        self._serve = serve
        self._closed = closed
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._lines: deque[bytes] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._next_call = 0

    # -- asyncio.Protocol ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = bytearray(rest)
        self._lines.extend(bytes(line) for line in lines)
        if len(self._buffer) > LINE_LIMIT_BYTES:
            self._write(encode_error(None, ProtocolError(INVALID_REQUEST, "the line is too long")))
            self.close()
            return
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lines.clear()
        for task in self._running:
            task.cancel()
        for call in self._calls.values():
            if not call.done():
                call.set_exception(_gone(self.agent))
        self._calls.clear()
        self._closed(self)

    # -- for the daemon ------------------------------------------------------------------------------------

    async def call(self, method: str, params: dict[str, Any], timeout_s: float) -> Any:
        """Asks the harness and returns its result. Raises UnavailableError if it does not answer in time."""
        if self._transport is None:
            raise _gone(self.agent)
        self._next_call += 1
        call_id = self._next_call
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls[call_id] = future
        self._write(encode_request(Request(method, params, call_id)))
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError as error:
            raise UnavailableError(f"{self.agent} did not answer within {timeout_s:g} s", "try again") from error
        finally:
            self._calls.pop(call_id, None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # -- inside --------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        while self._lines and len(self._running) < IN_FLIGHT_LIMIT:
            self._take(self._lines.popleft())
        if self._transport is not None and not self._transport.is_closing():
            if self._lines:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            message = decode_line(line)
        except ProtocolError as error:
            self._write(encode_error(None, error))
            return
        if isinstance(message, Response):
            self._settle(message)
            return
        task = asyncio.get_running_loop().create_task(self._answer(message))
        self._running.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._pump()

    def _settle(self, response: Response) -> None:
        future = self._calls.get(response.id) if isinstance(response.id, int) else None
        if future is None or future.done():
            return
        if response.error is not None:
            future.set_exception(response.error)
        else:
            future.set_result(response.result)

    async def _answer(self, request: Request) -> None:
        try:
            line = encode_result(request.id, await self._serve(self, request))
        except (HiveError, ProtocolError) as error:
            line = encode_error(request.id, error)
        except Exception as error:
            log.exception("link.failed", agent=self.agent, method=request.method[:80])
            line = encode_error(request.id, error)
        if request.id is not None:
            self._write(line)

    def _write(self, line: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(line)
        if self._transport.get_write_buffer_size() > UNREAD_LIMIT_BYTES:
            log.warning("link.not_read", agent=self.agent)
            with contextlib.suppress(OSError):
                self._transport.abort()


def _gone(agent: str) -> UnavailableError:
    return UnavailableError(f"{agent} is not connected", "start it, or wait until it has started")
