"""Approvals: what waits for the operator, and what may follow what."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from hyperhive.core.errors import ConflictError


class ApprovalKind(StrEnum):
    """`spawn`: a new agent, with `commit` the two-step one. `apply`: a commit of a config. `revert`: the operator's."""

    SPAWN = "spawn"
    APPLY = "apply"
    REVERT = "revert"


class ApprovalStatus(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    BUILDING = "building"
    DEPLOYED = "deployed"
    DENIED = "denied"
    FAILED = "failed"


# What is approved or building is at work: it ends deployed or failed, also after a crash of the daemon in between.
TRANSITIONS: dict[ApprovalStatus, frozenset[ApprovalStatus]] = {
    ApprovalStatus.PENDING: frozenset({ApprovalStatus.APPROVED, ApprovalStatus.DENIED, ApprovalStatus.FAILED}),
    ApprovalStatus.APPROVED: frozenset({ApprovalStatus.BUILDING, ApprovalStatus.FAILED}),
    ApprovalStatus.BUILDING: frozenset({ApprovalStatus.DEPLOYED, ApprovalStatus.FAILED}),
    ApprovalStatus.DEPLOYED: frozenset(),
    ApprovalStatus.DENIED: frozenset(),
    ApprovalStatus.FAILED: frozenset(),
}

AT_WORK = frozenset({ApprovalStatus.APPROVED, ApprovalStatus.BUILDING})


@dataclass(frozen=True, slots=True)
class Approval:
    """One request to the operator. `reason` is the operator's on denial, the error on failure.

    `commit` is the one commit that is applied if this is approved, pinned when it was asked for; `base` is what was
    deployed then; `notes` is the commit of the staged notes of a two-step spawn. All full object names, or None.
    `reverts_to` is the number of the approval whose state a revert brings back.
    """

    id: int
    kind: ApprovalKind
    agent: str
    status: ApprovalStatus
    requested_by: str
    description: str
    requested_at: datetime
    resolved_at: datetime | None = None
    reason: str | None = None
    commit: str | None = None
    base: str | None = None
    notes: str | None = None
    reverts_to: int | None = None


def check_transition(approval: Approval, to: ApprovalStatus) -> None:
    """Raises ConflictError unless `approval` may become `to` now."""
    if to not in TRANSITIONS[approval.status]:
        raise ConflictError(
            f"approval {approval.id} is already {approval.status}",
            "nothing was changed; `hive pending` lists what still waits",
        )
