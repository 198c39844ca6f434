"""What is remembered of budgets: each function is a part of a transaction, with the events that belong to it."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta

from hyperhive.core.budgets import MICRO, Amount, Limit
from hyperhive.core.events import EventName
from hyperhive.core.names import MANAGER
from hyperhive.core.parking import EVERYONE
from hyperhive.host.notices import notify_manager
from hyperhive.host.store.store import Transaction, View
from hyperhive.system.clock import from_millis, to_millis

GRANT_LIFETIME = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Grant:
    """What may be spent on top, until it expires. `agent` is EVERYONE for the hive."""

    agent: str
    amount: Amount
    expires_at: datetime


def load_hive_limit(view: View) -> Limit:
    row = view.find("get_hive_budget")
    return Limit() if row is None else to_limit(row["tokens_per_day"], row["usd_per_day"])


def load_grants(view: View, at: datetime) -> list[Grant]:
    """Those in force at `at`."""
    return [_to_grant(row) for row in view.list("list_grants", at=to_millis(at))]


def save_hive_budget(tx: Transaction, tokens: int | None, usd: float | None) -> None:
    tx.list("save_hive_budget", tokens=tokens, usd=usd)
    tx.emit(EventName.BUDGET_CHANGED, None, {"tokens_per_day": tokens, "usd_per_day": usd})


def insert_grant(tx: Transaction, agent: str, amount: Amount, at: datetime) -> Grant:
    expires_at = at + GRANT_LIFETIME
    row = tx.get(
        "insert_grant",
        agent=agent,
        tokens=amount.tokens,
        usd=to_usd(amount.micro_usd),
        at=to_millis(at),
        expires_at=to_millis(expires_at),
    )
    body = {"tokens": row["tokens"], "usd": row["usd"], "expires_at": expires_at.isoformat()}
    tx.emit(EventName.BUDGET_GRANTED, _concerned(agent), body)
    return _to_grant(row)


def note_warned(tx: Transaction, agent: str, spent: Amount, limit: Limit) -> None:
    """Tells that a budget is nearly spent."""
    usd_limit = None if limit.micro_usd is None else to_usd(limit.micro_usd)
    body = {
        "day_tokens": spent.tokens,
        "budget_tokens": limit.tokens,
        "day_usd": to_usd(spent.micro_usd),
        "budget_usd": usd_limit,
    }
    tx.emit(EventName.BUDGET_WARNED, _concerned(agent), body)
    # What an agent that is destroyed meanwhile has spent still counts, but only for the hive.
    row = None if agent in {EVERYONE, MANAGER} else tx.find("get_agent", name=agent)
    if agent in {EVERYONE, MANAGER} or (row is not None and row["destroyed_at"] is None):
        told = ", ".join(_render_parts(spent, limit))
        notify_manager(tx, "budget_warned", agent=agent, spent=told)


def to_limit(tokens: int | None, usd: float | None) -> Limit:
    return Limit(tokens, None if usd is None else to_micro(usd))


def to_usd(micro_usd: int) -> float:
    return micro_usd / MICRO


def to_micro(usd: float) -> int:
    return round(usd * MICRO)


def _to_grant(row: sqlite3.Row) -> Grant:
    return Grant(row["agent"], Amount(row["tokens"], to_micro(row["usd"])), from_millis(row["expires_at"]))


def _concerned(agent: str) -> str | None:
    return None if agent == EVERYONE else agent


def _render_parts(spent: Amount, limit: Limit) -> list[str]:
    parts: list[str] = []
    if limit.tokens is not None:
        parts.append(f"{spent.tokens:,} of {limit.tokens:,} tokens")
    if limit.micro_usd is not None:
        parts.append(f"${to_usd(spent.micro_usd):,.2f} of ${to_usd(limit.micro_usd):,.2f}")
    return parts
