"""The agents: what is wanted of each, and bringing its container there. The one place that calls the driver.

Everything goes through `_converge`, one at a time for an agent: read what is wanted, look at what is there, plan,
act. A crash of the daemon at any point is mended by the same call at the next start.
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime

import structlog

from hyperhive.core.errors import ConflictError, HiveError, NotFoundError, RefusedError
from hyperhive.core.events import EventName
from hyperhive.core.names import MANAGER, container_name, parse_agent_name, parse_known_agent_name
from hyperhive.core.paths import Roots
from hyperhive.core.turns import TurnState, TurnStatus, plan_retry_s
from hyperhive.host import folders
from hyperhive.host.agent_records import get_agent, get_any_agent, insert_agent, mark_destroyed, mark_started
from hyperhive.host.broker import bury_messages
from hyperhive.host.container_spec import HarnessSettings, plan_container
from hyperhive.host.drivers.protocol import ContainerState, Driver, DriverError, Observation
from hyperhive.host.link.connection import LinkConnection
from hyperhive.host.link.params import AgentEvent, TurnStateParams
from hyperhive.host.link.server import LinkServer
from hyperhive.host.notices import notify_manager
from hyperhive.host.plan import Action, plan_action
from hyperhive.host.roster import Phase, Roster
from hyperhive.host.store.rows import AgentRecord, Desired, to_agent
from hyperhive.host.store.store import Store, Transaction
from hyperhive.system.clock import now
from hyperhive.wire.agent_link import CANCEL_TURN
from hyperhive.wire.operator import AgentRow, KeptState

log = structlog.get_logger(__name__)

# Agents' uids start here: systemd documents the range as unused by anything it allocates.
FIRST_UID = 1_900_000_000
# A harness needs about 0.2 s to connect; a machine under load more.
CONNECT_TIMEOUT_S = 30.0
# The harness ends its turn's processes within 5 s of TERM.
STOP_TIMEOUT_S = 8.0
LOOK_EVERY_S = 2.0
# A container that stays up this long has recovered: its next crash is the first one again.
STEADY_S = 60.0
# Starting containers is heavy; many at once only make each slower.
STARTS_AT_ONCE = 4

Settled = Callable[[str, str], Awaitable[None]]


class Agents:
    """Steers agents. Acts return once the wish is stored; the container follows and its row tells how it went."""

    def __init__(self, store: Store, driver: Driver, roots: Roots, roster: Roster, settings: HarnessSettings) -> None:
        self._store = store
        self._driver = driver
        self._roots = roots
        self._roster = roster
        self._settings = settings
        self._links: LinkServer
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._starts = asyncio.Semaphore(STARTS_AT_ONCE)
        self._connected: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._tasks: set[asyncio.Task[None]] = set()
        self._settled: Settled | None = None
        self._halting = asyncio.Event()
        # Only root can give each agent a uid of its own.
        self.first_uid = FIRST_UID if os.geteuid() == 0 else None

    def attach(self, links: LinkServer) -> None:
        """The links need the agents and the agents the links: assembly joins them here."""
        self._links = links
        links.on_lost(self._lost)

    def on_settled(self, listener: Settled) -> None:
        """`listener` is awaited with the agent's name and the failure ('' if none) after each start was tried."""
        self._settled = listener

    # -- what the operator and the manager ask for ---------------------------------------------------------

    async def rows(self) -> list[AgentRow]:
        return await self._roster.rows()

    async def spawn(self, name: str) -> AgentRow:
        """A new agent of the operator's own wish. Raises InvalidInputError, or ConflictError if the name is taken."""
        parse_agent_name(name)
        await self._store.write(lambda tx: insert_agent(tx, name, self.first_uid))
        self.converge_soon(name)
        return next(row for row in await self.rows() if row.name == name)

    async def start(self, name: str, by: str) -> None:
        await self._want(name, Desired.RUNNING, by)

    async def stop(self, name: str, by: str) -> None:
        await self._want(name, Desired.STOPPED, by)

    async def restart(self, name: str, by: str) -> None:
        """Stops the container, if it runs, and starts it anew."""
        await self._want(name, Desired.RUNNING, by, converge=False)
        self._soon(self._restart(name))

    async def destroy(self, name: str) -> None:
        """Ends an agent for good; its state is kept until it is purged. Returns when the container is gone.

        Destroying a destroyed one is no error. Raises NotFoundError for one that never was, RefusedError for the
        manager: a hive without one could not propose a new one.
        """
        if parse_known_agent_name(name) == MANAGER:
            raise RefusedError("the manager cannot be destroyed", "stop it, if it is to do nothing")
        record = await self._store.read(lambda view: get_any_agent(view, name))
        if record.destroyed_at is not None:
            return
        await self._want(name, Desired.STOPPED, "operator", converge=False)
        async with self._locks[name]:
            self._roster.live(name).phase = Phase.STOPPING
            self._roster.changed(name)
            try:
                await self._driver.destroy(container_name(name))
            finally:
                self._roster.live(name).phase = Phase.NONE
            await self._links.close(name)
            await self._store.write(lambda tx: mark_destroyed(tx, name))
        self._roster.forget(name)

    async def purge(self, name: str) -> None:
        """Removes all that is kept of a destroyed agent. Raises ConflictError for one that is not destroyed."""
        parse_known_agent_name(name)

        def delete(tx: Transaction) -> None:
            record = get_any_agent(tx, name)
            if record.destroyed_at is None:
                raise ConflictError(f"{name} is not destroyed", "destroy it first")
            bury_messages(tx, name, f"{name} was purged")
            tx.list("delete_agent", name=name)
            tx.emit(EventName.AGENT_PURGED, name, {})

        await self._store.read(lambda view: get_any_agent(view, name))
        await folders.remove(self._roots, name)
        await self._store.write(delete)

    async def list_kept(self) -> list[KeptState]:
        """What is left of destroyed agents."""
        rows = await self._store.read(lambda view: view.list("list_destroyed_agents"))
        records = [to_agent(row) for row in rows]
        return [
            KeptState(
                name=record.name,
                destroyed_at=record.destroyed_at or now(),
                size_bytes=await folders.measure(self._roots, record.name),
            )
            for record in records
        ]

    async def cancel_turn(self, name: str) -> bool:
        """Interrupts the running turn. False if none runs. Raises UnavailableError if the harness is away."""
        await self._get(name)
        result = await self._links.get_connection(name).call(CANCEL_TURN, {}, timeout_s=10)
        return bool(result.get("cancelled")) if isinstance(result, dict) else False  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]

    async def read_log(self, name: str, offset: int, limit_bytes: int) -> tuple[bytes, int]:
        """A piece of the container's captured log. Raises NotFoundError for an unknown agent."""
        await self._get(name)
        return await self._driver.logs(container_name(name), offset, limit_bytes)

    # -- what harnesses tell -------------------------------------------------------------------------------

    async def connected(self, connection: LinkConnection, generation: int) -> None:
        """A harness said hello. Raises ConflictError if a newer container of its agent was started."""
        record = await self._get(connection.agent)
        self._links.register(connection, generation, record.generation)
        self._roster.live(record.name).turn = TurnStatus(TurnState.IDLE, now())
        self._connected[record.name].set()
        self._roster.changed(record.name)

    def note_turn(self, agent: str, status: TurnStateParams) -> None:
        live = self._roster.live(agent)
        try:
            state, since = TurnState(status.state), datetime.fromisoformat(status.since)
        except ValueError:
            log.warning("turn.state_unknown", agent=agent, state=status.state)
            return
        live.turn = TurnStatus(state, since if since.tzinfo else now(), status.reason)
        live.model = status.model or live.model
        self._roster.changed(agent)

    def note_events(self, agent: str, events: Sequence[AgentEvent]) -> None:
        """Told each event once: those that a harness repeats after a reconnect are not among them."""
        ended = [event for event in events if event.kind == "turn.ended"]
        if ended:
            live = self._roster.live(agent)
            live.turns += len(ended)
            live.last_outcome = str(ended[-1].body.get("outcome", ""))[:40]
            self._roster.changed(agent)

    def _lost(self, agent: str) -> None:
        self._connected[agent].clear()
        self._roster.live(agent).turn = None
        self._roster.changed(agent)

    # -- bringing containers there -------------------------------------------------------------------------

    async def reconcile(self) -> None:
        """At the daemon's start: listens for every agent, adopts what still runs, starts what should run."""
        records = await self._list()
        for record in records:
            await self._links.open(record.name, record.uid)
        for record in records:
            self.converge_soon(record.name)

    async def watch_forever(self) -> None:
        """Looks at every container now and then, and deals with those that ended unasked."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for record in await self._list():
                if not self._is_at_rest(record) and not self._halting.is_set():
                    await self._look(record)

    def _is_at_rest(self, record: AgentRecord) -> bool:
        """Whether there is nothing to see: it was stopped and is, or somebody is at work on it just now."""
        seen = self._roster.live(record.name).observation.state
        stopped = record.desired is Desired.STOPPED and seen in {ContainerState.STOPPED, ContainerState.ABSENT}
        return stopped or self._locks[record.name].locked()

    async def halt(self) -> list[str]:
        """Stops every container for as long as the daemon is down; they start again with it.

        Returns the agents whose containers could not be stopped.
        """
        self._halting.set()
        records = await self._list()
        stopped = await asyncio.gather(*(self._halt_one(record) for record in records))
        return [record.name for record, done in zip(records, stopped, strict=True) if not done]

    def converge_soon(self, name: str) -> None:
        self._soon(self._converge(name))

    async def finish(self) -> None:
        """Ends what is under way, before the daemon ends. Containers are left as they are."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _want(self, name: str, desired: Desired, by: str, converge: bool = True) -> None:
        parse_known_agent_name(name)

        def change(tx: Transaction) -> None:
            get_agent(tx, name)
            tx.list("set_desired", name=name, desired=desired)
            if by == "operator" and name != MANAGER and desired is Desired.STOPPED:
                notify_manager(tx, "killed", agent=name)

        await self._store.write(change)
        self._roster.live(name).crashes = 0
        if converge:
            self.converge_soon(name)

    async def _converge(self, name: str) -> None:
        async with self._locks[name]:
            if self._halting.is_set():
                return
            record = await self._get(name)
            live = self._roster.live(name)
            live.observation = await self._observe(name)
            match plan_action(record, live.observation.state):
                case Action.START:
                    await self._start(record)
                case Action.STOP:
                    await self._stop(record)
                case Action.ADOPT:
                    await self._settle(name, "")
                case Action.NONE:
                    pass
            self._roster.changed(name)

    async def _restart(self, name: str) -> None:
        async with self._locks[name]:
            await self._stop(await self._get(name))
        await self._converge(name)

    async def _start(self, record: AgentRecord) -> None:
        live = self._roster.live(record.name)
        live.phase = Phase.STARTING
        self._roster.changed(record.name)
        failure = ""
        try:
            async with self._starts:
                await self._start_container(record)
            await self._wait_connected(record.name)
        except TimeoutError:
            failure = f"its harness did not connect within {CONNECT_TIMEOUT_S:g} s: see its log"
        except DriverError as error:
            failure = f"{error.message} ({error.hint})" if error.hint else error.message
        except OSError as error:
            failure = f"its folders could not be made: {error}"
        except Exception as error:
            # A mistake of ours must not leave an approval waiting for ever.
            log.exception("agents.start_failed", agent=record.name)
            failure = f"the daemon failed: {error!r}"
        finally:
            live.phase = Phase.NONE
            live.observation = await self._observe(record.name)
        if self._halting.is_set():
            return
        if failure:
            await self._driver.stop(container_name(record.name), STOP_TIMEOUT_S)
            live.observation = await self._observe(record.name)
        await self._store.write(lambda tx: mark_started(tx, record.name, failure))
        await self._settle(record.name, failure)

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

    async def _start_container(self, record: AgentRecord) -> None:
        generation = await self._store.write(lambda tx: tx.get("begin_generation", name=record.name)["generation"])
        record = replace(record, generation=generation)
        self._connected[record.name].clear()
        await folders.make_folders(self._roots, record, await self._manager_uid())
        await self._links.open(record.name, record.uid)
        spec = plan_container(record, self._roots, self._settings)
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

    async def _settle(self, name: str, failure: str) -> None:
        if self._settled is not None:
            await self._settled(name, failure)

    async def _observe(self, name: str) -> Observation:
        """What the driver sees now; what it cannot see is unknown, with its reason."""
        try:
            return await self._driver.observe(container_name(name))
        except DriverError as error:
            return Observation(ContainerState.UNKNOWN, reason=error.message)

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
        self._soon(self._start_later(record.name, plan_retry_s(live.crashes)))

    async def _start_later(self, name: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await self._converge(name)

    async def _halt_one(self, record: AgentRecord) -> bool:
        async with self._locks[record.name]:
            self._roster.live(record.name).phase = Phase.STOPPING
            self._roster.changed(record.name)
            try:
                await self._driver.stop(container_name(record.name), STOP_TIMEOUT_S)
            except DriverError as error:
                log.warning("agents.not_stopped", agent=record.name, message=error.message)
                return False
            return True

    def _soon(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, work: Awaitable[None]) -> None:
        try:
            await work
        except HiveError as error:
            log.warning("agents.failed", message=error.message, hint=error.hint)
        except Exception:
            log.exception("agents.failed")

    async def _list(self) -> list[AgentRecord]:
        rows = await self._store.read(lambda view: view.list("list_agents"))
        return [to_agent(row) for row in rows]

    async def _get(self, name: str) -> AgentRecord:
        parse_known_agent_name(name)
        return await self._store.read(lambda view: get_agent(view, name))

    async def _manager_uid(self) -> int | None:
        try:
            return (await self._get(MANAGER)).uid
        except NotFoundError:
            return None
