"""What a request may cost is read from a body that an adversary wrote; what it did cost, from what was told of it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.core.budgets import COUNT_LIMIT, Tokens
from hyperhive.core.model_requests import (
    IMAGE_TOKENS,
    OUTSIDE_TOKENS,
    PARSE_LIMIT_BYTES,
    Answered,
    ModelRequest,
    decide_charge,
    parse_model_request,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "max_tokens": 10, "messages": [], **fields}).encode()


def message(**block: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [block]}]


def test_a_body_is_reserved_with_its_bytes_and_what_it_allows_for_the_answer() -> None:
    content = body(messages=message(type="text", text="x" * 500))
    request = parse_model_request(content)
    assert (request.model, request.max_output) == ("m", 10)
    assert request.reservation.work == len(content) + 10


@pytest.mark.parametrize("value", [None, 0, -1, 1.5, "10", True, [], COUNT_LIMIT + 1, 10**400])
def test_a_body_that_does_not_bound_its_answer_is_reserved_as_a_large_one(value: Any) -> None:
    request = parse_model_request(body(max_tokens=value))
    assert request.max_output is None
    assert request.reservation.output == OUTSIDE_TOKENS


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"3",
        b"{",
        b"[" * 100_000,
        b'{"model": "m", "max_tokens": ' + b"9" * 5000 + b"}",
        b'{"model": "m", "max_tokens": 100000, "max_tokens": 1}',
        b'{"model": "m", "max_tokens": 100000, "max\\u005ftokens": 1}',
        body(text="x" * PARSE_LIMIT_BYTES),
    ],
)
def test_a_body_that_is_not_understood_is_reserved_as_a_large_one(content: bytes) -> None:
    request = parse_model_request(content)
    assert (request.model, request.max_output) == ("", None)
    assert request.reservation.work >= 2 * OUTSIDE_TOKENS + len(content)


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": message(type="image", source={"type": "url", "url": "https://x"})},
        {"messages": message(type="document", source={"type": "file", "file_id": "f"})},
        {"messages": message(type="document", source={"type": "base64", "data": "JVBERi0="})},
        {"messages": message(type="tool_result", content=[{"type": "document", "source": {"type": "url"}}])},
        {"messages": message(type="container_upload", file_id="f")},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"tools": [{"type": {"odd": 1}}]},
        {"mcp_servers": [{"type": "url", "url": "https://x"}]},
        {"container": "c"},
    ],
)
def test_what_is_fetched_or_run_by_the_service_is_reserved_as_large(fields: dict[str, Any]) -> None:
    request = parse_model_request(body(**fields))
    assert request.extra_tokens == OUTSIDE_TOKENS


def test_a_picture_counts_more_than_its_bytes_and_a_tool_of_the_agent_does_not() -> None:
    picture = {"type": "image", "source": {"type": "base64", "data": "AAAA"}}
    assert parse_model_request(body(messages=message(**picture))).extra_tokens == IMAGE_TOKENS
    assert parse_model_request(body(tools=[{"name": "Bash", "input_schema": {}}])).extra_tokens == 0


@given(st.dictionaries(st.sampled_from(["model", "max_tokens", "tools", "messages", "system", "container"]), JSON))
def test_no_body_is_too_odd_to_be_reserved(fields: dict[str, Any]) -> None:
    content = json.dumps(fields).encode()
    request = parse_model_request(content)
    assert request.reservation.work >= len(content)


# -- charges ----------------------------------------------------------------------------------------------

TOLD = Tokens(input=100, output=7, cache_write=20, cache_read=5000)


def answered(**fields: Any) -> Answered:
    known: dict[str, Any] = {"started": True, "complete": False, "streamed_bytes": 0, "elapsed_ms": 0}
    return Answered(reported=TOLD, **(known | fields))


def test_a_whole_answer_is_charged_as_reported() -> None:
    request = ModelRequest("m", 10_000, 50)
    assert decide_charge(request, answered(complete=True, streamed_bytes=10**6, elapsed_ms=10**6)) == TOLD


def test_one_that_broke_off_is_charged_by_its_bytes_or_its_time_up_to_what_it_could_become() -> None:
    request = ModelRequest("m", 10_000, 400)
    assert decide_charge(request, answered(streamed_bytes=600)) == Tokens(100, 300, 20, 5000)
    assert decide_charge(request, answered(elapsed_ms=1000)).output == 200
    assert decide_charge(request, answered(streamed_bytes=10**9)).output == 400
    assert decide_charge(ModelRequest("m", 10, None), answered(streamed_bytes=10**12)).output == COUNT_LIMIT


def test_one_of_which_nothing_was_told_is_charged_by_the_length_of_the_request() -> None:
    silent = Answered(Tokens(), started=False, complete=False, streamed_bytes=100, elapsed_ms=0)
    assert decide_charge(ModelRequest("m", 4000, 400), silent) == Tokens(input=1000, output=50)


@given(st.integers(0, 10**6), st.integers(1, 10**5), st.integers(0, 10**7), st.integers(0, 10**6), st.booleans())
def test_what_broke_off_never_costs_more_than_was_reserved_nor_less_than_was_told(
    size: int, most: int, streamed: int, elapsed_ms: int, started: bool
) -> None:
    told = Tokens(input=min(100, size), output=min(5, most)) if started else Tokens()
    request = ModelRequest("m", size, most)
    charged = decide_charge(request, Answered(told, started, False, streamed, elapsed_ms))
    assert told.work <= charged.work <= request.reservation.work
