"""The moment between two turns: an agent is held there, its container stopped, while it is copied or replaced."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from hyperhive.core.approvals import AT_WORK
from hyperhive.core.errors import ConflictError, UnavailableError
from hyperhive.core.turns import TurnState
from hyperhive.host.approval_records import list_open
from hyperhive.host.drivers.protocol import ContainerState
from hyperhive.host.lifecycle import Lifecycle
from hyperhive.host.roster import Roster
from hyperhive.host.snapshots.records import set_held
from hyperhive.host.store.store import Store, View

LOOK_EVERY_S = 0.2
_TURNING = frozenset({TurnState.THINKING, TurnState.COMPACTING})


class TurnEnds:
    def __init__(self, store: Store, roster: Roster, lifecycle: Lifecycle) -> None:
        self._store = store
        self._roster = roster
        self._lifecycle = lifecycle

    async def release_all(self) -> None:
        """At the daemon's start: whom an earlier one held is held no more."""
        await self._store.write(lambda tx: tx.list("release_all_held"))

    @contextlib.asynccontextmanager
    async def wait(self, name: str, wait_s: float) -> AsyncGenerator[None]:
        """Waits for the end of the running turn; then nothing of the agent runs, and nobody starts it, in the context.

        From the call on no other turn begins. One that is not there, or does not run, is had at once. Raises
        ConflictError if the turn does not end in time, or the agent is being built; UnavailableError if its container
        cannot be looked at, DriverError if it cannot be stopped.
        """
        deadline_s = asyncio.get_running_loop().time() + wait_s
        await self._store.write(lambda tx: set_held(tx, name, held=True))
        try:
            while True:
                async with self._lifecycle.still(name) as stop:
                    reason = await self._find_reason_to_wait(name)
                    if not reason:
                        await stop()
                        yield
                        return
                if asyncio.get_running_loop().time() >= deadline_s:
                    raise ConflictError(f"{name} {reason}", "wait for its end, or cancel it, and ask again")
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            await self._store.write(lambda tx: set_held(tx, name, held=False))

    async def _find_reason_to_wait(self, name: str) -> str:
        is_there, is_built, is_leased = await self._store.read(lambda view: _look(view, name))
        if not is_there:
            return ""
        if is_built:
            return "is being built"
        seen = await self._lifecycle.observe(name)
        if seen.state is ContainerState.UNKNOWN:
            raise UnavailableError(f"the container of {name} cannot be looked at: {seen.reason}", "see `hive doctor`")
        if seen.state is not ContainerState.RUNNING:
            return ""
        turn = self._roster.live(name).turn
        is_turning = turn is not None and turn.state in _TURNING
        return "is in a turn" if is_leased or is_turning else ""


def _look(view: View, name: str) -> tuple[bool, bool, bool]:
    """Whether there is such an agent, an approval is at work on it, and something is leased to it."""
    row = view.find("get_agent", name=name)
    is_there = row is not None and row["destroyed_at"] is None
    is_built = any(approval.status in AT_WORK for approval in list_open(view, name))
    return is_there, is_built, bool(view.list("list_leased", recipient=name))
