"""How starts went, and the starts that nobody asked for: tried again and again, ever later, until they are given up."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from hyperhive.core.parking import EVERYONE, ParkKind
from hyperhive.host.agent_records import mark_started
from hyperhive.host.background import Background
from hyperhive.host.containers import Pace
from hyperhive.host.kick import Start, Why
from hyperhive.host.parking import Parking
from hyperhive.host.roster import Roster
from hyperhive.host.store.store import Store

# Nobody looks whether these succeed.
_RETRIED = frozenset({Why.CRASHED, Why.BOOTED, Why.WOKEN, Why.FELL_BACK})
FOUND = Start(Why.BOOTED, "your container was found ended")


class Retries:
    """`again` brings an agent's container to what is wanted, with the reason of the start, if it comes to one."""

    def __init__(
        self,
        store: Store,
        roster: Roster,
        parking: Parking,
        background: Background,
        pace: Pace,
        again: Callable[[str, Start], Awaitable[None]],
    ) -> None:
        self._store = store
        self._roster = roster
        self._parking = parking
        self._background = background
        self._pace = pace
        self._again = again
        self._given_up: set[str] = set()

    async def note_started(self, name: str) -> None:
        await self._store.write(lambda tx: mark_started(tx, name, ""))

    async def note_failed(self, name: str, failure: str) -> None:
        """It stays failed until somebody acts."""
        await self._store.write(lambda tx: mark_started(tx, name, failure))

    async def note_unstarted(self, name: str, start: Start, failure: str) -> None:
        """A start failed. What nobody asked for is tried again later; what somebody did, they see failing."""
        if start.why not in _RETRIED:
            await self.note_failed(name, failure)
            return
        self._roster.live(name).crashes += 1
        await self._try_later(name, start, failure, unstarted=True)

    async def note_crashed(self, name: str, reason: str) -> None:
        """Its container ended unasked, which `Live.crashes` counts already."""
        start = Start(Why.CRASHED, reason, self._roster.live(name).crashes)
        await self._try_later(name, start, reason, unstarted=False)

    def on_park(self, agent: str) -> None:
        """The listener of `Parking.on_change`: what was given up is tried anew once it is not parked for that."""
        for name in list(self._given_up) if agent == EVERYONE else [agent]:
            if name in self._given_up and self._parking.find_kind(name, ParkKind.FAILING) is None:
                self._given_up.discard(name)
                self._roster.live(name).crashes = 0
                self._background.soon(self._again(name, FOUND))

    async def _try_later(self, name: str, start: Start, failure: str, unstarted: bool) -> None:
        tries = self._roster.live(name).crashes
        if tries >= self._pace.tries:
            await self.note_failed(name, f"given up after {tries} tries: {failure}")
            self._given_up.add(name)
            await self._parking.park(name, ParkKind.FAILING, f"its container cannot be kept running: {failure}")
            return
        delay_s = self._pace.retry_s(tries)
        if unstarted:
            again_at = datetime.now(UTC) + timedelta(seconds=delay_s)
            await self.note_failed(name, f"{failure}; next try at {again_at:%H:%M:%S} UTC")
        self._background.soon(self._start_later(name, start, delay_s))

    async def _start_later(self, name: str, start: Start, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await self._again(name, start)
