"""A terminal that passes every key on, and is as it was afterwards, however this ends."""

import contextlib
import fcntl
import os
import re
import select
import signal
import sys
import termios
import tty
from collections.abc import Generator
from types import FrameType

from hyperhive.core.terminals import COLUMNS_LIMIT, ROWS_LIMIT

DEFAULT_SIZE = (80, 24)
# What a program that was left may have turned on: mouse and focus reports, bracketed paste, keypad and cursor keys of
# its own, other characters, colours, no cursor.
_RESET = b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>\x1b(B\x1b[0m\x1b[?25h"
_LEAVE_ALTERNATE = b"\x1b[?1049l"
_ALTERNATE = re.compile(rb"\x1b\[\?(?:47|1047|1049)([hl])")
_LONGEST_SEQUENCE_BYTES = 8


class Screen:
    """Standard output, where it is a terminal: knows whether a program has turned to the other screen."""

    def __init__(self) -> None:
        self._tail = b""
        self._is_alternate = False

    def write(self, data: bytes) -> None:
        for found in _ALTERNATE.finditer(self._tail + data):
            self._is_alternate = found[1] == b"h"
        self._tail = (self._tail + data)[-_LONGEST_SEQUENCE_BYTES:]
        write_all(data)

    def reset(self) -> None:
        """Undoes what programs turned on."""
        # A window that was closed has nothing to undo.
        with contextlib.suppress(OSError):
            write_all(_RESET + (_LEAVE_ALTERNATE if self._is_alternate else b""))


def write_all(data: bytes) -> None:
    """To standard output, waiting as long as it takes, also where it is set not to wait."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(sys.stdout.fileno(), view) :]
        except BlockingIOError:
            select.select([], [sys.stdout.fileno()], [])


def observe_size() -> tuple[int, int]:
    """Columns and rows of the terminal this runs on; of a usual one without any."""
    for stream in (sys.stdout, sys.stdin):
        with contextlib.suppress(OSError, ValueError):
            columns, rows = os.get_terminal_size(stream.fileno())
            if columns and rows:
                return min(columns, COLUMNS_LIMIT), min(rows, ROWS_LIMIT)
    return DEFAULT_SIZE


@contextlib.contextmanager
def raw_keyboard() -> Generator[None]:
    """Standard input, a terminal, without echo, lines and signals of its own while the context lasts."""
    before = termios.tcgetattr(sys.stdin.fileno())
    try:
        # What was typed already is kept.
        tty.setraw(sys.stdin.fileno(), termios.TCSANOW)
        yield
    finally:
        # What the terminal answers to a program's question is not for the next prompt: what was not read is dropped.
        with contextlib.suppress(termios.error):
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSAFLUSH, before)


@contextlib.contextmanager
def signals_as_bytes() -> Generator[int]:
    """A pipe's end that can be read whenever the window has changed its size; a signal to end raises SystemExit."""
    reader, writer = os.pipe()
    for end in (reader, writer):
        fcntl.fcntl(end, fcntl.F_SETFL, fcntl.fcntl(end, fcntl.F_GETFL) | os.O_NONBLOCK)
    before = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, _wake)
    woken = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def drain(reader: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(reader, 4096)


def _leave(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _wake(_: int, __: FrameType | None) -> None:
    """The byte that the interpreter writes for each signal is enough."""
