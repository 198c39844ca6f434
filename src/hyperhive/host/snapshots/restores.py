"""Snapshots become agents again: of the same name, whatever is there of it now, or of a new one.

All that is needed lies ready in a folder before anything is changed. One transaction decides: from then on the agent
is the restored one, and its folders are put in place by moving them, as often as it takes (table `restores`). A daemon
that dies before leaves the old agent, one that dies after it finds the rest of the work when it starts.
"""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from hyperhive.core.approvals import ApprovalKind, ApprovalStatus
from hyperhive.core.errors import ConflictError, HiveError, NotFoundError, StorageError
from hyperhive.core.events import EventName
from hyperhive.core.names import MANAGER, OPERATOR, parse_agent_name, parse_known_agent_name
from hyperhive.core.paths import FORK_FILE, Roots
from hyperhive.host.agent_ports import CheckPort, allow_any_port
from hyperhive.host.agent_records import get_any_agent, insert_agent, save_deployed
from hyperhive.host.applies import Applies
from hyperhive.host.approval_records import insert_approval, resolve
from hyperhive.host.configs.configs import Configs, Version
from hyperhive.host.configs.repository import ConfigRepository
from hyperhive.host.drafts import is_draft
from hyperhive.host.kept import Kept
from hyperhive.host.lifecycle import Lifecycle
from hyperhive.host.notices import notify_manager
from hyperhive.host.snapshots.archive import ConfigFiles, Opened
from hyperhive.host.snapshots.contents import LOGIN, LOGIN_LIMIT_BYTES
from hyperhive.host.snapshots.places import APPLIED, Places
from hyperhive.host.snapshots.records import (
    SnapshotRecord,
    replay_messages,
    tell_forked,
    tell_restored,
)
from hyperhive.host.snapshots.takes import Takes, discard
from hyperhive.host.snapshots.turn_ends import TurnEnds
from hyperhive.host.store.rows import AgentRecord, Desired
from hyperhive.host.store.store import Store, Transaction
from hyperhive.system.clock import now
from hyperhive.system.files import read_beneath

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Restored:
    """`undo` is the snapshot of what was there before, `approval` what brought the config back; None if none did."""

    agent: str
    undo: int | None
    approval: int | None
    replayed: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to become of an agent. `base` is what is deployed now, None for one that is yet to come."""

    name: str
    snapshot: SnapshotRecord
    opened: Opened
    commit: str
    base: str | None
    version: Version | None
    replay: bool

    @property
    def is_fork(self) -> bool:
        return self.name != self.snapshot.agent


class Restores:
    def __init__(
        self,
        store: Store,
        roots: Roots,
        configs: Configs,
        lifecycle: Lifecycle,
        applies: Applies,
        kept: Kept,
        takes: Takes,
        ends: TurnEnds,
        first_uid: int | None,
        check_port: CheckPort = allow_any_port,
    ) -> None:
        self._store = store
        self._roots = roots
        self._configs = configs
        self._lifecycle = lifecycle
        self._applies = applies
        self._kept = kept
        self._takes = takes
        self._ends = ends
        self._first_uid = first_uid
        self._check_port = check_port
        self._places = Places(roots)

    async def prepare(self) -> None:
        """At the daemon's start, before any container: does what an earlier one had decided, and forgets the rest."""
        await self._ends.release_all()
        await self._takes.prepare()
        for row in await self._store.read(lambda view: view.list("list_restores")):
            try:
                await self._finish(row["agent"])
                # What the manager works in, of one that is new.
                await self._configs.ensure(row["agent"])
            except HiveError as error:
                # Nobody else is to wait for it: it is stopped, and the next daemon tries again.
                log.warning("snapshots.not_in_place", agent=row["agent"], message=error.message)
        for folder in await asyncio.to_thread(self._places.list_leftovers):
            await discard(folder)

    async def restore(self, snapshot_id: int, *, replay: bool, with_credentials: bool, wait_s: float) -> Restored:
        """Makes an agent what it was; it may be running, stopped, destroyed or purged. What is there now is kept first.

        Its config is the snapshot's again, as a commit on what is deployed, approved by this act. Messages stay what
        they are; with `replay` those that were handled since then are handed out again. It keeps the login that it has.

        Raises NotFoundError, ConflictError if its turn does not end in time or somebody changes it, InvalidInputError
        and DriverError for a config that would not be accepted now, DamagedArchiveError, TooLargeError, StorageError.
        Nothing was changed then.
        """
        snapshot = await self._takes.get_ready(snapshot_id)
        name = snapshot.agent
        with self._takes.claim(name):
            async with self._takes.scratch() as folder:
                opened = await self._takes.open(snapshot, name, folder, with_credentials=with_credentials)
                async with self._ends.wait(name, wait_s), self._kept.changing:
                    return await self._replace(name, snapshot, opened, replay=replay)

    async def fork(self, snapshot_id: int, name: str, *, with_credentials: bool) -> Restored:
        """A new agent with state, config and conversation of a snapshot; budget, inbox and uid are its own.

        Raises InvalidInputError for a name or a config that cannot be, ConflictError if the name is taken, and as
        `restore`. Nothing is left then.
        """
        parse_agent_name(name)
        snapshot = await self._takes.get_ready(snapshot_id)
        with self._takes.claim(name):
            async with self._takes.scratch() as folder:
                opened = await self._takes.open(snapshot, name, folder, with_credentials=with_credentials)
                await self._configs.check_carried_over(snapshot.agent, name, _contents(opened.config))
                async with self._lifecycle.still(name), self._kept.changing:
                    plan = await self._plan_new(name, snapshot, opened, replay=False)
                    return await self._carry_out(plan, undo=None, decide=self._insert)

    async def _replace(self, name: str, snapshot: SnapshotRecord, opened: Opened, *, replay: bool) -> Restored:
        record = await self._find_agent(name)
        if record is None:
            plan = await self._plan_new(name, snapshot, opened, replay=replay)
            return await self._carry_out(plan, undo=None, decide=self._insert)
        undo = await self._takes.take_stopped(name, f"before snapshot {snapshot.id} was restored")
        await asyncio.to_thread(_keep_login, self._roots.claude_folder(name), opened.folder / "claude")
        async with self._commit_config(name, record, snapshot, opened.config) as (commit, base):
            version = await self._configs.load_and_build(name, commit)
            plan = _Plan(name, snapshot, opened, commit, base, version, replay)
            return await self._carry_out(plan, undo=undo.id, decide=self._change)

    # -- its config ----------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _commit_config(
        self, name: str, record: AgentRecord, snapshot: SnapshotRecord, files: ConfigFiles
    ) -> AsyncGenerator[tuple[str, str]]:
        """The commit that has the snapshot's config, and what is deployed; they are the same if that has it, too."""
        base = record.deployed_commit or await self._configs.ensure(name)
        async with self._configs.lock(name):
            if await self._takes.read_config(name, base) == files:
                yield base, base
                return
            repository = self._configs.repository(name)
            message = f"Restore snapshot {snapshot.id}"
            commit = await repository.make_commit(base, _contents(files), _executables(files), message, now())
            try:
                yield commit, base
            except BaseException:
                await asyncio.shield(repository.drop_incoming(commit))
                raise

    async def _plan_new(self, name: str, snapshot: SnapshotRecord, opened: Opened, *, replay: bool) -> _Plan:
        await self._store.read(lambda view: self._check_port(view, name))
        repository = ConfigRepository(opened.folder / APPLIED, self._roots.staging_folder)
        files = opened.config
        commit = await repository.ensure(_contents(files), now(), _executables(files))
        return _Plan(name, snapshot, opened, commit, None, None, replay)

    # -- the change itself ---------------------------------------------------------------------------------

    async def _carry_out(
        self, plan: _Plan, *, undo: int | None, decide: Callable[[Transaction, _Plan], int | None]
    ) -> Restored:
        if plan.is_fork or plan.snapshot.imported:
            # Two that wrote on one conversation would be one too many.
            await asyncio.to_thread((plan.opened.folder / "state" / FORK_FILE).write_text, "\n")
        await self._make_ready(plan)

        def change(tx: Transaction) -> Restored:
            approval = decide(tx, plan)
            tx.list("insert_restore", agent=plan.name, snapshot=plan.snapshot.id, at=tx.at_ms)
            replayed = replay_messages(tx, plan.name, plan.opened.manifest.inbox) if plan.replay else 0
            _tell(tx, plan)
            return Restored(plan.name, undo, approval, replayed)

        try:
            restored = await self._store.write(change)
        except BaseException:
            await asyncio.shield(discard(self._places.ready(plan.name)))
            raise
        await asyncio.shield(self._finish_all(plan))
        return restored

    async def _make_ready(self, plan: _Plan) -> None:
        # Of one that failed, if it could not be removed then.
        await discard(self._places.ready(plan.name))
        try:
            await asyncio.to_thread(self._places.put_ready, plan.name, plan.opened.folder)
        except OSError as error:
            raise StorageError(
                f"the snapshot cannot be put in place: {error.strerror or error}", "is the disk full?"
            ) from error

    def _insert(self, tx: Transaction, plan: _Plan) -> None:
        if is_draft(tx, plan.name):
            raise ConflictError(f"the manager drafts an agent {plan.name!r}", f"hive discard {plan.name}")
        self._check_port(tx, plan.name)
        insert_agent(tx, plan.name, self._first_uid)
        save_deployed(tx, plan.name, plan.commit)

    def _change(self, tx: Transaction, plan: _Plan) -> int | None:
        record = get_any_agent(tx, plan.name)
        if record.deployed_commit not in (plan.base, None):
            raise ConflictError(f"the config of {plan.name} was changed meanwhile", "restore it again")
        if record.destroyed_at is not None:
            if is_draft(tx, plan.name):
                raise ConflictError(f"there is a draft {plan.name!r}", "discard it first")
            self._check_port(tx, plan.name)
            tx.list("revive_agent", name=plan.name)
            tx.emit(EventName.AGENT_REVIVED, plan.name, {})
        if plan.commit == plan.base:
            if record.deployed_commit is None:
                save_deployed(tx, plan.name, plan.commit)
            return None
        return _deploy(tx, plan)

    # -- what follows from it ------------------------------------------------------------------------------

    async def _finish_all(self, plan: _Plan) -> None:
        await self._finish(plan.name)
        if plan.version is not None and plan.commit != plan.base:
            self._configs.note_deployed(plan.version)
            self._applies.wake()
            await self._applies.fail_overtaken(plan.version)
        elif plan.version is None:
            # What the manager works in.
            await self._configs.ensure(plan.name)
        self._lifecycle.converge_soon(plan.name)

    async def _finish(self, name: str) -> None:
        """Puts what is ready in the place of an agent's folders; again is no error. Raises StorageError."""
        record = await self._store.read(lambda view: get_any_agent(view, name))
        try:
            await asyncio.to_thread(self._places.swap_in, name, record.uid)
        except OSError as error:
            # It must not run on what it had before.
            await self._store.write(lambda tx: tx.list("set_desired", name=name, desired=Desired.STOPPED))
            raise StorageError(
                f"the folders of {name} cannot be put in place: {error.strerror or error}",
                "it is stopped: start the hive again once the disk works, which goes on there, then the agent",
            ) from error

        def finish(tx: Transaction) -> None:
            tx.list("delete_restore", agent=name)
            # Who has looked at it before it was in place looks again.
            tx.tell(EventName.AGENT_CONFIGURED, name, {"commit": record.deployed_commit})

        await self._store.write(finish)
        await discard(self._places.old(name))
        await discard(self._places.ready(name))

    async def _find_agent(self, name: str) -> AgentRecord | None:
        parse_known_agent_name(name)
        try:
            return await self._store.read(lambda view: get_any_agent(view, name))
        except NotFoundError:
            return None


def _deploy(tx: Transaction, plan: _Plan) -> int:
    """An approval that is deployed at once: what is there already is put in force with all else."""
    made = insert_approval(
        tx,
        ApprovalKind.APPLY,
        plan.name,
        OPERATOR,
        f"Restore snapshot {plan.snapshot.id}",
        commit=plan.commit,
        base=plan.base,
    )
    for status in (ApprovalStatus.APPROVED, ApprovalStatus.BUILDING):
        resolve(tx, made.id, status, None)
    save_deployed(tx, plan.name, plan.commit)
    resolve(tx, made.id, ApprovalStatus.DEPLOYED, None)
    return made.id


def _tell(tx: Transaction, plan: _Plan) -> None:
    at, origin = plan.opened.manifest.at, plan.snapshot.agent
    body: dict[str, str | int] = {"snapshot": plan.snapshot.id}
    if plan.is_fork:
        tell_forked(tx, plan.name, origin, at)
        tx.emit(EventName.AGENT_FORKED, plan.name, {**body, "of": origin})
        notify_manager(tx, "forked", agent=plan.name, of=origin)
    else:
        tell_restored(tx, plan.name, at, replay=plan.replay)
        tx.emit(EventName.AGENT_RESTORED, plan.name, body)
        if plan.name != MANAGER:
            notify_manager(tx, "restored", agent=plan.name, at=at)


def _keep_login(present: Path, restored: Path) -> None:
    """Gives the restored agent the login that it has now: the one in a snapshot may be used up."""
    name = LOGIN.decode()
    try:
        content = read_beneath(present, name, LOGIN_LIMIT_BYTES)
    except OSError:
        return
    if not content:
        return
    target = restored / name
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    target.touch(mode=0o600)
    target.write_bytes(content)


def _contents(files: ConfigFiles) -> dict[str, bytes]:
    return {path: content for path, (content, _) in files.items()}


def _executables(files: ConfigFiles) -> frozenset[str]:
    return frozenset(path for path, (_, executable) in files.items() if executable)
