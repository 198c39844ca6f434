"""`hive stats` as a program, and its small charts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli_process import asked, call
from fake_hive import FakeHive, answer_with, refuse_with, run_fake_hive
from hyperhive.cli.stats import render_chart, render_figure
from hyperhive.core.errors import InvalidInputError
from hyperhive.wire.operator.stats import StatsOfAgents, StatsPage

PAGE = StatsPage.model_validate(
    {
        "agent": "alice",
        "from": "2026-03-01T12:00:00Z",
        "step_s": 3600,
        "at": [0, 3600, 7200],
        "series": {"turns": [1, 0, 8], "inbox": [None, 0, 0], "work_tokens": [0, 0, 1_500_000], "cost_usd": [0, 0, 2]},
        "totals": {"turns": 9, "inbox": 0, "work_tokens": 1_500_000, "cost_usd": 2},
        "units": {"turns": "turns", "inbox": "messages", "work_tokens": "tokens", "cost_usd": "USD"},
        "tools": {"Bash": 7, "evil\x1b[2J": 1},
    }
)
AGENTS = StatsOfAgents.model_validate(
    {
        "from": "2026-03-01T12:00:00Z",
        "agents": {"manager": {"turns": 3, "turn_p95_s": 90.5, "cost_usd": None}, "alice": {"turns": 0}},
        "units": {"turns": "turns", "turn_p95_s": "s", "cost_usd": "USD"},
    }
)


@pytest.fixture
def hive(tmp_path: Path) -> Iterator[FakeHive]:
    with run_fake_hive(tmp_path / "data") as fake:
        fake.answers["GET /api/stats"] = answer_with(PAGE.model_dump(mode="json", by_alias=True))
        fake.answers["GET /api/stats/agents"] = answer_with(AGENTS.model_dump(mode="json", by_alias=True))
        yield fake


async def test_the_stats_of_an_agent_are_lines_with_charts(hive: FakeHive) -> None:
    done = await call(hive.data, "stats", "alice", "--since", "3h")
    assert (done.status, done.error_text) == (0, "")
    assert asked(hive) == ["GET /api/stats?since=3h&agent=alice&points=30"]
    head, titles, *lines, tools = done.stdout.decode().splitlines()
    assert head == "alice, since 2026-03-01T12:00:00Z"
    assert titles.split() == ["SERIES", "ALL"]
    assert [line.split() for line in lines] == [
        ["turns", "9", "▂▁█"],
        ["work_tokens", "1.5M", "▁▁█"],
        ["cost_usd", "$2.00", "▁▁█"],
    ]
    assert tools == "tools: Bash 7, evil\\x1b[2J 1"


async def test_without_a_name_it_is_the_hive_and_nothing_is_said_to_be_nothing(hive: FakeHive) -> None:
    empty = PAGE.model_copy(update={"agent": "*", "series": {"turns": [0]}, "totals": {"turns": 0}, "tools": {}})
    hive.answers["GET /api/stats"] = answer_with(empty.model_dump(mode="json", by_alias=True))
    done = await call(hive.data, "stats")
    assert done.stdout.decode().splitlines() == ["the hive, since 2026-03-01T12:00:00Z", "nothing happened"]
    assert asked(hive) == ["GET /api/stats?since=24h&agent=%2A&points=30"]


async def test_agents_are_compared_in_a_table(hive: FakeHive) -> None:
    lines = (await call(hive.data, "stats", "--by-agent")).stdout.decode().splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["NAME", "TURNS"], ["manager", "3"], ["alice", "0"]]
    assert "1.5 min" in lines[2]
    refused = await call(hive.data, "stats", "alice", "--by-agent")
    assert (refused.status, refused.stdout) == (1, b"")


async def test_for_programs_it_is_json(hive: FakeHive) -> None:
    answer = json.loads((await call(hive.data, "stats", "alice", "--json")).stdout)
    assert (answer["series"]["inbox"], answer["totals"]["turns"]) == ([None, 0, 0], 9)
    answer = json.loads((await call(hive.data, "stats", "--by-agent", "--json")).stdout)
    assert answer["agents"]["manager"]["turns"] == 3


async def test_a_refusal_is_shown(hive: FakeHive) -> None:
    hive.answers["GET /api/stats"] = refuse_with(InvalidInputError("since: '9' is no time", "such as 24h"), 400)
    done = await call(hive.data, "stats", "--since", "9")
    assert (done.status, done.error_text) == (1, "hive: since: '9' is no time / hint: such as 24h")


async def test_an_answer_that_is_none_is_a_failure_and_no_traceback(hive: FakeHive) -> None:
    answers: list[Any] = [[], {}, {"series": {"turns": 1}, "totals": {}, "units": {}}]
    for answer in answers:
        hive.answers["GET /api/stats"] = answer_with(answer)
        done = await call(hive.data, "stats")
        assert done.status == 1
        assert "Traceback" not in done.error_text


@pytest.mark.parametrize(
    ("values", "chart"),
    [
        ([], ""),
        ([0, 0, None], "▁▁ "),
        ([0, 1, 1000], "▁▂█"),
        ([None, None], "  "),
        ([5, 5], "██"),
        ([1, 2, 3, 4, 5, 6, 7], "▂▃▄▅▆▇█"),
    ],
)
def test_a_chart_begins_at_nothing_and_never_hides_something(values: list[float | None], chart: str) -> None:
    assert render_chart(values) == chart


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (None, "turns", "-"),
        ("7", "turns", "-"),
        (3.0, "turns", "3"),
        (2.34, "calls/turn", "2.3"),
        (9999, "tokens", "9999"),
        (12_345, "tokens", "12.3k"),
        (2_500_000, "tokens", "2.5M"),
        (2048, "bytes", "2 KiB"),
        (0.4, "s", "0.4 s"),
        (7200, "s", "2.0 h"),
        (1234.5, "USD", "$1,234.50"),
    ],
)
def test_a_figure_is_short(value: float | str | None, unit: str, shown: str) -> None:
    assert render_figure(value, unit) == shown
