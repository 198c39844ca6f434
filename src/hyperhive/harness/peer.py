"""One connection that speaks `wire.jsonrpc` lines, with requests in both directions at once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from hyperhive.core.errors import HiveError, TooLargeError
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

log = logging.getLogger("hive.peer")

# A notification {id}: whoever asked for it no longer waits. Only between harness and engine.
CANCEL_REQUEST = "$/cancelRequest"
# Requests of the other side that run at once; further ones are read when one of these ended.
_ANSWERS_LIMIT = 64

Answer = Callable[[str, dict[str, Any]], Awaitable[Any]]
Notice = Callable[[str, dict[str, Any]], None]
Late = Callable[[Any], None]


class ConnectionLostError(Exception):
    """The connection ended before the response came: whether the request was done is not known."""


@dataclass(slots=True)
class _Call:
    future: asyncio.Future[Any]
    late: Late | None


def _ignore(method: str, params: dict[str, Any]) -> None:
    log.debug("ignored a notification: %r", method)


class Peer:
    """The other side of a stream.

    `answer` is awaited for each of its requests, all at once; it raises HiveError to refuse. `notice` is called for
    each notification, in order and before anything that came after it. With `announces_cancel` the other side is
    told when a request is given up.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: Answer,
        notice: Notice = _ignore,
        *,
        announces_cancel: bool = False,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._answer = answer
        self._notice = notice
        self._announces_cancel = announces_cancel
        self._calls: dict[int | str, _Call] = {}
        self._answers: dict[int | str, asyncio.Task[None]] = {}
        self._last_id = 0
        self._lost = False

    async def run(self) -> None:
        """Reads until the connection ends. Raises ProtocolError for a line that is not JSON-RPC or is too long."""
        try:
            while line := await self._read_line():
                self._take(decode_line(line))
                if len(self._answers) >= _ANSWERS_LIMIT:
                    await asyncio.wait(self._answers.values(), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.close()

    async def request(self, method: str, params: dict[str, Any], late: Late | None = None) -> Any:
        """The result of a request. Raises the HiveError it was refused with, or ConnectionLostError.

        If the caller is cancelled first, `late` is called with a result that comes all the same.
        """
        if self._lost:
            raise ConnectionLostError
        self._last_id += 1
        call_id = self._last_id
        line = encode_request(Request(method, params, call_id))
        if len(line) > LINE_LIMIT_BYTES:
            raise TooLargeError(f"{method} needs a line of {len(line)} bytes, over {LINE_LIMIT_BYTES}", "shorten it")
        call = _Call(asyncio.get_running_loop().create_future(), late)
        self._calls[call_id] = call
        try:
            await self._write(line)
            return await call.future
        except asyncio.CancelledError:
            self._give_up(call_id, call)
            raise

    async def notify(self, method: str, params: dict[str, Any]) -> None:
        """Tells the other side, without an answer. Nothing happens once the connection ended."""
        line = encode_request(Request(method, params))
        if len(line) <= LINE_LIMIT_BYTES and not self._lost:
            await self._write(line)

    def close(self) -> None:
        """Ends the connection: requests under way raise ConnectionLostError, answers under way are cancelled."""
        if self._lost:
            return
        self._lost = True
        for call in self._calls.values():
            if not call.future.done():
                call.future.set_exception(ConnectionLostError())
        self._calls.clear()
        for task in self._answers.values():
            task.cancel()
        self._writer.close()

    async def _read_line(self) -> bytes:
        """The next line, or nothing at the end of the stream; a last line without its newline counts as the end."""
        try:
            return await self._reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            raise ProtocolError(INVALID_REQUEST, f"a line is over {LINE_LIMIT_BYTES} bytes") from error
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""

    async def _write(self, line: bytes) -> None:
        self._writer.write(line)
        try:
            await self._writer.drain()
        except ConnectionError:
            # The reader sees the end of the connection too, and tells everybody who waits.
            log.debug("the connection ended while writing")

    def _take(self, message: Request | Response) -> None:
        if isinstance(message, Response):
            self._take_response(message)
        elif message.id is not None:
            self._answers[message.id] = task = asyncio.create_task(self._answer_request(message, message.id))
            task.add_done_callback(lambda _, answered=message.id: self._answers.pop(answered, None))
        elif message.method == CANCEL_REQUEST:
            cancelled = self._answers.get(message.params.get("id", ""))
            if cancelled is not None:
                cancelled.cancel()
        else:
            self._notice(message.method, message.params)

    def _take_response(self, response: Response) -> None:
        call = self._calls.pop(response.id, None) if response.id is not None else None
        if call is None:
            log.warning("a response to no request of ours: %r", response.error or response.id)
        elif call.future.done():
            if call.late is not None and response.error is None:
                call.late(response.result)
        elif response.error is not None:
            call.future.set_exception(response.error)
        else:
            call.future.set_result(response.result)

    async def _answer_request(self, request: Request, request_id: int | str) -> None:
        try:
            line = encode_result(request_id, await self._answer(request.method, request.params))
            if len(line) > LINE_LIMIT_BYTES:
                line = encode_error(request_id, TooLargeError(f"the answer to {request.method} is too long"))
        except (HiveError, ProtocolError) as error:
            line = encode_error(request_id, error)
        except Exception as error:
            log.exception("failed to answer %r", request.method)
            line = encode_error(request_id, error)
        if not self._lost:
            await self._write(line)

    def _give_up(self, call_id: int, call: _Call) -> None:
        if call.future.done() and not call.future.cancelled():
            # The answer was there already, the caller just did not see it.
            self._calls.pop(call_id, None)
            if call.late is not None and call.future.exception() is None:
                call.late(call.future.result())
            return
        call.future.cancel()
        if self._announces_cancel and not self._lost:
            self._writer.write(encode_request(Request(CANCEL_REQUEST, {"id": call_id})))
