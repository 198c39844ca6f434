"""What a request for an answer may cost: read from its body before it is sent, and what it did cost. Pure.

The body is written by an agent. What is not understood, or may cost more than its length tells, is reserved with
OUTSIDE_TOKENS: it then runs alone when a budget is near its end, and is never refused for it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from hyperhive.core.budgets import COUNT_LIMIT, Tokens

# What is named in a body and not in it, such as a document at an address: as large as a context can be.
OUTSIDE_TOKENS = 1_000_000
# Above, a body is not looked into: that would hold up everybody else.
PARSE_LIMIT_BYTES = 1024 * 1024
# What the service makes of one picture at most, however few bytes it has.
IMAGE_TOKENS = 5_000
# Faster than any model writes: an answer that broke off is charged by its bytes or by this, whichever is more, as
# thoughts are counted and not always sent.
OUTPUT_TOKENS_PER_S = 200
# For an answer that broke off before the service said how large the request is: text has about four bytes a token.
BYTES_PER_TOKEN = 4
STREAMED_BYTES_PER_TOKEN = 2
_MODEL_CHARS = 200


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """`max_output` is what the body allows for the answer, None if it does not say so soundly.

    `streams`: the answer is to come in pieces, so that it begins at once.
    """

    model: str
    size_bytes: int
    max_output: int | None
    extra_tokens: int = 0
    streams: bool = False

    @property
    def reservation(self) -> Tokens:
        """The most it may cost: no token is shorter than a byte, and all of it may be written to the cache."""
        output = OUTSIDE_TOKENS if self.max_output is None else self.max_output
        return Tokens(cache_write=self.size_bytes + self.extra_tokens, output=output)


@dataclass(frozen=True, slots=True)
class Answered:
    """What is known of an answer once it ended, or broke off.

    `reported` is the usage as far as it was told; `started` says whether the input was, `complete` whether all was.
    """

    reported: Tokens
    started: bool
    complete: bool
    streamed_bytes: int
    elapsed_ms: int


def decide_charge(request: ModelRequest, answered: Answered) -> Tokens:
    """The tokens that an answer is charged with: those reported, or an estimate that hanging up does not make cheap."""
    reported = answered.reported
    if answered.complete:
        return reported
    estimate = max(
        answered.streamed_bytes // STREAMED_BYTES_PER_TOKEN, answered.elapsed_ms * OUTPUT_TOKENS_PER_S // 1000
    )
    if request.max_output is not None:
        estimate = min(estimate, request.max_output)
    output = min(max(estimate, reported.output), COUNT_LIMIT)
    if not answered.started:
        return Tokens(input=request.size_bytes // BYTES_PER_TOKEN, output=output)
    return Tokens(reported.input, output, reported.cache_write, reported.cache_read)


def parse_model_request(body: bytes) -> ModelRequest:
    """What a body asks for. Never fails: what cannot be read is reserved as if it were large."""
    if len(body) > PARSE_LIMIT_BYTES:
        return _unread(body)
    try:
        value: object = json.loads(body, object_pairs_hook=_make_object)
    except (ValueError, RecursionError):
        return _unread(body)
    if not isinstance(value, dict):
        return _unread(body)
    fields = cast("dict[str, Any]", value)
    model, max_output = fields.get("model"), fields.get("max_tokens")
    sane = isinstance(max_output, int) and not isinstance(max_output, bool) and 0 < max_output <= COUNT_LIMIT
    return ModelRequest(
        model=model[:_MODEL_CHARS] if isinstance(model, str) else "",
        size_bytes=len(body),
        max_output=max_output if sane else None,
        extra_tokens=_count_extra(fields),
        streams=fields.get("stream") is True,
    )


def _unread(body: bytes) -> ModelRequest:
    return ModelRequest("", len(body), None, OUTSIDE_TOKENS)


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a key that stands twice, one reader may take the first and another one the last."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _count_extra(fields: dict[str, Any]) -> int:
    """What costs more than its bytes: pictures, and what the service fetches or runs by itself."""
    if fields.get("mcp_servers") or fields.get("container") or _runs_tools(fields.get("tools")):
        return OUTSIDE_TOKENS
    images = 0
    # Tuples, not sets: an agent may write anything there, also what cannot be hashed.
    for block in _walk([fields.get("system"), fields.get("messages")]):
        kind, source = block.get("type"), block.get("source")
        place = cast("dict[str, Any]", source).get("type") if isinstance(source, dict) else None
        if place in ("url", "file") or (kind == "document" and place == "base64") or kind == "container_upload":
            return OUTSIDE_TOKENS
        images += kind == "image"
    return images * IMAGE_TOKENS


def _runs_tools(tools: object) -> bool:
    """Whether there are tools that the service runs by itself, feeding itself with what they return."""
    items = cast("list[object]", tools) if isinstance(tools, list) else []
    kinds = [cast("dict[str, Any]", item).get("type") for item in items if isinstance(item, dict)]
    return any(kind not in (None, "custom") for kind in kinds)


def _walk(value: object) -> Iterable[dict[str, Any]]:
    """All objects in `value`; without recursion, as its depth is an agent's choice."""
    pending: list[object] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            block = cast("dict[str, Any]", item)
            yield block
            pending.extend(block.values())
        elif isinstance(item, list):
            pending.extend(cast("list[object]", item))
