"""Brings each agent's container to what is wanted. The one place that starts and stops them.

Everything goes through `_bring` and `switch`, one at a time for an agent: read what is wanted, look at what is
there, plan, act. A crash of the daemon at any point is mended by the same calls at the next start. When to look
without being asked, `watch` knows; what follows from a start that failed, `retries`.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta

import structlog

from hyperhive.core.approvals import AT_WORK, ApprovalKind, ApprovalStatus
from hyperhive.core.errors import HiveError, InvalidInputError, NotFoundError, UnavailableError, render_error
from hyperhive.core.names import MANAGER, OPERATOR
from hyperhive.core.parking import ParkKind
from hyperhive.core.paths import Roots
from hyperhive.host.agent_records import get_agent
from hyperhive.host.approval_records import list_open
from hyperhive.host.background import Background
from hyperhive.host.configs.configs import Configs, Version, render_config_failure, render_harness_config
from hyperhive.host.container_spec import HarnessSettings
from hyperhive.host.containers import Containers, Pace
from hyperhive.host.drivers.protocol import ContainerState, Driver, DriverError, ExitCause, Observation
from hyperhive.host.drivers.registry import check_name
from hyperhive.host.hibernation_records import has_reason_to_run, mark_hibernated, mark_woken
from hyperhive.host.kick import NEEDED, Start, Why
from hyperhive.host.link.server import LinkServer
from hyperhive.host.parking import Parking
from hyperhive.host.plan import Action, plan_action
from hyperhive.host.retries import Retries
from hyperhive.host.roster import Roster
from hyperhive.host.store.rows import AgentRecord, Desired, to_agent
from hyperhive.host.store.store import Store, Transaction, View
from hyperhive.system.clock import now
from hyperhive.wire.agent_link import SET_CONFIG, HarnessConfig

log = structlog.get_logger(__name__)

PUSH_TIMEOUT_S = 10.0

_ASKERS = {OPERATOR: "the operator", MANAGER: "the manager"}
WOKEN = Start(Why.WOKEN)


class Lifecycle:
    """Starts and stops containers. The container follows the wish in the store; its row tells how it went."""

    def __init__(
        self,
        store: Store,
        driver: Driver,
        roots: Roots,
        roster: Roster,
        settings: HarnessSettings,
        configs: Configs,
        parking: Parking,
        background: Background,
    ) -> None:
        self._store = store
        self._driver_name = driver.name
        self._roster = roster
        self._configs = configs
        self._parking = parking
        self._background = background
        self._containers = Containers(store, driver, roots, roster, settings, configs)
        self._retries = Retries(store, roster, parking, background, self._containers.pace, self.converge)
        self._links: LinkServer
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        # What a container is being tried with, until it is deployed or given up.
        self._trying: dict[str, Version] = {}
        self._waking: set[str] = set()
        self._halting = self._containers.halting

    @property
    def pace(self) -> Pace:
        return self._containers.pace

    @property
    def retries(self) -> Retries:
        return self._retries

    @property
    def is_halting(self) -> bool:
        """Whether the hive is ending, and no container is to be started."""
        return self._halting.is_set()

    def attach(self, links: LinkServer) -> None:
        """The links need the agents and the agents the links: assembly joins them here."""
        self._links = links
        self._containers.attach(links)
        links.on_lost(self._lost)

    # -- what others ask for -------------------------------------------------------------------------------

    async def reconcile(self) -> None:
        """At the daemon's start: listens for every agent, adopts what still runs, starts what should run."""
        records = await self.list_agents()
        for record in records:
            await self._links.open(record.name, record.uid)
        for record in records:
            self._background.soon(self._boot(record.name))

    async def converge(self, name: str, start: Start, needed: bool = False) -> None:
        """Brings the container to what is wanted; `start` says why, should it be started.

        One that hibernates is started only if something waits for it, or if `needed`.
        """
        async with self._locks[name]:
            await self._bring(name, start, needed=needed)

    def converge_soon(self, name: str) -> None:
        self._background.soon(self.converge(name, NEEDED))

    async def start(self, name: str, by: str) -> None:
        """Brings the container of an agent that should run to that, also if it hibernates."""
        await self.converge(name, Start(Why.STARTED, _ASKERS.get(by, by)), needed=True)

    def start_soon(self, name: str, by: str) -> None:
        self._background.soon(self.start(name, by))

    async def restart(self, name: str, by: str) -> None:
        """Stops the container, if it runs, and brings it to what is wanted."""
        async with self._locks[name]:
            record = await self._get(name)
            if not record.hibernated:
                await self._stop(record)
            await self._bring(name, Start(Why.RESTARTED, _ASKERS.get(by, by)), needed=True)

    async def update(self, name: str) -> None:
        """Starts the container of an agent that is to be built anew, with what is deployed and installed now.

        What it needs is built before anything is stopped. Raises HiveError if that cannot be: it runs on as it is.
        """
        async with self._locks[name]:
            record = await self._get(name)
            if not record.updating or self._halting.is_set():
                # Another start, or a stop, came first.
                return
            await self._configs.build(await self._configs.get_deployed(name))
            if (await self.observe(name)).state is ContainerState.RUNNING:
                await self._stop(record)
            await self._bring(name, Start(Why.UPDATED))

    def restart_soon(self, name: str, by: str) -> None:
        self._background.soon(self.restart(name, by))

    async def wake(self, name: str) -> None:
        """To be called before each act that needs the harness: has a hibernated agent's container run.

        Returns once its harness is connected, or could not be: `get_connection` tells. Nothing is done for an agent
        that is stopped or failed. It stays awake for a while. Raises NotFoundError, DriverError.
        """
        async with self._locks[name]:
            hibernated = (await self._get(name)).hibernated
            self._roster.live(name).held_until = now() + timedelta(seconds=self.pace.hold_s)
            if hibernated:
                await self._bring(name, WOKEN, needed=True)

    def wake_soon(self, name: str) -> None:
        """Has a hibernated agent's container run if something waits for it: one look for all that comes until then."""
        if name not in self._waking:
            self._waking.add(name)
            self._background.soon(self._wake_if_needed(name))

    async def _wake_if_needed(self, name: str) -> None:
        async with self._locks[name]:
            self._waking.discard(name)
            await self._bring(name, WOKEN)

    async def hibernate(self, name: str, may: Callable[[AgentRecord], bool]) -> None:
        """Stops the container until there is something for it to do, if `may` says so still and nothing waits."""
        async with self._locks[name]:
            record, claimed = await self._store.read(lambda view: (get_agent(view, name), _is_claimed(view, name)))
            if claimed or self._halting.is_set() or not may(record):
                return
            if not await self._store.write(lambda tx: mark_hibernated(tx, name, record.generation)):
                return
            # Stops it, unless something has come already; and what comes while it stops has it started again.
            await self._bring(name, WOKEN)
            await self._bring(name, WOKEN)

    async def hold(self, name: str, mark: Callable[[Transaction], None]) -> None:
        """Ends an agent's container at once: it takes what all need. `mark` is written first: none is started again.

        Raises DriverError, and StorageError: then the container is ended all the same.
        """
        self._containers.refused.add(name)
        try:
            await self._store.write(mark)
        finally:
            async with self._locks[name]:
                try:
                    if (await self.observe(name)).state is not ContainerState.STOPPED:
                        await self._stop(await self._get(name))
                finally:
                    self._containers.refused.discard(name)
                    self._roster.changed(name)

    async def switch(self, version: Version) -> str:
        """Restarts an agent with `version` and waits until it is healthy. Returns why it is not; empty if it is.

        After a failure the container runs with what is deployed again, if anything is. One that should not run is
        left alone: the version is tried at its next start. Called again after a crash of the daemon, it adopts the
        container that was started with `version`. Raises HaltedError when the hive is ending.
        """
        name = version.agent
        async with self._locks[name]:
            record = await self._get(name)
            if record.desired is Desired.STOPPED or record.over_quota:
                return ""
            self._trying[name] = version
            try:
                failure = await self._try(record, version)
            finally:
                self._trying.pop(name, None)
            if failure and record.deployed_commit is not None:
                log.warning("lifecycle.falls_back", agent=name, reason=failure)
                await self._start_deployed(await self._get(name), Start(Why.FELL_BACK))
            self._roster.changed(name)
            return failure

    async def push(self, version: Version) -> None:
        """Tells a connected harness its config; one that is not gets it when it connects."""
        try:
            connection = self._links.get_connection(version.agent)
            await connection.call(SET_CONFIG, {"config": render_harness_config(version)}, PUSH_TIMEOUT_S)
        except UnavailableError:
            return
        except HiveError as error:
            log.warning("lifecycle.config_refused", agent=version.agent, message=error.message)

    async def end(self, name: str, remove: bool, mark: Callable[[Transaction], None] | None = None) -> None:
        """Stops an agent's container; with `remove` nothing of it is left but its folders. Raises DriverError.

        `mark` is written before anybody who waits to start it again can do so.
        """
        async with self._locks[name]:
            self._roster.live(name).ran = False
            await self._containers.end(name, remove)
            if mark is not None:
                await self._store.write(mark)

    @contextlib.asynccontextmanager
    async def still(self, name: str) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
        """Keeps everybody from starting or stopping the container of an agent, also of one that is yet to come.

        The value stops it, if it runs; then it is brought to what is wanted again once this ends, in the background.
        It raises DriverError, and UnavailableError if the hive is ending.
        """
        stopped = False

        async def stop() -> None:
            nonlocal stopped
            if self._halting.is_set():
                raise UnavailableError("the hive is ending", "ask again once it runs")
            if (await self.observe(name)).state is ContainerState.RUNNING:
                stopped = True
                await self._stop(await self._get(name))

        try:
            async with self._locks[name]:
                yield stop
        finally:
            if stopped:
                # It goes on where it was: that is nothing to be told.
                self._background.soon(self.converge(name, WOKEN))

    def harness_config(self, name: str) -> HarnessConfig:
        """What the harness of an agent that is running should have. Raises UnavailableError if that is not known."""
        version = self._trying.get(name) or self._configs.find_cached(name)
        if version is None:
            raise UnavailableError(f"the config of {name} is not known", "try again")
        return render_harness_config(version)

    async def load_harness_config(self, name: str) -> None:
        """Makes sure that `harness_config` can answer. Raises InvalidInputError if the config cannot be used."""
        if name not in self._trying:
            await self._configs.get_deployed(name)

    def note_connected(self, name: str) -> None:
        self._containers.note_connected(name)

    # -- what the watch asks for ---------------------------------------------------------------------------

    async def list_agents(self) -> list[AgentRecord]:
        rows = await self._store.read(lambda view: view.list("list_agents"))
        return [to_agent(row) for row in rows]

    async def observe(self, name: str) -> Observation:
        return await self._containers.observe(name)

    def is_busy(self, name: str) -> bool:
        """Whether somebody is at work on the container just now, and knows better than who looks."""
        return self._locks[name].locked()

    # -- the hive's end ------------------------------------------------------------------------------------

    async def halt(self) -> list[str]:
        """Stops every container for as long as the daemon is down; they start again with it.

        Returns the agents whose containers could not be stopped.
        """
        self._halting.set()
        records = await self.list_agents()
        stopped = await asyncio.gather(*(self._halt_one(record) for record in records))
        return [record.name for record, done in zip(records, stopped, strict=True) if not done]

    # -- bringing containers there -------------------------------------------------------------------------

    async def _boot(self, name: str) -> None:
        async with self._locks[name]:
            seen = await self.observe(name)
            await self._bring(name, _explain_boot(seen), booting=True)

    async def _bring(self, name: str, start: Start, *, needed: bool = False, booting: bool = False) -> None:
        """`start` says why it is started, if it is; `needed`: also one that hibernates, whatever waits for it."""
        if self._halting.is_set():
            return
        record, claimed, waits = await self._store.read(
            lambda view: (get_agent(view, name), _is_claimed(view, name), has_reason_to_run(view, name, now()))
        )
        live = self._roster.live(name)
        live.see(await self.observe(name))
        action = plan_action(record, live.observation.state, needed or waits)
        if action is Action.STOP or (action is Action.RESTART and not claimed):
            await self._stop(record)
        if action in {Action.START, Action.RESTART} and not claimed:
            await self._start_deployed(record, WOKEN if record.hibernated else start, booting)
        if action is Action.ADOPT:
            if record.hibernated:
                await self._store.write(lambda tx: mark_woken(tx, name))
            if not claimed:
                await self._check_adopted(record)
        self._roster.changed(name)

    async def _start_deployed(self, record: AgentRecord, start: Start, booting: bool = False) -> None:
        name = record.name
        try:
            # The hive had another driver when it was made.
            check_name(self._driver_name, name)
        except InvalidInputError as error:
            await self._retries.note_failed(name, render_error(error))
            return
        try:
            version = await self._configs.get_deployed(name)
        except HiveError as error:
            # Never with defaults instead.
            failure = render_config_failure(error)
            if isinstance(error, InvalidInputError | NotFoundError):
                await self._retries.note_failed(name, failure)
            else:
                await self._retries.note_unstarted(name, start, failure)
            return
        if booting and not record.hibernated and not version.config.autostart:
            await self._store.write(lambda tx: tx.list("set_desired", name=name, desired=Desired.STOPPED))
            return
        failure = await self._containers.start(record, version, start, trying=False)
        if failure:
            await self._retries.note_unstarted(name, start, failure)
        else:
            self._roster.live(name).ran = True
            await self._retries.note_started(name)
            if record.failure:
                # It was given up for that.
                await self._parking.release(name, ParkKind.FAILING)
        # It may have run with an older one until now: not every change needs a restart.
        await self._configs.remove_builds(await self._get(name))

    async def _check_adopted(self, record: AgentRecord) -> None:
        """Ends what runs on a config that cannot be used any more: its harness gets none, and may do nothing."""
        try:
            await self._configs.get_deployed(record.name)
        except (InvalidInputError, NotFoundError) as error:
            await self._stop(record)
            await self._retries.note_failed(record.name, render_config_failure(error))

    async def _try(self, record: AgentRecord, version: Version) -> str:
        live = self._roster.live(record.name)
        live.see(await self.observe(record.name))
        if live.observation.state is ContainerState.RUNNING:
            if record.trying and record.started_commit == version.commit:
                # An earlier daemon started it.
                return await self._adopt(record.name, version)
            await self._stop(record)
        failure = await self._containers.start(record, version, Start(Why.CONFIGURED), trying=True)
        if not failure:
            live.ran = True
        return failure

    async def _adopt(self, name: str, version: Version) -> str:
        try:
            await self._containers.wait_connected(name)
        except TimeoutError:
            return self._containers.render_not_connected()
        except DriverError as error:
            return render_error(error)
        await self.push(version)
        return ""

    async def _stop(self, record: AgentRecord) -> None:
        self._roster.live(record.name).ran = False
        # That it hibernates has been told.
        await self._containers.stop(record, told=not record.hibernated)

    def _lost(self, agent: str) -> None:
        self._containers.note_lost(agent)
        self._roster.live(agent).lose()
        self._roster.changed(agent)

    async def _halt_one(self, record: AgentRecord) -> bool:
        try:
            await self.end(record.name, remove=False)
        except DriverError as error:
            log.warning("lifecycle.not_stopped", agent=record.name, message=error.message)
            return False
        return True

    async def _get(self, name: str) -> AgentRecord:
        return await self._store.read(lambda view: get_agent(view, name))


def _explain_boot(seen: Observation) -> Start:
    """Why an agent is started with the daemon, from what was left of its container."""
    if seen.state is not ContainerState.EXITED:
        return Start(Why.BOOTED, "the hive was started again")
    if seen.cause is ExitCause.MACHINE:
        return Start(Why.BOOTED, "the machine was started anew")
    return Start(Why.BOOTED, f"your container ended while nobody watched it ({seen.reason or 'unasked'})")


def _is_claimed(view: View, name: str) -> bool:
    """Whether an approval at work will start the agent: with another config, or for the first time."""
    return any(
        approval.status is ApprovalStatus.BUILDING
        or (approval.kind is ApprovalKind.SPAWN and approval.status in AT_WORK)
        for approval in list_open(view, name)
    )
