"""The store: one database, one writer, and events that leave only after the commit they are part of."""

import functools
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeVar

from hyperhive.core.audit import HIVE, NO_HASH, hash_content, render_body, render_content
from hyperhive.core.audit_bodies import plan_audit_body
from hyperhive.core.errors import StorageError
from hyperhive.core.events import Event, EventName
from hyperhive.core.messages import Message
from hyperhive.host.acting import find_actor
from hyperhive.host.store.audit_gate import AuditGate
from hyperhive.host.store.genesis import begin_audit
from hyperhive.host.store.queries import QUERIES
from hyperhive.system.clock import now, to_millis
from hyperhive.system.sqlite import Lane, Reader, Writer, connect, extend_wal, migrate

T = TypeVar("T")
ItemT = TypeVar("ItemT")

# Each number of rows is a statement of its own, which stays prepared: see `system.sqlite.STATEMENTS_KEPT`.
_ROWS_LIMIT = 64
_MIGRATIONS = Path(__file__).parent / "migrations"


class View:
    """Named queries on a connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def find(self, query: str, **values: Any) -> sqlite3.Row | None:
        """The first row of the query, or None. All rows are consumed, so that `returning` takes full effect."""
        rows = self.list(query, **values)
        return rows[0] if rows else None

    def get(self, query: str, **values: Any) -> sqlite3.Row:
        """The first row of a query that always has one."""
        return self.list(query, **values)[0]

    def list(self, query: str, **values: Any) -> list[sqlite3.Row]:
        return self._connection.execute(QUERIES[query], values).fetchall()


class Transaction(View):
    """A view that may write. `at` is the one instant of everything in it, `actor` whose doing it is."""

    def __init__(self, connection: sqlite3.Connection, actor: str = HIVE, gate: AuditGate | None = None) -> None:
        super().__init__(connection)
        self.actor = actor
        self._gate = gate
        self.at = now()
        self.at_ms = to_millis(self.at)
        self.events: list[Event] = []

    def insert_many(self, query: str, rows: Sequence[Sequence[Any]]) -> None:
        """Stores many rows by few statements. `query` is an insert that ends with the `values (?, …)` of one row.

        Each statement lets go of the interpreter and has to get it back: one for each row would wait for a busy event
        loop as many times.
        """
        for at in range(0, len(rows), _ROWS_LIMIT):
            some = rows[at : at + _ROWS_LIMIT]
            self._connection.execute(_repeat_values(QUERIES[query], len(some)), list(chain.from_iterable(some)))

    def emit(self, name: EventName, agent: str | None, body: dict[str, Any]) -> None:
        """Records a fact with the change it tells of; it is published once both are durable."""
        row = self.get("insert_event", at=self.at_ms, name=name, agent=agent, body=json.dumps(body))
        self.events.append(Event(int(row["id"]), self.at, name, agent, body))
        audited = plan_audit_body(name, body)
        if audited is not None:
            self.audit(name, agent, audited)

    def audit(self, name: str, agent: str | None, body: Mapping[str, Any], actor: str | None = None) -> None:
        """Appends a row to the audit, for what is no event or is not published. Nothing ever takes it away.

        Of an agent that makes it many they are only counted (see `AuditGate`).
        """
        if self._gate is not None and not self._gate.admits(actor or self.actor):
            return
        head = self.find("get_audit_head")
        seq, previous = (1, NO_HASH) if head is None else (int(head["seq"]) + 1, head["hash"])
        actor, text = actor or self.actor, render_body(body)
        digest = hash_content(previous, render_content(seq, self.at_ms, actor, name, agent, text))
        self.list("insert_audit", seq=seq, at=self.at_ms, actor=actor, name=name, agent=agent, body=text, hash=digest)

    def tell(self, name: EventName, agent: str | None, body: dict[str, Any], message: Message | None = None) -> None:
        """Has a fact published once the change is durable; its own table is all the record there is of it."""
        self.events.append(Event(None, self.at, name, agent, body, message))


@functools.cache
def _repeat_values(statement: str, rows: int) -> str:
    head, _, values = statement.removesuffix(";").rpartition("values ")
    return f"{head}values {', '.join([values] * rows)}"


class Store:
    """One database file. `publish` is called on the event loop with the events of each commit, in order."""

    def __init__(
        self,
        path: Path,
        schema: Literal["hive", "telemetry"],
        publish: Callable[[Sequence[Event]], None] = lambda _: None,
        broken: Callable[[], None] = lambda: None,
    ) -> None:
        """Opens and migrates the file. Raises StorageError if it is damaged, newer than this program, or locked.

        `broken` is called on the event loop when the disk failed in a way after which nothing can be confirmed.
        """
        # What is lost with the last second of telemetry is replayed by the harnesses.
        connection = connect(path, "FULL" if schema == "hive" else "NORMAL")
        _check_integrity(connection, path)
        migrate(connection, _MIGRATIONS / schema)
        if schema == "hive":
            begin_audit(connection)
            extend_wal(connection, path)
        self._reader = Reader(path)
        self._publish = publish
        self.audit_gate = AuditGate()
        self._watchers: list[Callable[[Sequence[Event]], None]] = []
        self._forgetters: list[Callable[[], None]] = []
        self._writer = Writer(connection, broken, self._forget)

    async def write(self, change: Callable[[Transaction], T]) -> T:
        """Runs `change` in a transaction and returns its value once it is durable.

        Raises what `change` raised (then nothing of it happened), or StorageError if the disk refused.
        """

        def publish(outcome: tuple[T, list[Event]]) -> None:
            if outcome[1]:
                self._publish(outcome[1])

        actor = find_actor()
        value, _ = await self._writer.run(lambda connection: self._run(connection, change, actor), publish)
        return value

    def open_lane(
        self,
        write: Callable[[Transaction, Sequence[ItemT]], T],
        done: Callable[[Sequence[ItemT], T | Exception], None],
    ) -> Lane[ItemT, tuple[T, list[Event]]]:
        """A way for many small changes of one kind (see `Lane`). Their events are published after `done`."""

        def job(connection: sqlite3.Connection, items: Sequence[ItemT]) -> tuple[T, list[Event]]:
            return self._run(connection, lambda tx: write(tx, items))

        def finish(items: Sequence[ItemT], outcome: tuple[T, list[Event]] | Exception) -> None:
            if isinstance(outcome, Exception):
                done(items, outcome)
                return
            done(items, outcome[0])
            if outcome[1]:
                self._publish(outcome[1])

        return self._writer.open_lane(job, finish)

    def watch(self, watcher: Callable[[Sequence[Event]], None], undone: Callable[[], None]) -> None:
        """Has `watcher` called with the events of each change before it is committed, on the writer's thread.

        What is told to it may yet come to nothing: then `undone` is called there, before the next change is begun.
        Both must return at once and never raise.
        """
        self._watchers.append(watcher)
        self._forgetters.append(undone)

    def _forget(self) -> None:
        for undone in self._forgetters:
            undone()

    def _run(
        self, connection: sqlite3.Connection, change: Callable[[Transaction], T], actor: str = HIVE
    ) -> tuple[T, list[Event]]:
        transaction = Transaction(connection, actor, self.audit_gate)
        value = change(transaction)
        if transaction.events:
            for watcher in self._watchers:
                watcher(transaction.events)
        return value, transaction.events

    async def read(self, look: Callable[[View], T]) -> T:
        """Runs `look` on what is committed and returns its value."""
        return await self._reader.run(lambda connection: look(View(connection)))

    def close(self) -> None:
        self._writer.close()
        self._reader.close()


def _check_integrity(connection: sqlite3.Connection, path: Path) -> None:
    try:
        found = connection.execute("pragma quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        found = str(error)
    if found != "ok":
        raise StorageError(
            f"the database {path} is damaged: {found}",
            "keep a copy of the file, then restore a backup or move it aside to start empty",
        )
