"""What claude's events tell, on every recording of the real CLI, and on what nobody has recorded."""

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.core.claude_events import ClaudeView, begin_turn, reduce_event

RECORDINGS = Path(__file__).parents[1] / "data" / "claude-events"
SONNET = {"model": "claude-sonnet-4-6", "context_limit": 200_000}
OLDER = {"model": "claude-sonnet-4-5", "context_limit": 200_000}
# Nothing was answered: so nothing is known of the context.
UNANSWERED = {"model": "claude-sonnet-4-6", "session_usd": 0.0}
LIMIT_ENDS_AT = datetime(2026, 11, 20, 13, 16, 30, tzinfo=UTC)

# Recording to what is known at its end, money apart where it is a float of many digits.
EXPECTED: dict[str, dict[str, Any]] = {
    "401": {**UNANSWERED, "api_error": "authentication_failed"},
    "autocompact": {**SONNET, "context_tokens": 22_434, "tools": {"Bash": 3}, "compacted": True},
    "canusetool": {**SONNET, "context_tokens": 23_528, "tools": {"Bash": 2, "AskUserQuestion": 1}},
    "compact": {**SONNET, "context_tokens": 2_666, "compacted": True},
    "ctl-login": {**SONNET, "context_tokens": 22_374, "limit_status": "allowed"},
    "denied-default": {**OLDER, "context_tokens": 22_159, "tools": {"Bash": 1}},
    "hello": {"model": "claude-opus-5-5", "context_tokens": 12_405, "context_limit": 1_000_000},
    "hooks": {**SONNET, "context_tokens": 22_935, "tools": {"Bash": 6}},
    "max-turns": {**SONNET, "context_tokens": 22_124, "tools": {"Bash": 2}},
    "mcp-stdio": {**OLDER, "context_tokens": 22_362, "tools": {"mcp__hyperhive__send": 1, "Bash": 1}},
    "not-logged-in": {**UNANSWERED, "api_error": "authentication_failed"},
    "oauth-401": {**UNANSWERED, "api_error": "authentication_failed"},
    "parallel": {**OLDER, "context_tokens": 22_529, "tools": {"Bash": 3, "mcp__hyperhive__send": 1}},
    "partial": {**SONNET, "context_tokens": 22_150, "tools": {"Bash": 1}},
    "persist": {
        "model": "claude-haiku-4-5",
        "context_tokens": 22_654,
        "context_limit": 200_000,
        "tools": {"mcp__hyperhive__send": 1, "Bash": 2, "mcp__hyperhive__slow": 1},
        "api_error": "authentication_failed",
        "compacted": True,
    },
    "ptl-always": {**UNANSWERED, "api_error": "invalid_request"},
    "ptl-once": {**UNANSWERED, "api_error": "invalid_request"},
    "ratelimit-rejected": {
        **UNANSWERED, "api_error": "rate_limit", "limit_status": "rejected", "limit_ends_at": LIMIT_ENDS_AT,
    },
    "ratelimit-warning": {
        **SONNET, "context_tokens": 22_044, "limit_status": "allowed_warning", "limit_ends_at": LIMIT_ENDS_AT,
    },
}  # fmt: skip


def read_recording(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines()]


def reduce_all(events: list[Any], view: ClaudeView | None = None) -> ClaudeView:
    view = view or ClaudeView()
    for event in events:
        view = reduce_event(view, event)
    return view


def test_every_recording_is_expected() -> None:
    assert set(EXPECTED) == {path.stem for path in RECORDINGS.glob("*.jsonl")}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_recording_leads_to_what_is_known_of_it(name: str) -> None:
    events = read_recording(name)
    untouched = copy.deepcopy(events)
    view = reduce_all(events)
    known = {field: getattr(view, field) for field in ClaudeView.__dataclass_fields__}
    unnamed = {field: value for field, value in known.items() if field not in EXPECTED[name] and value}
    assert {field: known[field] for field in EXPECTED[name]} == EXPECTED[name]
    assert set(unnamed) <= {"session_usd"}
    assert events == untouched


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_recording_in_two_pieces_leads_to_the_same(name: str) -> None:
    events = read_recording(name)
    whole = reduce_all(events)
    for cut in range(len(events)):
        assert reduce_all(events[cut:], reduce_all(events[:cut])) == whole


def test_the_session_costs_what_claude_says_in_all() -> None:
    assert reduce_all(read_recording("compact")).session_usd == 0.406023


def test_a_new_turn_forgets_the_last_one_and_keeps_the_conversation() -> None:
    view = begin_turn(reduce_all(read_recording("persist")))
    assert (view.tools, view.api_error, view.compacted) == ({}, "", False)
    assert (view.model, view.context_tokens, view.context_limit) == ("claude-haiku-4-5", 22_654, 200_000)


def test_a_retry_is_told_until_there_is_an_answer() -> None:
    events = read_recording("401")
    assert reduce_all(events[:3]).retry == "the model service answers 401: retry 2 of 10 in 1 s"
    assert reduce_all(events).retry == ""


def test_claude_is_compacting_between_the_two_events_that_say_so() -> None:
    events = read_recording("autocompact")
    during = [reduce_all(events[:count]).compacting for count in range(len(events) + 1)]
    assert during.count(True) == 1


def test_a_compaction_that_fails_says_why() -> None:
    failed = {"type": "system", "subtype": "status", "status": None, "compact_result": "failed"}
    view = reduce_event(ClaudeView(compacting=True), failed | {"compact_error": "Not enough messages to compact."})
    assert (view.compacting, view.compacted, view.compact_error) == (False, False, "Not enough messages to compact.")


def test_a_sub_agent_has_a_context_of_its_own() -> None:
    usage = {"input_tokens": 5, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 1}
    content = [{"type": "tool_use", "name": "Read"}]
    event = {"type": "assistant", "message": {"model": "m", "usage": usage, "content": content}}
    assert reduce_event(ClaudeView(), event).context_tokens == 13
    inner = reduce_event(ClaudeView(context_tokens=99), event | {"parent_tool_use_id": "toolu_1"})
    assert (inner.context_tokens, inner.tools) == (99, {"Read": 1})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TYPES = st.sampled_from(["system", "assistant", "user", "result", "rate_limit_event", "conversation_reset", "new"])
SUBTYPES = st.sampled_from(["init", "status", "compact_boundary", "api_retry", "new"])
KEYS = st.sampled_from(
    ["message", "model", "usage", "content", "status", "compact_result", "compact_metadata", "rate_limit_info",
     "resetsAt", "error_status", "attempt", "total_cost_usd", "modelUsage", "parent_tool_use_id"]
)  # fmt: skip


def make_event(kind: str, subtype: str, rest: dict[str, Any]) -> dict[str, Any]:
    return {**rest, "type": kind, "subtype": subtype}


FIELDS = st.dictionaries(KEYS, JSON | st.dictionaries(KEYS, JSON, max_size=4), max_size=6)


@given(st.lists(st.builds(make_event, TYPES, SUBTYPES, FIELDS), max_size=6))
def test_no_event_is_an_error(events: list[dict[str, Any]]) -> None:
    view = reduce_all(events)
    assert view.context_tokens >= 0
    assert view.session_usd is None or view.session_usd >= 0


@given(JSON)
def test_what_is_not_known_changes_nothing(body: object) -> None:
    view = ClaudeView(model="m", context_tokens=5)
    assert reduce_event(view, {"type": "news_of_a_later_version", "body": body}) == view
    assert reduce_event(view, {"type": "system", "subtype": "news_of_a_later_version", "body": body}) == view
