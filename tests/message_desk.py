"""A store with messages, their index and what looks at them, for tests: no daemon, no agents."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from hyperhive.core.messages import Message, MessageState
from hyperhive.core.search import parse_search
from hyperhive.host.agent_records import insert_agent
from hyperhive.host.message_index import MessageIndex
from hyperhive.host.message_records import queue_message
from hyperhive.host.message_views import NEWEST, MessageFilter, MessageViews
from hyperhive.host.retention import Retention
from hyperhive.host.store.store import Store, Transaction
from hyperhive.system.clock import now, to_millis

AGENTS = ("alice", "bob", "carol", "manager")


@dataclass
class Desk:
    """Opened by `open_desk`; `reopen` is a restart. Whoever opens it closes it."""

    folder: Path
    store: Store
    index: MessageIndex
    views: MessageViews

    @property
    def index_file(self) -> Path:
        return self.folder / "search.sqlite"

    async def send(self, sender: str, recipient: str, body: str, answers: int | None = None) -> int:
        def queue(tx: Transaction) -> int:
            return queue_message(tx, sender, recipient, body, in_reply_to=answers).id

        return await self.store.write(queue)

    def settle(self, message_id: int, state: MessageState, days_ago: float = 0) -> None:
        """Puts a message into a state that it has had for some days; null for one that is not settled."""
        at = to_millis(now() - timedelta(days=days_ago))
        settled_at = None if state in (MessageState.QUEUED, MessageState.LEASED) else at
        self.execute(
            "update messages set state = ?, sent_at = ?, settled_at = ? where id = ?", state, at, settled_at, message_id
        )

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """On the store's file, as another program would."""
        with closing(sqlite3.connect(self.folder / "hive.sqlite", timeout=10)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    async def find(self, text: str = "", before: int = NEWEST, limit: int = 500, **wanted: object) -> list[int]:
        """The ids of what is found, the newest first."""
        found = await self.views.find_messages(
            MessageFilter(search=parse_search(text), **wanted),  # pyright: ignore[reportArgumentType]
            before,
            limit,
        )
        return [message.id for message in found.messages]

    async def list_all(self) -> list[Message]:
        return await self.views.list_messages_after(MessageFilter(), 0, 10**6)

    def retention(self, days: int = 30) -> Retention:
        return Retention(self.store, self.index, days)

    def reopen(self) -> "Desk":
        self.close()
        return open_desk(self.folder)

    def close(self) -> None:
        self.index.close()
        self.store.close()


def open_desk(folder: Path) -> Desk:
    store = Store(folder / "hive.sqlite", "hive")
    index = MessageIndex(folder / "search.sqlite", folder / "hive.sqlite")
    return Desk(folder, store, index, MessageViews(index))


async def make_desk(folder: Path) -> Desk:
    desk = open_desk(folder)

    def add_agents(tx: Transaction) -> None:
        for name in AGENTS:
            insert_agent(tx, name, None)

    await desk.store.write(add_agents)
    # Long enough ago for whatever a test lets happen to them.
    desk.execute("update agents set spawned_at = 0")
    return desk
