"""The audit beside its rows: what is told of it, what is noted of its head, and what others than the daemon record.

Rows are appended by the store, in the transaction of the change that they tell of (`Transaction.audit`).
"""

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import structlog

from hyperhive import __version__
from hyperhive.core.audit import HIVE, STRANGER, AuditName, AuditRow, render_anchor
from hyperhive.core.audit_bodies import find_permission
from hyperhive.core.errors import StorageError
from hyperhive.core.events import Event, EventName
from hyperhive.core.text import render_safe_line
from hyperhive.core.throttles import Throttle
from hyperhive.core.verdicts import parse_denied
from hyperhive.host.acting import render_agent
from hyperhive.host.audit_file import append_head, parse_last_head, shorten_heads
from hyperhive.host.background import Background
from hyperhive.host.link.params import AgentEvent
from hyperhive.host.store.store import Store, Transaction, View
from hyperhive.system.clock import now, to_millis

log = structlog.get_logger(__name__)

# The last of what is cut off at the end is missed by what is noted this often.
EVERY_S = 60.0
# What anyone may do as often as they like has a row this often, for each of so many kinds of it by an agent.
THROTTLE_S = 600.0
AGENT_KINDS_LIMIT = 16
# Rows that one request may look through: a search through all of them goes on from where the last one ended.
SCAN_LIMIT = 50_000
_NOTE_LIMIT_BYTES = 64 * 1024
_NOTES = frozenset({AuditName.BACKUP_TAKEN, AuditName.HIVE_RESTORED})
# Of permissions: an agent can ask, and hang up, as often as it likes.
_COUNTED = {
    EventName.QUESTION_ASKED: AuditName.TOOL_ASKED,
    EventName.QUESTION_CANCELLED: AuditName.TOOL_UNANSWERED,
    EventName.QUESTION_EXPIRED: AuditName.TOOL_UNANSWERED,
}
_WORD_LIMIT_CHARS = 200
_OTHERS = "*"


@dataclass(frozen=True, slots=True)
class Search:
    """Which rows are asked for. Words are looked for in all of a row but its number, time and hash."""

    agent: str = ""
    actor: str = ""
    name: str = ""
    grep: str = ""
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """`rows`, the newest first; what is older begins below `before`, None: there is nothing older."""

    rows: list[AuditRow]
    before: int | None


@dataclass(frozen=True, slots=True)
class _Kind:
    """Of what is counted together."""

    name: AuditName
    agent: str | None
    actor: str
    body: tuple[tuple[str, str], ...]


class Audit:
    """To be prepared once, before anything else is recorded, and finished as the last that is."""

    def __init__(
        self,
        store: Store,
        heads: Path,
        notes: Path,
        background: Background,
        driver: str = "",
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`heads` is the file where heads are noted, `notes` the folder where others leave what is to be recorded."""
        self._store = store
        self._heads = heads
        self._notes = notes
        self._background = background
        self._driver = driver
        self._clock_s = clock_s
        self._kinds: Throttle[_Kind] = Throttle(THROTTLE_S)
        self._noted_seq = 0
        self._told_day = ""
        self._is_prepared = False

    async def prepare(self) -> None:
        """Records that the daemon started, after what was left to be recorded. A full disk does not keep it from it."""
        self._is_prepared = True
        try:
            _make_folder(self._notes)
            shorten_heads(self._heads)
            last = parse_last_head(self._heads)
            self._noted_seq = 0 if last is None else last.seq
            await self.take_notes()
            await self.record(AuditName.HIVE_STARTED, None, {"version": __version__, "driver": self._driver}, HIVE)
            await self.note_head(told=True)
        except StorageError as error:
            log.warning("audit.start_not_recorded", message=error.message)

    async def run_forever(self) -> None:
        """Notes the head once a minute if there is another, and tells what was counted."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.take_notes()
            await self.tell_counted()
            await self.note_head(told=_day() != self._told_day)

    async def finish(self) -> None:
        """To be called when nothing more is recorded, before the store is closed."""
        if not self._is_prepared:
            return
        with contextlib.suppress(StorageError):
            await self.tell_counted(is_last=True)
            await self.record(AuditName.HIVE_STOPPED, None, {}, HIVE)
            await self.note_head(told=True)

    # -- recording -----------------------------------------------------------------------------------------

    async def record(
        self, name: AuditName, agent: str | None, body: Mapping[str, Any], actor: str | None = None
    ) -> None:
        """Appends one row; without `actor` by whose task this is. Raises StorageError."""
        await self._store.write(lambda tx: tx.audit(name, agent, body, actor))

    async def record_act(self, method: str, path: str, program: str) -> None:
        """Records that the operator is about to change something. Events after it tell what came of it.

        One that cannot be stored is no reason to refuse what may be the way to make room: it is logged.
        """
        body = {"method": method, "path": path[:_WORD_LIMIT_CHARS], "program": _cut(program)}
        try:
            await self.record(AuditName.OPERATOR_ACTED, _find_agent(path), body)
        except StorageError as error:
            log.warning("audit.act_not_recorded", method=method, path=path[:_WORD_LIMIT_CHARS], message=error.message)

    def count_refused(self, name: AuditName) -> None:
        """Counts that somebody was not let in."""
        self._count(_Kind(name, None, STRANGER, ()))

    def note_events(self, agent: str, events: Sequence[AgentEvent]) -> None:
        """Told each event of a transcript once: counts what rules denied."""
        for event in events:
            denied = parse_denied(event.body) if event.kind == "claude" else None
            if denied is not None:
                self.count_denied(agent, *denied)

    def on_event(self, event: Event) -> None:
        """Counts permissions that are asked for and that nobody answers; called by the feed after each commit."""
        name = _COUNTED.get(event.name)
        about = None if name is None else find_permission(event.body)
        if name is not None and about is not None and event.agent is not None:
            self._count_of(event.agent, name, about=about)

    def count_denied(self, agent: str, tool: str, rule: str) -> None:
        """Counts a call of a tool that a rule denied, as the agent's harness says."""
        self._count_of(agent, AuditName.TOOL_DENIED, rule=rule, tool=tool)

    def _count_of(self, agent: str, name: AuditName, **words: str) -> None:
        kind = _Kind(name, agent, render_agent(agent), tuple((key, _cut(word)) for key, word in words.items()))
        if kind not in self._kinds and self._kinds.count(lambda other: other.agent == agent) >= AGENT_KINDS_LIMIT:
            kind = replace(kind, body=tuple((key, _OTHERS) for key in words))
        self._count(kind)

    def _count(self, kind: _Kind) -> None:
        if self._kinds.note(kind, self._clock_s()):
            self._background.soon(self.record(kind.name, kind.agent, dict(kind.body), kind.actor))

    async def tell_counted(self, *, is_last: bool = False) -> None:
        """Records how often it was, of what was counted long enough; with `is_last` of all. Raises StorageError.

        And how many rows agents would have had that made it too many.
        """
        due = list(self._kinds.take_due(self._clock_s(), is_last=is_last))
        left_out = self._store.audit_gate.take_left_out()

        def tell(tx: Transaction) -> None:
            for kind, count in due:
                tx.audit(kind.name, kind.agent, {**dict(kind.body), "more": count}, kind.actor)
            for agent, count in left_out.items():
                tx.audit(AuditName.AUDIT_FLOODED, agent, {"left_out": count}, HIVE)

        if due or left_out:
            await self._store.write(tell)

    async def take_notes(self) -> None:
        """Records what commands left that work without the daemon, each once: the file goes after its row."""
        for path in sorted(self._notes.glob("*.json")) if self._notes.is_dir() else ():
            note = _read_note(path)
            if note is not None:
                name, uid, body = note
                await self.record(name, None, body, f"operator uid {uid} files")
            path.unlink(missing_ok=True)

    # -- its head ------------------------------------------------------------------------------------------

    async def note_head(self, *, told: bool = False) -> None:
        """Notes the newest row if there is another; with `told` it is in the log, too. Raises StorageError."""
        row = await self._store.read(lambda view: view.get("get_audit_head"))
        seq, hash_ = int(row["seq"]), str(row["hash"])
        if seq != self._noted_seq:
            await asyncio.to_thread(append_head, self._heads, render_anchor(seq, hash_, now()))
            self._noted_seq = seq
        if told:
            # In the journal too: it is on another disk, or another machine's.
            log.info("audit.head", seq=seq, hash=hash_)
            self._told_day = _day()

    # -- reading -------------------------------------------------------------------------------------------

    async def list_rows(self, search: Search, before: int | None, limit: int) -> Page:
        """Up to `limit` rows below number `before`. A page may have none though there are some further down."""

        def look(view: View) -> tuple[list[sqlite3.Row], int]:
            top = int(view.get("get_audit_head")["seq"]) + 1 if before is None else before
            lowest = max(top - SCAN_LIMIT, 1)
            rows = view.list(
                "list_audit",
                before=top,
                **{"from": lowest},
                since=0 if search.since is None else to_millis(search.since),
                agent=search.agent,
                actor=search.actor,
                name=search.name,
                grep=search.grep.lower(),
                limit=limit,
            )
            return rows, lowest

        found, lowest = await self._store.read(look)
        rows = [AuditRow(*row) for row in found]
        left = rows[-1].seq if len(rows) == limit else lowest
        return Page(rows, left if left > 1 else None)


def _make_folder(path: Path) -> None:
    """Before anybody else does, who may be another user. Raises StorageError."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path} cannot be made: {error.strerror}", "is the disk full?") from error


def _read_note(path: Path) -> tuple[AuditName, int, dict[str, Any]] | None:
    """What is to be recorded, and the owner of the file; None for a file that is no note."""
    try:
        with path.open("rb") as file:
            content: Any = json.loads(file.read(_NOTE_LIMIT_BYTES))
        name = AuditName(content.pop("name"))
        if name not in _NOTES:
            return None
        return name, path.stat().st_uid, cast("dict[str, Any]", content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        log.warning("audit.note_not_read", path=str(path))
        return None


def _find_agent(path: str) -> str | None:
    """Whom a request is about, by its path."""
    parts = path.split("/")
    return parts[3][:_WORD_LIMIT_CHARS] if len(parts) > 3 and parts[2] in {"agents", "agent-config", "kept"} else None


def _cut(text: str) -> str:
    return render_safe_line(text)[:_WORD_LIMIT_CHARS]


def _day() -> str:
    return now().date().isoformat()
