"""How long messages are kept: what is settled goes after some days, what is not never does. So with terminals.

Little by little: each transaction is a short one, and the writer is left alone for longer than it took. SQLite uses
the room again for what comes; the file itself does not get smaller. Ids are not used again.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog

from hyperhive.host.message_index import MessageIndex, Removed
from hyperhive.host.store.store import Store, Transaction
from hyperhive.system.clock import now, to_millis

log = structlog.get_logger(__name__)

# What is looked at, and what is deleted, at once. A message has up to 64 KiB.
SCAN_LIMIT = 1000
DELETE_LIMIT = 16
EVERY_S = 3600.0
# After a start there is other work first.
FIRST_AFTER_S = 60.0
REST_S = 0.02
REST_FACTOR = 4


class Retention:
    def __init__(self, store: Store, index: MessageIndex, days: int, clock: Callable[[], datetime] = now) -> None:
        """`days` after they were settled messages go, and records of terminals after these ended; 0: never."""
        self._store = store
        self._index = index
        self._days = days
        self._clock = clock

    async def run_forever(self) -> None:
        if not self._days:
            await asyncio.Event().wait()
        await asyncio.sleep(FIRST_AFTER_S)
        while True:
            count = await self.delete_old()
            if count:
                log.info("messages.deleted", count=count)
            ended = await self.delete_old_terminals()
            if ended:
                log.info("terminals.deleted", count=ended)
            await asyncio.sleep(EVERY_S)

    async def delete_old_terminals(self) -> int:
        """Deletes the records of those that ended long ago; returns how many. The events of the audit log stay."""
        cutoff = to_millis(self._clock() - timedelta(days=self._days))
        count = 0
        while True:
            gone = await self._store.write(lambda tx: tx.list("delete_terminals", cutoff=cutoff, limit=SCAN_LIMIT))
            count += len(gone)
            if len(gone) < SCAN_LIMIT:
                return count
            await asyncio.sleep(REST_S)

    async def delete_old(self) -> int:
        """Deletes all whose time is over; returns how many. Raises StorageError: the rest goes the next time."""
        cutoff = to_millis(self._clock() - timedelta(days=self._days))
        after, count = 0, 0
        while True:
            rows = await self._index.read(
                lambda view, after=after: view.list("scan_old_messages", after=after, cutoff=cutoff, limit=SCAN_LIMIT)
            )
            count += await self.delete([int(row["id"]) for row in rows if row["is_over"]], cutoff)
            # They stand in the order in which they were sent, but for clocks that were set: one row decides nothing.
            if len(rows) < SCAN_LIMIT or all(row["sent_at"] > cutoff for row in rows):
                return count
            after = int(rows[-1]["id"])
            await asyncio.sleep(REST_S)

    async def delete(self, ids: Sequence[int], cutoff: int) -> int:
        """Deletes those of `ids` that were settled before `cutoff`, in milliseconds; returns how many."""
        count = 0
        for start in range(0, len(ids), DELETE_LIMIT):
            started = time.monotonic()
            piece = ids[start : start + DELETE_LIMIT]
            removed = await self._store.write(lambda tx, piece=piece: _delete(tx, piece, cutoff))
            # A daemon that dies in between leaves words in the index of messages that are gone: those are not shown.
            await self._index.remove(removed)
            count += len(removed)
            await asyncio.sleep(max(REST_S, REST_FACTOR * (time.monotonic() - started)))
        return count


def _delete(tx: Transaction, ids: Sequence[int], cutoff: int) -> list[Removed]:
    gone = {row["id"]: row for row in tx.list("delete_messages", ids=json.dumps(list(ids)), cutoff=cutoff)}
    keys = json.dumps(list(gone))
    tx.list("delete_dismissals", ids=keys)
    bodies = tx.list("delete_bodies", ids=keys)
    return [Removed(row["id"], gone[row["id"]]["sender"], gone[row["id"]]["recipient"], row["body"]) for row in bodies]
