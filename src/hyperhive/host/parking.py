"""Parking: what keeps agents from running turns (see `core.parking`), remembered in the store and known in memory.

All that a park does is done by others who ask here: the broker leases nothing, the roster shows it, the harness and
the lifecycle are told. A running turn goes on.
"""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime

from hyperhive.core.events import Event, EventName
from hyperhive.core.parking import EVERYONE, RESUMABLE, Park, ParkKind, decide_park
from hyperhive.host.park_records import expire_in, park_in, release_in
from hyperhive.host.store.rows import to_park
from hyperhive.host.store.store import Store
from hyperhive.system.clock import now

EXPIRY_CHECK_S = 1.0


class Parking:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._parks: dict[str, dict[ParkKind, Park]] = {}
        self._listeners: list[Callable[[str], None]] = []
        self._changed = asyncio.Event()

    async def load(self) -> None:
        """To be called once, before anything is parked or released."""
        for row in await self._store.read(lambda view: view.list("list_parks")):
            park = to_park(row)
            self._parks.setdefault(park.agent, {})[park.kind] = park

    def find(self, agent: str) -> Park | None:
        """What holds for this agent now, the hive's parks included; of EVERYONE, the hive's alone."""
        return decide_park(self._find_all(agent), now())

    def find_kind(self, agent: str, kind: ParkKind) -> Park | None:
        """The park of this kind that holds for the agent now, its own or the hive's, whatever else does."""
        return decide_park((park for park in self._find_all(agent) if park.kind is kind), now())

    def find_own(self, agent: str, kind: ParkKind) -> Park | None:
        """The agent's own park of this kind, or the hive's of EVERYONE, if it holds now."""
        park = self._parks.get(agent, {}).get(kind)
        return None if park is None else decide_park([park], now())

    async def park(self, agent: str, kind: ParkKind, reason: str, until: datetime | None = None) -> None:
        """Parks an agent, or the hive (EVERYONE); the same kind again replaces until and reason.

        Nothing happens for an agent that does not exist (any more). Raises StorageError.
        """
        await self._store.write(lambda tx: park_in(tx, agent, kind, reason, until))

    async def release(self, agent: str, *kinds: ParkKind) -> list[ParkKind]:
        """Ends these parks of an agent, or of the hive; none named: all but the budget. Returns what ended.

        The hive's still hold for an agent whose own are ended. Raises StorageError.
        """
        return await self._store.write(lambda tx: release_in(tx, agent, kinds or RESUMABLE))

    async def expire(self) -> None:
        """Ends what has passed its time. Raises StorageError."""
        at = now()
        if any(park.until is not None and park.until <= at for park in self._list()):
            await self._store.write(expire_in)

    async def expire_forever(self) -> None:
        """Ends each park at its time, for as long as the daemon runs."""
        while True:
            self._changed.clear()
            await self.expire()
            at = now()
            left_s = [(park.until - at).total_seconds() for park in self._list() if park.until is not None]
            # Never at once again because of what the store rounds off; and the clock may be set meanwhile.
            wait_s = min([EXPIRY_CHECK_S, *(max(wait_s, 0.001) for wait_s in left_s)])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()

    def on_event(self, event: Event) -> None:
        """Follows what was committed; called by the feed after each commit, before anybody who asks here."""
        agent = event.agent or EVERYONE
        if event.name is EventName.AGENT_PARKED:
            park = _parse_parked(agent, event)
            self._parks.setdefault(agent, {})[park.kind] = park
        elif event.name is EventName.AGENT_RESUMED:
            for kind in event.body["kinds"]:
                self._parks.get(agent, {}).pop(ParkKind(kind), None)
        elif event.name is EventName.AGENT_DESTROYED:
            if self._parks.pop(agent, None) is None:
                return
        else:
            return
        self._changed.set()
        for listener in self._listeners:
            listener(agent)

    def on_change(self, listener: Callable[[str], None]) -> None:
        """`listener` is called with an agent's name, or EVERYONE, after each change, also when one ended by time."""
        self._listeners.append(listener)

    def _find_all(self, agent: str) -> list[Park]:
        return [park for name in {agent, EVERYONE} for park in self._parks.get(name, {}).values()]

    def _list(self) -> list[Park]:
        return [park for parks in self._parks.values() for park in parks.values()]


def _parse_parked(agent: str, event: Event) -> Park:
    body = event.body
    return Park(
        agent=agent,
        kind=ParkKind(body["kind"]),
        since=datetime.fromisoformat(body["since"]),
        until=datetime.fromisoformat(body["until"]) if body["until"] else None,
        reason=body["reason"],
    )
