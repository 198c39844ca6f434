"""The audit as it is on the disk: read from the database, whether a daemon works on it or not, and from exports."""

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperhive.core.audit import NO_HASH, Anchor, AuditName, AuditRow, Chain, parse_anchor, render_line
from hyperhive.core.errors import ConflictError, InvalidInputError, NotFoundError, RefusedError, StorageError
from hyperhive.core.paths import Roots
from hyperhive.system.files import replace_beneath, sync_folder

_BUSY_TIMEOUT_S = 60.0
# No row is longer, whatever stands in it.
_LINE_LIMIT_BYTES = 64 * 1024
_ROWS = "select seq, at, actor, name, agent, body, hash from audit order by seq"
_HEAD = "select seq, hash from audit order by seq desc limit 1"


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found sound: `rows` up to the one with `hash`, `noted` of them by what was noted elsewhere."""

    rows: int
    hash: str
    noted: int
    heads: int


def verify_database(roots: Roots, heads: Iterable[Anchor]) -> Verified:
    """Goes through all rows, and the heads that were noted. Raises BrokenChainError, and as `open_database`."""
    # Read first: rows that come meanwhile are none that were noted.
    anchors = [*heads, *load_heads(roots.audit_heads)]
    chain = Chain(anchors)
    with open_database(roots.database) as database:
        for row in _list_rows(database, _ROWS, roots.database):
            chain.add_row(row)
    chain.finish()
    return Verified(chain.seq, chain.hash, chain.anchored, len(anchors))


def verify_export(file: Path, heads: Iterable[Anchor]) -> Verified:
    """The same for a file of `hive audit export`. Raises NotFoundError if it cannot be read."""
    anchors = list(heads)
    chain = Chain(anchors)
    try:
        with file.open("rb") as lines:
            while line := lines.readline(_LINE_LIMIT_BYTES):
                chain.add_line(line.decode("utf-8", "backslashreplace").removesuffix("\n"))
    except OSError as error:
        raise NotFoundError(f"{file} cannot be read: {error.strerror}", "name a file of `hive audit export`") from error
    chain.finish()
    return Verified(chain.seq, chain.hash, chain.anchored, len(anchors))


def list_lines(roots: Roots) -> Iterator[str]:
    """All rows, as they are exported."""
    with open_database(roots.database) as database:
        for row in _list_rows(database, _ROWS, roots.database):
            yield render_line(AuditRow(*row))


def find_head(roots: Roots) -> Anchor:
    """The newest row. Raises as `open_database`."""
    with open_database(roots.database) as database:
        for row in _list_rows(database, _HEAD, roots.database):
            return Anchor(int(row[0]), str(row[1]))
    return Anchor(0, NO_HASH)


def write_export(file: Path, lines: Iterable[str]) -> int:
    """Writes a new file and returns how many lines it has. Raises ConflictError if it is there, StorageError."""
    count = 0
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as target:
            for line in lines:
                target.write(line.encode("utf-8", "backslashreplace") + b"\n")
                count += 1
            target.flush()
            os.fsync(target.fileno())
        sync_folder(file.absolute().parent)
    except FileExistsError as error:
        raise ConflictError(f"{file} is there already", "name another file") from error
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error.strerror}", "is there room for it?") from error
    return count


def load_heads(path: Path) -> list[Anchor]:
    """What the daemon noted; nothing if there is no such file. Raises InvalidInputError for a line that is no head."""
    try:
        lines = path.read_text(encoding="ascii", errors="backslashreplace").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RefusedError(f"{path} cannot be read: {error.strerror}", "run this as the user of the hive") from error
    # A machine that lost its power may have written half of the last one.
    whole = [line for line in lines if line.endswith("\n")]
    try:
        return [parse_anchor(line) for line in whole]
    except InvalidInputError as error:
        raise InvalidInputError(f"{path} has a line that is no head", "it was written by something else") from error


def leave_note(data: Path, name: AuditName, body: Mapping[str, Any]) -> None:
    """Has the daemon of `data` record something, now or once it is started. Raises StorageError."""
    folder = Roots(data, data).audit_notes
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        content = json.dumps({"name": name, **body}).encode()
        # Whoever has made the folder reads it: a daemon that is not root any more.
        owner = folder.stat().st_uid
        uid = None if owner == os.geteuid() else owner
        replace_beneath(folder, f"{time.time_ns()}-{os.urandom(4).hex()}.json", content, mode=0o600, uid=uid)
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error.strerror}", "it will not be in the audit") from error


@contextlib.contextmanager
def open_database(path: Path) -> Generator[sqlite3.Connection]:
    """A connection that only reads. Raises NotFoundError if there is no hive, StorageError if it cannot be read."""
    if not path.is_file():
        raise NotFoundError(f"there is no hive in {path.parent}", "name its data folder in HIVE_DATA or by --data")
    try:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_S)
    except sqlite3.Error as error:
        raise StorageError(f"{path} cannot be read: {error}", "run this as the user of the hive") from error
    with contextlib.closing(database):
        yield database


def _list_rows(database: sqlite3.Connection, query: str, path: Path) -> Iterator[tuple[Any, ...]]:
    try:
        yield from database.execute(query)
    except sqlite3.Error as error:
        if "no such table" in str(error):
            raise NotFoundError("there is no audit yet", "start the hive: it begins one") from error
        raise StorageError(f"{path} cannot be read: {error}", "is it damaged? run this as its user") from error
