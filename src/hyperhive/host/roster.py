"""The roster: what is known of each agent at this moment, and the row the operator sees of it.

Nothing of this is stored: after a restart it is observed anew. What is not known is shown as unknown.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial

from hyperhive import __version__
from hyperhive.core.events import TRAFFIC, Event
from hyperhive.core.names import MANAGER
from hyperhive.core.parking import EVERYONE, Park, describe_park
from hyperhive.core.text import render_safe_line
from hyperhive.core.turns import TurnState, TurnStatus
from hyperhive.host.budgets import Spending
from hyperhive.host.drivers.protocol import ContainerState, Observation
from hyperhive.host.feed import Feed, Item
from hyperhive.host.parking import Parking
from hyperhive.host.present import show_found_park
from hyperhive.host.store.rows import AgentRecord, Desired, to_agent
from hyperhive.host.store.store import Store, View
from hyperhive.system.clock import now
from hyperhive.wire.operator.agents import AgentRow

# Changes of a busy agent within this time make one row, not many.
SETTLE_S = 0.05
_AT_REST = frozenset({ContainerState.STOPPED, ContainerState.ABSENT})


class Phase(StrEnum):
    """What the daemon itself is doing with a container just now."""

    NONE = ""
    STARTING = "starting"
    STOPPING = "stopping"


@dataclass(slots=True)
class Live:
    """What is known of one agent now. `turn` is set while its harness is connected."""

    observation: Observation = field(default_factory=lambda: Observation(ContainerState.UNKNOWN))
    phase: Phase = Phase.NONE
    turn: TurnStatus | None = None
    model: str = ""
    turns: int = 0
    last_outcome: str = ""
    since: datetime = field(default_factory=now)
    crashes: int = 0
    # whether this daemon saw its container run, and has not stopped it since
    ran: bool = False
    # until when it does not hibernate, since an operator is about to need it
    held_until: datetime | None = None
    chosen_model: str = ""
    context_tokens: int = 0
    context_limit: int = 0
    session_usd: float | None = None
    # what the harness says at hello, None while none has; it is an agent's word
    harness_version: str | None = None
    # why it could not be built anew when that was wished
    update_failure: str = ""
    # whether a claude is open in it
    warm: bool = False
    login: str = "unknown"
    login_account: str = ""
    login_expires_at: datetime | None = None

    def see(self, seen: Observation) -> None:
        """Takes what was seen of its container."""
        self.observation = seen
        self.ran = self.ran or seen.state is ContainerState.RUNNING

    def lose(self) -> None:
        """Forgets what only a connected harness can tell."""
        self.turn = None
        self.harness_version = None
        self.warm = False
        self.login, self.login_account, self.login_expires_at = "unknown", "", None


# What a harness is in while a park holds: the daemon knows better than it why.
_PARKED = frozenset({TurnState.PARKED, TurnState.NEEDS_LOGIN})


def decide_state(record: AgentRecord, live: Live, park: Park | None = None) -> tuple[str, str]:
    """The one word and the short reason that tell the operator how an agent is. `park` is what holds for it now."""
    if live.phase is not Phase.NONE:
        return live.phase.value, ""
    state = live.observation.state
    if state is ContainerState.UNKNOWN:
        return "unknown", live.observation.reason or "not looked at yet"
    if state is ContainerState.RUNNING:
        if live.turn is None:
            return "unknown", "the container runs, but its harness is not connected"
        if park is not None and live.turn.state in _PARKED:
            return live.turn.state.value, describe_park(park, now())
        return live.turn.state.value, live.turn.reason
    return _decide_unstarted(record, live)


def _decide_unstarted(record: AgentRecord, live: Live) -> tuple[str, str]:
    """The same of one whose container does not run."""
    if record.over_quota:
        return "stopped", record.over_quota
    if record.failure:
        return "failed", f"not running: {record.failure}"
    if record.desired is Desired.STOPPED:
        return "stopped", ""
    if record.hibernated:
        return "hibernated", ""
    if live.observation.state is ContainerState.EXITED:
        return "crashed", f"not running: {live.observation.reason or 'it ended unasked'}"
    return "stopped", "not running yet: it is about to be started"


def find_stale(record: AgentRecord, live: Live, revision: str = "") -> str:
    """Why what runs of an agent is not what is deployed and installed, in a few words; empty if it is, or nothing runs.

    What does not run takes the newest at its next start. `revision` is that of `BuildsSystems`, empty where no systems
    are built.
    """
    if record.config_error:
        return "the config that was approved last is not in force"
    if live.update_failure:
        return f"it could not be built anew: {live.update_failure}"
    if live.phase is not Phase.NONE or record.trying or live.observation.state is not ContainerState.RUNNING:
        return ""
    if live.harness_version not in {None, __version__}:
        theirs = f"hyperhive {render_safe_line(live.harness_version)}" if live.harness_version else "an older hyperhive"
        return f"its harness is of {theirs}, the hive of {__version__}"
    if live.observation.revision not in {"", revision}:
        return "the hive's flake has moved"
    # A change that counts from the next turn is in force though the container shows the files it was started with.
    return ""


class Roster:
    """Holds a `Live` for each agent and tells the feed whenever a row changed.

    `driver` is what it is called, `revision` what it builds systems from: see `find_stale`.
    """

    def __init__(
        self,
        store: Store,
        feed: Feed,
        driver: str,
        parking: Parking,
        describe_spending: Callable[[str], Spending],
        revision: str = "",
    ) -> None:
        self._store = store
        self._feed = feed
        self._driver = driver
        self._parking = parking
        self._describe_spending = describe_spending
        self._revision = revision
        self._live: dict[str, Live] = {}
        self._dirty: set[str] = set()
        self._woken = asyncio.Event()
        self._shown: dict[str, str] = {}

    def live(self, name: str) -> Live:
        return self._live.setdefault(name, Live())

    def find_stale(self, record: AgentRecord) -> str:
        """Why an agent is to be built anew, see `find_stale`; empty if it is not."""
        return find_stale(record, self.live(record.name), self._revision)

    def online(self) -> dict[str, TurnState]:
        """The agents whose harness is connected, and what each is doing."""
        return {name: live.turn.state for name, live in self._live.items() if live.turn is not None}

    def list_running(self) -> list[tuple[str, int | None]]:
        """The agents whose container was seen to run, and its first process as the host sees it."""
        seen = [(name, live.observation) for name, live in self._live.items()]
        return [(name, seen.pid) for name, seen in seen if seen.state is ContainerState.RUNNING]

    def list_at_rest(self) -> list[str]:
        """The agents whose container does not run, as far as somebody has looked."""
        return [name for name, live in self._live.items() if live.observation.state in _AT_REST]

    def forget(self, name: str) -> None:
        self._live.pop(name, None)
        self._shown.pop(name, None)

    def changed(self, name: str) -> None:
        """Says that the row of `name` may differ now: it is told soon, once for many changes."""
        self._dirty.add(name)
        self._woken.set()

    def on_park(self, agent: str) -> None:
        """The listener of `Parking.on_change`. What is the hive's is on every row."""
        for name in self._live if agent == EVERYONE else (agent,):
            self.changed(name)

    def on_event(self, event: Event) -> None:
        # Of messages that come and go only the numbers on the pages tell.
        if event.agent is not None and (event.name not in TRAFFIC or self._feed.is_watched):
            self.changed(event.agent)

    async def rows(self) -> list[AgentRow]:
        """All agents that are not destroyed, the manager first."""
        records, waiting = await self._store.read(
            lambda view: (
                [to_agent(row) for row in view.list("list_agents")],
                {row["recipient"]: int(row["waiting"]) for row in view.list("count_queued_by_recipient")},
            )
        )
        return [self._render(record, waiting.get(record.name, 0)) for record in records]

    async def tell_forever(self) -> None:
        """Publishes the changed rows, for as long as the daemon runs."""
        while True:
            await self._woken.wait()
            await asyncio.sleep(SETTLE_S)
            self._woken.clear()
            dirty, self._dirty = sorted(self._dirty), set()
            for record, waiting in await self._store.read(partial(_look_up, names=dirty)):
                row = self._render(record, waiting)
                self._feed.publish(Item("state", row.model_dump(mode="json")))

    def _render(self, record: AgentRecord, waiting: int) -> AgentRow:
        live = self.live(record.name)
        spending = self._describe_spending(record.name)
        park = self._parking.find(record.name)
        state, reason = decide_state(record, live, park)
        if self._shown.get(record.name) != state:
            self._shown[record.name] = state
            live.since = live.turn.since if live.turn is not None and state == live.turn.state else now()
        return AgentRow(
            name=record.name,
            manager=record.name == MANAGER,
            state=state,
            reason=reason,
            since=live.since,
            driver=self._driver,
            model=live.model,
            waiting=waiting,
            turns=live.turns,
            last_outcome=live.last_outcome,
            spawned_at=record.spawned_at,
            commit=record.deployed_commit or "",
            config_error=record.config_error,
            needs_update=self.find_stale(record),
            updating=record.updating,
            park=show_found_park(park),
            chosen_model=live.chosen_model,
            context_tokens=live.context_tokens,
            context_limit=live.context_limit,
            session_usd=live.session_usd,
            day_tokens=spending.day_tokens,
            day_usd=spending.day_usd,
            day_unpriced=spending.day_unpriced,
            budget_tokens=spending.budget_tokens,
            budget_usd=spending.budget_usd,
            login=live.login,
            login_account=live.login_account,
            login_expires_at=live.login_expires_at,
        )


def _look_up(view: View, names: Sequence[str]) -> list[tuple[AgentRecord, int]]:
    """Those of `names` that are agents and not destroyed, with how many messages wait for each."""
    records = [to_agent(row) for name in names for row in view.list("get_agent", name=name)]
    return [
        (record, int(view.get("count_queued", recipient=record.name)["waiting"]))
        for record in records
        if record.destroyed_at is None
    ]
