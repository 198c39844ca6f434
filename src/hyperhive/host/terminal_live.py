"""One open terminal in the daemon: its connection to the harness, what was last on it, and who looks at it."""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Protocol

import structlog

from hyperhive.core.errors import ConflictError, RefusedError, TooManyError
from hyperhive.core.terminals import RESET, SCROLLBACK_LIMIT_BYTES, Ending, Scrollback, Terminal, check_size
from hyperhive.host.terminal_stream import TerminalStream

log = structlog.get_logger(__name__)

VIEWERS_LIMIT = 16
# What a viewer may be behind.
UNACKNOWLEDGED_LIMIT_BYTES = SCROLLBACK_LIMIT_BYTES
SILENCE_LIMIT_S = 10.0
# Typed while the program does not read, or the harness is away for a moment.
INPUT_LIMIT_BYTES = 256 * 1024


class TerminalViewer(Protocol):
    """Who looks at a terminal. Called on the event loop, and has to return at once.

    `replayed` says that the next `count` bytes are what was on it before: what programs ask a terminal in them was
    answered then. Either `ended` is the last call, or `dropped`: the viewer was silent for too long, and the terminal
    goes on without it.
    """

    def replayed(self, count: int) -> None: ...
    def output(self, data: bytes) -> None: ...
    def resized(self, columns: int, rows: int) -> None: ...
    def ended(self, status: int | None) -> None: ...
    def dropped(self) -> None: ...


class LiveTerminal:
    """The sink of its stream. `on_resize` is called when the harness has to be told of a size."""

    def __init__(self, record: Terminal, generation: int, on_resize: Callable[["LiveTerminal"], None]) -> None:
        self._record = record
        self.generation = generation
        self._on_resize = on_resize
        self._loop = asyncio.get_running_loop()
        self._scrollback = Scrollback()
        self._stream: TerminalStream | None = None
        self._attachments: list[Attachment] = []
        self._typed_last: Attachment | None = None
        # Typed before there was a connection.
        self._pending = bytearray()
        self._replay_left = 0
        self._had_stream = False
        # Why it is about to end, if somebody wants that.
        self.wish: Ending | None = None
        self.ending = asyncio.Lock()
        self.is_over = False
        self.connected = asyncio.Event()
        self.drained = asyncio.Event()
        self.changed = False
        self.used_at_s = self._loop.time()
        self.streamless_since_s = self._loop.time()

    @property
    def record(self) -> Terminal:
        return dataclasses.replace(self._record, viewers=len(self._attachments))

    @property
    def has_stream(self) -> bool:
        return self._stream is not None

    def is_unused(self, for_s: float) -> bool:
        return not self._attachments and self._loop.time() - self.used_at_s >= for_s

    def is_lost(self, after_s: float) -> bool:
        return self._stream is None and self._loop.time() - self.streamless_since_s >= after_s

    # -- the harness's side --------------------------------------------------------------------------------

    def connect(self, stream: TerminalStream, replay: int) -> None:
        """Takes a connection of the harness. Raises ConflictError if there is one."""
        if self._stream is not None:
            raise ConflictError(f"terminal {self._record.id} is connected already", "one connection a terminal")
        self._stream = stream
        self._replay_left = replay
        # What comes now begins anew.
        self._scrollback.clear()
        for attachment in list(self._attachments):
            attachment.show_again(RESET if self._had_stream else b"", replay)
        self._had_stream = True
        self.drained.clear()
        self.connected.set()
        self.hold()
        if self._pending:
            stream.write(bytes(self._pending))
            self._pending.clear()

    def received(self, data: bytes) -> None:
        fresh = max(0, len(data) - self._replay_left)
        self._replay_left = max(0, self._replay_left - len(data))
        self._count(bytes_out=fresh)
        self._scrollback.add(data)
        self._show(data)

    def stream_lost(self, stream: TerminalStream) -> None:
        if self._stream is stream:
            self.drop_stream()

    def drop_stream(self) -> None:
        """The connection is gone, or to go: the harness makes another."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        stream.close()
        self.streamless_since_s = self._loop.time()
        self.connected.clear()
        self.drained.set()

    # -- the viewers' side ---------------------------------------------------------------------------------

    def attach(self, viewer: TerminalViewer, *, writes: bool) -> "Attachment":
        if len(self._attachments) >= VIEWERS_LIMIT:
            raise TooManyError(f"{VIEWERS_LIMIT} look at this terminal already", "close one of them")
        attachment = Attachment(self, viewer, writes)
        self._attachments.append(attachment)
        self.show_again(attachment)
        self.hold()
        return attachment

    def show_again(self, attachment: "Attachment", reset: bytes = b"") -> None:
        """What was on it last, and what of that the harness is about to tell."""
        attachment.show_again(reset + self._scrollback.read(), self._replay_left)

    def answers(self, attachment: "Attachment") -> bool:
        """Whether `attachment` is whose terminal answers what programs ask: who typed last, else who came first.

        Each of several would answer, and all answers but one would be read as typed.
        """
        writers = [one for one in self._attachments if one.writes]
        return attachment is (self._typed_last if self._typed_last in writers else next(iter(writers), None))

    def write(self, data: bytes, attachment: "Attachment") -> None:
        """Raises TooManyError if what was typed before was not taken yet."""
        unsent = len(self._pending) if self._stream is None else self._stream.count_unsent()
        if unsent + len(data) > INPUT_LIMIT_BYTES:
            raise TooManyError("the program in this terminal reads nothing", "wait, or end it")
        if self._stream is None:
            self._pending += data
        else:
            self._stream.write(data)
        self._typed_last = attachment
        self.used_at_s = self._loop.time()
        self._count(bytes_in=len(data))

    def resize(self, columns: int, rows: int) -> None:
        """Raises InvalidInputError."""
        check_size(columns, rows)
        self.used_at_s = self._loop.time()
        if (columns, rows) == (self._record.columns, self._record.rows):
            return
        self._record = dataclasses.replace(self._record, columns=columns, rows=rows)
        self.changed = True
        for attachment in list(self._attachments):
            attachment.tell_size(columns, rows)
        self._on_resize(self)

    def forget(self, attachment: "Attachment") -> None:
        if attachment in self._attachments:
            self._attachments.remove(attachment)
            if self._typed_last is attachment:
                self._typed_last = None
            self.used_at_s = self._loop.time()
            self.hold()

    def hold(self) -> None:
        """Has the program wait for as long as somebody who types in it is behind, and only for that."""
        if self._stream is not None:
            writers = [attachment for attachment in self._attachments if attachment.writes]
            self._stream.hold(any(writer.is_behind for writer in writers), is_paced=not writers)

    def end(self, status: int | None) -> None:
        """It is no more: all who look at it are told."""
        self.is_over = True
        for attachment in list(self._attachments):
            attachment.end(status)
        self.drop_stream()

    def _show(self, data: bytes) -> None:
        for attachment in list(self._attachments):
            attachment.show(data)
        self.hold()

    def _count(self, bytes_in: int = 0, bytes_out: int = 0) -> None:
        record = self._record
        self._record = dataclasses.replace(
            record, bytes_in=record.bytes_in + bytes_in, bytes_out=record.bytes_out + bytes_out
        )
        self.changed = True


class Attachment:
    """One viewer of a terminal, until `detach`, the terminal's end, or a silence.

    A viewer that may write and is behind has the program wait for it; one that only reads misses what comes until it
    has caught up, and is then shown all anew.
    """

    def __init__(self, terminal: LiveTerminal, viewer: TerminalViewer, writes: bool) -> None:
        self._terminal = terminal
        self._viewer = viewer
        self.writes = writes
        self._unacknowledged = 0
        self._missed = False
        self._open = True
        self._loop = asyncio.get_running_loop()
        self._silence: asyncio.TimerHandle | None = None

    @property
    def answers(self) -> bool:
        """Whether what this viewer's terminal answers by itself is to be written; what others answer is not."""
        return self._terminal.answers(self)

    @property
    def is_behind(self) -> bool:
        return self._unacknowledged > UNACKNOWLEDGED_LIMIT_BYTES

    def write(self, data: bytes) -> None:
        """What was typed. Raises RefusedError when attached for reading, ConflictError when not attached any more,
        TooManyError if the program takes nothing."""
        self._check_writes()
        self._terminal.write(data, self)

    def resize(self, columns: int, rows: int) -> None:
        """The same size for all who look at it. Raises RefusedError, ConflictError, InvalidInputError."""
        self._check_writes()
        self._terminal.resize(columns, rows)

    def acknowledge(self, count: int) -> None:
        """That many more bytes of the output were consumed. Nothing below 1 counts, nor more than was sent."""
        if not self._open or count < 1:
            return
        self._unacknowledged = max(0, self._unacknowledged - count)
        self._set_timer()
        if self._missed and self._unacknowledged <= UNACKNOWLEDGED_LIMIT_BYTES // 2:
            self._missed = False
            self._terminal.show_again(self, RESET)
        self._terminal.hold()

    def detach(self) -> None:
        """Again is no error."""
        self._close()
        self._terminal.forget(self)

    # -- for the terminal ----------------------------------------------------------------------------------

    def show_again(self, data: bytes, more: int) -> None:
        """Shows what was there before, of which `more` bytes are to come."""
        if self._open and not self._missed and len(data) + more:
            self._viewer.replayed(len(data) + more)
            self.show(data)

    def show(self, data: bytes) -> None:
        if not self._open or self._missed:
            return
        if not self.writes and self.is_behind:
            self._missed = True
            return
        self._unacknowledged += len(data)
        if self._silence is None:
            self._set_timer()
        self._viewer.output(data)

    def tell_size(self, columns: int, rows: int) -> None:
        if self._open:
            self._viewer.resized(columns, rows)

    def end(self, status: int | None) -> None:
        """The last it hears."""
        if self._open:
            self.detach()
            self._viewer.ended(status)

    # -- inside --------------------------------------------------------------------------------------------

    def _check_writes(self) -> None:
        if not self.writes:
            raise RefusedError("this is attached for reading", "attach for writing")
        if not self._open:
            raise ConflictError("this is not attached any more", "attach again, if the terminal is still open")

    def _set_timer(self) -> None:
        """While it is behind, it has to say something now and then."""
        self._stop_timer()
        if self.is_behind:
            self._silence = self._loop.call_later(SILENCE_LIMIT_S, self._be_silent)

    def _stop_timer(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _be_silent(self) -> None:
        log.info("terminal.silent_viewer", terminal=self._terminal.record.id)
        if self._open:
            self.detach()
            self._viewer.dropped()

    def _close(self) -> None:
        self._open = False
        self._stop_timer()
