"""The one door for SQLite: a writer thread with group commit, a reader thread, migrations.

Jobs that arrive while a commit is under way share the next one: many senders, one fsync. A job runs in a
savepoint of its own, so that one that raises undoes only itself. Its caller hears of it after the commit.
"""

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast

from hyperhive.core.errors import HiveError, StorageError

T = TypeVar("T")
R = TypeVar("R")

# Bounds how long a caller may wait for the jobs of others in its commit.
BATCH_LIMIT = 256
# When that many came together the next commit waits a little for more: a commit costs as much as a dozen of them.
GATHERED_ABOVE = 6
GATHER_S = 0.0005
# A foreign program holding the file (an operator's sqlite3 shell) delays a commit this long before it fails.
BUSY_TIMEOUT_S = 10
# A little more than what SQLite lets a log grow to before it begins anew: 1000 pages.
WAL_BYTES = 6 * 1024 * 1024
# How many statements stay prepared: to prepare one costs more than to run it.
STATEMENTS_KEPT = 512


def connect(path: Path, synchronous: Literal["FULL", "NORMAL"]) -> sqlite3.Connection:
    """A connection in WAL mode that leaves transactions to the caller. Raises StorageError if it cannot be had."""
    try:
        # Made first, for its owner only: what SQLite puts beside it takes the same mode. One that is there is never
        # opened here: closing it again would drop the locks of every connection that this process has to it.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(
            path,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=STATEMENTS_KEPT,
        )
        connection.row_factory = sqlite3.Row
        connection.execute("pragma journal_mode = wal")
        connection.execute(f"pragma synchronous = {synchronous}")
        connection.execute("pragma foreign_keys = on")
        # Debian builds SQLite to overwrite what is deleted; that costs writes and protects nothing here.
        connection.execute("pragma secure_delete = off")
    except (sqlite3.Error, OSError) as error:
        raise StorageError(
            f"the database {path} cannot be opened: {error}",
            "is the disk full or the file damaged? move it aside or restore a backup",
        ) from error
    return connection


def extend_wal(connection: sqlite3.Connection, path: Path) -> None:
    """Has the write-ahead log be a file of some size from the start, if it is not one already. Raises StorageError.

    SQLite begins a log anew again and again without making it shorter. To sync what was overwritten takes two thirds of
    the time that appending does: the file system has no new size to write down.
    """
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size >= WAL_BYTES:
        return
    try:
        connection.execute("create table if not exists wal_room (filler blob)")
        connection.execute("insert into wal_room values (zeroblob(?))", (WAL_BYTES,))
        connection.execute("drop table wal_room")
        connection.execute("pragma wal_checkpoint(restart)")
    except sqlite3.Error as error:
        raise StorageError(f"the database {path} has no room: {error}", "free some space") from error


def migrate(connection: sqlite3.Connection, migrations: Path) -> None:
    """Brings the schema to the newest version, each step in a transaction of its own.

    `migrations` holds `NNNN_name.sql` files numbered from 1. Raises StorageError if the file was made by a newer
    version, and leaves it untouched.
    """
    scripts = sorted(migrations.glob("[0-9]*.sql"))
    version = int(connection.execute("pragma user_version").fetchone()[0])
    if version > len(scripts):
        raise StorageError(
            f"the data was written by a newer version of hyperhive (schema {version}, this one knows {len(scripts)})",
            "use that version, or name another data folder with --data",
        )
    for number, script in enumerate(scripts[version:], start=version + 1):
        statements = script.read_text(encoding="utf-8")
        try:
            connection.executescript(f"begin immediate;\n{statements}\npragma user_version = {number};\ncommit;")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("rollback")
            raise StorageError(
                f"the database could not be brought to schema {number}: {error}", "nothing of it was changed"
            ) from error


@dataclass(slots=True)
class _Job(Generic[T]):
    """One change of one caller."""

    run: Callable[[sqlite3.Connection], T]
    committed: Callable[[T], None]
    future: "asyncio.Future[T]"
    result: T | None = None
    error: Exception | None = None
    size: int = 1

    def resolve(self) -> None:
        if self.error is None:
            self.committed(cast("T", self.result))
        if self.future.cancelled():
            return
        if self.error is None:
            self.future.set_result(cast("T", self.result))
        else:
            self.future.set_exception(self.error)


class Lane(Generic[T, R]):
    """Small changes of one kind that share their statements: what came together is stored by one call of `write`.

    `write` gets them in the order in which they were put, in a savepoint of their own. `done` gets them on the event
    loop, in the order of commits: with what `write` returned once that is durable, or with the error that undid it.
    """

    def __init__(
        self,
        writer: "Writer",
        write: Callable[[sqlite3.Connection, Sequence[T]], R],
        done: Callable[[Sequence[T], R | Exception], None],
    ) -> None:
        self.write = write
        self.done = done
        self._writer = writer
        self._items: deque[T] = deque()
        self._is_queued = False

    def put(self, item: T) -> None:
        """Has `item` stored with the next commit. Raises StorageError if the database is closed."""
        self._items.append(item)
        if not self._is_queued:
            self._is_queued = True
            self._writer.enqueue(self)

    def take(self) -> "_LaneRun[T, R]":
        """What has come; for the writer's thread. What is put from now on queues the lane again."""
        self._is_queued = False
        items: list[T] = []
        with contextlib.suppress(IndexError):
            while len(items) < BATCH_LIMIT:
                items.append(self._items.popleft())
        if self._items and not self._is_queued:
            self._is_queued = True
            self._writer.enqueue(self)
        return _LaneRun(self, items)


@dataclass(slots=True)
class _LaneRun(Generic[T, R]):
    """The items of a lane that are in one commit."""

    lane: Lane[T, R]
    items: list[T]
    result: R | None = None
    error: Exception | None = None

    @property
    def size(self) -> int:
        return len(self.items)

    def run(self, connection: sqlite3.Connection) -> R | None:
        return self.lane.write(connection, self.items) if self.items else None

    def resolve(self) -> None:
        if self.items:
            self.lane.done(self.items, cast("R", self.result) if self.error is None else self.error)


class Writer:
    """The only connection that writes. Made and used on the event loop; its thread ends with `close`."""

    def __init__(self, connection: sqlite3.Connection, broken: Callable[[], None], undone: Callable[[], None]) -> None:
        """`broken` is called on the event loop once the disk failed: from then on every change is refused.

        `undone` is called on the writer's thread when changes came to nothing, before any other is begun.
        """
        self._connection = connection
        self._on_undone = undone
        self._on_broken = broken
        self._queue: queue.SimpleQueue[_Job[Any] | Lane[Any, Any] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._broken: str = ""
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="sqlite-writer", daemon=True)
        self._thread.start()

    async def run(self, job: Callable[[sqlite3.Connection], T], committed: Callable[[T], None] = lambda _: None) -> T:
        """Runs `job` in the writer's next transaction and returns its value once that is durable.

        `committed` is called with the value on the event loop, in the order of commits, also if the caller was
        cancelled meanwhile. Raises what `job` raised, or StorageError if the disk did not take the change or the
        writer is closed.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self.enqueue(_Job(job, committed, future))
        return await future

    def open_lane(
        self,
        write: Callable[[sqlite3.Connection, Sequence[T]], R],
        done: Callable[[Sequence[T], R | Exception], None],
    ) -> Lane[T, R]:
        """A lane of this writer: see `Lane`."""
        return Lane(self, write, done)

    def enqueue(self, work: _Job[Any] | Lane[Any, Any]) -> None:
        """Has `work` done in the next transaction, in the order in which it came. Raises StorageError when closed."""
        if self._closed:
            # Nobody would ever answer.
            raise StorageError("the database is closed: the hive ends", "start the hive again")
        self._queue.put(work)

    def close(self) -> None:
        """Finishes what was queued and ends the thread."""
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        self._connection.close()

    def _work(self) -> None:
        last, size = False, 0
        while not last:
            first = self._queue.get()
            if size >= GATHERED_ABOVE:
                time.sleep(GATHER_S)
            batch, last = self._gather(first)
            size = sum(work.size for work in batch)
            self._commit(batch)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(_resolve, batch)

    def _gather(self, first: _Job[Any] | Lane[Any, Any] | None) -> tuple[list[_Job[Any] | _LaneRun[Any, Any]], bool]:
        """All that waits, up to BATCH_LIMIT, and whether the writer is to end after it."""
        batch: list[_Job[Any] | _LaneRun[Any, Any]] = []
        work = first
        while work is not None:
            batch.append(work.take() if isinstance(work, Lane) else work)
            if len(batch) >= BATCH_LIMIT:
                return batch, False
            try:
                work = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _commit(self, batch: list[_Job[Any] | _LaneRun[Any, Any]]) -> None:
        try:
            self._begin()
            for work in batch:
                self._run_in_savepoint(work)
            self._connection.execute("commit")
        except (sqlite3.Error, StorageError) as error:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("rollback")
            self._on_undone()
            failure = self._explain(error)
            for work in batch:
                work.error = failure

    def _begin(self) -> None:
        if self._broken:
            raise StorageError(self._broken, "restart the hive once the disk is well")
        self._connection.execute("begin immediate")

    def _run_in_savepoint(self, work: _Job[Any] | _LaneRun[Any, Any]) -> None:
        self._connection.execute("savepoint job")
        try:
            work.result = work.run(self._connection)
        except Exception as error:  # it belongs to the caller, whatever it is
            # A full disk ends the whole transaction, not just the savepoint: nothing of the batch is left.
            if not self._connection.in_transaction:
                raise self._explain(error) from error
            self._connection.execute("rollback to job")
            self._on_undone()
            work.error = self._explain(error) if isinstance(error, sqlite3.OperationalError) else error
        self._connection.execute("release job")

    def _explain(self, error: Exception) -> HiveError:
        if isinstance(error, HiveError):
            return error
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_IOERR:
            # After a failed fsync the kernel may have dropped the pages: a retry could "succeed" without them.
            self._broken = f"the disk failed: {error}"
            self._loop.call_soon_threadsafe(self._on_broken)
        hint = "free some space; nothing of this was stored" if code == sqlite3.SQLITE_FULL else "try again"
        return StorageError(f"the change could not be stored: {error}", hint)


def _resolve(batch: list[_Job[Any] | _LaneRun[Any, Any]]) -> None:
    for work in batch:
        work.resolve()


class Reader:
    """One read-only connection on a thread of its own: sees what is committed, never waits for the writer."""

    def __init__(self, path: Path) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-reader")
        self._connection = connect(path, "NORMAL")
        self._connection.execute("pragma query_only = on")

    async def run(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `job` and returns its value."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, job, self._connection)

    def close(self) -> None:
        self._pool.shutdown(wait=True)
        self._connection.close()
