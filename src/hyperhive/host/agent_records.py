"""What is remembered of agents: each function is a part of a transaction, with the events that belong to it."""

from hyperhive.core.errors import ConflictError, NotFoundError
from hyperhive.core.events import EventName
from hyperhive.core.names import MANAGER
from hyperhive.host.notices import notify_manager
from hyperhive.host.store.rows import AgentRecord, to_agent
from hyperhive.host.store.store import Transaction, View


def insert_agent(tx: Transaction, name: str, first_uid: int | None) -> AgentRecord:
    """Adds an agent that should run, as part of a larger change. Raises ConflictError if the name is taken."""
    row = tx.find("get_agent", name=name)
    if row is not None and row["destroyed_at"] is not None:
        raise ConflictError(f"{name} was destroyed and its state is kept", f"hive destroy {name} --purge removes it")
    if row is not None:
        raise ConflictError(f"there is an agent {name!r} already", "choose another name")
    uid = None if first_uid is None else tx.get("next_uid", first=first_uid)["uid"]
    record = to_agent(tx.get("insert_agent", name=name, uid=uid, at=tx.at_ms))
    tx.emit(EventName.AGENT_SPAWNED, name, {})
    return record


def mark_started(tx: Transaction, name: str, failure: str) -> None:
    tx.list("set_failure", name=name, failure=failure)
    tx.emit(EventName.AGENT_FAILED if failure else EventName.AGENT_STARTED, name, {"reason": failure})


def mark_destroyed(tx: Transaction, name: str) -> None:
    tx.list("mark_destroyed", name=name, at=tx.at_ms)
    tx.emit(EventName.AGENT_DESTROYED, name, {})
    if name != MANAGER:
        notify_manager(tx, "destroyed", agent=name)


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
