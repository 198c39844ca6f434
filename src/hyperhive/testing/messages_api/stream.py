"""An answer in the API's two forms: server-sent events, or one JSON object. Pure."""

import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from hyperhive.testing.messages_api.reply import Reply
from hyperhive.testing.messages_api.request import ParsedRequest
from hyperhive.testing.steps import Block, Text, Thinking, ToolUse

_CHUNK_CHARS = 24
# Any base64 will do: only the service that made a signature can check it.
_SIGNATURE = "c3RhbmRpbg=="

Event = tuple[str, dict[str, Any]]


def make_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"


def render_sse(event: Event) -> bytes:
    name, data = event
    return f"event: {name}\ndata: {json.dumps({'type': name, **data}, ensure_ascii=False)}\n\n".encode()


def render_message(reply: Reply, request: ParsedRequest) -> dict[str, Any]:
    """The whole answer as one object, for a request without `stream`."""
    message = _render_start(reply, request)
    return {
        **message,
        "content": [_render_block(block) for block in reply.blocks],
        "stop_reason": reply.stop_reason,
        "usage": {**message["usage"], "output_tokens": _count_output(reply)},
    }


def render_events(reply: Reply, request: ParsedRequest) -> Iterator[Event]:
    """The events of a streamed answer, in the order the service sends them."""
    start = _render_start(reply, request)
    yield "message_start", {"message": start}
    yield "ping", {}
    for index, block in enumerate(reply.blocks):
        yield from _render_block_events(index, block)
    yield (
        "message_delta",
        {
            "delta": {"stop_reason": reply.stop_reason, "stop_sequence": None},
            "usage": {**start["usage"], "output_tokens": _count_output(reply)},
        },
    )
    yield "message_stop", {}


def render_error(error_type: str, message: str, request_id: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": error_type, "message": message}, "request_id": request_id}


def _render_start(reply: Reply, request: ParsedRequest) -> dict[str, Any]:
    usage = reply.usage
    return {
        "id": make_id("msg"),
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": _pick(usage and usage.input, request.input_tokens),
            "cache_creation_input_tokens": _pick(usage and usage.cache_creation, 0),
            "cache_read_input_tokens": _pick(usage and usage.cache_read, 0),
            "output_tokens": 1,
        },
    }


def _pick(given: int | None, estimate: int) -> int:
    return estimate if given is None else given


def _count_output(reply: Reply) -> int:
    estimate = sum(5 + len(json.dumps(_render_block(block))) // 8 for block in reply.blocks)
    return _pick(reply.usage and reply.usage.output, estimate)


def _render_block(block: Block) -> dict[str, Any]:
    match block:
        case Text():
            return {"type": "text", "text": block.text}
        case Thinking():
            return {"type": "thinking", "thinking": block.text, "signature": _SIGNATURE}
        case ToolUse():
            return {"type": "tool_use", "id": make_id("toolu"), "name": block.name, "input": dict(block.input)}


def _render_block_events(index: int, block: Block) -> Iterator[Event]:
    full = _render_block(block)
    empty, deltas = _split_block(full)
    yield "content_block_start", {"index": index, "content_block": {**full, **empty}}
    for delta in deltas:
        yield "content_block_delta", {"index": index, "delta": delta}
    yield "content_block_stop", {"index": index}


def _split_block(block: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The fields that are empty at a block's start, and the deltas that fill them."""
    match block["type"]:
        case "text":
            return {"text": ""}, [{"type": "text_delta", "text": part} for part in _split(block["text"])]
        case "thinking":
            thoughts = [{"type": "thinking_delta", "thinking": part} for part in _split(block["thinking"])]
            return {"thinking": "", "signature": ""}, [
                *thoughts,
                {"type": "signature_delta", "signature": block["signature"]},
            ]
        case _:
            parts = _split(json.dumps(block["input"], ensure_ascii=False))
            return {"input": {}}, [{"type": "input_json_delta", "partial_json": part} for part in parts]


def _split(text: str) -> list[str]:
    return [text[at : at + _CHUNK_CHARS] for at in range(0, len(text), _CHUNK_CHARS)]
