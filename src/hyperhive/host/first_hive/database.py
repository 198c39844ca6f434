"""The first hive's database, `broker.sqlite`: copied without touching it, and read by what it says of its columns.

Its exact schema is not known here. Each column is found by the names that it may have; a table of which one that is
needed is not found is left whole, and what no name is known for is told, never guessed at.
"""

import errno
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperhive.core.errors import ConflictError, InvalidInputError, StorageError
from hyperhive.core.text import render_safe_line
from hyperhive.host.first_hive.report import TableReport
from hyperhive.host.snapshots.archive import find_room
from hyperhive.system.files import open_regular_beneath

DATABASE = b"broker.sqlite"
COPY_TRIES = 5
_PIECE_BYTES = 1024 * 1024
# Of one value: no row that could be taken has a longer one.
_VALUE_LIMIT_BYTES = 16 * 1024 * 1024
# Of one query: a file may have been made to be slow.
_READ_LIMIT_S = 900.0
_STEPS_BETWEEN_LOOKS = 100_000

# What a column may be called, the likeliest name first.
_MESSAGES = {
    "id": ("id", "message_id", "seq"),
    "sender": ("sender", "from", "from_agent", "from_name", "src", "author"),
    "recipient": ("recipient", "to", "to_agent", "to_name", "dst", "target"),
    "body": ("body", "text", "content", "message", "payload"),
    "sent_at": ("sent_at", "created_at", "queued_at", "timestamp", "ts", "at"),
    "delivered_at": ("delivered_at", "received_at", "read_at", "consumed_at"),
}
_APPROVALS = {
    "id": ("id", "approval_id", "seq"),
    "agent": ("agent", "agent_name", "name", "target"),
    "status": ("status", "state"),
    "requested_at": ("requested_at", "created_at", "submitted_at"),
    "commit": ("fetched_sha", "commit", "commit_sha", "commit_hash", "commit_ref", "sha", "rev"),
    "resolved_at": ("resolved_at", "decided_at", "finished_at"),
    "note": ("note", "reason", "error"),
    "kind": ("kind", "type", "action"),
    "description": ("description", "summary"),
    "requested_by": ("requested_by", "requester", "asked_by"),
}
_QUESTIONS = {
    "id": ("id", "question_id", "seq"),
    "asker": ("asker", "agent", "asked_by", "from_agent", "sender"),
    "question": ("question", "body", "text", "prompt"),
    "asked_at": ("asked_at", "created_at"),
    "answered_at": ("answered_at", "resolved_at"),
    "options": ("options", "options_json", "choices"),
    "multi": ("multi", "multi_select", "multiple"),
    "answer": ("answer", "answer_text", "response"),
    "deadline": ("deadline", "deadline_at", "expires_at"),
    "target": ("target", "asked", "recipient"),
}
MESSAGES, APPROVALS, QUESTIONS = "messages", "approvals", "questions"
_TABLES = {
    MESSAGES: ("messages", _MESSAGES, frozenset(_MESSAGES)),
    APPROVALS: ("approvals", _APPROVALS, frozenset({"id", "agent", "status", "requested_at"})),
    QUESTIONS: ("operator_questions", _QUESTIONS, frozenset({"id", "asker", "question", "asked_at", "answered_at"})),
}
KNOWN_TABLES = frozenset(table for table, _, _ in _TABLES.values())


@dataclass(frozen=True, slots=True)
class _File:
    content_sha256: str
    size_bytes: int


def copy_database(source: Path, folder: Path) -> Path | None:
    """Copies the database of `source` into the new folder `folder`; None if there is none. `source` is only read.

    SQLite is not let near it: even who only reads writes beside a database in WAL mode. So the copy is made of the
    files, and counts if they are the same afterwards. Raises ConflictError if they change all the time or a
    change in them is not finished, InvalidInputError for what is no plain file, StorageError.
    """
    folder.mkdir(mode=0o700)
    for _ in range(COPY_TRIES):
        if _find_size(source, b"-journal"):
            raise ConflictError(
                "the first hive's database has a change that is not finished",
                "end the first hive in order; if it was killed, start it and stop it once",
            )
        copied = {end: _copy(source, folder, end) for end in (b"", b"-wal")}
        if copied[b""] is None:
            return None
        if all(_digest(source, end) == file for end, file in copied.items()) and not _find_size(source, b"-journal"):
            return folder / os.fsdecode(DATABASE)
    raise ConflictError(
        "the first hive writes its database all the time: no copy of it would be whole",
        "stop its daemon (systemctl stop hive-c0re, or as its unit is called), then import again",
    )


def _copy(source: Path, folder: Path, end: bytes) -> _File | None:
    target = folder / os.fsdecode(DATABASE + end)
    target.unlink(missing_ok=True)
    handle = _open(source, end)
    if handle is None:
        return None
    try:
        size = os.fstat(handle).st_size
        if size > find_room(folder):
            raise StorageError(
                f"there is no room for a copy of the first hive's database ({size:,} bytes)", "make some"
            )
        with target.open("xb") as copy:
            digest, done = hashlib.sha256(), 0
            while done < size and (piece := os.read(handle, min(_PIECE_BYTES, size - done))):
                copy.write(piece)
                digest.update(piece)
                done += len(piece)
        return _File(digest.hexdigest(), done)
    finally:
        os.close(handle)


def _digest(source: Path, end: bytes) -> _File | None:
    handle = _open(source, end)
    if handle is None:
        return None
    with os.fdopen(handle, "rb") as file:
        found = hashlib.file_digest(file, "sha256")
        return _File(found.hexdigest(), file.tell())


def _find_size(source: Path, end: bytes) -> int:
    handle = _open(source, end)
    if handle is None:
        return 0
    try:
        return os.fstat(handle).st_size
    finally:
        os.close(handle)


def _open(source: Path, end: bytes) -> int | None:
    try:
        return open_regular_beneath(source, DATABASE + end)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        name = os.fsdecode(DATABASE + end)
        raise InvalidInputError(f"{name} cannot be read: {error.strerror}", "it has to be a plain file") from error


class FirstDatabase:
    """The copy, opened. Its methods raise InvalidInputError for what SQLite cannot read, or not in time."""

    def __init__(self, path: Path) -> None:
        self._deadline_s = time.monotonic() + _READ_LIMIT_S
        self._connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, check_same_thread=False)
        # Text as it is: whether it is UTF-8 is looked at where it is used.
        self._connection.text_factory = bytes
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _VALUE_LIMIT_BYTES)
        self._connection.set_progress_handler(self._is_late, _STEPS_BETWEEN_LOOKS)
        self._columns: dict[str, Mapping[str, str]] = {}
        try:
            # The file may hold what somebody hostile has put there.
            for pragma in ("trusted_schema = off", "cell_size_check = on", "mmap_size = 0"):
                self._connection.execute(f"pragma {pragma}").close()
            found = self._connection.execute("pragma quick_check(1)").fetchone()[0]
        except sqlite3.Error as error:
            self._connection.close()
            raise _damaged(str(error)) from error
        if found != b"ok":
            self._connection.close()
            raise _damaged(found.decode("utf-8", "replace"))

    def close(self) -> None:
        self._connection.close()

    def list_other_tables(self) -> list[bytes]:
        """The tables that nothing is taken of."""
        rows = self._query("select name from sqlite_schema where type = 'table' order by name")
        return [
            name
            for (name,) in rows
            if isinstance(name, bytes)
            and name.decode("utf-8", "replace") not in KNOWN_TABLES
            and not name.startswith(b"sqlite_")
        ]

    def understand(self, name: str) -> TableReport:
        """Which columns of a table are which; with a problem if its rows cannot be read as what they are."""
        table, alternatives, needed = _TABLES[name]
        report = TableReport(name)
        kinds = list(self._query("select type, sql from sqlite_schema where name = ?", table))
        if not kinds:
            report.problem = f"there is no table {table}"
            return report
        if kinds[0][0] != b"table" or bytes(kinds[0][1] or b"").lower().startswith(b"create virtual"):
            report.problem = f"{table} is no plain table"
            return report
        names: list[str] = [row[1].decode("utf-8", "replace") for row in self._query(f'pragma table_info("{table}")')]
        by_lower = {column.lower(): column for column in reversed(names)}
        found = {
            field: by_lower[known]
            for field, likely in alternatives.items()
            if (known := next((name for name in likely if name in by_lower), None)) is not None
        }
        report.columns = found
        report.unknown = tuple(render_safe_line(column)[:60] for column in names if column not in found.values())
        report.missing = tuple(field for field in alternatives if field not in found)
        lacking = sorted(needed - found.keys())
        if lacking:
            report.problem = f"no column was found for {', '.join(lacking)} (it has: {', '.join(report.unknown)})"
        self._columns[name] = found
        return report

    def list_rows(self, name: str) -> Iterator[dict[str, object]]:
        """The rows of a table that was understood, in the order of their ids: by the field, not by the column."""
        table, columns = _TABLES[name][0], self._columns[name]
        quoted = ", ".join('"{}"'.format(column.replace('"', '""')) for column in columns.values())
        order = columns["id"].replace('"', '""')
        for row in self._query(f'select {quoted} from "{table}" order by "{order}"'):  # noqa: S608
            yield dict(zip(columns, row, strict=True))

    def _query(self, statement: str, *values: str) -> Iterator[tuple[Any, ...]]:
        self._deadline_s = time.monotonic() + _READ_LIMIT_S
        try:
            with closing(self._connection.execute(statement, values)) as cursor:
                yield from cursor
        except (sqlite3.Error, OverflowError) as error:
            raise _damaged(str(error)) from error

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline_s


def _damaged(why: str) -> InvalidInputError:
    return InvalidInputError(
        f"the first hive's database cannot be read: {render_safe_line(why)[:300]}",
        "`sqlite3 broker.sqlite .recover` may make one of it that can",
    )
