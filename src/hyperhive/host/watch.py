"""Looks at the containers without being asked: deals with crashes, sends the idle to hibernate, wakes them again."""

import asyncio
import itertools
import json
from collections.abc import Callable

from hyperhive.core.events import Event, EventName
from hyperhive.core.names import MANAGER
from hyperhive.core.parking import EVERYONE
from hyperhive.host.background import Background
from hyperhive.host.configs.configs import Configs
from hyperhive.host.container_spec import HarnessSettings
from hyperhive.host.drivers.protocol import ContainerState, ExitCause, Observation
from hyperhive.host.hibernation import decide_hibernate_s, is_idle
from hyperhive.host.lifecycle import Lifecycle
from hyperhive.host.notices import notify_manager
from hyperhive.host.plan import Look, plan_look
from hyperhive.host.retries import FOUND
from hyperhive.host.roster import Roster
from hyperhive.host.store.rows import AgentRecord, to_agent
from hyperhive.host.store.store import Store, Transaction
from hyperhive.system.clock import now

_WAKING = frozenset({EventName.MESSAGE_SENT, EventName.MESSAGE_REQUEUED})
_AWAY_NO_MORE = frozenset({EventName.AGENT_WOKEN, EventName.AGENT_DESTROYED})
# A container whose harness is connected runs: it is looked at in one round of so many.
_CONNECTED_EVERY = 5


class Watch:
    def __init__(
        self,
        store: Store,
        roster: Roster,
        configs: Configs,
        settings: HarnessSettings,
        lifecycle: Lifecycle,
        background: Background,
    ) -> None:
        self._store = store
        self._roster = roster
        self._configs = configs
        self._settings = settings
        self._lifecycle = lifecycle
        self._background = background
        self._hibernated: set[str] = set()
        self._is_needed: Callable[[str], bool] = lambda _: False

    def spare(self, is_needed: Callable[[str], bool]) -> None:
        """`is_needed` says of an agent whether its container has to go on, however idle it is."""
        self._is_needed = is_needed

    async def load(self) -> None:
        """At the daemon's start, before the containers are reconciled."""
        self._hibernated = {record.name for record in await self._lifecycle.list_agents() if record.hibernated}

    async def watch_forever(self) -> None:
        """Looks at every container now and then: deals with those that ended unasked, and with the idle ones."""
        for round_number in itertools.count():
            await asyncio.sleep(self._lifecycle.pace.look_every_s)
            for place, record in enumerate(await self._list_unrested()):
                # Not all of them in the same round.
                is_turn = (place + round_number) % _CONNECTED_EVERY == 0
                if not self._is_left_alone(record) and (is_turn or not self._is_connected(record.name)):
                    await self._look(record)
                    if self._may_hibernate(record):
                        self._background.soon(self._lifecycle.hibernate(record.name, self._may_hibernate))

    def on_event(self, event: Event) -> None:
        """Wakes whom a message is for; called by the feed after each commit, in order."""
        if event.agent is None:
            return
        if event.name is EventName.AGENT_HIBERNATED:
            self._hibernated.add(event.agent)
        elif event.name in _AWAY_NO_MORE:
            self._hibernated.discard(event.agent)
        elif event.name in _WAKING:
            self._wake_soon(event.agent)

    def on_park(self, agent: str) -> None:
        """The listener of `Parking.on_change`: what waits can be given again."""
        for name in list(self._hibernated) if agent == EVERYONE else [agent]:
            self._wake_soon(name)

    # -- looking -------------------------------------------------------------------------------------------

    async def _list_unrested(self) -> list[AgentRecord]:
        """All but those that need not run and were seen not to."""
        at_rest = json.dumps(self._roster.list_at_rest())
        return [
            to_agent(row)
            for row in await self._store.read(lambda view: view.list("list_unrested_agents", at_rest=at_rest))
        ]

    def _is_left_alone(self, record: AgentRecord) -> bool:
        """Whether the hive ends, or somebody is at work on it just now."""
        return self._lifecycle.is_halting or self._lifecycle.is_busy(record.name)

    def _is_connected(self, name: str) -> bool:
        return self._roster.live(name).turn is not None

    async def _look(self, record: AgentRecord) -> None:
        name = record.name
        live = self._roster.live(name)
        before, ran = live.observation.state, live.ran
        seen = await self._lifecycle.observe(name)
        if self._lifecycle.is_busy(name):
            # Somebody began to stop or start it meanwhile, and knows better.
            return
        live.see(seen)
        if before is not seen.state:
            self._roster.changed(name)
        if _runs_since_s(seen) > self._lifecycle.pace.steady_s:
            live.crashes = 0
        look = plan_look(record, before, seen.state, ran)
        if look is Look.CONVERGE:
            self._background.soon(self._lifecycle.converge(name, FOUND))
        elif look is Look.CRASHED:
            await self._note_crashed(name, seen)

    async def _note_crashed(self, name: str, seen: Observation) -> None:
        live = self._roster.live(name)
        live.ran = False
        live.crashes += 1
        reason = seen.reason or "it ended unasked"
        cause = (seen.cause or ExitCause.UNKNOWN).value

        def tell(tx: Transaction) -> None:
            tx.emit(EventName.AGENT_CRASHED, name, {"reason": reason, "cause": cause})
            if name != MANAGER:
                notify_manager(tx, "container_crash", agent=name, reason=reason, cause=cause)

        await self._store.write(tell)
        await self._lifecycle.retries.note_crashed(name, reason)

    # -- hibernation ---------------------------------------------------------------------------------------

    def _may_hibernate(self, record: AgentRecord) -> bool:
        version = self._configs.find_cached(record.name)
        live, at = self._roster.live(record.name), now()
        if version is None or (live.held_until is not None and live.held_until > at):
            return False
        if self._is_needed(record.name):
            return False
        config = version.config
        warm_s = self._settings.warm_s if config.warm_s is None else config.warm_s
        hibernate_s = decide_hibernate_s(config.hibernate_s, self._settings.hibernate_s, warm_s)
        return hibernate_s is not None and is_idle(record, live, hibernate_s, at)

    def _wake_soon(self, name: str) -> None:
        if name in self._hibernated:
            self._lifecycle.wake_soon(name)


def _runs_since_s(seen: Observation) -> float:
    """How long a container runs; 0 if it does not, or nobody knows."""
    if seen.state is not ContainerState.RUNNING or seen.started_at is None:
        return 0
    return (now() - seen.started_at).total_seconds()
