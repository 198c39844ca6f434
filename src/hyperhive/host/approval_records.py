"""What is remembered of approvals: each function is a part of a transaction, with the events that belong to it."""

from hyperhive.core.approvals import Approval, ApprovalKind, ApprovalStatus, check_transition
from hyperhive.core.errors import NotFoundError, TooLargeError
from hyperhive.core.events import EventName
from hyperhive.host.notices import notify_manager
from hyperhive.host.present import show_approval
from hyperhive.host.store.rows import to_approval
from hyperhive.host.store.store import Transaction, View

# More than an operator reads through; a manager that asks for more has gone astray.
PENDING_LIMIT = 50
REASON_LIMIT_CHARS = 2000

_EVENTS = {
    ApprovalStatus.APPROVED: EventName.APPROVAL_APPROVED,
    ApprovalStatus.BUILDING: EventName.APPROVAL_BUILDING,
    ApprovalStatus.DENIED: EventName.APPROVAL_DENIED,
    ApprovalStatus.DEPLOYED: EventName.APPROVAL_DEPLOYED,
    ApprovalStatus.FAILED: EventName.APPROVAL_FAILED,
}
_ENDS = frozenset({ApprovalStatus.DENIED, ApprovalStatus.DEPLOYED, ApprovalStatus.FAILED})


def insert_approval(
    tx: Transaction,
    kind: ApprovalKind,
    agent: str,
    requested_by: str,
    description: str,
    *,
    commit: str | None = None,
    base: str | None = None,
    notes: str | None = None,
    reverts_to: int | None = None,
    idempotency_key: str | None = None,
) -> Approval:
    """A new pending approval. Raises TooLargeError if too many wait."""
    check_room(tx)
    row = tx.get(
        "insert_approval",
        kind=kind,
        agent=agent,
        requested_by=requested_by,
        description=description,
        at=tx.at_ms,
        commit=commit,
        base=base,
        notes=notes,
        reverts_to=reverts_to,
        key=idempotency_key,
    )
    approval = to_approval(row)
    _emit(tx, EventName.APPROVAL_REQUESTED, approval)
    return approval


def check_room(view: View) -> None:
    """Raises TooLargeError if too many approvals wait."""
    if view.get("count_pending_approvals")["pending"] >= PENDING_LIMIT:
        raise TooLargeError(f"{PENDING_LIMIT} approvals wait already", "wait for the operator's decisions")


def resolve(tx: Transaction, approval_id: int, status: ApprovalStatus, reason: str | None) -> Approval:
    """Moves an approval on. Raises NotFoundError, or ConflictError if that may not follow: then nothing happens."""
    check_transition(get_approval(tx, approval_id), status)
    told = None if reason is None else reason[:REASON_LIMIT_CHARS]
    approval = to_approval(tx.get("set_approval_status", id=approval_id, status=status, reason=told, at=tx.at_ms))
    _emit(tx, _EVENTS[status], approval)
    if status in _ENDS:
        notify_manager(
            tx,
            "approval_resolved",
            approval=approval.id,
            kind=approval.kind,
            agent=approval.agent,
            status=status,
            reason=told or "",
        )
    if status is ApprovalStatus.DEPLOYED and approval.kind is ApprovalKind.SPAWN:
        notify_manager(tx, "spawned", agent=approval.agent)
    elif status is ApprovalStatus.DEPLOYED:
        notify_manager(tx, "rebuilt", agent=approval.agent)
    return approval


def fail_pending(tx: Transaction, agent: str, reason: str) -> None:
    """Fails all that waits for the operator's decision about `agent`."""
    for approval in list_open(tx, agent):
        if approval.status is ApprovalStatus.PENDING:
            resolve(tx, approval.id, ApprovalStatus.FAILED, reason)


def list_open(view: View, agent: str) -> list[Approval]:
    """What waits or is at work for an agent, the oldest first."""
    return [to_approval(row) for row in view.list("list_open_approvals", agent=agent)]


def get_approval(view: View, approval_id: int) -> Approval:
    row = view.find("get_approval", id=approval_id)
    if row is None:
        raise NotFoundError(f"there is no approval {approval_id}", "see `hive pending`")
    return to_approval(row)


def _emit(tx: Transaction, name: EventName, approval: Approval) -> None:
    tx.emit(name, approval.agent, {"approval": show_approval(approval).model_dump(mode="json")})
