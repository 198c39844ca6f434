"""The lines of one client, with bounds on their size, on how long one may take and on how often they come."""

import asyncio
from dataclasses import dataclass

from hyperhive.core.errors import HiveError
from hyperhive.core.rates import Bucket, Rate
from hyperhive.wire.host_sock import LINE_LIMIT_BYTES

# Between requests: one that asks now and then may keep its connection.
IDLE_TIMEOUT_S = 300.0
# From the first byte of a line to its end.
LINE_TIMEOUT_S = 10.0
# Far more than people click and pages poll.
REQUESTS = Rate(burst=500, per_minute=30_000)
_PIECE_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Times:
    """How long is waited; tests have less of it."""

    idle_s: float = IDLE_TIMEOUT_S
    line_s: float = LINE_TIMEOUT_S


class FramingError(HiveError):
    """Where the next line begins is not known, or nobody waits for it any more: the connection ends."""


class Lines:
    def __init__(self, reader: asyncio.StreamReader, times: Times) -> None:
        self._reader = reader
        self._times = times
        self._buffer = bytearray()
        self._loop = asyncio.get_running_loop()
        self._bucket = Bucket(REQUESTS, self._loop.time())

    async def take(self) -> bytes | None:
        """The next line without its end; None once the client has left or was silent for too long.

        What a client that has said all leaves without a line's end is a line, too. Raises FramingError.
        """
        until_s, searched = None, 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > LINE_LIMIT_BYTES:
                raise FramingError(_TOO_LONG)
            if self._buffer and until_s is None:
                until_s = self._loop.time() + self._times.line_s
            piece = await self._read(until_s)
            if piece is None:
                return None
            if not piece:
                line = bytes(self._buffer)
                self._buffer.clear()
                return line or None
            # Of empty lines there may be thousands: they are no requests, and nobody waits for them.
            self._buffer += piece if self._buffer else piece.lstrip(b"\r\n")
        if end > LINE_LIMIT_BYTES:
            raise FramingError(_TOO_LONG)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        # Never zero: what came in one piece must not keep everybody else waiting.
        await asyncio.sleep(self._bucket.take(self._loop.time()))
        return line

    async def _read(self, until_s: float | None) -> bytes | None:
        """What comes next, empty at the end; None if nothing came for long between two lines."""
        try:
            async with asyncio.timeout_at(until_s or self._loop.time() + self._times.idle_s):
                return await self._reader.read(_PIECE_BYTES)
        except TimeoutError:
            if until_s is None:
                return None
            raise FramingError(f"the line did not end within {self._times.line_s:g} s") from None


_TOO_LONG = f"the line is over {LINE_LIMIT_BYTES} bytes"
