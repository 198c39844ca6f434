"""Updates: agents whose container does not run what is deployed and installed are built anew, each after its turn.

The wish is in the store, so that it outlives the daemon. While it stands the agent is handed no message: its turn ends
as it would have, and no other begins. One whose approved config could not be applied has that tried again instead.
"""

import asyncio
import contextlib

import structlog

from hyperhive.core.approvals import AT_WORK
from hyperhive.core.errors import HiveError, render_error
from hyperhive.core.events import Event, EventName
from hyperhive.core.names import parse_known_agent_name
from hyperhive.core.turns import TurnState
from hyperhive.host.agent_ports import CheckPort, allow_any_port
from hyperhive.host.agent_records import begin_update, end_update, get_agent
from hyperhive.host.approval_records import list_open
from hyperhive.host.approvals import Approvals
from hyperhive.host.background import Background
from hyperhive.host.containers import STARTS_AT_ONCE
from hyperhive.host.lifecycle import Lifecycle
from hyperhive.host.roster import Live, Phase, Roster
from hyperhive.host.store.rows import AgentRecord, to_agent
from hyperhive.host.store.store import Store, Transaction, View

log = structlog.get_logger(__name__)

# How long a turn may be over before its agent is built anew.
LOOK_EVERY_S = 0.5
_TURNING = frozenset({TurnState.THINKING, TurnState.COMPACTING})


class Updates:
    def __init__(
        self,
        store: Store,
        roster: Roster,
        lifecycle: Lifecycle,
        approvals: Approvals,
        background: Background,
        check_port: CheckPort = allow_any_port,
    ) -> None:
        self._store = store
        self._roster = roster
        self._lifecycle = lifecycle
        self._approvals = approvals
        self._background = background
        self._check_port = check_port
        self._woken = asyncio.Event()
        self._under_way: set[str] = set()
        # Each is down for a moment: not all of them at once.
        self._places = asyncio.Semaphore(STARTS_AT_ONCE)

    async def update(self, name: str) -> None:
        """Has one agent built anew after its turn, stale or not.

        Raises NotFoundError for an unknown one, ConflictError if its port is another one's, too.
        """
        parse_known_agent_name(name)
        await self._store.read(lambda view: self._check_port(view, name))
        await self._begin([name])

    async def update_all(self) -> list[str]:
        """Has every stale agent built anew, each after its own turn. Returns their names; none: nothing is stale."""
        records = await self._lifecycle.list_agents()
        stale = [record.name for record in records if self._roster.find_stale(record)]
        await self._begin(stale)
        return stale

    def on_event(self, event: Event) -> None:
        """Looks at once when an update was wished; called by the feed after each commit."""
        if event.name is EventName.AGENT_UPDATING:
            self._woken.set()

    async def run_forever(self) -> None:
        """Builds anew whom that was wished for, for as long as the daemon runs; also by an earlier one."""
        while True:
            self._woken.clear()
            waiting = await self._list_waiting()
            for record, is_busy in waiting:
                if not is_busy and record.name not in self._under_way:
                    self._under_way.add(record.name)
                    self._background.soon(self._carry_out(record.name))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S if waiting else None):
                    await self._woken.wait()

    async def _begin(self, names: list[str]) -> None:
        def begin(tx: Transaction) -> None:
            for name in names:
                get_agent(tx, name)
                begin_update(tx, name)

        for name in names:
            self._roster.live(name).update_failure = ""
        await self._store.write(begin)

    async def _list_waiting(self) -> list[tuple[AgentRecord, bool]]:
        """Those that are to be built anew, and whether each is in a turn, or a config of its is being applied."""
        rows = await self._store.read(
            lambda view: [(to_agent(row), _is_claimed(view, row["name"])) for row in view.list("list_updating_agents")]
        )
        return [(record, claimed or is_at_work(self._roster.live(record.name))) for record, claimed in rows]

    async def _carry_out(self, name: str) -> None:
        try:
            async with self._places:
                await self._try(name)
        finally:
            self._under_way.discard(name)

    async def _try(self, name: str) -> None:
        if self._lifecycle.is_halting:
            # The next daemon goes on here.
            return
        failure = ""
        try:
            await self._store.read(lambda view: self._check_port(view, name))
            if await self._approvals.retry(name) is not None:
                # The wish ends with the approval.
                return
            await self._lifecycle.update(name)
        except HiveError as error:
            log.warning("updates.failed", agent=name, message=error.message)
            failure = render_error(error)
        self._roster.live(name).update_failure = failure
        # What was started has ended the wish itself; what could not be built anew runs on as it is.
        await self._store.write(lambda tx: end_update(tx, name, failure))


def _is_claimed(view: View, name: str) -> bool:
    leased = view.list("list_leased", recipient=name)
    return bool(leased) or any(approval.status in AT_WORK for approval in list_open(view, name))


def is_at_work(live: Live) -> bool:
    """Whether a turn runs, or somebody is at work on the container."""
    return live.phase is not Phase.NONE or (live.turn is not None and live.turn.state in _TURNING)
