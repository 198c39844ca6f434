"""What is remembered of agents: each function is a part of a transaction, with the events that belong to it."""

from hyperhive.core.errors import ConflictError, NotFoundError
from hyperhive.core.events import EventName
from hyperhive.core.names import MANAGER
from hyperhive.core.uids import plan_next_uid
from hyperhive.host.approval_records import fail_pending
from hyperhive.host.hibernation_records import mark_woken
from hyperhive.host.kick import NEEDED, Start, queue_kick
from hyperhive.host.notices import notify_manager
from hyperhive.host.park_records import forget_parks
from hyperhive.host.questions import cancel_between, cancel_notes_questions, cancel_permissions
from hyperhive.host.store.rows import AgentRecord, to_agent
from hyperhive.host.store.store import Transaction, View


def insert_agent(tx: Transaction, name: str, first_uid: int | None) -> AgentRecord:
    """Adds an agent that should run, as part of a larger change. Raises ConflictError if the name is taken.

    Without `first_uid` agents have no uids of their own.
    """
    check_name_is_free(tx, name)
    uid = None if first_uid is None else plan_uid(tx)
    record = to_agent(tx.get("insert_agent", name=name, uid=uid, at=tx.at_ms))
    tx.emit(EventName.AGENT_SPAWNED, name, {})
    return record


def plan_uid(view: View) -> int:
    """A uid with a range that no agent has. Raises ConflictError if there is none left."""
    try:
        return plan_next_uid(view.get("get_highest_uid")["uid"])
    except ValueError as error:
        raise ConflictError("every uid belongs to an agent", "purge the agent that was spawned last") from error


def move_uid(tx: Transaction, name: str, uid: int) -> AgentRecord | None:
    """Gives an agent the uid that was planned for it; None if another agent got that meanwhile."""
    return to_agent(tx.get("set_uid", name=name, uid=uid)) if plan_uid(tx) == uid else None


def check_name_is_free(view: View, name: str) -> None:
    """Raises ConflictError if there is, or was and is kept, an agent of that name."""
    row = view.find("get_agent", name=name)
    if row is not None and row["destroyed_at"] is not None:
        raise ConflictError(
            f"{name} was destroyed and its state is kept", f"hive revive {name}, or hive destroy {name} --purge"
        )
    if row is not None:
        raise ConflictError(f"there is an agent {name!r} already", "choose another name")


def begin_generation(
    tx: Transaction, name: str, commit: str, trying: bool, start: Start = NEEDED, delivered: bool = False
) -> int:
    """Counts a start of the container with `commit`. What the harness before it asked, nobody waits for any more.

    The agent is told of the start if it should be (`kick`); `delivered` says whether it was ever given a message.
    """
    cancel_permissions(tx, name)
    mark_woken(tx, name)
    end_update(tx, name)
    queue_kick(tx, name, start, delivered)
    return int(tx.get("begin_generation", name=name, commit=commit, trying=int(trying))["generation"])


def mark_started(tx: Transaction, name: str, failure: str) -> None:
    tx.list("set_failure", name=name, failure=failure)
    tx.emit(EventName.AGENT_FAILED if failure else EventName.AGENT_STARTED, name, {"reason": failure})


def mark_destroyed(tx: Transaction, name: str) -> None:
    tx.list("mark_destroyed", name=name, at=tx.at_ms)
    fail_pending(tx, name, f"{name} was destroyed")
    cancel_permissions(tx, name)
    cancel_notes_questions(tx, name)
    cancel_between(tx, name, f"{name} was destroyed")
    forget_parks(tx, name)
    tx.emit(EventName.AGENT_DESTROYED, name, {})
    if name != MANAGER:
        notify_manager(tx, "destroyed", agent=name)


def save_deployed(tx: Transaction, name: str, commit: str) -> None:
    """Makes `commit` the deployed config of an agent."""
    tx.list("set_deployed_commit", name=name, commit=commit, at=tx.at_ms)
    tx.emit(EventName.AGENT_CONFIGURED, name, {"commit": commit})


def save_config_error(tx: Transaction, name: str, approval_id: int, failure: str) -> None:
    """Remembers why an approved config failed, for the agent's row, and which one it was."""
    tx.list("set_config_error", name=name, error=f"approval {approval_id} failed: {failure}", approval=approval_id)


def begin_update(tx: Transaction, name: str) -> None:
    """Remembers that an agent is to be built anew: it is handed no message until then, so that its turn ends."""
    if tx.list("set_updating", name=name, updating=1):
        tx.emit(EventName.AGENT_UPDATING, name, {})


def end_update(tx: Transaction, name: str, failure: str = "") -> None:
    """Forgets that again, as its container is about to start, nobody wants it any more, or it failed."""
    if tx.list("set_updating", name=name, updating=0):
        tx.emit(EventName.AGENT_UPDATED, name, {"reason": failure})


def get_any_agent(view: View, name: str) -> AgentRecord:
    row = view.find("get_agent", name=name)
    if row is None:
        raise NotFoundError(f"there is no agent {name!r}", "see `hive ps`")
    return to_agent(row)


def get_agent(view: View, name: str) -> AgentRecord:
    record = get_any_agent(view, name)
    if record.destroyed_at is not None:
        raise NotFoundError(f"the agent {name!r} was destroyed", "its state is kept until it is purged")
    return record
