"""What is remembered of hibernation: each function is a part of a transaction, with the events that belong to it.

The flag in the store says it: what is flagged should not run until there is a reason. It is set only while nothing
waits, and taken away by the start itself.
"""

from datetime import datetime

from hyperhive.core.events import EventName
from hyperhive.core.parking import decide_park
from hyperhive.core.questions import QuestionKind
from hyperhive.host.leases import release_leases
from hyperhive.host.store.rows import Desired, to_agent, to_park
from hyperhive.host.store.store import Transaction, View

_GIVEN_BACK = "the container was being stopped"


def has_reason_to_run(tx: View, name: str, at: datetime) -> bool:
    """Whether something waits for an agent that it can be given: what a stopped container has leased waits, too."""
    return int(tx.get("count_unsettled", agent=name)["unsettled"]) > 0 and not _is_parked(tx, name, at)


def mark_hibernated(tx: Transaction, name: str, generation: int) -> bool:
    """Flags the agent, unless something waits for it, or it is at work after all. Returns whether it is flagged now."""
    row = tx.find("get_agent", name=name)
    record = None if row is None else to_agent(row)
    if record is None or record.destroyed_at is not None or record.desired is not Desired.RUNNING:
        return False
    if record.generation != generation or record.hibernated:
        return False
    leased = tx.list("list_leased", recipient=name)
    asked = tx.get("count_open_questions", agent=name, kind=QuestionKind.PERMISSION)["open"]
    if leased or asked or has_reason_to_run(tx, name, tx.at):
        return False
    tx.list("set_hibernated", name=name, hibernated=1)
    tx.emit(EventName.AGENT_HIBERNATED, name, {})
    return True


def mark_woken(tx: Transaction, name: str) -> None:
    """Takes the flag away, if there is one, as the container runs or is about to."""
    if not tx.list("set_hibernated", name=name, hibernated=0):
        return
    tx.emit(EventName.AGENT_WOKEN, name, {})
    # What was handed out while the container was being stopped was never seen: nobody failed at it.
    leased = [row["id"] for row in tx.list("list_leased", recipient=name)]
    release_leases(tx, name, leased, _GIVEN_BACK, failed=False)


def _is_parked(view: View, name: str, at: datetime) -> bool:
    return decide_park(map(to_park, view.list("list_parks_over", agent=name)), at) is not None
