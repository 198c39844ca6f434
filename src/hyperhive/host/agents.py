"""The agents: what the operator and the manager ask of them, and what their harnesses tell.

Acts return once the wish is stored; `Lifecycle` brings the container there, and the row tells how it went.
"""

import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import structlog

from hyperhive.core.audit import AuditName
from hyperhive.core.config_values import parse_model
from hyperhive.core.errors import ConflictError, RefusedError
from hyperhive.core.login import parse_expiry
from hyperhive.core.names import MANAGER, OPERATOR, parse_agent_name, parse_known_agent_name
from hyperhive.core.parking import ParkKind
from hyperhive.core.text import cut_text, render_safe_line
from hyperhive.core.turns import TurnState, TurnStatus
from hyperhive.core.uids import FIRST_RANGED_UID
from hyperhive.host.agent_ports import CheckPort, allow_any_port
from hyperhive.host.agent_records import end_update, get_agent, get_any_agent, insert_agent, mark_destroyed
from hyperhive.host.configs.configs import Configs
from hyperhive.host.drafts import is_draft
from hyperhive.host.journals import Journals
from hyperhive.host.lifecycle import Lifecycle
from hyperhive.host.link.connection import LinkConnection
from hyperhive.host.link.params import AgentEvent, TurnStateParams
from hyperhive.host.link.server import LinkServer
from hyperhive.host.notices import notify_manager
from hyperhive.host.park_records import release_in
from hyperhive.host.roster import Live, Roster
from hyperhive.host.store.rows import AgentRecord, Desired
from hyperhive.host.store.store import Store, Transaction
from hyperhive.system.clock import now
from hyperhive.wire.agent_link import CANCEL_TURN, HarnessConfig
from hyperhive.wire.operator.agents import AgentRow

log = structlog.get_logger(__name__)

_LOGINS = frozenset({"none", "own", "hive"})
_ACCOUNT_CHARS = 200


class Agents:
    def __init__(
        self,
        store: Store,
        journals: Journals,
        roster: Roster,
        lifecycle: Lifecycle,
        configs: Configs,
        check_port: CheckPort = allow_any_port,
    ) -> None:
        self._store = store
        self._journals = journals
        self._roster = roster
        self._lifecycle = lifecycle
        self._configs = configs
        self._check_port = check_port
        self._links: LinkServer
        self._check_start: Callable[[str], Awaitable[None]] = _allow_start
        # Only root can give each agent a uid of its own.
        self.first_uid = FIRST_RANGED_UID if os.geteuid() == 0 else None

    def attach(self, links: LinkServer) -> None:
        """The links need the agents and the agents the links: assembly joins them here."""
        self._links = links

    def guard_starts(self, check: Callable[[str], Awaitable[None]]) -> None:
        """`check` is asked before each start that somebody wants, and raises a HiveError if it may not be."""
        self._check_start = check

    # -- what the operator and the manager ask for ---------------------------------------------------------

    async def rows(self) -> list[AgentRow]:
        return await self._roster.rows()

    async def spawn(self, name: str) -> AgentRow:
        """A new agent of the operator's own wish. Raises InvalidInputError, or ConflictError if the name is taken."""
        parse_agent_name(name)

        def insert(tx: Transaction) -> None:
            if is_draft(tx, name):
                raise ConflictError(
                    f"the manager drafts an agent {name!r}", f"approve its proposal, or hive discard {name}"
                )
            self._check_port(tx, name)
            insert_agent(tx, name, self.first_uid)

        await self._store.write(insert)
        self._lifecycle.converge_soon(name)
        return next(row for row in await self.rows() if row.name == name)

    async def start(self, name: str, by: str) -> None:
        """Raises ConflictError for an agent that was stopped for what its folders hold, as long as they do."""
        await self._check_start(name)
        await self._want(name, Desired.RUNNING, by)
        self._lifecycle.start_soon(name, by)

    async def stop(self, name: str, by: str) -> None:
        await self._want(name, Desired.STOPPED, by)
        self._lifecycle.converge_soon(name)

    async def restart(self, name: str, by: str) -> None:
        """Stops the container, if it runs, and starts it anew. Raises like `start`."""
        await self._check_start(name)
        await self._want(name, Desired.RUNNING, by)
        self._lifecycle.restart_soon(name, by)

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
        await self._want(name, Desired.STOPPED, OPERATOR)
        await self._journals.keep(name)
        await self._lifecycle.end(name, remove=True, mark=lambda tx: mark_destroyed(tx, name))
        self._configs.forget(name)
        self._roster.forget(name)

    async def cancel_turn(self, name: str) -> bool:
        """Interrupts the running turn. False if none runs. Raises UnavailableError if the harness is away."""
        await self._get(name)
        result = await self._links.get_connection(name).call(CANCEL_TURN, {}, timeout_s=10)
        return bool(result.get("cancelled")) if isinstance(result, dict) else False  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]

    # -- what harnesses tell -------------------------------------------------------------------------------

    async def connected(self, connection: LinkConnection, generation: int) -> None:
        """A harness said hello. Raises ConflictError if a newer container of its agent was started.

        Raises InvalidInputError if its config cannot be used: without one it may do nothing.
        """
        record = await self._get(connection.agent)
        await self._lifecycle.load_harness_config(record.name)
        self._links.register(connection, generation, record.generation)
        self._roster.live(record.name).turn = TurnStatus(TurnState.IDLE, now())
        self._lifecycle.note_connected(record.name)
        self._roster.changed(record.name)

    def note_version(self, agent: str, version: str) -> None:
        """A harness that says hello tells its version; also one that is refused for it."""
        self._roster.live(agent).harness_version = version
        self._roster.changed(agent)

    def harness_config(self, name: str) -> HarnessConfig:
        return self._lifecycle.harness_config(name)

    def note_turn(self, agent: str, status: TurnStateParams) -> None:
        live = self._roster.live(agent)
        try:
            state, since = TurnState(status.state), datetime.fromisoformat(status.since)
        except ValueError:
            log.warning("turn.state_unknown", agent=agent, state=status.state)
            return
        live.turn = TurnStatus(state, since if since.tzinfo else now(), status.reason)
        live.model = status.model or live.model
        _take_status(live, status)
        self._roster.changed(agent)

    def note_events(self, agent: str, events: Sequence[AgentEvent]) -> None:
        """Told each event once: those that a harness repeats after a reconnect are not among them."""
        ended = [event for event in events if event.kind == "turn.ended"]
        if ended:
            live = self._roster.live(agent)
            live.turns += len(ended)
            live.last_outcome = str(ended[-1].body.get("outcome", ""))[:40]
            self._roster.changed(agent)

    async def _want(self, name: str, desired: Desired, by: str) -> None:
        parse_known_agent_name(name)

        def change(tx: Transaction) -> None:
            get_agent(tx, name)
            tx.list("set_desired", name=name, desired=desired)
            tx.audit(AuditName.AGENT_DESIRED, name, {"desired": desired.value, "by": by})
            # A wish that comes later than that for an update counts more.
            end_update(tx, name)
            if by == OPERATOR and desired is Desired.RUNNING:
                # An act that says "try again".
                release_in(tx, name, (ParkKind.FAILING, ParkKind.LOGIN))
            if by == OPERATOR and name != MANAGER and desired is Desired.STOPPED:
                notify_manager(tx, "killed", agent=name)

        await self._store.write(change)
        self._roster.live(name).crashes = 0

    async def _get(self, name: str) -> AgentRecord:
        parse_known_agent_name(name)
        return await self._store.read(lambda view: get_agent(view, name))


async def _allow_start(name: str) -> None:
    """Any agent may be started."""


def _take_status(live: Live, status: TurnStateParams) -> None:
    """Takes what a harness tells of itself into its row. It is an agent's word: what makes no sense is left out."""
    live.chosen_model = _read_model(status.chosen_model)
    live.context_tokens, live.context_limit = status.context_tokens, status.context_limit
    live.session_usd = status.session_usd
    live.warm = status.warm
    live.login = status.login.kind if status.login.kind in _LOGINS else "unknown"
    live.login_account = cut_text(render_safe_line(status.login.account), _ACCOUNT_CHARS)
    live.login_expires_at = parse_expiry(status.login.expires_at)


def _read_model(text: str) -> str:
    try:
        return parse_model(text)
    except ValueError:
        return ""
