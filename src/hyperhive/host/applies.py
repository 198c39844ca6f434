"""Carries out what was approved: one at a time, exactly once, whatever the daemon dies of in between.

The database says how far each approval is. Every step may be done twice, so that a daemon that finds an approval
`approved` or `building` simply does its steps again. Tags and main of the applied repos follow the database.
"""

import asyncio
import contextlib

import structlog

from hyperhive.core.approvals import Approval, ApprovalKind, ApprovalStatus
from hyperhive.core.effects import needs_restart
from hyperhive.core.errors import ConflictError, HiveError, render_error
from hyperhive.core.events import Event, EventName
from hyperhive.core.paths import Roots
from hyperhive.host import folders
from hyperhive.host.agent_ports import CheckPort, allow_any_port
from hyperhive.host.agent_records import end_update, get_agent, save_config_error, save_deployed
from hyperhive.host.approval_records import list_open, resolve
from hyperhive.host.configs.configs import Configs, Version
from hyperhive.host.configs.meaning import plan_effect, plan_meaning
from hyperhive.host.containers import HaltedError
from hyperhive.host.kept import ORPHANED
from hyperhive.host.leases import bury_messages
from hyperhive.host.lifecycle import Lifecycle
from hyperhive.host.schedule_records import forget_schedule
from hyperhive.host.store.rows import AgentRecord, to_agent, to_approval
from hyperhive.host.store.store import Store, Transaction

log = structlog.get_logger(__name__)

# Notification is the optimisation, this the guarantee.
LOOK_EVERY_S = 5.0
TAGS_AT_ONCE = 100

# The tags that an approval of each status has; what it went through before was tagged on the way.
_TAGS = {
    ApprovalStatus.PENDING: ("proposal",),
    ApprovalStatus.APPROVED: ("proposal", "approved"),
    ApprovalStatus.BUILDING: ("proposal", "approved", "building"),
    ApprovalStatus.DEPLOYED: ("proposal", "approved", "building", "deployed"),
    ApprovalStatus.DENIED: ("proposal", "denied"),
    ApprovalStatus.FAILED: ("proposal", "failed"),
}


class Applies:
    def __init__(
        self,
        store: Store,
        roots: Roots,
        configs: Configs,
        lifecycle: Lifecycle,
        check_port: CheckPort = allow_any_port,
    ) -> None:
        self._store = store
        self._roots = roots
        self._configs = configs
        self._lifecycle = lifecycle
        self._check_port = check_port
        self._woken = asyncio.Event()
        # Those whose tags could not be made.
        self._untagged: set[int] = set()

    def wake(self) -> None:
        """Says that there is something to do."""
        self._woken.set()

    def on_event(self, event: Event) -> None:
        """Looks when an approval has changed; called by the feed after each commit."""
        if event.name.startswith("approval."):
            self.wake()

    async def clean_up(self) -> None:
        """At the daemon's start: removes the builds that nothing runs with, and submissions that came to nothing."""
        rows = await self._store.read(
            lambda view: [row for query in ("list_agents", "list_destroyed_agents") for row in view.list(query)]
        )
        for row in rows:
            await self._configs.remove_builds(to_agent(row))
        await self._configs.drop_incoming()

    async def run_forever(self) -> None:
        """The one build queue: what is building first, then what is approved, the oldest first."""
        while True:
            self._woken.clear()
            await self.tag_all()
            for row in await self._store.read(lambda view: view.list("list_approvals_at_work")):
                await self._try_carry_out(to_approval(row))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._woken.wait()

    async def _try_carry_out(self, approval: Approval) -> None:
        """One that can neither be done nor failed now, for the disk or the driver, is not in the way of the others."""
        try:
            await self._carry_out(approval)
        except HiveError as error:
            log.warning("applies.stuck", approval=approval.id, message=error.message, hint=error.hint)

    # -- one approval --------------------------------------------------------------------------------------

    async def _carry_out(self, approval: Approval) -> None:
        if approval.status is ApprovalStatus.APPROVED:
            approval = await self._store.write(lambda tx: resolve(tx, approval.id, ApprovalStatus.BUILDING, None))
            await self._tag(approval)
        try:
            version = await self._build(approval)
            failure = await self._start(approval, version)
        except HaltedError:
            # The hive is ending: the next daemon goes on here.
            await asyncio.Event().wait()
            return
        except HiveError as error:
            version, failure = None, render_error(error)
        except Exception as error:
            # A mistake of ours must not leave an approval waiting for ever.
            log.exception("applies.failed", approval=approval.id)
            version, failure = None, f"the daemon failed: {error!r}"
        if version is not None and not failure:
            await self._deploy(approval, version)
        else:
            await self._fail(approval, failure)
        self._lifecycle.converge_soon(approval.agent)

    async def _build(self, approval: Approval) -> Version:
        """What is to run, checked and built. Raises HiveError with the reason why it cannot."""
        name = approval.agent
        record = await self._store.read(lambda view: get_agent(view, name))
        await self._store.read(lambda view: self._check_port(view, name))
        if approval.kind is not ApprovalKind.SPAWN:
            if not await asyncio.to_thread(self._roots.agent_folder(name).is_dir):
                raise ConflictError(ORPHANED)
            await self._check_descent(approval, record)
        # Only here, as the manager can be in the way of what is made: it must not keep anything else from its end.
        commit = approval.commit or await self._configs.ensure(name)
        version = await self._configs.load_and_build(name, commit)
        if approval.notes is not None:
            await folders.stage_state(self._roots, record, self._configs.repository(name), approval.notes)
        return version

    async def _check_descent(self, approval: Approval, record: AgentRecord) -> None:
        deployed = record.deployed_commit
        commit = approval.commit
        if deployed is None or commit is None:
            raise ConflictError("nothing is deployed that this could follow", "start the agent first")
        if not await self._configs.repository(approval.agent).is_ancestor(deployed, commit):
            raise ConflictError(_render_overtaken(deployed), "propose it again on top of that")

    async def _start(self, approval: Approval, version: Version) -> str:
        """Makes the version run where that needs a restart. Returns why it does not."""
        if approval.kind is ApprovalKind.SPAWN:
            return await self._lifecycle.switch(version)
        deployed = await self._configs.get_deployed(approval.agent)
        files = await self._configs.repository(approval.agent).diff(deployed.commit, version.commit)
        effect = plan_effect(plan_meaning(deployed.config, version.config, files))
        return await self._lifecycle.switch(version) if needs_restart(effect) else ""

    async def _deploy(self, approval: Approval, version: Version) -> None:
        def deploy(tx: Transaction) -> tuple[Approval, AgentRecord]:
            tx.list("pin_approval", id=approval.id, commit=version.commit)
            save_deployed(tx, approval.agent, version.commit)
            end_update(tx, approval.agent)
            done = resolve(tx, approval.id, ApprovalStatus.DEPLOYED, None)
            return done, get_agent(tx, approval.agent)

        done, record = await self._store.write(deploy)
        self._configs.note_deployed(version)
        await self._lifecycle.push(version)
        await self._tag(done)
        try:
            await self.fail_overtaken(version)
        except HiveError as error:
            # What waits is looked at again at its turn.
            log.warning("applies.overtaken_unknown", agent=version.agent, message=error.message)
        await self._configs.remove_builds(record)

    async def _fail(self, approval: Approval, failure: str) -> None:
        drafted = approval.kind is ApprovalKind.SPAWN and approval.commit is not None
        if drafted:
            await self._undo_spawn(approval.agent)

        def fail(tx: Transaction) -> Approval:
            if drafted:
                bury_messages(tx, approval.agent, f"{approval.agent} could not be spawned")
                forget_schedule(tx, approval.agent)
                tx.list("delete_agent", name=approval.agent)
                tx.list("insert_draft", name=approval.agent, requested_by=approval.requested_by, at=tx.at_ms)
                tx.emit(EventName.DRAFT_CREATED, approval.agent, {"requested_by": approval.requested_by})
            else:
                save_config_error(tx, approval.agent, approval.id, failure)
                end_update(tx, approval.agent, failure)
                if approval.kind is ApprovalKind.SPAWN:
                    tx.list("set_failure", name=approval.agent, failure=failure)
            return resolve(tx, approval.id, ApprovalStatus.FAILED, failure)

        await self._tag(await self._store.write(fail))
        row = await self._store.read(lambda view: view.find("get_agent", name=approval.agent))
        if row is not None:
            # Also if it was destroyed meanwhile.
            await self._configs.remove_builds(to_agent(row))

    async def _undo_spawn(self, name: str) -> None:
        """A two-step spawn that failed becomes the draft again that it was: nothing of the agent is left."""
        await self._lifecycle.end(name, remove=True)
        await folders.remove_agent(self._roots, name)
        self._configs.forget(name)

    async def fail_overtaken(self, version: Version) -> None:
        """Fails what waits for this agent and no longer follows from what is deployed."""
        waiting = await self._store.read(lambda view: list_open(view, version.agent))
        repository = self._configs.repository(version.agent)
        for approval in waiting:
            if approval.status is not ApprovalStatus.PENDING or approval.commit is None:
                continue
            if await repository.is_ancestor(version.commit, approval.commit):
                continue
            await self._overtake(approval, version.commit)

    async def _overtake(self, approval: Approval, deployed: str) -> None:
        reason = f"{_render_overtaken(deployed)}: propose it again on top of that"
        try:
            await self._store.write(lambda tx: resolve(tx, approval.id, ApprovalStatus.FAILED, reason))
        except ConflictError:
            # The operator was faster; if it was approved, it fails at its turn.
            return

    # -- what the repositories show ------------------------------------------------------------------------

    async def tag_all(self) -> None:
        """Brings the tags and main of the applied repos to what the database says; what fails is left for later."""
        after = 0
        while rows := await self._list_untagged(after):
            for approval in rows:
                await self._tag(approval)
                after = approval.id

    async def _list_untagged(self, after: int) -> list[Approval]:
        rows = await self._store.read(
            lambda view: view.list("list_untagged_approvals", after=after, limit=TAGS_AT_ONCE)
        )
        return [to_approval(row) for row in rows]

    async def _tag(self, approval: Approval) -> None:
        """Tags one approval as its row says now. Doing it twice is no error."""
        try:
            if approval.commit is not None:
                async with self._configs.lock(approval.agent):
                    await self._write_tags(approval, approval.commit)
        except HiveError as error:
            # One broken repository must not hold up all other agents. It is tried again, and told once.
            if approval.id not in self._untagged:
                log.warning("applies.not_tagged", approval=approval.id, agent=approval.agent, message=error.message)
            self._untagged.add(approval.id)
            return
        self._untagged.discard(approval.id)

        def note(tx: Transaction) -> None:
            tx.list("set_tagged", id=approval.id, status=approval.status)

        await self._store.write(note)

    async def _write_tags(self, approval: Approval, commit: str) -> None:
        repository = self._configs.repository(approval.agent)
        if not await repository.exists():
            # Purged, or a discarded draft.
            return
        tags = {tag: tag for tag in _TAGS[approval.status]}
        if approval.reason:
            tags[_TAGS[approval.status][-1]] = approval.reason
        at = approval.resolved_at or approval.requested_at
        await repository.pin(approval.id, commit, approval.notes, tags, at)
        if approval.status is ApprovalStatus.DEPLOYED:
            await repository.advance_main(commit)


def _render_overtaken(deployed: str) -> str:
    return f"{deployed[:12]} was deployed since this was proposed, and this does not follow from it"
