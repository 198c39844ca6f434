"""How stats are kept: blocks of slots, a column for each atom, as compressed JSON.

The columns have names: a new series needs no migration, and one that is gone is ignored. That it is JSON costs little:
numbers that repeat compress to a byte or two, and the standard library reads a block in some 50 µs.
"""

import json
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from hyperhive.core.stats import Slot, Value, fold_values

Column = list[Value | None]
Columns = dict[str, Column]

DAY_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Resolution:
    """Slots of `step_s`, `slots` of them in a block, kept for `kept_s`."""

    step_s: int
    slots: int
    kept_s: int

    @property
    def block_s(self) -> int:
        return self.step_s * self.slots

    def block_at(self, at_s: int) -> int:
        """The start of the block that `at_s` is in."""
        return at_s - at_s % self.block_s


# A block of minutes is one slot of the next resolution. See docs/reference/stats.md for what they take.
MINUTES = Resolution(60, 30, 7 * DAY_S)
HALF_HOURS = Resolution(1800, 48, 90 * DAY_S)
QUARTER_DAYS = Resolution(6 * 3600, 28, 400 * DAY_S)
RESOLUTIONS = (MINUTES, HALF_HOURS, QUARTER_DAYS)

# What a chart's slot may last: whole multiples of what is stored, and lengths that people know.
_STEPS_S = (60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, DAY_S, 2 * DAY_S, 7 * DAY_S, 28 * DAY_S)


# What is kept is packed well: level 9 is hardly smaller and takes three times as long.
BLOCK_COMPRESSION = 6
# What is kept for half an hour is packed fast.
MINUTE_COMPRESSION = 1


def encode(value: object, compression: int) -> bytes:
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode(), compression)


def decode(data: bytes) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(zlib.decompress(data)))


def make_columns(slots: Mapping[int, Slot], length: int) -> Columns:
    """Slots, by their index, as the columns of a block of `length`."""
    atoms = dict.fromkeys(atom for slot in slots.values() for atom in slot)
    nothing: Slot = {}
    rows = [slots.get(index, nothing) for index in range(length)]
    return {atom: [row.get(atom) for row in rows] for atom in atoms}


def add_to_columns(columns: Columns, index: int, length: int, slot: Mapping[str, Value]) -> None:
    """Folds `slot` into what a block of `length` has at `index`."""
    for atom, value in slot.items():
        column = columns.setdefault(atom, [None] * length)
        earlier = column[index]
        column[index] = value if earlier is None else fold_values(atom, (earlier, value))


def fold_block(columns: Columns) -> Slot:
    """A whole block as one slot."""
    known = {atom: _list_known(column) for atom, column in columns.items()}
    return {atom: fold_values(atom, values) for atom, values in known.items() if values}


def _list_known(column: Column) -> list[Value]:
    return [value for value in column if value is not None]


@dataclass(frozen=True, slots=True)
class Grid:
    """The slots of an answer: `count` of `step_s` from `from_s`, made of those of `source`."""

    from_s: int
    step_s: int
    count: int
    source: Resolution

    @property
    def to_s(self) -> int:
        return self.from_s + self.count * self.step_s


def plan_grid(since_s: int, now_s: int, points: int) -> Grid:
    """The finest slots that are no more than `points` and that are still kept, with both instants within."""
    for step_s in _STEPS_S:
        from_s = since_s - since_s % step_s
        count = (now_s - from_s) // step_s + 1
        source = max((r for r in RESOLUTIONS if step_s % r.step_s == 0), key=lambda r: r.step_s)
        if count <= points and now_s - since_s <= source.kept_s:
            return Grid(from_s, step_s, count, source)
    raise ValueError(f"{points} points are too few")


class Window:
    """Folds blocks and single slots into the slots of a grid, for the atoms that are wanted."""

    def __init__(self, grid: Grid, atoms: Collection[str]) -> None:
        self.grid = grid
        self.columns: Columns = {atom: [None] * grid.count for atom in atoms}

    def add_block(self, at_s: int, columns: Mapping[str, Column]) -> None:
        """A block of the grid's source."""
        grid, step_s = self.grid, self.grid.source.step_s
        first = max(0, -(-(grid.from_s - at_s) // step_s))
        for atom, target in self.columns.items():
            column = columns.get(atom)
            if column is None:
                continue
            if grid.step_s == step_s:
                _copy(column[first:], target, (at_s + first * step_s - grid.from_s) // step_s)
            else:
                self._add_groups(atom, target, at_s + first * step_s, column[first:])

    def _add_groups(self, atom: str, target: Column, at_s: int, column: Column) -> None:
        """Folds those values of a column together that fall into one slot. It begins at `at_s`."""
        step_s = self.grid.source.step_s
        ratio = self.grid.step_s // step_s
        # The first group is as long as what is left of its slot.
        end = ratio - (at_s - self.grid.from_s) // step_s % ratio
        start = 0
        while start < len(column):
            if known := _list_known(column[start:end]):
                self._add(atom, target, at_s + start * step_s, fold_values(atom, known))
            start, end = end, end + ratio

    def add_slots(self, slots: Iterable[tuple[int, Mapping[str, Value]]]) -> None:
        """Slots that are not stored yet, each with its start. To be added after what is stored."""
        for at_s, slot in slots:
            for atom, value in slot.items():
                target = self.columns.get(atom)
                if target is not None and at_s >= self.grid.from_s:
                    self._add(atom, target, at_s, value)

    def _add(self, atom: str, target: Column, at_s: int, value: Value) -> None:
        place = (at_s - self.grid.from_s) // self.grid.step_s
        if place < len(target):
            earlier = target[place]
            target[place] = value if earlier is None else fold_values(atom, (earlier, value))


def _copy(values: Column, target: Column, place: int) -> None:
    """Blocks do not overlap: what is copied over is empty. What is after the end is left out."""
    fitting = values[: max(0, len(target) - place)]
    target[place : place + len(fitting)] = fitting
