"""Tokens are read out of answers while they pass, however they are cut into pieces."""

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hyperhive.host.usage import Usage, UsageReader

START = {
    "type": "message_start",
    "message": {
        "model": "claude-x",
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 3,
            "cache_read_input_tokens": 4,
            "output_tokens": 1,
        },
    },
}
DELTA = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 25}}
STREAM = b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in (START, DELTA))
EXPECTED = Usage("claude-x", 10, 25, 3, 4)


@given(st.lists(st.integers(min_value=1, max_value=len(STREAM) - 1), max_size=8))
def test_a_stream_may_be_cut_anywhere(cuts: list[int]) -> None:
    reader = UsageReader()
    edges = [0, *sorted(cuts), len(STREAM)]
    for begin, end in pairwise(edges):
        reader.feed(STREAM[begin:end], streaming=True)
    reader.end(streaming=True)
    assert reader.usage == EXPECTED


def test_a_whole_answer_is_read_too() -> None:
    reader = UsageReader()
    reader.feed(json.dumps({"type": "message", "model": "m", "usage": {"input_tokens": 1}}).encode(), streaming=False)
    reader.end(streaming=False)
    assert reader.usage == Usage("m", 1)


@given(st.binary(max_size=300))
def test_garbage_counts_nothing(piece: bytes) -> None:
    reader = UsageReader()
    reader.feed(b"data: " + piece + b"\n", streaming=True)
    reader.end(streaming=True)
    assert reader.usage.input_tokens >= 0


def test_counts_out_of_range_are_ignored() -> None:
    reader = UsageReader()
    reader.feed(b'data: {"usage": {"input_tokens": -5, "output_tokens": 1e400}}\n', streaming=True)
    assert reader.usage == Usage()
