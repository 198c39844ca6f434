"""Approvals: an agent proposes, the operator decides, once. What was approved is then carried out by `Applies`."""

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass

from hyperhive.core.approvals import Approval, ApprovalKind, ApprovalStatus
from hyperhive.core.audit import AuditName
from hyperhive.core.errors import ConflictError, HiveError, NotFoundError, TooLargeError
from hyperhive.core.names import OPERATOR, parse_agent_name, parse_known_agent_name
from hyperhive.core.paths import Roots
from hyperhive.host.agent_ports import CheckPort, allow_any_port
from hyperhive.host.agent_records import check_name_is_free, get_agent, insert_agent
from hyperhive.host.approval_records import (
    check_room,
    fail_pending,
    get_approval,
    insert_approval,
    list_open,
    resolve,
)
from hyperhive.host.configs.configs import Configs
from hyperhive.host.drafts import is_draft, remove_draft
from hyperhive.host.kept import ORPHANED
from hyperhive.host.store.rows import to_approval
from hyperhive.host.store.store import Store, Transaction, View
from hyperhive.system.clock import now

# More proposals for one agent than an operator tells apart.
PENDING_EACH_LIMIT = 5
ORPHANS_EVERY_S = 30.0


class Approvals:
    """`wake` is called when something was approved: it begins to be carried out."""

    def __init__(
        self,
        store: Store,
        configs: Configs,
        roots: Roots,
        first_uid: int | None,
        wake: Callable[[], None],
        check_new_port: CheckPort = allow_any_port,
        check_rebuild_port: CheckPort = allow_any_port,
    ) -> None:
        self._store = store
        self._configs = configs
        self._roots = roots
        self._first_uid = first_uid
        self._wake = wake
        self._check_new_port = check_new_port
        self._check_rebuild_port = check_rebuild_port
        # Bundles are unpacked one at a time before their configs are evaluated.
        self._unpacking = asyncio.Lock()

    # -- asking --------------------------------------------------------------------------------------------

    async def request_spawn(self, name: str, description: str, requested_by: str) -> Approval:
        """Asks the operator for a new agent; asking again while it waits gives the same approval.

        Raises InvalidInputError for a bad name, ConflictError if the name is taken, TooLargeError if too many wait.
        """
        parse_agent_name(name)

        def insert(tx: Transaction) -> Approval:
            waiting = [approval for approval in list_open(tx, name) if approval.kind is ApprovalKind.SPAWN]
            if waiting:
                return waiting[0]
            check_name_is_free(tx, name)
            if is_draft(tx, name):
                raise ConflictError(f"there is a draft of {name}", "propose it with request_spawn_commit")
            self._check_new_port(tx, name)
            return insert_approval(tx, ApprovalKind.SPAWN, name, requested_by, description)

        return await self._store.write(insert)

    async def request_spawn_commit(
        self, name: str, commit: str, notes: str, bundle: bytes, description: str, requested_by: str, key: str
    ) -> Approval:
        """Asks the operator for a new agent with the config `commit` and the staged notes, both in `bundle`.

        Raises NotFoundError without a draft, and like `request_apply`.
        """
        parse_agent_name(name)
        proposal = _Proposal(ApprovalKind.SPAWN, name, commit, notes or None, None, requested_by, description, key)
        return await self._propose(proposal, bundle)

    async def request_apply(
        self, agent: str, commit: str, bundle: bytes, description: str, requested_by: str, key: str
    ) -> Approval:
        """Asks the operator to apply `commit`, which is in `bundle`, to an agent. The commit is pinned from now on.

        The same key gives the same approval, and so does the same commit while it waits. Raises InvalidInputError
        for a commit that cannot be applied: a bad bundle, a config that does not parse, one that does not descend
        from what is deployed; ConflictError for one that is deployed, and for a key that something else was proposed
        with; NotFoundError for an unknown agent; TooLargeError over a limit. Nothing is left of it then.
        """
        parse_known_agent_name(agent)
        base = (await self._configs.get_deployed_commit(agent)) or await self._configs.ensure(agent)
        proposal = _Proposal(ApprovalKind.APPLY, agent, commit, None, base, requested_by, description, key)
        return await self._propose(proposal, bundle)

    async def revert(self, agent: str, to: int) -> Approval:
        """Brings back the config of the deployed approval `to` (0: the first config), as a commit on what is deployed.

        It is the operator's own act: approved at once. Raises NotFoundError if that was never deployed.
        """
        parse_known_agent_name(agent)
        await self._store.read(lambda view: get_agent(view, agent))
        repository = self._configs.repository(agent)
        target = (await repository.list_tags()).get(f"deployed/{to}") if await repository.exists() else None
        if target is None:
            raise NotFoundError(f"{agent} has no deployed/{to}", "see its history")
        base = await self._configs.get_deployed_commit(agent)
        if base is None or target == base:
            raise ConflictError(f"deployed/{to} is what is deployed", "choose another one")
        message = f"Revert to deployed/{to}"

        def insert(tx: Transaction, commit: str) -> Approval:
            get_agent(tx, agent)
            self._check_rebuild_port(tx, agent)
            made = insert_approval(
                tx, ApprovalKind.REVERT, agent, OPERATOR, message, commit=commit, base=base, reverts_to=to
            )
            return resolve(tx, made.id, ApprovalStatus.APPROVED, None)

        async with self._configs.lock(agent):
            commit = await repository.make_revert(base, target, message, now())
            try:
                approval = await self._store.write(lambda tx: insert(tx, commit))
            except HiveError:
                # The agent was destroyed meanwhile, or too many wait.
                await repository.drop_incoming(commit)
                raise
        self._wake()
        return approval

    async def retry(self, agent: str) -> Approval | None:
        """Applies the config again that was approved last for an agent and failed. None: none failed.

        It is the operator's own act: approved at once, and the same commit. Raises NotFoundError for an unknown agent.
        """

        def insert(tx: Transaction) -> Approval | None:
            failed_id = get_agent(tx, agent).failed_approval
            failed = None if failed_id is None else get_approval(tx, failed_id)
            if failed is None or failed.commit is None:
                return None
            waiting = [other for other in list_open(tx, agent) if other.commit == failed.commit]
            if waiting:
                # It was proposed again, or is being applied: that decides.
                raise ConflictError(f"approval {waiting[0].id} is about the same commit", "see `hive pending`")
            base = get_agent(tx, agent).deployed_commit
            text = f"Again what failed as approval {failed.id}"
            made = insert_approval(tx, ApprovalKind.APPLY, agent, OPERATOR, text, commit=failed.commit, base=base)
            return resolve(tx, made.id, ApprovalStatus.APPROVED, None)

        approval = await self._store.write(insert)
        self._wake()
        return approval

    # -- deciding ------------------------------------------------------------------------------------------

    async def approve(self, approval_id: int) -> Approval:
        """Approves and begins to carry out. Returns at once; `approval.deployed` or `approval.failed` follows.

        One that cannot be applied any more fails instead, with the reason. Raises NotFoundError, or ConflictError
        if it was decided before: then nothing happens a second time.
        """
        orphaned = self._is_orphan(await self.get_approval(approval_id))

        def decide(tx: Transaction) -> Approval:
            if orphaned:
                return resolve(tx, approval_id, ApprovalStatus.FAILED, ORPHANED)
            approval = resolve(tx, approval_id, ApprovalStatus.APPROVED, None)
            if approval.kind is ApprovalKind.SPAWN:
                self._check_new_port(tx, approval.agent)
                insert_agent(tx, approval.agent, self._first_uid)
                remove_draft(tx, approval.agent)
                fail_pending(tx, approval.agent, f"approval {approval_id} was approved instead")
            else:
                # What the operator has seen it compared with.
                deployed = get_agent(tx, approval.agent).deployed_commit
                self._check_rebuild_port(tx, approval.agent)
                tx.list("set_approval_base", id=approval_id, base=deployed)
                compared = {"id": approval_id, "commit": approval.commit, "base": deployed}
                tx.audit(AuditName.APPROVAL_COMPARED, approval.agent, compared)
            return approval

        approval = await self._store.write(decide)
        self._wake()
        return approval

    async def deny(self, approval_id: int, reason: str) -> Approval:
        """Denies; the reason reaches whoever asked. Raises like `approve`."""
        return await self._store.write(lambda tx: resolve(tx, approval_id, ApprovalStatus.DENIED, reason))

    async def get_approval(self, approval_id: int) -> Approval:
        return await self._store.read(lambda view: get_approval(view, approval_id))

    async def list_approvals(self, status: str | None) -> list[Approval]:
        """The newest first, of one status or of all."""
        rows = await self._store.read(lambda view: view.list("list_approvals", status=status))
        return [to_approval(row) for row in rows]

    async def fail_orphans(self) -> None:
        """Fails what waits for an agent or a draft whose folder is gone."""
        rows = await self._store.read(lambda view: view.list("list_pending_approvals"))
        orphans = [approval.id for approval in map(to_approval, rows) if self._is_orphan(approval)]

        def fail(tx: Transaction) -> None:
            for approval_id in orphans:
                if get_approval(tx, approval_id).status is ApprovalStatus.PENDING:
                    resolve(tx, approval_id, ApprovalStatus.FAILED, ORPHANED)

        if orphans:
            await self._store.write(fail)

    async def fail_orphans_forever(self) -> None:
        while True:
            await self.fail_orphans()
            await asyncio.sleep(ORPHANS_EVERY_S)

    # -- inside --------------------------------------------------------------------------------------------

    async def _propose(self, proposal: "_Proposal", bundle: bytes) -> Approval:
        """Takes a commit over and inserts its approval; what would be refused is refused before anything is kept."""
        repository = self._configs.repository(proposal.agent)
        check = functools.partial(self._configs.check_proposed, proposal.agent)
        if self._configs.evaluates:
            # Before the lock, for which others wait who have to do with the repository: the reader remembers it.
            known = await self._store.read(lambda view: _find_same(view, proposal))
            if known is not None:
                return known
            async with self._unpacking:
                files = await repository.read_bundle(bundle, proposal.commit, proposal.notes or "", base=proposal.base)
            await check(files)
        # Over both, or two at once could each find the last place free, and leave a commit behind.
        async with self._configs.lock(proposal.agent):
            known = await self._store.read(lambda view: _find_same(view, proposal))
            if known is not None:
                return known
            await repository.import_bundle(
                bundle,
                proposal.commit,
                proposal.notes or "",
                base=proposal.base,
                check=check,
            )
            try:
                return await self._store.write(lambda tx: _insert(tx, proposal))
            except HiveError:
                await repository.drop_incoming(*filter(None, (proposal.commit, proposal.notes)))
                raise

    def _is_orphan(self, approval: Approval) -> bool:
        if approval.kind is ApprovalKind.SPAWN:
            drafted = approval.commit is not None
            return drafted and not self._roots.proposed_folder_of(approval.agent).is_dir()
        return not self._roots.agent_folder(approval.agent).is_dir()


@dataclass(frozen=True, slots=True)
class _Proposal:
    """A commit that is proposed; `base` is what it must follow from."""

    kind: ApprovalKind
    agent: str
    commit: str
    notes: str | None
    base: str | None
    requested_by: str
    description: str
    key: str


def _find_same(view: View, proposal: _Proposal) -> Approval | None:
    """The approval that this was proposed with before. Raises what makes it impossible to propose it now."""
    wanted = (proposal.kind, proposal.agent, proposal.commit, proposal.notes)
    row = view.find("find_approval_by_key", key=proposal.key)
    if row is not None:
        known = to_approval(row)
        if (known.kind, known.agent, known.commit, known.notes) != wanted:
            raise ConflictError(f"approval {known.id} has this key, and is about something else", "use a new key")
        return known
    if proposal.kind is ApprovalKind.SPAWN:
        _check_draft(view, proposal.agent)
    if proposal.commit == proposal.base:
        raise ConflictError("this commit is deployed already", "commit a change first")
    pending = [item for item in list_open(view, proposal.agent) if item.status is ApprovalStatus.PENDING]
    for item in pending:
        if (item.kind, item.agent, item.commit, item.notes) == wanted:
            return item
    if len(pending) >= PENDING_EACH_LIMIT:
        raise TooLargeError(
            f"{len(pending)} proposals for {proposal.agent} wait already", "wait for the operator's decisions"
        )
    check_room(view)
    return None


def _insert(tx: Transaction, proposal: _Proposal) -> Approval:
    known = _find_same(tx, proposal)
    if known is not None:
        return known
    return insert_approval(
        tx,
        proposal.kind,
        proposal.agent,
        proposal.requested_by,
        proposal.description,
        commit=proposal.commit,
        base=proposal.base,
        notes=proposal.notes,
        idempotency_key=proposal.key,
    )


def _check_draft(view: View, name: str) -> None:
    if not is_draft(view, name):
        raise NotFoundError(f"there is no draft of {name!r}", "request_spawn_draft makes one")
