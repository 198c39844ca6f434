"""The rows of agents for desktop clients: all of them, and those that change while somebody listens.

One watch looks for all subscribers. Of each agent only the newest row waits for a subscriber, so that one that reads
slowly misses what came between and costs no more for it.
"""

import asyncio
from collections.abc import Iterable

import structlog

from hyperhive.core.errors import HiveError
from hyperhive.core.parking import Park, ParkKind
from hyperhive.host.desktop.views import show_status
from hyperhive.host.feed import Feed, Item, Subscription
from hyperhive.host.parking import Parking
from hyperhive.host.roster import Roster
from hyperhive.host.store.store import Store
from hyperhive.wire.host_sock import AgentStatus, render_statuses
from hyperhive.wire.operator.agents import AgentRow

log = structlog.get_logger(__name__)

LOOK_S = 60.0
RETRY_S = 1.0
# Rows that wait for one subscriber: as many agents as a hive may have, and no more if some come and go meanwhile.
WAITING_LIMIT = 4096


class Mailbox:
    """What one subscriber has not read yet: the newest line of each agent. Closed once nothing more will come."""

    def __init__(self) -> None:
        self._lines: dict[str, bytes] = {}
        self._arrived = asyncio.Event()
        self._is_closed = False

    def put(self, name: str, line: bytes) -> None:
        # What is new is told after what has waited longer.
        self._lines.pop(name, None)
        if len(self._lines) >= WAITING_LIMIT:
            del self._lines[next(iter(self._lines))]
        self._lines[name] = line
        self._arrived.set()

    def close(self) -> None:
        self._is_closed = True
        self._arrived.set()

    async def take(self) -> bytes | None:
        """The next line; None once it is closed and empty."""
        while not self._lines:
            if self._is_closed:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return self._lines.pop(next(iter(self._lines)))


class Statuses:
    """`url` is where the operator reaches the pages, "" if that is not known."""

    def __init__(self, store: Store, feed: Feed, roster: Roster, parking: Parking, url: str) -> None:
        self._store = store
        self._feed = feed
        self._roster = roster
        self._parking = parking
        self._url = url
        self._mailboxes: set[Mailbox] = set()
        self._watching: asyncio.Task[None] | None = None
        # Done once it knows what is there.
        self._begun: asyncio.Future[None]
        # As subscribers know them.
        self._told: dict[str, bytes] = {}

    async def list_all(self) -> list[AgentStatus]:
        """All agents, the manager first. Raises StorageError."""
        return await self._show(await self._roster.rows())

    async def subscribe(self) -> Mailbox:
        """Gets the row of each agent that changes from now on. Raises StorageError."""
        mailbox = Mailbox()
        self._mailboxes.add(mailbox)
        if self._watching is None:
            self._begun = asyncio.get_running_loop().create_future()
            self._watching = asyncio.create_task(self._watch(self._begun))
        try:
            await asyncio.shield(self._begun)
        except BaseException:
            self.unsubscribe(mailbox)
            raise
        return mailbox

    def unsubscribe(self, mailbox: Mailbox) -> None:
        self._mailboxes.discard(mailbox)
        if not self._mailboxes and self._watching is not None:
            self._watching.cancel()
            self._watching = None

    async def _watch(self, begun: asyncio.Future[None]) -> None:
        subscription = self._feed.subscribe(_is_status)
        try:
            # What is there now is no change.
            self._told = _render(await self.list_all())
            begun.set_result(None)
            await self._tell_forever(subscription)
        except Exception as error:
            if begun.done():
                log.exception("desktop.watch_failed")
            else:
                begun.set_exception(error)
            self._end()
        finally:
            begun.cancel()
            self._feed.unsubscribe(subscription)

    def _end(self) -> None:
        """Whoever listened connects again."""
        self._watching = None
        for mailbox in self._mailboxes:
            mailbox.close()
        self._mailboxes.clear()

    async def _tell_forever(self, subscription: Subscription) -> None:
        is_behind = False
        while True:
            items = await subscription.take(LOOK_S)
            is_behind = is_behind or any(item.kind != "state" for item in items)
            try:
                self._tell(await (self.list_all() if is_behind else self._show_changed(items)))
                is_behind = False
            except HiveError as error:
                log.warning("desktop.not_told", message=error.message)
                is_behind = True
                await asyncio.sleep(RETRY_S)

    def _tell(self, statuses: list[AgentStatus]) -> None:
        for name, line in _render(statuses).items():
            if self._told.get(name) != line:
                self._told[name] = line
                for mailbox in self._mailboxes:
                    mailbox.put(name, line)

    async def _show_changed(self, items: list[Item]) -> list[AgentStatus]:
        newest = {str(item.data["name"]): item.data for item in items}
        return await self._show([AgentRow.model_validate(data) for data in newest.values()]) if newest else []

    async def _show(self, rows: list[AgentRow]) -> list[AgentStatus]:
        counts = await self._store.read(lambda view: view.list("count_waiting_reminders_by_agent"))
        reminders = {row["agent"]: int(row["waiting"]) for row in counts}
        return [
            show_status(
                row,
                self._roster.live(row.name),
                self._find_parks(row.name),
                reminders.get(row.name, 0),
                self._url,
            )
            for row in rows
        ]

    def _find_parks(self, name: str) -> dict[ParkKind, Park]:
        found = ((kind, self._parking.find_kind(name, kind)) for kind in ParkKind)
        return {kind: park for kind, park in found if park is not None}


def _render(statuses: Iterable[AgentStatus]) -> dict[str, bytes]:
    return {status.name: render_statuses([status]) for status in statuses}


def _is_status(item: Item) -> bool:
    return item.kind == "state"
