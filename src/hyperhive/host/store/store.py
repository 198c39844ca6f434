"""The store: one database, one writer, and events that leave only after the commit they are part of."""

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from hyperhive.core.errors import StorageError
from hyperhive.core.events import Event, EventName
from hyperhive.host.store.queries import QUERIES
from hyperhive.host.store.rows import to_event
from hyperhive.system.clock import now, to_millis
from hyperhive.system.sqlite import Reader, Writer, connect, migrate

T = TypeVar("T")

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
    """A view that may write. `at` is the one instant of everything in it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self.at = now()
        self.events: list[Event] = []

    @property
    def at_ms(self) -> int:
        return to_millis(self.at)

    def emit(
        self, name: EventName, agent: str | None, body: dict[str, Any], live: dict[str, Any] | None = None
    ) -> None:
        """Records a fact with the change it tells of; it is published once both are durable.

        `live` is added to what is published but not stored: content that its own table already holds.
        """
        row = self.get("insert_event", at=self.at_ms, name=name, agent=agent, body=json.dumps(body))
        event = to_event(row)
        self.events.append(replace(event, body=event.body | (live or {})))


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
        self._writer = Writer(connection, broken)
        self._reader = Reader(path)
        self._publish = publish

    async def write(self, change: Callable[[Transaction], T]) -> T:
        """Runs `change` in a transaction and returns its value once it is durable.

        Raises what `change` raised (then nothing of it happened), or StorageError if the disk refused.
        """

        def job(connection: sqlite3.Connection) -> tuple[T, list[Event]]:
            transaction = Transaction(connection)
            return change(transaction), transaction.events

        def publish(outcome: tuple[T, list[Event]]) -> None:
            if outcome[1]:
                self._publish(outcome[1])

        value, _ = await self._writer.run(job, publish)
        return value

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
