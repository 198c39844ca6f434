"""The rules of stats: how slots fold, what a percentile is worth, what may be asked, and that the page says so."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.stats import (
    HIVE,
    OTHER,
    SERIES,
    SPAN_LIMIT,
    TOOLS_LIMIT,
    Fold,
    Scope,
    Slot,
    Value,
    clean_tool_name,
    estimate_percentile,
    fold_slot,
    keep_most_used,
    name_bucket,
    parse_keys,
    parse_since,
    pick_for_hive,
    show_value,
)
from hyperhive.core.turns import TurnOutcome

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAGE = Path(__file__).parents[2] / "docs/reference/stats.md"

durations = st.lists(st.integers(1, 7 * 24 * 3600 * 1000), min_size=1, max_size=200)
tools = st.dictionaries(st.text("abc", min_size=1, max_size=4), st.integers(1, 1000), max_size=90)


# -- folding -------------------------------------------------------------------------------------------------


def fold(*slots: Mapping[str, Value]) -> Slot:
    whole: Slot = {}
    for slot in slots:
        fold_slot(whole, slot)
    return whole


def test_sums_are_added_levels_replaced_and_heights_compared() -> None:
    first: Slot = {"turns": 2, "inbox": 5, "inbox_max": 5, "last_turn_at": 100, "turn_ms": {"8": 1}}
    then: Slot = {"turns": 1, "inbox": 0, "inbox_max": 3, "last_turn_at": 90, "turn_ms": {"8": 1, "9": 2}}
    assert fold(first, then) == {
        "turns": 3,
        "inbox": 0,
        "inbox_max": 5,
        "last_turn_at": 100,
        "turn_ms": {"8": 2, "9": 2},
    }
    assert first["turn_ms"] == {"8": 1}


@given(st.lists(tools, max_size=8))
def test_tools_beyond_the_limit_are_counted_together_and_none_is_lost(counts: list[dict[str, int]]) -> None:
    whole = fold(*({"tools": keep_most_used(one)} for one in counts if one))
    kept = whole.get("tools", {})
    assert isinstance(kept, dict)
    assert len(kept) <= TOOLS_LIMIT
    assert sum(kept.values()) == sum(sum(one.values()) for one in counts)


def test_the_most_used_tools_keep_their_names() -> None:
    kept = keep_most_used({f"t{n}": n + 1 for n in range(100)} | {OTHER: 7})
    assert "t99" in kept
    assert "t0" not in kept
    assert kept[OTHER] == 7 + sum(n + 1 for n in range(100 - TOOLS_LIMIT + 1))


@pytest.mark.parametrize(
    ("name", "shown"),
    [("mcp__github__search", "mcp__github__search"), ("a\x1b[2Jb\n", "a__2Jb_"), ("", OTHER), ("é" * 100, "_" * 64)],
)
def test_the_name_of_a_tool_is_cleaned_and_cut(name: str, shown: str) -> None:
    assert clean_tool_name(name) == shown


def test_what_an_agent_adds_to_the_hive_are_sums_and_its_last_turn() -> None:
    slot: Slot = {"turns": 1, "micro_usd": 5, "tools": {"Bash": 1}, "inbox": 3, "notes_bytes": 9, "last_turn_at": 7}
    assert pick_for_hive(slot) == {"turns": 1, "micro_usd": 5, "tools": {"Bash": 1}, "last_turn_at": 7}


# -- percentiles ---------------------------------------------------------------------------------------------


@given(durations, st.sampled_from([50, 95]))
def test_a_percentile_is_that_of_the_nearest_rank_within_its_bound(values: list[int], percent: int) -> None:
    buckets: dict[str, int] = {}
    for value in values:
        buckets[name_bucket(value)] = buckets.get(name_bucket(value), 0) + 1
    exact = sorted(values)[math.ceil(len(values) * percent / 100) - 1]
    told = estimate_percentile(buckets, percent)
    assert told is not None
    assert abs(told - exact) / exact <= 0.045


def test_of_no_turn_there_is_no_percentile_and_no_mean() -> None:
    assert estimate_percentile({}, 50) is None
    assert show_value("turn_p95_s", {}, 0) is None
    assert show_value("tools_per_turn", {"tool_calls": 4}, 0) is None


@pytest.mark.parametrize("value", [-5, 0, 1, 2**80])
def test_a_duration_that_cannot_be_has_a_bucket_all_the_same(value: int) -> None:
    assert 0 <= int(name_bucket(value)) < 250


# -- showing -------------------------------------------------------------------------------------------------


def test_a_long_slot_shows_all_that_was_counted_in_it() -> None:
    whole = fold(
        {"turns": 1, "tool_calls": 9, "turn_ms": {name_bucket(1000): 1}},
        {"turns": 2, "turn_ms": {name_bucket(60_000): 2}},
    )
    assert show_value("tools_per_turn", whole, 0) == 3
    assert show_value("turn_p50_s", whole, 0) == pytest.approx(60, rel=0.045)


def test_nothing_counted_is_no_turn_but_an_unknown_level() -> None:
    assert show_value("turns", {}, 0) == 0
    assert show_value("cost_usd", {}, 0) == 0
    assert show_value("inbox", {}, 0) is None
    assert show_value("idle_s", {}, 0) is None


def test_money_is_shown_in_dollars_and_idleness_up_to_the_slots_end() -> None:
    assert show_value("cost_usd", {"micro_usd": 1_250_000}, 0) == 1.25
    assert show_value("idle_s", {"last_turn_at": 100}, 160) == 60
    assert show_value("idle_s", {"last_turn_at": 100}, 90) == 0


# -- asking --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("90m", timedelta(minutes=90)),
        ("24h", timedelta(hours=24)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(days=14)),
        ("2026-03-01T13:00:00+02:00", timedelta(hours=1)),
        ("2026-03-01T11:00:00Z", timedelta(hours=1)),
    ],
)
def test_since_is_a_span_or_an_instant(text: str, ago: timedelta) -> None:
    assert parse_since(text, NOW) == NOW - ago


@pytest.mark.parametrize(
    "text",
    [
        *("", "7", "d", "-7d", "0h", "7 d", "7d ", "\u0667d", "999999w", "yesterday", "2026-02-30"),
        *("2026-03-01T11:00:00", "2027-01-01T00:00:00Z", "2024-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59"),
        *("\x00", f"{SPAN_LIMIT.days + 1}d"),
    ],
)
def test_any_other_since_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(InvalidInputError, match="since") as caught:
        parse_since(text, NOW)
    assert caught.value.message.isprintable()


def test_keys_are_named_in_any_order_once_and_all_by_default() -> None:
    assert parse_keys("inbox, turns,inbox,", HIVE) == ("inbox", "turns")
    assert "approvals" in parse_keys("", HIVE)
    assert "approvals" not in parse_keys("", "alice")
    assert "notes_bytes" not in parse_keys("", HIVE)


def test_an_unknown_key_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_keys("turns,tool_cals", "alice")
    assert "did you mean tool_calls" in caught.value.hint
    with pytest.raises(InvalidInputError, match="of the hive alone"):
        parse_keys("approvals", "alice")


# -- the table -----------------------------------------------------------------------------------------------


def test_every_outcome_of_a_turn_has_a_series() -> None:
    keys = {series.key for series in SERIES}
    assert len(keys) == len(SERIES)
    assert {f"outcome.{outcome}" for outcome in TurnOutcome} <= keys


def test_only_what_can_be_added_up_is_shown_of_agents_and_of_the_hive_alike() -> None:
    hives = {"inbox", "inbox_max", "idle_s"}
    both = {series.key for series in SERIES if series.scope is Scope.BOTH and series.fold in (Fold.LAST, Fold.MAX)}
    assert both == hives


def test_the_page_about_stats_has_every_series_as_the_code_has_it_and_no_other() -> None:
    table = PAGE.read_text().split("## Series")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in table.splitlines() if line.startswith("| `")]
    assert rows == [[f"`{s.key}`", s.unit, s.fold, s.scope, s.meaning] for s in SERIES]


def test_the_page_about_stats_says_how_long_they_are_kept() -> None:
    from_page = re.findall(r"^\| ([0-9]+) (minutes?|hours) \| ([0-9]+) days", PAGE.read_text(), re.MULTILINE)
    assert from_page == [("1", "minute", "7"), ("30", "minutes", "90"), ("6", "hours", "400")]
