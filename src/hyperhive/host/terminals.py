"""Terminals of agents: opened in their containers by the harness, relayed to those who look at them.

Who opened which, how it ended and how much went through is kept. A shell outlives the daemon: its harness connects it
anew. It ends with its container.
"""

import asyncio
import functools
import secrets
from collections.abc import Awaitable, Callable

import structlog

from hyperhive.core.errors import ConflictError, HiveError, NotFoundError, TooManyError, UnavailableError
from hyperhive.core.events import Event, EventName
from hyperhive.core.names import parse_known_agent_name
from hyperhive.core.terminals import HIVE_TERMINALS_LIMIT, TERMINALS_LIMIT, Ending, Terminal, check_size
from hyperhive.core.text import cut_text, render_safe_line
from hyperhive.host.agent_records import get_agent
from hyperhive.host.background import Background
from hyperhive.host.link.connection import Caller, LinkConnection
from hyperhive.host.link.params import TerminalHead
from hyperhive.host.store.rows import to_terminal
from hyperhive.host.store.store import Store, Transaction
from hyperhive.host.terminal_live import Attachment, LiveTerminal, TerminalViewer
from hyperhive.host.terminal_stream import TerminalStream
from hyperhive.system.clock import now
from hyperhive.wire.agent_link import TERMINAL_CLOSE, TERMINAL_OPEN, TERMINAL_RESIZE

__all__ = ["Attachment", "TerminalViewer", "Terminals"]

log = structlog.get_logger(__name__)

CALL_TIMEOUT_S = 10.0
# After that without a connection its harness has forgotten it: one that has not is back within seconds.
LOST_AFTER_S = 60.0
# For the last that a program wrote: a viewer that holds it up is detached before.
DRAIN_TIMEOUT_S = 12.0
ENDED_SHOWN = 10
_OPENED_BY_CHARS = 200
_REASON_CHARS = 200
# When the container ends, so does what ran in it.
_ENDS_ALL = frozenset(
    {
        EventName.AGENT_STOPPED,
        EventName.AGENT_CRASHED,
        EventName.AGENT_FAILED,
        EventName.AGENT_DESTROYED,
        EventName.AGENT_HIBERNATED,
    }
)


class Terminals:
    """`wake` has the harness of a hibernated agent there. `idle_s`: 0 closes nothing that is unused."""

    def __init__(
        self,
        store: Store,
        background: Background,
        wake: Callable[[str], Awaitable[None]],
        idle_s: float = 3600.0,
        look_every_s: float = 15.0,
    ) -> None:
        self._store = store
        self._background = background
        self._wake = wake
        self._idle_s = idle_s
        self._look_every_s = look_every_s
        self._find_connection: Callable[[str], LinkConnection]
        self._live: dict[str, LiveTerminal] = {}
        self._resizing: set[str] = set()

    def call_over(self, find_connection: Callable[[str], LinkConnection]) -> None:
        """The links need the terminals and the terminals the links: assembly joins them here."""
        self._find_connection = find_connection

    async def load(self) -> None:
        """At the daemon's start: those that were open wait for their harness, unless their agent is gone."""
        await self._store.write(_end_orphans)
        for row in await self._store.read(lambda view: view.list("list_open_terminals")):
            live = self._make_live(to_terminal(row), row["generation"])
            self._live[live.record.id] = live

    async def run_forever(self) -> None:
        """Closes what nobody uses, ends what its harness forgot, and writes down how much went through."""
        while True:
            await asyncio.sleep(self._look_every_s)
            for live in list(self._live.values()):
                await self._look(live)

    async def save(self) -> None:
        """Before the daemon ends: the shells go on."""
        for live in list(self._live.values()):
            await self._save(live)

    # -- for the operator ----------------------------------------------------------------------------------

    async def open(self, agent: str, columns: int, rows: int, opened_by: str) -> Terminal:
        """A new shell in the agent's container, which is started if it hibernates.

        Raises InvalidInputError for a size that cannot be, NotFoundError for an unknown agent, TooManyError with
        TERMINALS_LIMIT open, UnavailableError if its harness is not there or does not open one.
        """
        check_size(columns, rows)
        parse_known_agent_name(agent)
        await self._store.read(lambda view: get_agent(view, agent))
        await self._wake(agent)
        connection = self._find_connection(agent)
        if connection.caller is None:
            raise UnavailableError(f"{agent} is not connected", "try again")
        live = await self._insert(agent, connection.caller.generation, (columns, rows), opened_by)
        try:
            await _call(connection, TERMINAL_OPEN, _render_size(live.record))
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await live.connected.wait()
        except BaseException as error:
            # Also if whoever asked is gone: nobody would know of it.
            self._background.soon(self._give_up(live))
            if isinstance(error, TimeoutError):
                raise UnavailableError(f"the harness of {agent} connected no terminal", "try again") from error
            raise
        return live.record

    async def list(self, agent: str) -> list[Terminal]:
        """The open ones, the oldest first; then the last that ended, the newest first. Raises NotFoundError."""
        parse_known_agent_name(agent)
        # Before the others are read: one that ends meanwhile is among either.
        open_ = [live.record for live in self._list_live(agent)]
        _, ended = await self._store.read(
            lambda view: (
                get_agent(view, agent),
                [to_terminal(row) for row in view.list("list_ended_terminals", agent=agent, limit=ENDED_SHOWN)],
            )
        )
        ids = {one.id for one in ended}
        return [*(one for one in open_ if one.id not in ids), *ended]

    async def close(self, agent: str, terminal_id: str) -> None:
        """Ends a shell and what runs in it. One that has ended is no error. Raises NotFoundError for an unknown one."""
        live = next((one for one in self._list_live(agent) if one.record.id == terminal_id), None)
        if live is None:
            row = await self._store.read(lambda view: view.find("find_terminal", agent=agent, id=terminal_id))
            if row is None:
                raise _not_found(agent, terminal_id)
            return
        await self._close(live, Ending.CLOSED)

    def attach(self, agent: str, terminal_id: str, viewer: TerminalViewer, *, writes: bool) -> Attachment:
        """Shows an open terminal to `viewer`, first of all what was last on it.

        Raises NotFoundError if it is not open, TooManyError if too many look at it.
        """
        live = self._find_live(agent, terminal_id)
        if live is None:
            raise _not_found(agent, terminal_id)
        return live.attach(viewer, writes=writes)

    def count_open(self, agent: str) -> int:
        return len(self._list_live(agent))

    def is_needed(self, agent: str) -> bool:
        """Whether the agent's container has to go on for a terminal."""
        return bool(self._list_live(agent))

    # -- for the harness -----------------------------------------------------------------------------------

    def accept(self, agent: str, head: TerminalHead, stream: TerminalStream) -> LiveTerminal:
        """A connection to an agent's terminal.sock. Raises NotFoundError if it names no open terminal of the agent,
        ConflictError if that is connected already or of another start of the container."""
        live = self._find_live(agent, head.terminal)
        if live is None:
            raise _not_found(agent, head.terminal)
        if head.generation != live.generation:
            raise ConflictError("the terminal was opened in another container", "it has ended with that")
        live.connect(stream, head.replay)
        return live

    def greeted(self, agent: str, generation: int) -> None:
        """A harness said hello: it connects anew all it has, and what an earlier one had is gone."""
        for live in self._list_live(agent):
            live.drop_stream()
            if live.generation != generation:
                self._background.soon(self._end(live, Ending.STOPPED, None))

    def note_ended(self, caller: Caller, terminal_id: str, status: int | None) -> None:
        """The harness says that a shell is gone; the last it wrote may be on its way. Unknown ones are no error."""
        live = self._find_live(caller.agent, terminal_id)
        if live is not None and live.generation == caller.generation:
            self._background.soon(self._end_drained(live, status))

    def on_event(self, event: Event) -> None:
        """The listener of the feed."""
        if event.name in _ENDS_ALL and event.agent is not None:
            for live in self._list_live(event.agent):
                self._background.soon(self._end(live, Ending.STOPPED, None))

    # -- inside --------------------------------------------------------------------------------------------

    def _list_live(self, agent: str) -> "list[LiveTerminal]":  # `list` is a method here
        return [live for live in self._live.values() if live.record.agent == agent]

    def _find_live(self, agent: str, terminal_id: str) -> LiveTerminal | None:
        live = self._live.get(terminal_id)
        return live if live is not None and live.record.agent == agent and not live.is_over else None

    def _make_live(self, record: Terminal, generation: int) -> LiveTerminal:
        return LiveTerminal(record, generation, self._resize_soon)

    async def _insert(self, agent: str, generation: int, size: tuple[int, int], opened_by: str) -> LiveTerminal:
        """Written down before it is opened: no shell is without a record."""
        by = cut_text(render_safe_line(opened_by), _OPENED_BY_CHARS)
        terminal_id = secrets.token_hex(16)

        def insert(tx: Transaction) -> Terminal:
            all_open = tx.list("list_open_terminals")
            if len(all_open) >= HIVE_TERMINALS_LIMIT:
                raise TooManyError(f"{HIVE_TERMINALS_LIMIT} terminals are open in all", "close one of them")
            open_ = [row for row in all_open if row["agent"] == agent]
            if len(open_) >= TERMINALS_LIMIT:
                raise TooManyError(f"{agent} has {TERMINALS_LIMIT} terminals open", "close one of them")
            row = tx.get(
                "insert_terminal",
                id=terminal_id,
                agent=agent,
                generation=generation,
                opened_by=by,
                at=tx.at_ms,
                columns=size[0],
                rows=size[1],
            )
            tx.emit(EventName.TERMINAL_OPENED, agent, {"id": terminal_id, "by": by})
            return to_terminal(row)

        try:
            live = self._make_live(await self._store.write(insert), generation)
        except asyncio.CancelledError:
            # It may be written down all the same.
            given_up = Terminal(terminal_id, agent, by, now(), *size)
            end = functools.partial(_end_in, record=given_up, ending=Ending.FAILED, status=None)
            self._background.soon(self._store.write(end))
            raise
        self._live[terminal_id] = live
        return live

    async def _give_up(self, live: LiveTerminal) -> None:
        await self._tell_close(live)
        await self._end(live, Ending.FAILED, None)

    async def _close(self, live: LiveTerminal, ending: Ending) -> None:
        live.wish = live.wish or ending
        await self._tell_close(live)
        await self._end(live, ending, None)

    async def _tell_close(self, live: LiveTerminal) -> None:
        """A harness that cannot be told ends the shell when its connection is not taken."""
        try:
            await _call(self._find_connection(live.record.agent), TERMINAL_CLOSE, {"id": live.record.id})
        except HiveError as error:
            log.info("terminal.not_told", agent=live.record.agent, message=error.message)

    async def _end_drained(self, live: LiveTerminal, status: int | None) -> None:
        if live.has_stream:
            try:
                async with asyncio.timeout(DRAIN_TIMEOUT_S):
                    await live.drained.wait()
            except TimeoutError:
                log.info("terminal.not_drained", agent=live.record.agent)
        await self._end(live, Ending.EXITED, status)

    async def _end(self, live: LiveTerminal, ending: Ending, status: int | None) -> None:
        """Writes down how it ended, once. Who wanted it to end says so, whoever notices first."""
        async with live.ending:
            if live.is_over:
                return
            change = functools.partial(_end_in, record=live.record, ending=live.wish or ending, status=status)
            try:
                await self._store.write(change)
            finally:
                # Not before: whoever is told looks it up, and it would be neither among the open nor among the ended.
                live.end(status)
                del self._live[live.record.id]

    async def _look(self, live: LiveTerminal) -> None:
        if live.is_lost(LOST_AFTER_S):
            # Not waited for: a harness that is silent holds up its own terminals alone.
            self._background.soon(self._close(live, Ending.LOST))
        elif self._idle_s and live.is_unused(self._idle_s):
            self._background.soon(self._close(live, Ending.IDLE))
        else:
            await self._save(live)

    async def _save(self, live: LiveTerminal) -> None:
        if live.changed:
            live.changed = False
            await self._store.write(
                lambda tx: tx.list("count_terminal", id=live.record.id, **_render_counts(live.record))
            )

    def _resize_soon(self, live: LiveTerminal) -> None:
        if live.record.id not in self._resizing:
            self._resizing.add(live.record.id)
            self._background.soon(self._resize(live))

    async def _resize(self, live: LiveTerminal) -> None:
        """Tells the harness the last of many sizes, one at a time."""
        told = None
        try:
            while (size := _render_size(live.record)) != told:
                await _call(self._find_connection(live.record.agent), TERMINAL_RESIZE, size)
                told = size
        finally:
            self._resizing.discard(live.record.id)


def _end_orphans(tx: Transaction) -> None:
    for row in tx.list("list_orphaned_terminals"):
        _end_in(tx, to_terminal(row), Ending.STOPPED, None)


def _end_in(tx: Transaction, record: Terminal, ending: Ending, status: int | None) -> None:
    counts = _render_counts(record)
    if not tx.list("end_terminal", id=record.id, at=tx.at_ms, ending=ending, status=status, **counts):
        return
    body = {
        "id": record.id,
        "by": record.opened_by,
        "ending": ending.value,
        "status": status,
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
    }
    tx.emit(EventName.TERMINAL_ENDED, record.agent, body)


def _render_counts(record: Terminal) -> dict[str, int]:
    return {
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "columns": record.columns,
        "rows": record.rows,
    }


def _render_size(record: Terminal) -> dict[str, str | int]:
    return {"id": record.id, "columns": record.columns, "rows": record.rows}


def _not_found(agent: str, terminal_id: str) -> NotFoundError:
    return NotFoundError(f"{agent} has no terminal {terminal_id[:64]!r} open", "list its terminals")


async def _call(connection: LinkConnection, method: str, params: dict[str, str | int]) -> None:
    try:
        await connection.call(method, dict(params), CALL_TIMEOUT_S)
    except HiveError as error:
        if type(error) is not HiveError:
            raise
        # An older program knows nothing of terminals.
        reason = cut_text(render_safe_line(error.message), _REASON_CHARS)
        raise UnavailableError(f"the harness of {connection.agent} refused: {reason}", "restart the agent") from error
