"""What desktop clients are shown of our own objects. Pure."""

from urllib.parse import urlsplit

from hyperhive.core.approvals import Approval, ApprovalKind, ApprovalStatus
from hyperhive.core.parking import Park, ParkKind
from hyperhive.core.text import cut_text, render_safe_line, render_safe_text
from hyperhive.core.turns import TurnState
from hyperhive.host.drivers.protocol import ContainerState
from hyperhive.host.roster import Live
from hyperhive.wire import host_sock as wire
from hyperhive.wire.operator.agents import AgentRow

# What clients have on one line.
STATUS_LIMIT_CHARS = 200
MODEL_LIMIT_CHARS = 100
# What clients have in a row's details; the pages show all of it.
TEXT_LIMIT_CHARS = 4000

_KINDS = {ApprovalKind.APPLY: "apply_commit", ApprovalKind.SPAWN: "spawn", ApprovalKind.REVERT: "revert"}
# Of what was approved, clients know no more than that.
_STATUSES = {
    ApprovalStatus.PENDING: "pending",
    ApprovalStatus.APPROVED: "approved",
    ApprovalStatus.BUILDING: "approved",
    ApprovalStatus.DEPLOYED: "approved",
    ApprovalStatus.DENIED: "denied",
    ApprovalStatus.FAILED: "failed",
}


def show_status(row: AgentRow, live: Live, parks: dict[ParkKind, Park], reminders: int, url: str) -> wire.AgentStatus:
    """`parks`: all that hold for the agent; `url` is where the pages are for the operator, "" if that is not known."""
    # One that sleeps is awake at the next message: nobody has to start it.
    running = live.observation.state is ContainerState.RUNNING or row.state == "hibernated"
    turn = None if live.turn is None else live.turn.state
    model = row.model or row.chosen_model
    return wire.AgentStatus(
        name=row.name,
        running=running,
        failed=row.state in {"failed", "crashed"} or ParkKind.FAILING in parks,
        needs_update=bool(row.needs_update),
        needs_login=ParkKind.LOGIN in parks or turn is TurnState.NEEDS_LOGIN or (running and live.login == "none"),
        deployed_sha=row.commit[: wire.SHA_CHARS] or None,
        pending_reminders=reminders,
        paused=ParkKind.PAUSED in parks,
        active_model=cut_text(render_safe_line(model), MODEL_LIMIT_CHARS) or None,
        status_text=_render_status(row) if running else None,
        status_set_at=row.since if running else None,
        url=f"{url}/agent/{row.name}/" if url else None,
    )


def show_approval(approval: Approval) -> wire.Approval:
    return wire.Approval(
        id=approval.id,
        agent=approval.agent,
        kind=_KINDS[approval.kind],
        commit_ref=approval.commit or "",
        fetched_sha=approval.commit,
        requested_at=approval.requested_at,
        status=_STATUSES[approval.status],
        resolved_at=approval.resolved_at,
        note=_render_text(approval.reason),
        description=_render_text(approval.description),
    )


def show_urls(public_url: str | None, origin: str) -> wire.Urls:
    """Where the pages are: at the operator's address for them, or on this machine."""
    if public_url is None:
        return wire.Urls(home=f"{origin}/")
    return wire.Urls(domain=urlsplit(public_url).hostname, home=f"{public_url.rstrip('/')}/")


def _render_status(row: AgentRow) -> str:
    """What the agent is doing, in the hive's word for it, and why."""
    text = f"{row.state}: {row.reason}" if row.reason else row.state
    return cut_text(render_safe_line(text), STATUS_LIMIT_CHARS)


def _render_text(text: str | None) -> str | None:
    return cut_text(render_safe_text(text), TEXT_LIMIT_CHARS) if text else None
