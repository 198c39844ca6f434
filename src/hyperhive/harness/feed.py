"""The feed: brings the event store's contents to the daemon, in order, from wherever the daemon stands."""

import asyncio
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from hyperhive.core.errors import HiveError, StorageError
from hyperhive.core.turns import TurnOutcome
from hyperhive.harness.events import EventStore
from hyperhive.harness.link import Link
from hyperhive.wire.agent_link import EVENTS_APPEND

log = logging.getLogger("hive.feed")

_BATCH_LIMIT = 256
# Well below a line's limit of 1 MiB: one event has at most 256 KiB, and each some framing.
_BATCH_LIMIT_BYTES = 640 * 1024
# After a batch the daemon refused or did not store.
_RETRY_S = 5.0
# There while a turn runs: found at the start, it tells that the last harness did not see its turn end.
_OPEN_TURN_KEY = "open_turn"


class Feed:
    """Records events and sends them. Where the daemon stands comes from the daemon alone: its hello, its answers."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._stored_seq: int | None = None
        self._news = asyncio.Event()
        self._progress = asyncio.Event()
        self._unrecorded = 0

    def record(self, kind: str, body: dict[str, Any], marks: Mapping[str, str | None] = MappingProxyType({})) -> None:
        """Adds an event to the transcript. A full disk loses it, and the transcript says so as soon as it can."""
        try:
            if self._unrecorded:
                self._store.append("notice", {"text": f"{self._unrecorded} events are lost: the disk was full"})
                self._unrecorded = 0
            self._store.append(kind, body, marks)
        except StorageError:
            if not self._unrecorded:
                log.exception("an event cannot be stored")
            self._unrecorded += 1
        self._news.set()

    def open(self) -> bool:
        """Called once at the start: tells what went wrong before it. Whether a turn did not see its end."""
        if self._store.moved_aside is not None:
            name = self._store.moved_aside.name
            self.notice(f"the event store was damaged: it is kept as {name}, and a new one begins")
        if self._store.find_meta(_OPEN_TURN_KEY) is None:
            return False
        self.end_turn({"outcome": str(TurnOutcome.CRASH), "reason": "the harness ended in the middle of the turn"})
        return True

    def notice(self, text: str) -> None:
        self.record("notice", {"text": text})

    def begin_turn(self, body: dict[str, Any]) -> None:
        self.record("turn.started", body, {_OPEN_TURN_KEY: "open"})

    def end_turn(self, body: dict[str, Any]) -> None:
        self.record("turn.ended", body, {_OPEN_TURN_KEY: None})

    def greeted(self, stored_seq: int) -> None:
        """Told at each connect what the daemon has stored."""
        if self._stored_seq is None:
            self._store.continue_after(stored_seq)
        self._stored_seq = stored_seq
        self._news.set()

    async def run(self, link: Link) -> NoReturn:
        while True:
            await self._news.wait()
            self._news.clear()
            while await self._send_batch(link):
                pass

    async def flush(self, deadline_s: float) -> None:
        """Waits until the daemon has everything, at most `deadline_s`. Needs `run` to be running."""
        try:
            async with asyncio.timeout(deadline_s):
                while self._stored_seq != self._store.last_seq:
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            log.warning("ending before the daemon has all events; it gets them after the next start")

    async def _send_batch(self, link: Link) -> bool:
        """Sends what follows the daemon's last event; whether there may be more to send."""
        after = self._stored_seq
        if after is None:
            return False
        events = self._store.load_after(after, _BATCH_LIMIT, _BATCH_LIMIT_BYTES)
        if not events:
            return False
        try:
            answer = await link.request(EVENTS_APPEND, {"events": events})
            stored_seq = int(answer["stored_seq"])
        except (HiveError, KeyError, TypeError, ValueError) as error:
            log.warning("the daemon did not take events after %d: %r", after, error)
            stored_seq = after
        if stored_seq == after:
            await asyncio.sleep(_RETRY_S)
            return True
        self._stored_seq = stored_seq
        self._progress.set()
        self._store.confirm(stored_seq)
        return True
