"""Stats as the operator sees them: columns of figures, and what they come to over the whole span."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hyperhive.core.stats import SERIES_BY_KEY, Fold, Series, Slot, Value, show_value
from hyperhive.host.stats.blocks import Window, fold_block


@dataclass(frozen=True, slots=True)
class Answer:
    """`columns` has a figure for each instant of `at_s`, None where it is not known; `totals` one for all of it."""

    step_s: int
    at_s: Sequence[int]
    columns: Mapping[str, Sequence[float | None]]
    totals: Mapping[str, float | None]
    tools: Mapping[str, int]


def find_atoms(series: Iterable[Series]) -> frozenset[str]:
    """What has to be read to show `series`. The tools are always told."""
    return frozenset({"tools"}).union(*(one.sources for one in series))


def render_answer(window: Window, keys: Sequence[str], now_s: int) -> Answer:
    grid = window.grid
    at_s = range(grid.from_s, grid.to_s, grid.step_s)
    # The last slot is not over.
    ends = [min(start + grid.step_s, now_s) for start in at_s]
    total = fold_block(window.columns)
    tools = total.get("tools")
    return Answer(
        step_s=grid.step_s,
        at_s=at_s,
        columns={key: _render_column(key, window, ends) for key in keys},
        totals={key: show_value(key, total, now_s) for key in keys},
        tools=tools if isinstance(tools, dict) else {},
    )


def _render_column(key: str, window: Window, ends: Sequence[int]) -> Sequence[float | None]:
    series = SERIES_BY_KEY[key]
    columns = [window.columns[atom] for atom in series.sources]
    if not series.atoms:
        # Most series are what is stored: nothing is to be computed for each slot.
        nothing = 0 if series.fold is Fold.SUM else None
        return [nothing if value is None else value for value in columns[0]]  # pyright: ignore[reportReturnType]
    return [
        show_value(key, _slot(series, values), end)
        for values, end in zip(zip(*columns, strict=True), ends, strict=True)
    ]


def _slot(series: Series, values: Sequence[Value | None]) -> Slot:
    return {atom: value for atom, value in zip(series.sources, values, strict=True) if value is not None}
