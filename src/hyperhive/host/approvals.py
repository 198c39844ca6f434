"""Approvals: an agent proposes, the operator decides, once. What was approved is then carried out by `Agents`."""

from hyperhive.core.approvals import Approval, ApprovalKind, ApprovalStatus, check_transition
from hyperhive.core.errors import ConflictError, NotFoundError, TooLargeError
from hyperhive.core.events import EventName
from hyperhive.core.names import parse_agent_name
from hyperhive.host.agent_records import insert_agent
from hyperhive.host.agents import Agents
from hyperhive.host.notices import notify_manager
from hyperhive.host.present import show_approval
from hyperhive.host.store.rows import to_approval
from hyperhive.host.store.store import Store, Transaction

# More than an operator reads through; a manager that asks for more has gone astray.
PENDING_LIMIT = 50

_EVENTS = {
    ApprovalStatus.APPROVED: EventName.APPROVAL_APPROVED,
    ApprovalStatus.DENIED: EventName.APPROVAL_DENIED,
    ApprovalStatus.DEPLOYED: EventName.APPROVAL_DEPLOYED,
    ApprovalStatus.FAILED: EventName.APPROVAL_FAILED,
}


class Approvals:
    def __init__(self, store: Store, agents: Agents) -> None:
        self._store = store
        self._agents = agents
        agents.on_settled(self._settle)

    async def request_spawn(self, name: str, description: str, requested_by: str) -> Approval:
        """Asks the operator for a new agent; asking again while it waits gives the same approval.

        Raises InvalidInputError for a bad name, ConflictError if the agent exists, TooLargeError if too many wait.
        """
        parse_agent_name(name)

        def insert(tx: Transaction) -> Approval:
            row = tx.find("find_open_approval", agent=name, kind=ApprovalKind.SPAWN)
            if row is not None:
                return to_approval(row)
            if tx.find("get_agent", name=name) is not None:
                raise ConflictError(f"there is an agent {name!r} already", "choose another name")
            if tx.get("count_pending_approvals")["pending"] >= PENDING_LIMIT:
                raise TooLargeError(f"{PENDING_LIMIT} approvals wait already", "wait for the operator's decisions")
            row = tx.get(
                "insert_approval",
                kind=ApprovalKind.SPAWN,
                agent=name,
                requested_by=requested_by,
                description=description,
                at=tx.at_ms,
            )
            approval = to_approval(row)
            _emit(tx, EventName.APPROVAL_REQUESTED, approval)
            return approval

        return await self._store.write(insert)

    async def approve(self, approval_id: int) -> Approval:
        """Approves and begins to carry out. Returns at once; `approval.deployed` or `approval.failed` follows.

        Raises NotFoundError, or ConflictError if it was decided before: then nothing happens a second time.
        """

        def decide(tx: Transaction) -> Approval:
            approval = _resolve(tx, approval_id, ApprovalStatus.APPROVED, None)
            insert_agent(tx, approval.agent, self._agents.first_uid)
            return approval

        approval = await self._store.write(decide)
        self._agents.converge_soon(approval.agent)
        return approval

    async def deny(self, approval_id: int, reason: str) -> Approval:
        """Denies; the reason reaches whoever asked. Raises like `approve`."""
        return await self._store.write(lambda tx: _resolve(tx, approval_id, ApprovalStatus.DENIED, reason))

    async def list_approvals(self, status: str | None) -> list[Approval]:
        """The newest first, of one status or of all."""
        rows = await self._store.read(lambda view: view.list("list_approvals", status=status))
        return [to_approval(row) for row in rows]

    async def _settle(self, agent: str, failure: str) -> None:
        """Ends the approval that brought `agent` about, if it is still at work: also after a crash in between."""

        def settle(tx: Transaction) -> None:
            row = tx.find("find_open_approval", agent=agent, kind=ApprovalKind.SPAWN)
            if row is not None and row["status"] == ApprovalStatus.APPROVED:
                status = ApprovalStatus.FAILED if failure else ApprovalStatus.DEPLOYED
                _resolve(tx, row["id"], status, failure or None)

        await self._store.write(settle)


def _resolve(tx: Transaction, approval_id: int, status: ApprovalStatus, reason: str | None) -> Approval:
    row = tx.find("get_approval", id=approval_id)
    if row is None:
        raise NotFoundError(f"there is no approval {approval_id}", "see `hive pending`")
    check_transition(to_approval(row), status)
    row = tx.get("set_approval_status", id=approval_id, status=status, reason=reason, at=tx.at_ms)
    approval = to_approval(row)
    _emit(tx, _EVENTS[status], approval)
    if status is not ApprovalStatus.APPROVED:
        notify_manager(
            tx,
            "approval_resolved",
            approval=approval.id,
            kind=approval.kind,
            agent=approval.agent,
            status=status,
            reason=reason or "",
        )
    if status is ApprovalStatus.DEPLOYED:
        notify_manager(tx, "spawned", agent=approval.agent)
    return approval


def _emit(tx: Transaction, name: EventName, approval: Approval) -> None:
    tx.emit(name, approval.agent, {"approval": show_approval(approval).model_dump(mode="json")})
