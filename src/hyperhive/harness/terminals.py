"""The terminals that the daemon has opened here: shells, and the connections that carry them to terminal.sock.

A shell goes on while the daemon is away. After each hello its terminal is connected anew, and what was last on it is
sent again.
"""

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hyperhive.core.errors import ConflictError, NotFoundError, TooManyError
from hyperhive.core.terminals import ID_LIMIT_CHARS, SCROLLBACK_LIMIT_BYTES, TERMINALS_LIMIT, Scrollback, check_size
from hyperhive.harness.link import Link
from hyperhive.harness.shell import HANGUP_S, Shell
from hyperhive.system.sockets import connect_unix
from hyperhive.wire.agent_link import (
    TERMINAL_CLOSE,
    TERMINAL_ENDED,
    TERMINAL_OPEN,
    TERMINAL_RESIZE,
    TerminalEndedParams,
    TerminalHead,
)
from hyperhive.wire.jsonrpc import INVALID_PARAMS, ProtocolError

log = logging.getLogger("hive.terminals")

TERMINAL_METHODS = frozenset({TERMINAL_OPEN, TERMINAL_RESIZE, TERMINAL_CLOSE})

_READ_BYTES = 64 * 1024
# How long the last of a terminal may take to the daemon: a viewer that holds it up is detached before.
_FLUSH_S = 15.0
# While the link is up, a connection that the daemon ends is one that it does not want: then the shell ends, too.
_RETRY_FIRST_S = 0.2
_RETRIES = 5
_FLUSH_AT_END_S = 0.3
_HANGUP_AT_END_S = 0.3


class _Terminal:
    """One shell and its connection. `unwanted` is called when the daemon does not take it (any more)."""

    def __init__(self, head: TerminalHead, path: Path, shell: Shell, is_linked: Callable[[], bool]) -> None:
        self._head = head
        self._path = path
        self.shell = shell
        self._is_linked = is_linked
        self._loop = asyncio.get_running_loop()
        self._scrollback = Scrollback()
        self._socket: socket.socket | None = None
        # On the way to the daemon, and to the shell's programs. While there is any no more is read.
        self._up = b""
        self._down = b""
        self._at_end = False
        self._retries = 0
        self._retrying: asyncio.TimerHandle | None = None
        self.flushed = asyncio.Event()
        self.unwanted = asyncio.Event()
        self._watch_shell(True)

    # -- the connection ------------------------------------------------------------------------------------

    def greeted(self) -> None:
        """There is a daemon that knows nothing of what was sent before."""
        self._retries = 0
        self.connect()

    def connect(self) -> None:
        """Connects anew, with what was last on the terminal."""
        self._drop()
        replay = self._scrollback.read()
        head: TerminalHead = {**self._head, "replay": len(replay)}
        try:
            # Without waiting: the daemon listens, or it is away.
            self._socket = connect_unix(self._path, timeout_s=0)
        except OSError as error:
            log.info("terminal.sock: %s", error.strerror)
            self._retry()
            return
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self._take_input)
        self._send(json.dumps(head).encode() + b"\n" + replay)

    def _drop(self) -> None:
        connection, self._socket = self._socket, None
        if connection is None:
            return
        self._loop.remove_reader(connection)
        self._loop.remove_writer(connection)
        connection.close()
        self._up = b""
        self._watch_shell(True)
        self.flushed.set()

    def _lose(self) -> None:
        self._drop()
        self._retry()

    def _retry(self) -> None:
        """Without a link the next hello connects; with one it is tried a few times, in case that one was late."""
        if self._at_end or self._retrying is not None or not self._is_linked():
            return
        if self._retries >= _RETRIES:
            self.unwanted.set()
            return
        self._retrying = self._loop.call_later(_RETRY_FIRST_S * 2**self._retries, self._connect_again)
        self._retries += 1

    def _connect_again(self) -> None:
        self._retrying = None
        if self._socket is None and not self._at_end:
            self.connect()

    # -- what the programs write ---------------------------------------------------------------------------

    def _watch_shell(self, is_wanted: bool) -> None:
        if is_wanted and not self._at_end:
            self._loop.add_reader(self.shell.terminal, self._take_output)
        else:
            self._loop.remove_reader(self.shell.terminal)

    def _take_output(self) -> None:
        data = self.shell.read()
        if data is None:
            # Nobody has it open: the shell ends, or is about to open it.
            self._watch_shell(False)
        elif data:
            self._scrollback.add(data)
            if self._socket is not None:
                self._send(data)

    def _send(self, data: bytes) -> None:
        self._up += data
        self._flush()

    def _flush(self) -> None:
        if self._socket is None:
            return
        try:
            while self._up:
                self._up = self._up[self._socket.send(self._up) :]
        except BlockingIOError:
            self._watch_shell(False)
            self._loop.add_writer(self._socket, self._flush)
            self.flushed.clear()
            return
        except OSError:
            self._lose()
            return
        self._loop.remove_writer(self._socket)
        self._watch_shell(True)
        self.flushed.set()

    # -- what is typed -------------------------------------------------------------------------------------

    def _take_input(self) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        self._retries = 0
        self._down += data
        self._type()

    def _type(self) -> None:
        """Writes what was typed; while the programs take no more of it, the daemon has to wait."""
        if self._at_end:
            return
        self._down = self._down[self.shell.write(self._down) :]
        if self._down:
            self._loop.add_writer(self.shell.terminal, self._type)
            if self._socket is not None:
                self._loop.remove_reader(self._socket)
        else:
            self._loop.remove_writer(self.shell.terminal)
            if self._socket is not None:
                self._loop.add_reader(self._socket, self._take_input)

    def _read_rest(self) -> bytes:
        """What was written and not read yet, as far as it would be kept."""
        rest = b""
        while len(rest) < SCROLLBACK_LIMIT_BYTES and (data := self.shell.read()):
            rest += data
        return rest

    # -- the end -------------------------------------------------------------------------------------------

    async def finish(self, flush_s: float) -> None:
        """The shell has ended: what it wrote last is sent, and what it left behind is killed."""
        self._loop.remove_reader(self.shell.terminal)
        self._loop.remove_writer(self.shell.terminal)
        data = self._read_rest()
        self._at_end = True
        if data and self._socket is not None:
            self._send(data)
        # What is left would write to a terminal that nobody sees.
        await self.shell.close()
        if self._up:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(flush_s):
                    await self.flushed.wait()
        self._drop()
        if self._retrying is not None:
            self._retrying.cancel()


class Terminals:
    """Opens, resizes and closes them as the daemon says; `greeted` after each hello, `close` at the harness's end."""

    def __init__(self, link: Link, sockets: Path, state: Path, generation: int) -> None:
        self._link = link
        self._path = sockets / "terminal.sock"
        self._state = state
        self._generation = generation
        self._open: dict[str, _Terminal] = {}
        self._opening = 0
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._telling: set[asyncio.Task[None]] = set()
        self._ends = False

    def greeted(self) -> None:
        for terminal in self._open.values():
            terminal.greeted()

    async def carry_out(self, method: str, params: dict[str, Any]) -> None:
        """One of TERMINAL_METHODS. Raises ProtocolError for params that are none, and what the act raises."""
        if method == TERMINAL_OPEN:
            await self.open(params)
        elif method == TERMINAL_RESIZE:
            self.resize(params)
        else:
            await self.end(str(params.get("id") or ""))

    async def open(self, params: dict[str, Any]) -> None:
        """Raises TooManyError, ConflictError for an id that is there, UnavailableError if there is none to be had."""
        terminal_id, columns, rows = _parse_size(params)
        if terminal_id in self._open or self._ends:
            raise ConflictError(f"there is a terminal {terminal_id!r}", "choose another id")
        if len(self._open) + self._opening >= TERMINALS_LIMIT:
            raise TooManyError(f"{TERMINALS_LIMIT} terminals are open", "close one of them")
        self._opening += 1
        try:
            shell = await Shell.start(self._state, columns, rows, os.environ)
        finally:
            self._opening -= 1
        head: TerminalHead = {"terminal": terminal_id, "generation": self._generation}
        terminal = self._open[terminal_id] = _Terminal(head, self._path, shell, self._link.is_connected)
        self._tasks[terminal_id] = asyncio.create_task(self._watch(terminal_id, terminal))
        terminal.connect()

    def resize(self, params: dict[str, Any]) -> None:
        """Raises NotFoundError."""
        terminal_id, columns, rows = _parse_size(params)
        terminal = self._open.get(terminal_id)
        if terminal is None:
            raise NotFoundError(f"there is no terminal {terminal_id!r}", "open one")
        terminal.shell.resize(columns, rows)

    async def end(self, terminal_id: str) -> None:
        """Hangs up, kills what is left, and returns when it is gone. One that is not there is no error."""
        terminal, task = self._open.get(terminal_id), self._tasks.get(terminal_id)
        if terminal is None or task is None:
            return
        terminal.unwanted.set()
        # Also if nobody waits for the answer any more.
        await asyncio.shield(asyncio.gather(task, return_exceptions=True))

    async def close(self) -> None:
        """Ends all of them, at once."""
        self._ends = True
        for terminal in self._open.values():
            terminal.unwanted.set()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for task in self._telling:
            task.cancel()
        await asyncio.gather(*self._telling, return_exceptions=True)

    async def _watch(self, terminal_id: str, terminal: _Terminal) -> None:
        """One terminal from its opening to its end, whichever comes first: the shell's or the daemon's wish."""
        shell = terminal.shell
        ended = asyncio.create_task(shell.wait())
        unwanted = asyncio.create_task(terminal.unwanted.wait())
        try:
            await asyncio.wait([ended, unwanted], return_when=asyncio.FIRST_COMPLETED)
            is_unwanted = not ended.done()
            if is_unwanted:
                shell.hang_up()
                await shell.wait_hung_up(_HANGUP_AT_END_S if self._ends else HANGUP_S)
            await terminal.finish(_FLUSH_AT_END_S if self._ends or is_unwanted else _FLUSH_S)
            self._tell(terminal_id, ended.result() if ended.done() else None)
        finally:
            for task in (ended, unwanted):
                task.cancel()
            self._open.pop(terminal_id, None)
            self._tasks.pop(terminal_id, None)

    def _tell(self, terminal_id: str, status: int | None) -> None:
        if self._ends:
            return
        task = asyncio.create_task(self._report({"id": terminal_id, "status": status}))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _report(self, ended: TerminalEndedParams) -> None:
        try:
            await self._link.request(TERMINAL_ENDED, {**ended})
        except Exception as error:  # noqa: BLE001  # the daemon finds out by itself
            log.warning("the end of a terminal was not taken: %s", error)


def _parse_size(params: dict[str, Any]) -> tuple[str, int, int]:
    match params:
        case {"id": str(terminal_id), "columns": int(columns), "rows": int(rows)} if len(terminal_id) <= ID_LIMIT_CHARS:
            check_size(columns, rows)
            return terminal_id, columns, rows
        case _:
            raise ProtocolError(INVALID_PARAMS, "a terminal has an id, columns and rows")
