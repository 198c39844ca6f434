"""The index of messages: which contain a word, and whose they are. A database of its own, made from the messages.

It follows them in the background: nothing that is sent or acked waits for it, and every index that `hive.sqlite` does
not have to keep up costs its hot path nothing. What it holds is derived: a file that is gone, damaged, or of another
hive is made anew, the newest messages first, while all goes on.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from hyperhive.core.errors import StorageError
from hyperhive.core.events import Event, EventName
from hyperhive.host.store.store import View
from hyperhive.system.sqlite import connect, migrate

T = TypeVar("T")

log = structlog.get_logger(__name__)

# What is indexed in one transaction: some tens of milliseconds of another thread, for which a search may wait.
BATCH_MESSAGES = 1000
BATCH_BYTES = 1024 * 1024
# Time in which a burst of messages comes to an end.
FOLLOW_DELAY_S = 1.0
# Between batches, as a multiple of what one took: the index never has more than a part of a core.
REST_FACTOR = 4
# With more messages a second than that it waits for a quieter time, but not for ever.
BUSY_PER_S = 500
BUSY_WAIT_S = 30.0
# So many of those that are not indexed yet does a search have indexed before it looks.
CATCH_UP_LIMIT = 20_000
# A damaged index is made anew, but one that is damaged again at once has another cause.
REBUILD_EVERY_S = 600.0

_MIGRATIONS = Path(__file__).parent / "store/migrations/search"
_WRITES = frozenset({sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE})


@dataclass(frozen=True, slots=True)
class Removed:
    """A message that is gone from the store. `body` is the text that it had."""

    id: int
    sender: str
    recipient: str
    body: str


@dataclass(frozen=True, slots=True)
class Reach:
    """What the index knows: messages with `low` < id <= `high`."""

    low: int
    high: int


class MessageIndex:
    """All of it happens on a thread of its own, with a connection that can read the messages and not write them."""

    def __init__(self, path: Path, database: Path) -> None:
        """Opens the index at `path` of the messages in `database`, or makes it anew. Raises StorageError."""
        self._path = path
        self._database = database
        self._rebuilt_at_s: float | None = None
        self._news = asyncio.Event()
        self._seen = 0
        self._connection = self._open()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="message-index")

    def on_event(self, event: Event) -> None:
        """Told of each event: new messages are to be indexed."""
        if event.name is EventName.MESSAGE_SENT:
            self._seen += 1
            self._news.set()

    async def follow_forever(self) -> None:
        """Indexes what is sent, and what was there before, for as long as the daemon runs."""
        while True:
            self._news.clear()
            while await self._advance_gently():
                pass
            await self._news.wait()
            await self._wait_for_quiet()

    async def read(self, look: Callable[[View], T]) -> T:
        """Runs `look` on the index and the messages, all that is committed, and returns its value."""
        return await self.run(lambda connection: look(View(connection)))

    async def advance(self, *, only_new: bool = False) -> int:
        """Indexes the next batch and returns how many messages it was: of new ones, else of those that were before."""
        return await self.run(lambda connection: _advance(View(connection), only_new=only_new))

    async def catch_up(self) -> None:
        """Indexes what was sent up to now, up to CATCH_UP_LIMIT messages; what the disk does not take is left out."""
        done = 0
        with contextlib.suppress(StorageError):
            while done < CATCH_UP_LIMIT:
                count = await self.advance(only_new=True)
                if not count:
                    return
                done += count

    async def remove(self, messages: Sequence[Removed]) -> None:
        """Takes out what is in the store no more. Raises StorageError."""
        await self.run(lambda connection: _remove(View(connection), messages))

    def close(self) -> None:
        self._pool.shutdown(wait=True)
        self._connection.close()

    async def _advance_gently(self) -> bool:
        """Indexes a batch, and rests. Whether there may be more."""
        started = time.monotonic()
        count = await self.advance()
        await asyncio.sleep(REST_FACTOR * (time.monotonic() - started))
        return count > 0

    async def _wait_for_quiet(self) -> None:
        waited_s = 0.0
        while waited_s < BUSY_WAIT_S:
            before = self._seen
            await asyncio.sleep(FOLLOW_DELAY_S)
            waited_s += FOLLOW_DELAY_S
            if self._seen - before <= BUSY_PER_S * FOLLOW_DELAY_S:
                return

    async def run(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `job` in a transaction and returns its value. Raises StorageError if the index cannot be used."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._run_whole, job)

    def _run_whole(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `job` in a transaction, on the index's thread. Raises StorageError."""
        try:
            return _in_transaction(self._connection, job)
        except sqlite3.DatabaseError as error:
            if not self._may_rebuild(error):
                raise StorageError(f"the index of messages failed: {error}", "is the disk full?") from error
            log.warning("index.rebuilt", cause=str(error))
            self._rebuilt_at_s = time.monotonic()
            self._connection.close()
            _delete_database(self._path)
            self._connection = self._open()
            return self._run_whole(job)

    def _may_rebuild(self, error: sqlite3.DatabaseError) -> bool:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return False
        return self._rebuilt_at_s is None or time.monotonic() - self._rebuilt_at_s >= REBUILD_EVERY_S

    def _open(self) -> sqlite3.Connection:
        try:
            return self._prepare()
        except (StorageError, sqlite3.Error) as error:
            # Damaged, of another version, or of messages that are not these: there is nothing in it to be kept.
            log.warning("index.rebuilt", cause=str(error))
            _delete_database(self._path)
            return self._prepare()

    def _prepare(self) -> sqlite3.Connection:
        connection = connect(self._path, "NORMAL")
        try:
            migrate(connection, _MIGRATIONS)
            connection.execute("attach database ? as hive", (str(self._database),))
            connection.set_authorizer(_authorize)
            _in_transaction(connection, lambda connection: _check_origin(View(connection)))
        except (StorageError, sqlite3.Error):
            connection.close()
            raise
        return connection


def find_reach(view: View) -> Reach:
    row = view.find("get_index_range")
    return Reach(0, 0) if row is None else Reach(row["low"], row["high"])


def _authorize(action: int, _name: str | None, _detail: str | None, database: str | None, _by: str | None) -> int:
    return sqlite3.SQLITE_DENY if database == "hive" and action in _WRITES else sqlite3.SQLITE_OK


def _in_transaction(connection: sqlite3.Connection, job: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("begin")
    try:
        value = job(connection)
        connection.execute("commit")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("rollback")
        raise
    return value


def _check_origin(view: View) -> None:
    """Begins an index at the newest message. Raises StorageError if the index is one of other messages."""
    newest = view.find("find_newest_message")
    reach = view.find("get_index_range")
    if reach is None:
        high, sent_at = (0, 0) if newest is None else (newest["id"], newest["sent_at"])
        view.list("set_index_range", low=high, high=high, sent_at=sent_at)
        return
    # An older copy of the messages was put back: the ids after it are used again, for other ones.
    is_ahead = view.get("newest_message_id")["id"] < reach["high"]
    known = view.find("find_sent_at", id=reach["high"])
    if is_ahead or (known is not None and known["sent_at"] != reach["sent_at"]):
        raise StorageError("it is the index of other messages", "it is made anew")


def _advance(view: View, *, only_new: bool) -> int:
    """Indexes the next messages; returns how many. First what is new, then what is older than the index."""
    _follow_copies(view)
    row = view.get("get_index_range")
    low, high, sent_at = row["low"], row["high"], row["sent_at"]
    plan = view.get("plan_index_up", high=high, limit=BATCH_MESSAGES, bytes=BATCH_BYTES)
    if plan["id"] is not None:
        _add(view, high, plan["id"])
        sent_at = view.get("find_sent_at", id=plan["id"])["sent_at"]
        view.list("set_index_range", low=low, high=plan["id"], sent_at=sent_at)
        return int(plan["messages"])
    if only_new or not low:
        return 0
    plan = view.get("plan_index_down", low=low, limit=BATCH_MESSAGES, bytes=BATCH_BYTES)
    reached = 0 if plan["id"] is None else plan["id"] - 1
    _add(view, reached, low)
    view.list("set_index_range", low=reached, high=high, sent_at=sent_at)
    return int(plan["messages"])


def _add(view: View, low: int, high: int) -> None:
    view.list("index_messages", low=low, high=high)
    view.list("copy_messages", low=low, high=high)


def _follow_copies(view: View) -> None:
    for row in view.list("list_changed_copies"):
        fields = {"id": row["id"], "sender": row["sender"], "recipient": row["recipient"]}
        view.list("unindex_message", body=row["was"], **fields)
        view.list("index_message", body=row["body"], **fields)
        view.list("change_copy", id=row["id"], body=row["body"])
    view.list("drop_copies")


def _remove(view: View, messages: Sequence[Removed]) -> None:
    for message in messages:
        found = view.find("find_indexed", id=message.id, body=message.body)
        if found is None:
            continue
        fields = {"id": message.id, "sender": message.sender, "recipient": message.recipient}
        view.list("unindex_message", body=found["body"], **fields)
        view.list("drop_copy", id=message.id)


def _delete_database(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
