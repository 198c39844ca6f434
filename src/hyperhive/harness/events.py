"""The event store: the agent's transcript in `<state>/hyperhive-events.sqlite`, numbered without a gap for ever."""

import contextlib
import json
import logging
import os
import sqlite3
from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from hyperhive.core.errors import StorageError
from hyperhive.harness.excerpt import BODY_LIMIT_BYTES, plan_excerpt, render_body
from hyperhive.wire.agent_link import AgentEvent

log = logging.getLogger("hive.events")

FILE_NAME = "hyperhive-events.sqlite"
# About a week of a busy agent. What the daemon has not stored yet is kept beyond it.
EVENTS_KEPT = 50_000
# How many may be too many before some are deleted: a deletion per event would cost more than the event.
_PRUNE_STEP = 500

_KINDS = frozenset({"claude", "turn.started", "turn.ended", "notice", "state"})
_AT_LIMIT_CHARS = 40
# What stands for a row that somebody else than the harness has written to.
_UNREADABLE: dict[str, Any] = {"text": "this event was damaged on the disk"}

_SCHEMA = """
create table if not exists events (seq integer primary key, at text not null, kind text not null, body text not null);
create table if not exists meta (key text primary key, value text not null) without rowid;
"""


class EventStore:
    """Every method is one short transaction, and raises StorageError if the disk does not take it.

    WAL with synchronous NORMAL: the end of the harness loses nothing; a power cut may lose the last moments, which
    the daemon then has or nobody saw.
    """

    def __init__(self, folder: Path, kept: int = EVENTS_KEPT) -> None:
        self._kept = kept
        self.moved_aside: Path | None = None
        """Where a file that could not be read was moved when this one was opened."""
        path = folder / FILE_NAME
        try:
            self._database = _open(path)
        except sqlite3.DatabaseError as error:
            if _is_about_the_disk(error):
                raise StorageError(f"{path} cannot be opened: {error}", "make room on the disk") from error
            log.exception("%s is damaged", path)
            self.moved_aside = _move_aside(path)
            self._database = _open(path)
        self.last_seq: int = self._database.execute("select coalesce(max(seq), 0) from events").fetchone()[0]
        self._opened_at_seq = self.last_seq
        self._stored_seq = 0

    def append(self, kind: str, body: dict[str, Any], marks: Mapping[str, str | None] = MappingProxyType({})) -> int:
        """Records an event and returns its number. A body over the limit is stored as an excerpt of it.

        `marks` are saved with it (see `save_meta`): both are there afterwards, or neither.
        """
        seq, at = self.last_seq + 1, datetime.now(UTC).isoformat()
        with self._transaction():
            self._database.execute("insert into events values (?, ?, ?, ?)", (seq, at, kind, render_body(body)))
            for key, value in marks.items():
                self._database.execute(*_render_mark(key, value))
        self.last_seq = seq
        return seq

    def continue_after(self, stored_seq: int) -> None:
        """Told once, by the first daemon: the highest number it has of this agent.

        When that is beyond what the file had at opening, the file was lost or fell behind: what was recorded since
        gets the numbers that follow the daemon's.
        """
        shift = stored_seq - self._opened_at_seq
        if shift <= 0:
            return
        with self._transaction():
            # By way of negative numbers, as a number may not be there twice even for a moment.
            self._database.execute("update events set seq = -seq where seq > ?", (self._opened_at_seq,))
            self._database.execute("update events set seq = ? - seq where seq < 0", (shift,))
        self.last_seq += shift
        log.warning("events were lost here: numbering goes on after %d", stored_seq)

    def confirm(self, stored_seq: int) -> None:
        """Told by the daemon: it has the events up to `stored_seq`. Old ones among them may be deleted."""
        self._stored_seq = stored_seq
        disposable = min(self.last_seq - self._kept, stored_seq)
        oldest = self._database.execute("select coalesce(min(seq), 0) from events").fetchone()[0]
        if disposable - oldest >= _PRUNE_STEP:
            self._change("delete from events where seq <= ?", (disposable,))

    def load_after(self, seq: int, limit: int, limit_bytes: int) -> list[AgentEvent]:
        """The events after `seq` in order: at least one if there is one, then as many as both limits allow."""
        events: list[AgentEvent] = []
        size = 0
        rows = self._database.execute(
            "select seq, at, kind, cast(body as blob) from events where seq > ? order by seq limit ?", (seq, limit)
        )
        for number, at, kind, body in rows:
            event = _read_row(number, at, kind, body)
            size += len(body) if event["body"] is not _UNREADABLE else 0
            if events and size > limit_bytes:
                break
            events.append(event)
        return events

    def find_meta(self, key: str) -> str | None:
        row = self._database.execute("select value from meta where key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def save_meta(self, key: str, value: str | None) -> None:
        """Keeps a value under a key; None forgets it."""
        self._change(*_render_mark(key, value))

    def close(self) -> None:
        self._database.close()

    def _change(self, sql: str, values: tuple[Any, ...]) -> None:
        with self._transaction():
            self._database.execute(sql, values)

    @contextlib.contextmanager
    def _transaction(self) -> Generator[None]:
        try:
            with self._database:
                yield
        except sqlite3.Error as error:
            raise StorageError(f"the event store did not take a change: {error}", "make room on the disk") from error


def _render_mark(key: str, value: str | None) -> tuple[str, tuple[str, ...]]:
    if value is None:
        return "delete from meta where key = ?", (key,)
    return "insert or replace into meta values (?, ?)", (key, value)


def _read_row(seq: int, at: Any, kind: Any, body: bytes) -> AgentEvent:
    """A row as the event it holds. The agent can write the file: whatever is there must not stop the feed."""
    try:
        parsed = json.loads(body) if len(body) <= BODY_LIMIT_BYTES else None
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict) or kind not in _KINDS or not isinstance(at, str) or len(at) > _AT_LIMIT_CHARS:
        return AgentEvent(seq=seq, at=datetime.now(UTC).isoformat(), kind="notice", body=_UNREADABLE)
    return AgentEvent(seq=seq, at=at, kind=kind, body=plan_excerpt(cast("dict[str, Any]", parsed)))


def _open(path: Path) -> sqlite3.Connection:
    """Opens the file and reads all its pages once. Raises sqlite3.DatabaseError if it is damaged."""
    database = sqlite3.connect(path, timeout=5.0)
    database.text_factory = _decode
    try:
        database.execute("pragma journal_mode=wal")
        database.execute("pragma synchronous=normal")
        # The agent can write this file: nothing in it may run anything.
        database.execute("pragma trusted_schema=off")
        database.executescript(_SCHEMA)
        database.execute("select seq, at, kind, body from events order by seq desc limit 1").fetchone()
        (verdict,) = database.execute("pragma quick_check(1)").fetchone()
    except BaseException:
        database.close()
        raise
    if verdict != "ok":
        database.close()
        raise sqlite3.DatabaseError(verdict)
    return database


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def _is_about_the_disk(error: sqlite3.DatabaseError) -> bool:
    """Whether the file may be sound all the same: no room, no permission, or an I/O error."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF) in {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_BUSY,
    }


def _move_aside(path: Path) -> Path:
    """Renames a damaged database with its companions, so that nothing is lost that somebody may yet want."""
    aside = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{aside}{suffix}")  # noqa: PTH105  # a suffix of SQLite's, not of the name
    return aside
