"""What is remembered of parks: each function is a part of a transaction, with the events that belong to it."""

from collections.abc import Collection
from datetime import datetime

from hyperhive.core.events import EventName
from hyperhive.core.names import MANAGER
from hyperhive.core.parking import EVERYONE, RESUMABLE, Park, ParkKind, decide_park
from hyperhive.host.notices import notify_manager
from hyperhive.host.store.rows import to_park
from hyperhive.host.store.store import Transaction
from hyperhive.system.clock import to_millis


def park_in(tx: Transaction, agent: str, kind: ParkKind, reason: str, until: datetime | None = None) -> Park | None:
    """Parks an agent, or the hive (EVERYONE), as part of a larger change. The same kind again replaces until, reason.

    The manager is told once, however often `until` is moved. None: there is no such agent (any more).
    """
    row = tx.find("find_park", agent=agent, kind=kind)
    held = None if row is None else to_park(row)
    until_ms = None if until is None else to_millis(until)
    if row is not None and (row["until"], row["reason"]) == (until_ms, reason):
        return held
    if agent != EVERYONE and not _is_there(tx, agent):
        return None
    park = to_park(tx.get("save_park", agent=agent, kind=kind, reason=reason, until=until_ms, at=tx.at_ms))
    tx.emit(EventName.AGENT_PARKED, _concerned(agent), render_parked(park))
    if decide_park([held] if held else [], tx.at) is None:
        _tell_parked(tx, park)
    return park


def release_in(tx: Transaction, agent: str, kinds: Collection[ParkKind] = RESUMABLE) -> list[ParkKind]:
    """Ends these parks of an agent, or of the hive, as part of a larger change. Returns what ended."""
    ended = [to_park(row).kind for kind in sorted(kinds) for row in tx.list("delete_park", agent=agent, kind=kind)]
    _note_ended(tx, agent, ended)
    return ended


def expire_in(tx: Transaction) -> None:
    """Ends all parks whose time has passed."""
    ended: dict[str, list[ParkKind]] = {}
    for row in tx.list("delete_ended_parks", at=tx.at_ms):
        ended.setdefault(row["agent"], []).append(to_park(row).kind)
    for agent, kinds in ended.items():
        _note_ended(tx, agent, kinds)


def forget_parks(tx: Transaction, agent: str) -> None:
    """Of an agent that is destroyed nothing is parked. Its event tells of that, too."""
    tx.list("delete_parks_of", agent=agent)


def render_parked(park: Park) -> dict[str, str | bool]:
    """The body of `agent.parked`."""
    return {
        "kind": park.kind.value,
        "since": park.since.isoformat(),
        "until": _render_until(park),
        "reason": park.reason,
        "hive": park.agent == EVERYONE,
    }


def _note_ended(tx: Transaction, agent: str, kinds: list[ParkKind]) -> None:
    if not kinds:
        return
    names = [kind.value for kind in kinds]
    tx.emit(EventName.AGENT_RESUMED, _concerned(agent), {"kinds": names, "hive": agent == EVERYONE})
    left = [to_park(row) for row in tx.list("list_parks_of", agent=agent)]
    if _is_told_of(agent) and decide_park(left, tx.at) is None:
        notify_manager(tx, "resumed", agent=agent, kinds=", ".join(names))


def _tell_parked(tx: Transaction, park: Park) -> None:
    if not _is_told_of(park.agent):
        return
    until = _render_until(park)
    if park.kind is ParkKind.LOGIN:
        notify_manager(tx, "needs_login", agent=park.agent, reason=park.reason)
    elif park.kind is ParkKind.BUDGET:
        notify_manager(tx, "budget_exhausted", agent=park.agent, until=until, reason=park.reason)
    else:
        notify_manager(tx, "parked", agent=park.agent, kind=park.kind.value, until=until, reason=park.reason)


def _is_told_of(agent: str) -> bool:
    """The manager hears of other agents. What holds the hive holds the manager, too: it would be told afterwards."""
    return agent not in {EVERYONE, MANAGER}


def _is_there(tx: Transaction, agent: str) -> bool:
    row = tx.find("get_agent", name=agent)
    return row is not None and row["destroyed_at"] is None


def _concerned(agent: str) -> str | None:
    return None if agent == EVERYONE else agent


def _render_until(park: Park) -> str:
    return "" if park.until is None else park.until.isoformat()
