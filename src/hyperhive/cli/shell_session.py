"""One `hive shell`: keyboard or standard input to a terminal, and its output back, until one of them ends."""

import contextlib
import os
import select
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from hyperhive.cli.client import NoHiveError
from hyperhive.cli.escapes import Act, Escapes
from hyperhive.cli.raw_tty import Screen, drain, observe_size, write_all
from hyperhive.cli.terminal_link import Ended, LostError, TerminalLink
from hyperhive.cli.terminal_queries import split_answers
from hyperhive.core.errors import UnavailableError

HELP = b"\r\n~.  leave; the shell stays\r\n~?  this\r\n~~  a tilde\r\n"
_CLEAR = b"\x1b[H\x1b[2J"
_END_OF_INPUT = b"\x04"
# What reads the end of input may be a program of the shell's; then the shell needs one of its own.
END_INTERVAL_S = 0.5
# A daemon that is started anew is back within seconds.
RECONNECT_S = 30.0
RECONNECT_INTERVAL_S = 0.5
_READ_BYTES = 32 * 1024


@dataclass(frozen=True, slots=True)
class Detached:
    """The person left; the shell stays."""


Outcome = Ended | Detached


class KeyboardSession:
    """A person at a terminal in raw mode. `connect` attaches, and is called again when the connection breaks."""

    def __init__(self, connect: Callable[[], TerminalLink], signals: int, *, read_only: bool) -> None:
        self._connect = connect
        self._signals = signals
        self._read_only = read_only
        self._escapes = Escapes(only_looking=read_only)
        self._screen = Screen()

    def run(self) -> Outcome:
        """Raises HiveError when the hive refuses, or stays away."""
        link = self._connect()
        try:
            while True:
                try:
                    return self._relay(link)
                except LostError as error:
                    if link.was_refused():
                        raise
                    link.close()
                    again = self._reconnect(error)
                    if again is None:
                        return Detached()
                    link = again
        finally:
            link.close()
            self._screen.reset()

    def _relay(self, link: TerminalLink) -> Outcome:
        self._tell_size(link)
        while True:
            readable, writable, _ = select.select(
                [link, self._signals] if link.is_full else [link, self._signals, sys.stdin],
                [link] if link.wants_write else [],
                [],
            )
            if self._signals in readable:
                drain(self._signals)
                self._tell_size(link)
            if sys.stdin in readable and self._type(link) is Act.DETACH:
                return Detached()
            if writable:
                link.flush()
            if link in readable and (ended := show_output(link, self._screen.write)) is not None:
                return ended

    def _tell_size(self, link: TerminalLink) -> None:
        if not self._read_only:
            link.resize(*observe_size())

    def _type(self, link: TerminalLink | None) -> Act | None:
        """Passes on what was typed; DETACH also when the keyboard is gone."""
        typed = b""
        with contextlib.suppress(OSError):
            typed = os.read(sys.stdin.fileno(), _READ_BYTES)
        for piece, is_answer in split_answers(typed):
            if is_answer:
                self._answer(link, piece)
            elif self._pass(link, piece) is Act.DETACH:
                return Act.DETACH
        return None if typed else Act.DETACH

    def _answer(self, link: TerminalLink | None, answer: bytes) -> None:
        if link is not None and not self._read_only:
            link.answer(answer)

    def _pass(self, link: TerminalLink | None, typed: bytes) -> Act | None:
        passed, acts = self._escapes.feed(typed)
        if Act.HELP in acts:
            self._screen.write(HELP)
        if passed and link is not None:
            link.write(passed)
        return Act.DETACH if Act.DETACH in acts else None

    def _reconnect(self, error: LostError) -> TerminalLink | None:
        """Attached again, the screen cleared for what is on the terminal; None if the person did not want to wait."""
        write_all(f"\r\nhive: {error.message}; trying again (~. leaves)\r\n".encode())
        deadline = time.monotonic() + RECONNECT_S
        while True:
            try:
                link = self._connect()
            except (NoHiveError, UnavailableError):
                if time.monotonic() > deadline:
                    raise
            else:
                self._screen.write(_CLEAR)
                return link
            readable, _, _ = select.select([sys.stdin], [], [], RECONNECT_INTERVAL_S)
            if readable and self._type(None) is Act.DETACH:
                return None


class PipeSession:
    """Standard input, which is no terminal, typed into a shell; then its end, if `ends_shell`, until it is over."""

    def __init__(self, link: TerminalLink, *, reads_input: bool, ends_shell: bool) -> None:
        self._link = link
        self._is_reading = reads_input
        self._ends_shell = ends_shell
        self._last = b"\n"

    def run(self) -> Outcome:
        """Raises LostError when the connection breaks: what was typed by then nobody knows."""
        while True:
            waits_s = END_INTERVAL_S if self._ends_shell and not self._is_reading else None
            readable, writable, _ = select.select(
                [self._link, sys.stdin] if self._is_reading and not self._link.is_full else [self._link],
                [self._link] if self._link.wants_write else [],
                [],
                waits_s,
            )
            if sys.stdin in readable:
                self._type()
            elif waits_s is not None and not readable and not writable:
                self._link.write(_END_OF_INPUT)
            if writable:
                self._link.flush()
            if self._link in readable and (ended := show_output(self._link, write_all)) is not None:
                return ended

    def _type(self) -> None:
        data = os.read(sys.stdin.fileno(), _READ_BYTES)
        if data:
            self._last = data[-1:]
            self._link.write(data)
            return
        self._is_reading = False
        if self._ends_shell:
            # On a line that has begun it would not be an end.
            self._link.write(_END_OF_INPUT if self._last in b"\r\n" else b"\n" + _END_OF_INPUT)


def show_output(link: TerminalLink, write: Callable[[bytes], None]) -> Ended | None:
    """Writes what has come, and only then acknowledges it; what was the end, if it came."""
    for piece in link.read():
        if isinstance(piece, Ended):
            return piece
        write(piece.data)
        link.acknowledge(piece.count)
    return None
