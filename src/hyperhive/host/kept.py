"""Kept state: what is left of destroyed agents until the operator revives or purges them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from hyperhive.core.approvals import AT_WORK
from hyperhive.core.errors import ConflictError, NotFoundError
from hyperhive.core.events import EventName
from hyperhive.core.names import parse_known_agent_name
from hyperhive.core.paths import Roots
from hyperhive.host import folders
from hyperhive.host.agent_ports import CheckPort, allow_any_port
from hyperhive.host.agent_records import get_any_agent
from hyperhive.host.approval_records import fail_pending, list_open
from hyperhive.host.configs.configs import Configs
from hyperhive.host.drafts import is_draft
from hyperhive.host.leases import bury_messages
from hyperhive.host.notices import notify_manager
from hyperhive.host.questions import cancel_asked_of_operator, cancel_between, cancel_permissions
from hyperhive.host.roster import Roster
from hyperhive.host.schedule_records import forget_schedule
from hyperhive.host.store.rows import AgentRecord, to_agent
from hyperhive.host.store.store import Store, Transaction, View
from hyperhive.system.clock import now
from hyperhive.system.files import read_beneath
from hyperhive.wire.operator.agents import AgentRow, KeptState

# Where claude keeps its login.
CREDENTIALS_FILE = ".credentials.json"

# What became of an approval whose agent is gone for good; it stays for the audit.
ORPHANED = "agent state dir missing"


class Kept:
    """`converge_soon` is the lifecycle's: it starts what should run. `purges` remove what others keep of an agent."""

    def __init__(
        self,
        store: Store,
        roots: Roots,
        configs: Configs,
        roster: Roster,
        converge_soon: Callable[[str], None],
        purges: Sequence[Callable[[str], Awaitable[object]]] = (),
        check_port: CheckPort = allow_any_port,
    ) -> None:
        self._store = store
        self._roots = roots
        self._configs = configs
        self._roster = roster
        self._converge_soon = converge_soon
        self._purges = purges
        self._check_port = check_port
        # A revival must not meet a purge that has removed half of it.
        self._lock = asyncio.Lock()

    @property
    def changing(self) -> asyncio.Lock:
        """Held while what is kept of some agent is brought back or removed."""
        return self._lock

    async def list_kept(self) -> list[KeptState]:
        """What is left of destroyed agents."""
        rows = await self._store.read(lambda view: view.list("list_destroyed_agents"))
        return [await self._show(to_agent(row)) for row in rows]

    async def revive(self, name: str) -> AgentRow:
        """Brings a destroyed agent back, with the state and the config it had. Its row tells how it starts.

        Raises NotFoundError for one that never was or was purged, ConflictError if it is not destroyed.
        """
        parse_known_agent_name(name)

        def bring_back(tx: Transaction) -> None:
            _check_destroyed(tx, name, "it is there already")
            if is_draft(tx, name):
                raise ConflictError(f"there is a draft {name!r}", "discard it first")
            self._check_port(tx, name)
            tx.list("revive_agent", name=name)
            tx.emit(EventName.AGENT_REVIVED, name, {})
            notify_manager(tx, "revived", agent=name)

        async with self._lock:
            await self._store.write(bring_back)
        self._converge_soon(name)
        row = next((row for row in await self._roster.rows() if row.name == name), None)
        if row is None:
            raise ConflictError(f"{name} was destroyed again meanwhile", "revive it again")
        return row

    async def purge(self, name: str) -> None:
        """Removes all that is kept of a destroyed agent, its config and login with it.

        What others wrote or decided about it stays for the audit: messages, questions, approvals, events. What it cost
        stays, too, as long as that counts against a budget.

        Raises NotFoundError for one that never was, ConflictError for one that is not destroyed or while an approval
        about it is being carried out, StorageError if its folders could not be removed: what is left of it is kept
        then, and can be purged again.
        """
        parse_known_agent_name(name)
        async with self._lock, self._configs.lock(name):
            await self._store.read(lambda view: _check_purgeable(view, name))
            await folders.remove(self._roots, name)
            for purge in self._purges:
                await purge(name)
            # Last of all: as long as it is there, the purge can be repeated.
            await self._store.write(lambda tx: _forget(tx, name))
            self._configs.forget(name)

    async def _show(self, record: AgentRecord) -> KeptState:
        return KeptState(
            name=record.name,
            spawned_at=record.spawned_at,
            destroyed_at=record.destroyed_at or now(),
            size_bytes=await folders.measure(self._roots, record.name),
            credentials=await asyncio.to_thread(_has_credentials, self._roots.claude_folder(record.name)),
        )


def _has_credentials(folder: Path) -> bool:
    """Whether a login is there: a plain file that is not empty. What the agent put there instead is none."""
    try:
        return read_beneath(folder, CREDENTIALS_FILE, 1) != b""
    except OSError:
        return False


def _check_destroyed(view: View, name: str, hint: str) -> None:
    try:
        record = get_any_agent(view, name)
    except NotFoundError as error:
        raise NotFoundError(f"nothing is kept of an agent {name!r}", "GET /api/kept names what is") from error
    if record.destroyed_at is None:
        raise ConflictError(f"{name} is not destroyed", hint)


def _check_purgeable(view: View, name: str) -> None:
    _check_destroyed(view, name, "destroy it first")
    for approval in list_open(view, name):
        if approval.status in AT_WORK:
            # Its end is about this agent: it must not meet the next one of the same name.
            raise ConflictError(f"approval {approval.id} about {name} is being carried out", "wait for its end")


def _forget(tx: Transaction, name: str) -> None:
    _check_destroyed(tx, name, "destroy it first")
    bury_messages(tx, name, f"{name} was purged")
    cancel_permissions(tx, name)
    cancel_between(tx, name, f"{name} was purged")
    cancel_asked_of_operator(tx, name)
    fail_pending(tx, name, ORPHANED)
    forget_schedule(tx, name)
    tx.list("forget_tags", agent=name)
    tx.list("forget_runaways", agent=name)
    tx.list("delete_agent", name=name)
    tx.emit(EventName.AGENT_PURGED, name, {})
