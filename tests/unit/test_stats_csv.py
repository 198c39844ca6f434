"""Stats as CSV: figures as they are, and no cell that a spreadsheet would run."""

import csv
import io
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.host.api.stats_csv import render_name, render_series_csv, render_tools_csv, render_usage_csv
from hyperhive.host.stats.answers import Answer
from hyperhive.host.stats.usage import Usage


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def make_answer(tools: dict[str, int] | None = None, inbox: Sequence[float | None] = (1, None, 0)) -> Answer:
    columns = {"turns": (3, 0, 1), "inbox": inbox}
    return Answer(60, (60, 120, 180), columns, {"turns": 4, "inbox": 0}, tools or {})


def test_a_figure_that_is_not_known_is_an_empty_cell_and_not_nothing() -> None:
    assert read(render_series_csv(make_answer(), None, None)) == [
        ["at", "turns", "inbox"],
        ["1970-01-01T00:01:00Z", "3", "1"],
        ["1970-01-01T00:02:00Z", "0", ""],
        ["1970-01-01T00:03:00Z", "1", "0"],
    ]


def test_a_file_of_what_is_zoomed_in_has_those_slots_alone() -> None:
    rows = read(render_series_csv(make_answer(), 100, 120))
    assert [row[0] for row in rows] == ["at", "1970-01-01T00:02:00Z"]


def test_tools_are_ordered_by_their_calls() -> None:
    assert read(render_tools_csv(make_answer({"Read": 1, "Bash": 5}))) == [
        ["tool", "calls"], ["Bash", "5"], ["Read", "1"],
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", " =1+1", "\t=1+1", "\r=1", "\u00a0=1"])
def test_a_name_that_a_spreadsheet_would_run_is_quoted(name: str) -> None:
    rows = read(render_usage_csv("models", {name: Usage(requests=1)}))
    assert not rows[1][0].lstrip().startswith(("=", "+", "-", "@"))
    assert read(render_tools_csv(make_answer({name: 1})))[1][0] == rows[1][0]


@given(st.text())
def test_whatever_a_name_is_its_cell_is_one_and_is_no_formula(name: str) -> None:
    cell = render_name(name)
    assert not cell.lstrip().startswith(("=", "+", "-", "@"))
    assert read(render_usage_csv("models", {name: Usage()}))[1][0] == cell


def test_a_cost_that_is_not_known_is_empty() -> None:
    rows = read(
        render_usage_csv(
            "days",
            {
                "2026-03-01": Usage(requests=1, micro_usd=2500),
                "2026-03-02": Usage(requests=1, unpriced=1),
                "2026-03-03": Usage(),
            },
        )
    )
    assert rows[0][0] == "day"
    assert [row[-1] for row in rows[1:]] == ["0.002500", "", "0.000000"]
