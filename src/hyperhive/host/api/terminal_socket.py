"""One WebSocket that looks at a terminal: what waits for it, what came from it, and when it has to go."""

import asyncio
import contextlib
from collections import deque
from typing import Annotated, Any

from fastapi import WebSocket
from pydantic import Field, TypeAdapter, ValidationError
from starlette.websockets import WebSocketDisconnect

from hyperhive.core.errors import HiveError, InvalidInputError, TooLargeError, TooManyError
from hyperhive.host.terminal_live import Attachment
from hyperhive.wire.operator.terminals import (
    TerminalAck,
    TerminalAnswer,
    TerminalEnded,
    TerminalReplayed,
    TerminalResize,
    TerminalResized,
)

# Of output. A browser draws between two frames.
FRAME_LIMIT_BYTES = 64 * 1024
# Of a text from the client; each is one small object.
TEXT_LIMIT_CHARS = 1024
# What waits to be sent. The scrollback and what may be unacknowledged fit in well; whoever has more reads nothing.
WAITING_LIMIT_BYTES = 1024 * 1024
# Changes of size that wait: they cost no acknowledgement.
WAITING_LIMIT_PIECES = 20_000
# What was typed and the program has not taken. Beyond that it is no typing.
TYPED_LIMIT_BYTES = 1024 * 1024
TYPE_AGAIN_S = 0.05
# A close frame behind what a client does not read is not waited for.
CLOSE_TIMEOUT_S = 1.0

NORMAL = 1000
POLICY_VIOLATION = 1008
TRY_AGAIN_LATER = 1013
# A close frame has 125 bytes, two of them for the code.
_REASON_LIMIT_BYTES = 123

# What the client causes, and what sending to one that is gone raises.
_EXPECTED = (HiveError, WebSocketDisconnect, RuntimeError)

_Control = TerminalResize | TerminalAck | TerminalAnswer
_CONTROL: TypeAdapter[_Control] = TypeAdapter(Annotated[_Control, Field(discriminator="kind")])


class SocketViewer:
    """A `TerminalViewer` whose terminal is sent to a WebSocket, in order, as fast as that one takes it."""

    def __init__(self) -> None:
        self._waiting: deque[bytes | str] = deque()
        self._waiting_bytes = 0
        # Of what was sent.
        self._unacknowledged = 0
        self._typed = bytearray()
        self._has_typed = asyncio.Event()
        self._wake = asyncio.Event()
        self._overflow = asyncio.Event()
        self._has_ended = False

    def replayed(self, count: int) -> None:
        self._append(TerminalReplayed(kind="replayed", count=count).model_dump_json())

    def output(self, data: bytes) -> None:
        self._append(data)

    def resized(self, columns: int, rows: int) -> None:
        self._append(TerminalResized(kind="resized", columns=columns, rows=rows).model_dump_json())

    def ended(self, status: int | None) -> None:
        self._append(TerminalEnded(kind="ended", status=status).model_dump_json())
        self._has_ended = True
        self._wake.set()

    def dropped(self) -> None:
        self._drop()
        self._wake.set()

    async def relay(self, socket: WebSocket, attachment: Attachment) -> None:
        """Accepts `socket`, and returns once client or terminal are gone; the viewer is detached then."""
        works: list[asyncio.Task[Any]] = []
        outcomes: list[Any] = []
        try:
            await socket.accept()
            works += [
                asyncio.create_task(self._send_all(socket)),
                asyncio.create_task(self._receive_all(socket, attachment)),
                asyncio.create_task(self._type_all(attachment)),
                asyncio.create_task(self._overflow.wait()),
            ]
            await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
        except WebSocketDisconnect:
            return
        finally:
            attachment.detach()
            for work in works:
                work.cancel()
            outcomes = await asyncio.gather(*works, return_exceptions=True)
        await self._close(socket, outcomes)
        for outcome in outcomes:
            if isinstance(outcome, Exception) and not isinstance(outcome, _EXPECTED):
                raise outcome

    def _append(self, piece: bytes | str) -> None:
        if self._has_ended or self._overflow.is_set():
            return
        self._waiting.append(piece)
        self._waiting_bytes += len(piece)
        if self._waiting_bytes > WAITING_LIMIT_BYTES or len(self._waiting) > WAITING_LIMIT_PIECES:
            self._drop()
        self._wake.set()

    def _drop(self) -> None:
        self._waiting.clear()
        self._overflow.set()

    async def _send_all(self, socket: WebSocket) -> None:
        """Returns after the end was sent."""
        while True:
            while self._waiting:
                piece = self._take()
                if isinstance(piece, str):
                    await socket.send_text(piece)
                else:
                    self._unacknowledged += len(piece)
                    await socket.send_bytes(piece)
            if self._has_ended:
                return
            self._wake.clear()
            await self._wake.wait()

    def _take(self) -> bytes | str:
        """The next text, or as much output as one frame takes."""
        piece = self._waiting.popleft()
        if isinstance(piece, str):
            self._waiting_bytes -= len(piece)
            return piece
        pieces = [piece]
        size = len(piece)
        while size < FRAME_LIMIT_BYTES and self._waiting and isinstance(following := self._waiting[0], bytes):
            pieces.append(following)
            size += len(following)
            self._waiting.popleft()
        frame = b"".join(pieces)
        if size > FRAME_LIMIT_BYTES:
            self._waiting.appendleft(frame[FRAME_LIMIT_BYTES:])
            frame = frame[:FRAME_LIMIT_BYTES]
        self._waiting_bytes -= len(frame)
        return frame

    async def _receive_all(self, socket: WebSocket, attachment: Attachment) -> None:
        """Returns when the client is gone. Raises HiveError for what it may not send."""
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            # What is typed into a shell that has just ended is nobody's fault.
            if self._has_ended:
                continue
            if (data := message.get("bytes")) is not None:
                self._type(data, attachment)
            else:
                self._control(_parse_control(message["text"]), attachment)

    def _type(self, data: bytes, attachment: Attachment) -> None:
        """What the program does not take now waits apart: acknowledgements behind it are what it may wait for."""
        if not self._typed and _write(data, attachment):
            return
        self._typed += data
        if len(self._typed) > TYPED_LIMIT_BYTES:
            raise TooManyError("the program in this terminal reads nothing", "wait, or end it")
        self._has_typed.set()

    async def _type_all(self, attachment: Attachment) -> None:
        while True:
            await self._has_typed.wait()
            while self._typed:
                piece = bytes(self._typed[:FRAME_LIMIT_BYTES])
                if self._has_ended or _write(piece, attachment):
                    del self._typed[: len(piece)]
                else:
                    await asyncio.sleep(TYPE_AGAIN_S)
            self._has_typed.clear()

    def _control(self, control: _Control, attachment: Attachment) -> None:
        if isinstance(control, TerminalResize):
            attachment.resize(control.columns, control.rows)
        elif isinstance(control, TerminalAnswer):
            if attachment.answers:
                self._type(control.text.encode(), attachment)
        elif control.count > self._unacknowledged:
            raise InvalidInputError("more was acknowledged than was sent", "count each byte of output once")
        else:
            self._unacknowledged -= control.count
            attachment.acknowledge(control.count)

    async def _close(self, socket: WebSocket, outcomes: list[Any]) -> None:
        refusal = next((outcome for outcome in outcomes if isinstance(outcome, HiveError)), None)
        if refusal is not None:
            code, reason = POLICY_VIOLATION, refusal.message
        elif self._overflow.is_set():
            code, reason = TRY_AGAIN_LATER, "too slow"
        else:
            code, reason = NORMAL, ""
        # It may be gone already, or read nothing.
        with contextlib.suppress(OSError, RuntimeError, TimeoutError, WebSocketDisconnect):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await socket.close(code, _cut(reason))


def _write(data: bytes, attachment: Attachment) -> bool:
    """Whether it was taken. Raises what will not pass."""
    try:
        attachment.write(data)
    except TooManyError:
        return False
    return True


def _parse_control(text: str) -> _Control:
    if len(text) > TEXT_LIMIT_CHARS:
        raise TooLargeError("a text is longer than any that is known", "input is sent as binary")
    try:
        return _CONTROL.validate_json(text)
    except ValidationError as error:
        raise InvalidInputError("a text is neither resize nor ack nor answer", "input is sent as binary") from error


def _cut(reason: str) -> str:
    return reason.encode()[:_REASON_LIMIT_BYTES].decode(errors="ignore")
