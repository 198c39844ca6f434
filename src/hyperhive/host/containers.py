"""The containers of agents: started until their harness is there, stopped, looked at. What for, the lifecycle knows."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from hyperhive.core.errors import HiveError, NotFoundError, render_error
from hyperhive.core.events import EventName
from hyperhive.core.names import MANAGER, container_name
from hyperhive.core.paths import Roots
from hyperhive.core.turns import plan_retry_s
from hyperhive.host import folders
from hyperhive.host.agent_records import begin_generation, get_agent
from hyperhive.host.configs.configs import Configs, Version
from hyperhive.host.container_spec import HarnessSettings, plan_container
from hyperhive.host.drivers.protocol import ContainerState, Driver, DriverError, Observation
from hyperhive.host.drivers.registry import has_room
from hyperhive.host.kick import Start, was_delivered
from hyperhive.host.link.server import LinkServer
from hyperhive.host.roster import Phase, Roster
from hyperhive.host.store.rows import AgentRecord
from hyperhive.host.store.store import Store
from hyperhive.host.uid_ranges import give_range

log = structlog.get_logger(__name__)

# A harness needs about 0.2 s to connect; a machine under load more.
CONNECT_TIMEOUT_S = 30.0
# The harness ends its turn's processes within 5 s of TERM.
STOP_TIMEOUT_S = 8.0
LOOK_EVERY_S = 2.0
# A container that stays up this long has recovered: its next crash is the first one again.
STEADY_S = 60.0
# Crashes and failed starts in a row, before the agent is given up: about a quarter of an hour.
TRIES = 10
# How long an agent stays awake that an operator's act was about: a login takes some minutes.
HOLD_S = 900.0
# Starting containers is heavy; many at once only make each slower.
STARTS_AT_ONCE = 4


class HaltedError(Exception):
    """The hive is ending: what was under way is neither done nor failed, and goes on at the next start."""


@dataclass(slots=True)
class Pace:
    """How patient the lifecycle is. Tests are less so."""

    connect_timeout_s: float = CONNECT_TIMEOUT_S
    look_every_s: float = LOOK_EVERY_S
    steady_s: float = STEADY_S
    tries: int = TRIES
    hold_s: float = HOLD_S
    retry_s: Callable[[int], float] = plan_retry_s


class Containers:
    """Each call is about one agent, whose lock the lifecycle holds."""

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
        self._starts = asyncio.Semaphore(STARTS_AT_ONCE)
        self._connected: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.pace = Pace()
        self.halting = asyncio.Event()
        # Those that are to end at once: a start is not waited for, and TERM not either.
        self.refused: set[str] = set()

    def attach(self, links: LinkServer) -> None:
        self._links = links

    def note_connected(self, name: str) -> None:
        self._connected[name].set()

    def note_lost(self, name: str) -> None:
        self._connected[name].clear()

    async def observe(self, name: str) -> Observation:
        """What the driver sees now; what it cannot see is unknown, with its reason."""
        if not has_room(self._driver.name, name):
            # An agent from before the hive had this driver.
            return Observation(ContainerState.ABSENT)
        try:
            return await self._driver.observe(container_name(name))
        except DriverError as error:
            return Observation(ContainerState.UNKNOWN, reason=error.message)

    async def start(self, record: AgentRecord, version: Version, start: Start, *, trying: bool) -> str:
        """Starts the container and waits for its harness. Returns why that failed, or nothing; it is stopped then.

        Raises HaltedError when the hive is ending.
        """
        live = self._roster.live(record.name)
        live.phase = Phase.STARTING
        self._roster.changed(record.name)
        failure = ""
        try:
            async with self._starts:
                await self._start_container(record, version, start, trying)
            await self.wait_connected(record.name)
        except TimeoutError:
            failure = self.render_not_connected()
        except HiveError as error:
            failure = render_error(error)
        except OSError as error:
            failure = f"its folders could not be made: {error}"
        except Exception as error:
            # A mistake of ours must not leave an approval waiting for ever.
            log.exception("lifecycle.start_failed", agent=record.name)
            failure = f"the daemon failed: {error!r}"
        finally:
            live.phase = Phase.NONE
            live.observation = await self.observe(record.name)
        if self.halting.is_set():
            raise HaltedError
        if failure:
            await self._driver.stop(container_name(record.name), STOP_TIMEOUT_S)
            live.observation = await self.observe(record.name)
        return failure

    async def wait_connected(self, name: str) -> None:
        """Waits for the harness or the hive's end. Raises TimeoutError, or DriverError if the container ends first."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._connected[name], self.halting)]
        try:
            async with asyncio.timeout(self.pace.connect_timeout_s):
                while not (
                    await asyncio.wait(waits, timeout=self.pace.look_every_s, return_when=asyncio.FIRST_COMPLETED)
                )[0]:
                    if name in self.refused:
                        raise DriverError("it was stopped for what it takes of the disk", "see hive quota")
                    seen = await self.observe(name)
                    if seen.state is ContainerState.EXITED:
                        raise DriverError(
                            f"its container ended before its harness connected: {seen.reason}", "see its log"
                        )
        finally:
            for wait in waits:
                wait.cancel()
        if self.halting.is_set():
            raise HaltedError

    async def stop(self, record: AgentRecord, *, told: bool = True) -> None:
        """Stops the container, with the event of it if `told`. Raises DriverError."""
        live = self._roster.live(record.name)
        live.phase = Phase.STOPPING
        self._roster.changed(record.name)
        timeout_s = 0.0 if record.name in self.refused else STOP_TIMEOUT_S
        try:
            await self._driver.stop(container_name(record.name), timeout_s)
        finally:
            live.phase = Phase.NONE
            live.observation = await self.observe(record.name)
        if told:
            await self._store.write(lambda tx: tx.emit(EventName.AGENT_STOPPED, record.name, {}))

    async def end(self, name: str, remove: bool) -> None:
        """Stops the container, without an event; with `remove` nothing is left. Raises DriverError."""
        self._roster.live(name).phase = Phase.STOPPING
        self._roster.changed(name)
        try:
            if not has_room(self._driver.name, name):
                # There is none.
                pass
            elif remove:
                await self._driver.destroy(container_name(name))
            else:
                await self._driver.stop(container_name(name), STOP_TIMEOUT_S)
        finally:
            self._roster.live(name).phase = Phase.NONE
        if remove:
            await self._links.close(name)

    def render_not_connected(self) -> str:
        return f"its harness did not connect within {self.pace.connect_timeout_s:g} s: see its log"

    async def _start_container(self, record: AgentRecord, version: Version, start: Start, trying: bool) -> None:
        await self._configs.build(version)
        delivered = await self._store.read(lambda view: was_delivered(view, record.name))
        generation = await self._store.write(
            lambda tx: begin_generation(tx, record.name, version.commit, trying, start, delivered)
        )
        if (await self.observe(record.name)).state is not ContainerState.RUNNING:
            record = await give_range(self._store, self._roots, record)
        record = replace(record, generation=generation)
        self._connected[record.name].clear()
        await folders.make_folders(self._roots, record, await self._manager_uid())
        await self._links.open(record.name, record.uid)
        spec = plan_container(
            record,
            self._roots,
            self._settings,
            config_folder=version.folder,
            config=version.config,
        )
        await self._driver.create(spec)
        await self._driver.start(spec)

    async def _manager_uid(self) -> int | None:
        try:
            return (await self._store.read(lambda view: get_agent(view, MANAGER))).uid
        except NotFoundError:
            return None
