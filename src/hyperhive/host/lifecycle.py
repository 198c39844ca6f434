"""Brings each agent's container to what is wanted. The one place that calls the driver to start and stop.

Everything goes through `_converge` and `switch`, one at a time for an agent: read what is wanted, look at what is
there, plan, act. A crash of the daemon at any point is mended by the same calls at the next start.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog

from hyperhive.core.approvals import AT_WORK, ApprovalKind, ApprovalStatus
from hyperhive.core.errors import HiveError, InvalidInputError, NotFoundError, UnavailableError
from hyperhive.core.events import EventName
from hyperhive.core.names import MANAGER, container_name
from hyperhive.core.paths import Roots
from hyperhive.core.turns import plan_retry_s
from hyperhive.host import folders
from hyperhive.host.agent_records import begin_generation, get_agent, mark_started
from hyperhive.host.approval_records import list_open
from hyperhive.host.configs.configs import Configs, Version, render_harness_config
from hyperhive.host.container_spec import HarnessSettings, plan_container
from hyperhive.host.drivers.protocol import ContainerState, Driver, DriverError, Observation
from hyperhive.host.link.server import LinkServer
from hyperhive.host.notices import notify_manager
from hyperhive.host.plan import Action, plan_action
from hyperhive.host.roster import Phase, Roster
from hyperhive.host.store.rows import AgentRecord, Desired, to_agent
from hyperhive.host.store.store import Store, Transaction, View
from hyperhive.system.clock import now
from hyperhive.wire.agent_link import SET_CONFIG, HarnessConfig

log = structlog.get_logger(__name__)

# A harness needs about 0.2 s to connect; a machine under load more.
CONNECT_TIMEOUT_S = 30.0
# The harness ends its turn's processes within 5 s of TERM.
STOP_TIMEOUT_S = 8.0
PUSH_TIMEOUT_S = 10.0
LOOK_EVERY_S = 2.0
# A container that stays up this long has recovered: its next crash is the first one again.
STEADY_S = 60.0
# Starting containers is heavy; many at once only make each slower.
STARTS_AT_ONCE = 4


class HaltedError(Exception):
    """The hive is ending: what was under way is neither done nor failed, and goes on at the next start."""


class Lifecycle:
    """Starts, stops and watches containers. The container follows the wish in the store; its row tells how it went."""

    def __init__(
        self,
        store: Store,
        driver: Driver,
        roots: Roots,
        roster: Roster,
        settings: HarnessSettings,
        configs: Configs,
    ) -> None:
        self._store = store
        self._driver = driver
        self._roots = roots
        self._roster = roster
        self._settings = settings
        self._configs = configs
        self._links: LinkServer
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._starts = asyncio.Semaphore(STARTS_AT_ONCE)
        self._connected: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        # What a container is being tried with, until it is deployed or given up.
        self._trying: dict[str, Version] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._halting = asyncio.Event()

    def attach(self, links: LinkServer) -> None:
        """The links need the agents and the agents the links: assembly joins them here."""
        self._links = links
        links.on_lost(self._lost)

    # -- what others ask for -------------------------------------------------------------------------------

    async def reconcile(self) -> None:
        """At the daemon's start: listens for every agent, adopts what still runs, starts what should run."""
        records = await self._list()
        for record in records:
            await self._links.open(record.name, record.uid)
        for record in records:
            self.soon(self._converge(record.name, booting=True))

    def converge_soon(self, name: str) -> None:
        self.soon(self._converge(name))

    async def restart(self, name: str) -> None:
        """Stops the container, if it runs, and brings it to what is wanted."""
        async with self._locks[name]:
            await self._stop(await self._get(name))
        await self._converge(name)

    async def switch(self, version: Version) -> str:
        """Restarts an agent with `version` and waits until it is healthy. Returns why it is not; empty if it is.

        After a failure the container runs with what is deployed again, if anything is. One that should not run is
        left alone: the version is tried at its next start. Called again after a crash of the daemon, it adopts the
        container that was started with `version`. Raises HaltedError when the hive is ending.
        """
        name = version.agent
        async with self._locks[name]:
            record = await self._get(name)
            if record.desired is Desired.STOPPED:
                return ""
            self._trying[name] = version
            try:
                failure = await self._try(record, version)
            finally:
                self._trying.pop(name, None)
            if failure and record.deployed_commit is not None:
                await self._fall_back(record, failure)
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
            self._roster.live(name).phase = Phase.STOPPING
            self._roster.changed(name)
            try:
                if remove:
                    await self._driver.destroy(container_name(name))
                else:
                    await self._driver.stop(container_name(name), STOP_TIMEOUT_S)
            finally:
                self._roster.live(name).phase = Phase.NONE
            if remove:
                await self._links.close(name)
            if mark is not None:
                await self._store.write(mark)

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
        self._connected[name].set()

    async def watch_forever(self) -> None:
        """Looks at every container now and then, and deals with those that ended unasked."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for record in await self._list():
                if not self._is_at_rest(record) and not self._halting.is_set():
                    await self._look(record)

    async def halt(self) -> list[str]:
        """Stops every container for as long as the daemon is down; they start again with it.

        Returns the agents whose containers could not be stopped.
        """
        self._halting.set()
        records = await self._list()
        stopped = await asyncio.gather(*(self._halt_one(record) for record in records))
        return [record.name for record, done in zip(records, stopped, strict=True) if not done]

    async def finish(self) -> None:
        """Ends what is under way, before the daemon ends. Containers are left as they are."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def soon(self, work: Awaitable[None]) -> None:
        """Does `work` in the background; what it fails with is logged."""
        task = asyncio.ensure_future(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- bringing containers there -------------------------------------------------------------------------

    async def _converge(self, name: str, booting: bool = False) -> None:
        async with self._locks[name]:
            if self._halting.is_set():
                return
            record, claimed = await self._store.read(lambda view: (get_agent(view, name), _is_claimed(view, name)))
            live = self._roster.live(name)
            live.observation = await self._observe(name)
            action = plan_action(record, live.observation.state)
            if action is Action.STOP or (action is Action.RESTART and not claimed):
                await self._stop(record)
            if action in {Action.START, Action.RESTART} and not claimed:
                await self._start_deployed(record, booting)
            if action is Action.ADOPT and not claimed:
                await self._check_adopted(record)
            self._roster.changed(name)

    async def _start_deployed(self, record: AgentRecord, booting: bool) -> None:
        try:
            version = await self._configs.get_deployed(record.name)
        except HiveError as error:
            # Never with defaults instead.
            await self._note_started(record.name, f"its config: {_tell(error)}")
            return
        if booting and not version.config.autostart:
            await self._store.write(lambda tx: tx.list("set_desired", name=record.name, desired=Desired.STOPPED))
            return
        failure = await self._start(record, version, trying=False)
        await self._note_started(record.name, failure)
        # It may have run with an older one until now: not every change needs a restart.
        await self._configs.remove_builds(await self._get(record.name))

    async def _check_adopted(self, record: AgentRecord) -> None:
        """Ends what runs on a config that cannot be used any more: its harness gets none, and may do nothing."""
        try:
            await self._configs.get_deployed(record.name)
        except (InvalidInputError, NotFoundError) as error:
            await self._stop(record)
            await self._note_started(record.name, f"its config: {_tell(error)}")

    async def _try(self, record: AgentRecord, version: Version) -> str:
        live = self._roster.live(record.name)
        live.observation = await self._observe(record.name)
        if live.observation.state is ContainerState.RUNNING:
            if record.trying and record.started_commit == version.commit:
                # An earlier daemon started it.
                return await self._adopt(record.name, version)
            await self._stop(record)
        return await self._start(record, version, trying=True)

    async def _adopt(self, name: str, version: Version) -> str:
        try:
            await self._wait_connected(name)
        except TimeoutError:
            return _NOT_CONNECTED
        except DriverError as error:
            return _tell(error)
        await self.push(version)
        return ""

    async def _fall_back(self, record: AgentRecord, failure: str) -> None:
        """Starts what is deployed again, whatever is left of what was tried."""
        log.warning("lifecycle.falls_back", agent=record.name, reason=failure)
        await self._start_deployed(await self._get(record.name), booting=False)

    async def _start(self, record: AgentRecord, version: Version, *, trying: bool) -> str:
        """Starts the container and waits for its harness. Returns why that failed, or nothing; it is stopped then."""
        live = self._roster.live(record.name)
        live.phase = Phase.STARTING
        self._roster.changed(record.name)
        failure = ""
        try:
            async with self._starts:
                await self._start_container(record, version, trying)
            await self._wait_connected(record.name)
        except TimeoutError:
            failure = _NOT_CONNECTED
        except HiveError as error:
            failure = _tell(error)
        except OSError as error:
            failure = f"its folders could not be made: {error}"
        except Exception as error:
            # A mistake of ours must not leave an approval waiting for ever.
            log.exception("lifecycle.start_failed", agent=record.name)
            failure = f"the daemon failed: {error!r}"
        finally:
            live.phase = Phase.NONE
            live.observation = await self._observe(record.name)
        if self._halting.is_set():
            raise HaltedError
        if failure:
            await self._driver.stop(container_name(record.name), STOP_TIMEOUT_S)
            live.observation = await self._observe(record.name)
        return failure

    async def _wait_connected(self, name: str) -> None:
        """Waits for the harness or the hive's end. Raises TimeoutError, or DriverError if the container ends first."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._connected[name], self._halting)]
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                while not (await asyncio.wait(waits, timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED))[0]:
                    seen = await self._observe(name)
                    if seen.state is ContainerState.EXITED:
                        raise DriverError(
                            f"its container ended before its harness connected: {seen.reason}", "see its log"
                        )
        finally:
            for wait in waits:
                wait.cancel()
        if self._halting.is_set():
            raise HaltedError

    async def _start_container(self, record: AgentRecord, version: Version, trying: bool) -> None:
        await self._configs.build(version)
        generation = await self._store.write(lambda tx: begin_generation(tx, record.name, version.commit, trying))
        record = replace(record, generation=generation)
        self._connected[record.name].clear()
        await folders.make_folders(self._roots, record, await self._manager_uid())
        await self._links.open(record.name, record.uid)
        spec = plan_container(
            record,
            self._roots,
            self._settings,
            config_folder=version.folder,
            environment=version.config.environment,
        )
        await self._driver.create(spec)
        await self._driver.start(spec)

    async def _stop(self, record: AgentRecord) -> None:
        live = self._roster.live(record.name)
        live.phase = Phase.STOPPING
        self._roster.changed(record.name)
        try:
            await self._driver.stop(container_name(record.name), STOP_TIMEOUT_S)
        finally:
            live.phase = Phase.NONE
            live.observation = await self._observe(record.name)
        await self._store.write(lambda tx: tx.emit(EventName.AGENT_STOPPED, record.name, {}))

    async def _note_started(self, name: str, failure: str) -> None:
        await self._store.write(lambda tx: mark_started(tx, name, failure))

    async def _observe(self, name: str) -> Observation:
        """What the driver sees now; what it cannot see is unknown, with its reason."""
        try:
            return await self._driver.observe(container_name(name))
        except DriverError as error:
            return Observation(ContainerState.UNKNOWN, reason=error.message)

    # -- watching ------------------------------------------------------------------------------------------

    def _lost(self, agent: str) -> None:
        self._connected[agent].clear()
        self._roster.live(agent).turn = None
        self._roster.changed(agent)

    def _is_at_rest(self, record: AgentRecord) -> bool:
        """Whether there is nothing to see: it was stopped and is, or somebody is at work on it just now."""
        seen = self._roster.live(record.name).observation.state
        stopped = record.desired is Desired.STOPPED and seen in {ContainerState.STOPPED, ContainerState.ABSENT}
        return stopped or self._locks[record.name].locked()

    async def _look(self, record: AgentRecord) -> None:
        live = self._roster.live(record.name)
        before, live.observation = live.observation, await self._observe(record.name)
        if before.state is not live.observation.state:
            self._roster.changed(record.name)
            if before.state is ContainerState.UNKNOWN and live.observation.state is not ContainerState.EXITED:
                # What was wished meanwhile could not be acted on.
                self.converge_soon(record.name)
        if record.desired is not Desired.RUNNING or record.failure:
            return
        may_have_run = before.state in {ContainerState.RUNNING, ContainerState.UNKNOWN}
        if may_have_run and live.observation.state is ContainerState.EXITED:
            await self._crashed(record)
        elif live.observation.started_at and (now() - live.observation.started_at).total_seconds() > STEADY_S:
            live.crashes = 0

    async def _crashed(self, record: AgentRecord) -> None:
        live = self._roster.live(record.name)
        live.crashes += 1
        reason = live.observation.reason or "it ended unasked"

        def tell(tx: Transaction) -> None:
            tx.emit(EventName.AGENT_CRASHED, record.name, {"reason": reason})
            if record.name != MANAGER:
                notify_manager(tx, "container_crash", agent=record.name, reason=reason)

        await self._store.write(tell)
        self.soon(self._start_later(record.name, plan_retry_s(live.crashes)))

    async def _start_later(self, name: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await self._converge(name)

    async def _halt_one(self, record: AgentRecord) -> bool:
        try:
            await self.end(record.name, remove=False)
        except DriverError as error:
            log.warning("lifecycle.not_stopped", agent=record.name, message=error.message)
            return False
        return True

    async def _guard(self, work: Awaitable[None]) -> None:
        try:
            await work
        except HaltedError:
            pass
        except HiveError as error:
            log.warning("lifecycle.failed", message=error.message, hint=error.hint)
        except Exception:
            log.exception("lifecycle.failed")

    async def _list(self) -> list[AgentRecord]:
        rows = await self._store.read(lambda view: view.list("list_agents"))
        return [to_agent(row) for row in rows]

    async def _get(self, name: str) -> AgentRecord:
        return await self._store.read(lambda view: get_agent(view, name))

    async def _manager_uid(self) -> int | None:
        try:
            return (await self._get(MANAGER)).uid
        except NotFoundError:
            return None


_NOT_CONNECTED = f"its harness did not connect within {CONNECT_TIMEOUT_S:g} s: see its log"


def _is_claimed(view: View, name: str) -> bool:
    """Whether an approval at work will start the agent: with another config, or for the first time."""
    return any(
        approval.status is ApprovalStatus.BUILDING
        or (approval.kind is ApprovalKind.SPAWN and approval.status in AT_WORK)
        for approval in list_open(view, name)
    )


def _tell(error: HiveError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
