"""Approvals: what waits for the operator, and what may follow what."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from hyperhive.core.errors import ConflictError


class ApprovalKind(StrEnum):
    SPAWN = "spawn"


class ApprovalStatus(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    DEPLOYED = "deployed"
    DENIED = "denied"
    FAILED = "failed"


# An approved one is at work: it ends deployed or failed, also after a crash of the daemon in between.
TRANSITIONS: dict[ApprovalStatus, frozenset[ApprovalStatus]] = {
    ApprovalStatus.PENDING: frozenset({ApprovalStatus.APPROVED, ApprovalStatus.DENIED, ApprovalStatus.FAILED}),
    ApprovalStatus.APPROVED: frozenset({ApprovalStatus.DEPLOYED, ApprovalStatus.FAILED}),
    ApprovalStatus.DEPLOYED: frozenset(),
    ApprovalStatus.DENIED: frozenset(),
    ApprovalStatus.FAILED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Approval:
    """One request to the operator. `reason` is the operator's on denial, the error on failure."""

    id: int
    kind: ApprovalKind
    agent: str
    status: ApprovalStatus
    requested_by: str
    description: str
    requested_at: datetime
    resolved_at: datetime | None = None
    reason: str | None = None


def check_transition(approval: Approval, to: ApprovalStatus) -> None:
    """Raises ConflictError unless `approval` may become `to` now."""
    if to not in TRANSITIONS[approval.status]:
        raise ConflictError(
            f"approval {approval.id} is already {approval.status}",
            "nothing was changed; `hive pending` lists what still waits",
        )
