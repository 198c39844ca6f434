"""One connection of a desktop client: it asks line by line; or it subscribes, and from then on only listens."""

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from hyperhive.core.errors import HiveError
from hyperhive.host.acting import act_as, render_desktop
from hyperhive.host.desktop.desktop import Desktop
from hyperhive.host.desktop.lines import FramingError, Lines, Times
from hyperhive.host.desktop.statuses import Mailbox
from hyperhive.system.sockets import has_hung_up
from hyperhive.wire.host_sock import Command, parse_request, render_done, render_refusal

log = structlog.get_logger(__name__)

# A client that does not read what it asked for, or listens to, is cut off after this long.
WRITE_TIMEOUT_S = 30.0
_LINGER_S = 1.0
_HANG_UP_CHECK_S = 1.0
_PIECE_BYTES = 64 * 1024


class Connection:
    """`used` is called with each request. While `is_idle`, nobody misses anything if the connection is ended."""

    def __init__(
        self,
        desktop: Desktop,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        times: Times,
        used: Callable[["Connection"], None],
        uid: int,
    ) -> None:
        self.is_idle = True
        self.is_listening = False
        self._desktop = desktop
        self._reader, self._writer = streams
        self._lines = Lines(self._reader, times)
        self._used = used
        self._socket = self._writer.get_extra_info("socket")
        self._uid = uid

    async def serve(self) -> None:
        """Answers until the client has left, or is cut off."""
        try:
            try:
                await self._converse()
            except FramingError as error:
                await self._write(render_refusal(error.message))
                await self._drop_input()
            self._writer.close()
            async with asyncio.timeout(_LINGER_S):
                await self._writer.wait_closed()
        except OSError:
            # It is gone, or (TimeoutError is one) does not read.
            pass
        except RuntimeError:
            # What uvloop raises for a transport that has ended meanwhile, where asyncio does nothing.
            if not self._writer.is_closing():
                raise
        finally:
            self._writer.transport.abort()

    def refuse(self, error: HiveError) -> None:
        """Says why nothing is answered, and hangs up."""
        if not self._writer.is_closing():
            self._writer.write(render_refusal(error.message))
            self._writer.close()

    async def _converse(self) -> None:
        while (line := await self._lines.take()) is not None:
            if not line.strip():
                continue
            self.is_idle = False
            self._used(self)
            mailbox, answer = await self._answer(line)
            if mailbox is not None:
                self.is_listening = True
                await self._listen(mailbox, answer)
                return
            await self._write(answer)
            self.is_idle = True

    async def _answer(self, line: bytes) -> tuple[Mailbox | None, bytes]:
        """The answer to a request; with a mailbox if the client only listens from now on."""
        act_as(render_desktop(self._uid))
        try:
            request = parse_request(line)
            if request.command is Command.SUBSCRIBE:
                return await self._desktop.statuses.subscribe(), render_done()
            return None, await self._desktop.answer(request, self._uid)
        except HiveError as error:
            return None, render_refusal(error.message)
        except Exception:
            log.exception("desktop.failed")
            return None, render_refusal("the hive failed at this; its log says how")

    async def _listen(self, mailbox: Mailbox, answer: bytes) -> None:
        tasks = [asyncio.create_task(work) for work in (self._tell(mailbox, answer), self._wait_until_left())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._desktop.statuses.unsubscribe(mailbox)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self, mailbox: Mailbox, answer: bytes) -> None:
        line: bytes | None = answer
        while line is not None:
            await self._write(line)
            line = await mailbox.take()

    async def _wait_until_left(self) -> None:
        # What it still says is not listened to; that it will say no more does not mean that it left.
        while await self._reader.read(_PIECE_BYTES):
            pass
        while not has_hung_up(self._socket.fileno()):  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(_HANG_UP_CHECK_S)

    async def _write(self, line: bytes) -> None:
        """Raises OSError if the client is gone, TimeoutError (which is one) if it does not read."""
        self._writer.write(line)
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await self._writer.drain()

    async def _drop_input(self) -> None:
        """A socket that is closed on unread bytes looks broken to the other side, which may miss the answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while await self._reader.read(_PIECE_BYTES):
                    pass
