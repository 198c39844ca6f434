"""Reads model and tokens out of an answer of the Messages API while it passes by."""

import json
from dataclasses import dataclass, replace
from typing import Any, cast

from hyperhive.core.budgets import COUNT_LIMIT, Tokens

# A line of the stream or a whole answer above this is passed on unread: its tokens are not known then.
READ_LIMIT_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request, as the service reported them."""

    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_tokens: int = 0
    cache_read_tokens: int = 0

    def to_tokens(self) -> Tokens:
        return Tokens(self.input_tokens, self.output_tokens, self.cache_creation_tokens, self.cache_read_tokens)


class UsageReader:
    """Fed with the pieces of one answer, streamed (SSE) or whole (JSON). `usage` is what is known so far.

    `started` says whether what goes in was told, `complete` whether all was: an answer that broke off is not.
    """

    def __init__(self) -> None:
        self.usage = Usage()
        self.started = False
        self.complete = False
        self.streamed_bytes = 0
        self._rest = bytearray()

    def feed(self, piece: bytes, streaming: bool) -> None:
        self.streamed_bytes += len(piece)
        self._rest += piece
        if streaming:
            *lines, rest = self._rest.split(b"\n")
            self._rest = bytearray(rest)
            for line in lines:
                if line.startswith(b"data:"):
                    self._take(bytes(line[5:]))
        if len(self._rest) > READ_LIMIT_BYTES:
            self._rest.clear()

    def end(self, streaming: bool) -> None:
        if not streaming:
            self._take(bytes(self._rest))
        self._rest.clear()

    def _take(self, data: bytes) -> None:
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            return
        if not isinstance(event, dict):
            return
        # message_start carries the message, message_delta the usage so far; a whole answer is the message itself.
        message: Any = event.get("message", event)  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        if isinstance(message, dict):
            self.usage = _merge(self.usage, message)  # pyright: ignore[reportUnknownArgumentType]
            self._follow(cast("dict[str, Any]", event), cast("dict[str, Any]", message).get("usage"))

    def _follow(self, event: dict[str, Any], reported: Any) -> None:
        counts = cast("dict[str, Any]", reported) if isinstance(reported, dict) else {}
        self.started = self.started or _is_count(counts.get("input_tokens"))
        # The last of a stream's deltas says why the answer ends, and a whole answer is a message.
        delta = event.get("delta")
        ends = isinstance(delta, dict) and isinstance(cast("dict[str, Any]", delta).get("stop_reason"), str)
        if event.get("type") == "message" or (event.get("type") == "message_delta" and ends):
            self.complete = self.started and _is_count(counts.get("output_tokens"))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= COUNT_LIMIT


def _merge(usage: Usage, message: dict[str, Any]) -> Usage:
    reported = message.get("usage")
    if isinstance(message.get("model"), str):
        usage = replace(usage, model=message["model"])
    if not isinstance(reported, dict):
        return usage
    counts = cast("dict[str, Any]", reported)

    def count(key: str, known: int) -> int:
        value = counts.get(key)
        return value if isinstance(value, int) and _is_count(value) else known

    return replace(
        usage,
        input_tokens=count("input_tokens", usage.input_tokens),
        output_tokens=count("output_tokens", usage.output_tokens),
        cache_creation_tokens=count("cache_creation_input_tokens", usage.cache_creation_tokens),
        cache_read_tokens=count("cache_read_input_tokens", usage.cache_read_tokens),
    )
