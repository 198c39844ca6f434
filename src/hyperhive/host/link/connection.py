"""One connection of a harness: JSON-RPC lines in both directions, with bounds on all that a peer could pile up."""

import asyncio
import contextlib
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, cast

import structlog

from hyperhive.core.errors import HiveError, UnavailableError
from hyperhive.core.rates import Bucket, Rate
from hyperhive.host.waiting import Waiter
from hyperhive.wire.jsonrpc import (
    INVALID_REQUEST,
    LINE_LIMIT_BYTES,
    ProtocolError,
    Request,
    RequestId,
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
# What one connection may ask for, and how long it may be behind before it goes on: a harness is far from it, and one
# that floods leaves the daemon its time for others.
REQUESTS = Rate(burst=1_000, per_minute=60_000)
SLOWED_S = 0.02
# What is read at once, 256 KiB, holds fewer requests than that: more lines are none. To look at each at that rate would
# take minutes, in which not even the end of the connection is seen.
LINES_LIMIT = 10_000
# A harness that does not read its answers is cut off above this many bytes.
UNREAD_LIMIT_BYTES = 8 * 1024 * 1024

# A request either gives its result when awaited, or None: then it is answered by `LinkConnection.answer`.
Serve = Callable[["LinkConnection", Request], Awaitable[Any] | None]


class Caller(NamedTuple):
    """Who asks, as the socket and the hello tell."""

    agent: str
    generation: int


class LinkConnection(asyncio.Protocol):
    """Made for each accepted connection. `serve` answers requests; `closed` is called once at the end."""

    def __init__(self, agent: str, serve: Serve, closed: Callable[["LinkConnection"], None]) -> None:
        self.agent = agent
        # Set by a good hello; until then nothing else is answered.
        self.caller: Caller | None = None
        self._serve = serve
        self._closed = closed
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._lines: deque[bytes] = deque()
        self._loop = asyncio.get_running_loop()
        self._bucket = Bucket(REQUESTS, self._loop.time())
        self._slowed: asyncio.TimerHandle | None = None
        self._pumping = False
        self._is_paused = False
        self._running: set[asyncio.Task[None]] = set()
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._next_call = 0
        # Requests under way that have no task.
        self._unanswered = 0
        # What waits on its behalf, until the connection is lost.
        self.waiters: set[Waiter] = set()

    # -- asyncio.Protocol ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is no subclass of it.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        # Only what is new is looked through: a line may come byte by byte.
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines:
            if self._buffer:
                self._buffer += lines[0]
                lines[0] = bytes(self._buffer)
                self._buffer.clear()
            self._lines.extend(lines)
        if rest:
            self._buffer += rest
        if len(self._buffer) > LINE_LIMIT_BYTES or len(self._lines) > LINES_LIMIT:
            what = "the line is too long" if len(self._buffer) > LINE_LIMIT_BYTES else "there are too many lines"
            self._write(encode_error(None, ProtocolError(INVALID_REQUEST, what)))
            self.close()
            return
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lines.clear()
        if self._slowed is not None:
            self._slowed.cancel()
        for task in self._running:
            task.cancel()
        for call in self._calls.values():
            if not call.done():
                call.set_exception(_gone(self.agent))
        self._calls.clear()
        for waiter in self.waiters:
            waiter.leave()
        self.waiters.clear()
        self._closed(self)

    # -- for the daemon ------------------------------------------------------------------------------------

    async def call(self, method: str, params: dict[str, Any], timeout_s: float) -> Any:
        """Asks the harness and returns its result. Raises UnavailableError if it does not answer in time."""
        if self._transport is None:
            raise _gone(self.agent)
        self._next_call += 1
        call_id = self._next_call
        future: asyncio.Future[Any] = self._loop.create_future()
        self._calls[call_id] = future
        self._write(encode_request(Request(method, params, call_id)))
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError as error:
            raise UnavailableError(f"{self.agent} did not answer within {timeout_s:g} s", "try again") from error
        finally:
            self._calls.pop(call_id, None)

    def answer(self, request_id: RequestId, outcome: Any) -> None:
        """Answers a request for which `serve` gave None, with its result or the exception that it came to."""
        self._unanswered -= 1
        self._write_answer(request_id, outcome)
        if self._lines:
            self._pump()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # -- inside --------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        # What is answered at once comes back here: the loop below goes on by itself, rather than ever deeper.
        if self._pumping:
            return
        self._pumping = True
        try:
            self._take_lines()
        finally:
            self._pumping = False
        if self._is_paused is not bool(self._lines):
            self._pause()

    def _pause(self) -> None:
        """Reads no more while there are lines to be taken, and goes on once there are none."""
        if self._transport is None or self._transport.is_closing():
            return
        self._is_paused = bool(self._lines)
        if self._is_paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _take_lines(self) -> None:
        at_s = self._loop.time()
        while self._lines and self._slowed is None and len(self._running) + self._unanswered < IN_FLIGHT_LIMIT:
            if self._bucket.take(at_s):
                self._slowed = self._loop.call_later(SLOWED_S, self._go_on)
                break
            self._take(self._lines.popleft())

    def _go_on(self) -> None:
        self._slowed = None
        self._pump()

    def _take(self, line: bytes) -> None:
        if not line or line.isspace():
            return
        try:
            message = decode_line(line)
        except ProtocolError as error:
            self._write(encode_error(None, error))
            return
        if isinstance(message, Response):
            self._settle(message)
            return
        self._begin(message)

    def _begin(self, request: Request) -> None:
        self._unanswered += 1
        try:
            answering = self._serve(self, request)
        except Exception as error:  # noqa: BLE001  # it is the caller's, or logged
            self._unanswered -= 1
            self._write_answer(request.id, error, request.method)
            return
        if answering is not None:
            self._unanswered -= 1
            task = self._loop.create_task(self._answer(request, answering))
            self._running.add(task)
            task.add_done_callback(functools.partial(self._finished, answering))

    def _finished(self, answering: Awaitable[Any], task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if task.cancelled() and isinstance(answering, Coroutine):
            # It may not have begun, which Python would complain of.
            answering.close()
        self._pump()

    def _settle(self, response: Response) -> None:
        future = self._calls.get(response.id) if isinstance(response.id, int) else None
        if future is None or future.done():
            return
        if response.error is not None:
            future.set_exception(response.error)
        else:
            future.set_result(response.result)

    async def _answer(self, request: Request, answering: Awaitable[Any]) -> None:
        try:
            outcome = await answering
        except Exception as error:  # noqa: BLE001  # it is the caller's, or logged
            outcome = error
        self._write_answer(request.id, outcome, request.method)

    def _write_answer(self, request_id: RequestId, outcome: Any, method: str = "") -> None:
        if not isinstance(outcome, Exception):
            line = encode_result(request_id, outcome)
        else:
            if not isinstance(outcome, HiveError | ProtocolError):
                log.error("link.failed", agent=self.agent, method=method[:80], exc_info=outcome)
            line = encode_error(request_id, outcome)
        if request_id is not None:
            self._write(line)

    def _write(self, line: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(line)
        if self._transport.get_write_buffer_size() > UNREAD_LIMIT_BYTES:
            log.warning("link.not_read", agent=self.agent)
            with contextlib.suppress(OSError):
                self._transport.abort()


class RefusedConnection(asyncio.Protocol):
    """Instead of a `LinkConnection`: says why there is none, and hangs up."""

    def __init__(self, error: HiveError) -> None:
        self._error = error

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writing = cast("asyncio.Transport", transport)
        writing.write(encode_error(None, self._error))
        writing.close()


def _gone(agent: str) -> UnavailableError:
    return UnavailableError(f"{agent} is not connected", "start it, or wait until it has started")
