"""What of the stats is in the database: minutes of half hours that are not over, and blocks of those that are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from hyperhive.core.stats import Slot, Value
from hyperhive.host.stats.blocks import (
    BLOCK_COMPRESSION,
    DAY_S,
    HALF_HOURS,
    MINUTE_COMPRESSION,
    MINUTES,
    QUARTER_DAYS,
    RESOLUTIONS,
    Columns,
    Grid,
    Resolution,
    Window,
    add_to_columns,
    decode,
    encode,
    fold_block,
    make_columns,
)
from hyperhive.host.store.store import Transaction, View

Minute = dict[str, Slot]
"""What was counted in one minute, by agent."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What a daemon begins with. `known` is what was last known of each agent (see `collector.KEPT_IN_MIND`)."""

    minutes: dict[int, Minute]
    known: dict[str, Slot]
    request_id: int


def save_minutes(tx: Transaction, minutes: Mapping[int, Minute], request_id: int) -> None:
    """Writes whole minutes, in place of what was written of them."""
    for at_s, minute in minutes.items():
        tx.list("save_stats_minute", at=at_s, data=encode(minute, MINUTE_COMPRESSION))
    tx.list("set_stats_cursor", request_id=request_id)


def close_half_hour(tx: Transaction, at_s: int, minutes: Mapping[int, Minute]) -> None:
    """Makes blocks of all the minutes of a half hour.

    There may be some already: a clock that was put back comes through the same half hour again.
    """
    by_agent: dict[str, dict[int, Slot]] = {}
    for minute_s, slots in minutes.items():
        for agent, slot in slots.items():
            by_agent.setdefault(agent, {})[(minute_s - at_s) // MINUTES.step_s] = slot
    for agent, slots in by_agent.items():
        whole = fold_block(make_columns(slots, MINUTES.slots))
        _add_slots(tx, agent, MINUTES, at_s, slots)
        for resolution in (HALF_HOURS, QUARTER_DAYS):
            block_at = resolution.block_at(at_s)
            _add_slots(tx, agent, resolution, block_at, {(at_s - block_at) // resolution.step_s: whole})
    tx.list("delete_stats_minutes", since=at_s, until=at_s + MINUTES.block_s)


def _add_slots(tx: Transaction, agent: str, resolution: Resolution, at_s: int, slots: Mapping[int, Slot]) -> None:
    """Folds slots, by their index, into what is stored of a block."""
    place = {"agent": agent, "step_s": resolution.step_s, "at": at_s}
    row = tx.find("find_stats_block", **place)
    if row is None:
        columns = make_columns(slots, resolution.slots)
    else:
        columns = decode(row["data"])
        for index, slot in slots.items():
            add_to_columns(columns, index, resolution.slots, slot)
    tx.list("save_stats_block", **place, data=encode(columns, BLOCK_COMPRESSION))


def read_blocks(view: View, agent: str, grid: Grid, atoms: frozenset[str]) -> Window:
    """What is stored of the grid's time, at the resolution that it is made of."""
    source = grid.source
    window = Window(grid, atoms)
    found = view.list(
        "list_stats_blocks",
        agent=agent,
        step_s=source.step_s,
        since=source.block_at(grid.from_s),
        until=grid.to_s,
    )
    for row in found:
        window.add_block(row["at"], decode(row["data"]))
    return window


def read_unfinished(view: View, atoms: frozenset[str]) -> Unfinished:
    """What the daemon before this one left. `atoms` are those to be known of each agent."""
    minutes = {row["at"]: cast("Minute", decode(row["data"])) for row in view.list("list_stats_minutes")}
    known: dict[str, Slot] = {}
    for agent in list_agents(view):
        row = view.find("find_newest_stats_block", agent=agent, step_s=HALF_HOURS.step_s)
        columns: Columns = {} if row is None else decode(row["data"])
        known[agent] = {atom: value for atom in atoms if (value := _find_last(columns, atom)) is not None}
    for _, minute in sorted(minutes.items()):
        for agent, slot in minute.items():
            known.setdefault(agent, {}).update({atom: slot[atom] for atom in atoms & slot.keys()})
    return Unfinished(minutes, known, int(view.get("get_stats_cursor")["request_id"]))


def _find_last(columns: Columns, atom: str) -> Value | None:
    return next((value for value in reversed(columns.get(atom, [])) if value is not None), None)


def list_agents(view: View) -> list[str]:
    return [row["agent"] for row in view.list("list_stats_agents")]


def trim(tx: Transaction, agent: str, now_s: int) -> None:
    """Deletes the oldest of what is not to be kept any longer, at most a day (or a block) of each resolution."""
    for resolution in RESOLUTIONS:
        tx.list(
            "trim_stats_blocks",
            agent=agent,
            step_s=resolution.step_s,
            # A block goes when its last slot is too old.
            before=now_s - resolution.kept_s - resolution.block_s,
            step_limit_s=max(DAY_S, resolution.block_s),
        )
