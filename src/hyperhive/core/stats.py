"""Stats: the series, what is counted for them, and how short slots of time become longer ones. Pure.

A slot holds *atoms*: whole numbers, or counts by name. Whole, so that adding slots up in any order gives the same. A
series is shown from the atoms of a slot; so a percentile or a ratio of a long slot is that of all turns in it, and
not a mean of means.
"""

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.messages import SenderKind
from hyperhive.core.turns import TurnOutcome

HIVE = "*"
"""The agent whose stats are those of the whole hive."""

Value = int | dict[str, int]
Slot = dict[str, Value]


class Fold(StrEnum):
    """What a series shows of a longer slot: of the figures of the shorter ones, or of all that was counted in it."""

    SUM = "sum"
    MAX = "max"
    LAST = "last"
    MEAN = "mean"
    PERCENTILE = "percentile"


class Scope(StrEnum):
    AGENT = "agent"
    HIVE = "hive"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart. `atoms` are what it is shown from: by default the one of its own name."""

    key: str
    unit: str
    fold: Fold
    scope: Scope
    meaning: str
    atoms: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        return self.atoms or (self.key,)


OTHER = "other"
_KIND_WORDS = {
    SenderKind.OPERATOR: "the operator",
    SenderKind.MANAGER: "the manager",
    SenderKind.SYSTEM: "the hive",
    SenderKind.PEER: "another agent",
}


def _outcome_series() -> list[Series]:
    return [
        Series(f"outcome.{name}", "turns", Fold.SUM, Scope.BOTH, f"Turns that ended as {name}.")
        for name in (*TurnOutcome, OTHER)
    ]


def _message_series() -> list[Series]:
    received = [
        Series(f"in.{kind}", "messages", Fold.SUM, Scope.BOTH, f"Messages queued for it, sent by {words}.")
        for kind, words in _KIND_WORDS.items()
    ]
    sent = [
        Series(f"out.{kind}", "messages", Fold.SUM, Scope.BOTH, f"Messages it sent to {words}.")
        for kind, words in _KIND_WORDS.items()
        if kind is not SenderKind.SYSTEM
    ]
    return [*received, *sent]


SERIES: tuple[Series, ...] = (
    Series("turns", "turns", Fold.SUM, Scope.BOTH, "Turns that ended."),
    Series("upkeep_turns", "turns", Fold.SUM, Scope.BOTH, "Turns for a checkpoint, a compaction, or the notes."),
    Series("turn_p50_s", "s", Fold.PERCENTILE, Scope.BOTH, "Half of the turns took at most this.", ("turn_ms",)),
    Series("turn_p95_s", "s", Fold.PERCENTILE, Scope.BOTH, "95 of 100 turns took at most this.", ("turn_ms",)),
    Series("tool_calls", "calls", Fold.SUM, Scope.BOTH, "Tool calls in the turns that ended."),
    Series(
        "tools_per_turn",
        "calls/turn",
        Fold.MEAN,
        Scope.BOTH,
        "Tool calls of a turn, on average.",
        ("tool_calls", "turns"),
    ),
    *_outcome_series(),
    *_message_series(),
    Series("handled", "messages", Fold.SUM, Scope.BOTH, "Messages acked after a turn."),
    Series("inbox", "messages", Fold.LAST, Scope.BOTH, "Messages waiting in the inbox (hive: all agents')."),
    Series("inbox_max", "messages", Fold.MAX, Scope.BOTH, "The most that were seen waiting."),
    Series("idle_s", "s", Fold.LAST, Scope.BOTH, "Time since the last turn ended.", ("last_turn_at",)),
    Series("notes_bytes", "bytes", Fold.LAST, Scope.AGENT, "Size of the notes, as of the last turn."),
    Series("context_tokens", "tokens", Fold.LAST, Scope.AGENT, "Context of the last inference, as of the last turn."),
    Series(
        "work_tokens", "tokens", Fold.SUM, Scope.BOTH, "What counts against the budget: input, output, cache writes."
    ),
    Series("input_tokens", "tokens", Fold.SUM, Scope.BOTH, "Input, without what the cache had."),
    Series("output_tokens", "tokens", Fold.SUM, Scope.BOTH, "Output."),
    Series("cache_write_tokens", "tokens", Fold.SUM, Scope.BOTH, "Written to the prompt cache."),
    Series("cache_read_tokens", "tokens", Fold.SUM, Scope.BOTH, "Read from the prompt cache."),
    Series("cost_usd", "USD", Fold.SUM, Scope.BOTH, "What the price table makes of that.", ("micro_usd",)),
    Series("model_requests", "requests", Fold.SUM, Scope.BOTH, "Requests to the model service."),
    Series("model_failures", "requests", Fold.SUM, Scope.BOTH, "Of those, answered with an error or not at all."),
    Series("unpriced_requests", "requests", Fold.SUM, Scope.BOTH, "Of those, with tokens that have no price."),
    Series("approvals", "approvals", Fold.LAST, Scope.HIVE, "Approvals that wait for the operator."),
    Series("questions", "questions", Fold.LAST, Scope.HIVE, "Open questions to the operator."),
    Series("operator_inbox", "messages", Fold.LAST, Scope.HIVE, "Unread messages to the operator."),
    Series("agents_online", "agents", Fold.LAST, Scope.HIVE, "Agents whose harness is connected."),
    Series("agents_active", "agents", Fold.LAST, Scope.HIVE, "Agents with a running turn."),
)
SERIES_BY_KEY = {series.key: series for series in SERIES}

# Tool names are an agent's own words: so many are told apart, what was called least is counted as OTHER.
TOOLS_LIMIT = 64
TOOL_NAME_CHARS = 64
_NOT_IN_TOOLS = re.compile(r"[^A-Za-z0-9_.:-]")

# What is added up is added up for the hive, too; so is when the last turn was.
_HIVE_TOO = frozenset(
    {"turn_ms", "tools", "micro_usd", "last_turn_at"}
    | {series.key for series in SERIES if series.fold is Fold.SUM and not series.atoms}
)


def _add_counts(values: Sequence[dict[str, int]]) -> dict[str, int]:
    total = dict(values[0])
    for counts in values[1:]:
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return total


def _add_tools(values: Sequence[dict[str, int]]) -> dict[str, int]:
    return keep_most_used(_add_counts(values))


def _take_last(values: Sequence[Value]) -> Value:
    return values[-1]


# How the values of an atom fold; all others are added. An atom never changes from a number to counts.
_FOLDS: dict[str, Callable[[Any], Value]] = {
    "turn_ms": _add_counts,
    "tools": _add_tools,
    "last_turn_at": max,
    **{series.key: max for series in SERIES if series.fold is Fold.MAX},
    **{series.key: _take_last for series in SERIES if series.fold is Fold.LAST and not series.atoms},
}


def fold_values(atom: str, values: Sequence[Value]) -> Value:
    """Values of an atom, one at least and in their order, as that of the time of all. None of them is changed."""
    return _FOLDS.get(atom, sum)(values)


def fold_slot(into: Slot, later: Mapping[str, Value]) -> None:
    for atom, value in later.items():
        earlier = into.get(atom)
        into[atom] = value if earlier is None else fold_values(atom, (earlier, value))


def pick_for_hive(slot: Mapping[str, Value]) -> Slot:
    """The part of an agent's slot that counts for the whole hive, too."""
    return {atom: value for atom, value in slot.items() if atom in _HIVE_TOO}


def clean_tool_name(name: str) -> str:
    return _NOT_IN_TOOLS.sub("_", name[:TOOL_NAME_CHARS]) or OTHER


def keep_most_used(tools: dict[str, int]) -> dict[str, int]:
    """At most TOOLS_LIMIT of them by name, the others together; nothing is lost of the sum."""
    if len(tools) <= TOOLS_LIMIT:
        return tools
    ranked = sorted((name for name in tools if name != OTHER), key=lambda name: (-tools[name], name))
    kept = {name: tools[name] for name in ranked[: TOOLS_LIMIT - 1]}
    return kept | {OTHER: sum(tools.values()) - sum(kept.values())}


# -- durations ---------------------------------------------------------------------------------------------

# A bucket's upper bound is 2^(1/8), 9 %, above its lower one, and its middle is told: at most 4.5 % off.
_BUCKETS_PER_DOUBLING = 8
DURATION_LIMIT_MS = 7 * 24 * 3600 * 1000


def name_bucket(duration_ms: int) -> str:
    """The bucket of the histogram `turn_ms` that a duration is counted in."""
    within = min(max(duration_ms, 1), DURATION_LIMIT_MS)
    return str(math.floor(_BUCKETS_PER_DOUBLING * math.log2(within)))


def estimate_percentile(buckets: Mapping[str, int], percent: int) -> float | None:
    """The duration, in ms, that `percent` of those counted do not pass (nearest rank). None: none was counted."""
    rank = math.ceil(sum(buckets.values()) * percent / 100)
    for bucket in sorted(buckets, key=int):
        rank -= buckets[bucket]
        if rank <= 0 < buckets[bucket]:
            return 2 ** ((int(bucket) + 0.5) / _BUCKETS_PER_DOUBLING)
    return None


# -- showing -----------------------------------------------------------------------------------------------


def show_value(key: str, values: Mapping[str, Value], end_s: int) -> float | None:
    """What the series `key` shows of a slot that ends, or is looked at, at `end_s`. None: not known."""
    value = values.get(SERIES_BY_KEY[key].sources[0])
    if isinstance(value, dict):
        found = estimate_percentile(value, 95 if key == "turn_p95_s" else 50)
        return None if found is None else round(found / 1000, 3)
    if key == "tools_per_turn":
        turns = values.get("turns")
        return round((value or 0) / turns, 3) if isinstance(turns, int) and turns else None
    if key == "idle_s":
        return None if value is None else max(0, end_s - value)
    if SERIES_BY_KEY[key].fold is Fold.SUM and value is None:
        # Where nothing was counted there was nothing; a level that nobody looked at is not known.
        return 0
    return value / 1_000_000 if key == "cost_usd" and value is not None else value


# -- asking ------------------------------------------------------------------------------------------------

_SPAN = re.compile(r"([0-9]{1,6})(m|h|d|w)")
_SPAN_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
SPAN_LIMIT = timedelta(days=366)


def parse_since(text: str, now: datetime) -> datetime:
    """The instant that `text` means: a span before now such as 90m, 24h, 7d, 2w, or an instant in RFC 3339.

    Raises InvalidInputError for anything else, for the future, and for more than SPAN_LIMIT ago.
    """
    hint = "a span such as 90m, 24h, 7d or 2w, or an instant such as 2026-01-31T12:00:00Z"
    matched = _SPAN.fullmatch(text)
    try:
        since = now - int(matched[1]) * _SPAN_UNITS[matched[2]] if matched else datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(f"since: {text[:80]!r} is no time", hint) from error
    if since.tzinfo is None:
        raise InvalidInputError("since: the instant has no offset from UTC", hint)
    if since >= now:
        raise InvalidInputError("since: that is not in the past", hint)
    if now - since > SPAN_LIMIT:
        raise InvalidInputError(f"since: stats are kept for {SPAN_LIMIT.days} days", hint)
    return since


def parse_keys(text: str, agent: str) -> tuple[str, ...]:
    """The series named in `text`, with commas between; empty: all that `agent` (HIVE: the hive) has.

    Raises InvalidInputError for a series that there is not, or not of this one.
    """
    there = [series.key for series in SERIES if series.scope in (Scope.BOTH, _scope_of(agent))]
    keys = tuple(dict.fromkeys(key for part in text.split(",") if (key := part.strip())))
    for key in keys:
        if key in there:
            continue
        if key in SERIES_BY_KEY:
            raise InvalidInputError(f"keys: {key} is of the {SERIES_BY_KEY[key].scope} alone", _ALL_KEYS)
        close = difflib.get_close_matches(key[:80], there, 1, 0.6)
        hint = f"did you mean {close[0]}? {_ALL_KEYS}" if close else _ALL_KEYS
        raise InvalidInputError(f"keys: there is no series {key[:80]!r}", hint)
    return keys or tuple(there)


_ALL_KEYS = "GET /api/stats/keys lists them"


def _scope_of(agent: str) -> Scope:
    return Scope.HIVE if agent == HIVE else Scope.AGENT
