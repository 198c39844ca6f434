"""The stream events of one answer, for a caller that asked for partial messages."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from hyperhive.testing.fake_claude.events import make_uuid
from hyperhive.testing.fake_claude.options import Options

Json = dict[str, Any]


def make_stream_events(
    options: Options, message_id: str, blocks: Sequence[Json], answers: Sequence[Json], usage: Json
) -> list[Json]:
    """The whole answer: each block's deltas, and its `assistant` event before the block stops."""
    return list(_make_events(options, message_id, blocks, answers, usage))


def _make_events(
    options: Options, message_id: str, blocks: Sequence[Json], answers: Sequence[Json], usage: Json
) -> Iterator[Json]:
    def wrap(event_type: str, **fields: Any) -> Json:
        return {
            "type": "stream_event",
            "event": {"type": event_type, **fields},
            "session_id": options.session_id,
            "parent_tool_use_id": None,
            "uuid": make_uuid(),
            "api_message_id": message_id,
        }

    yield wrap("message_start", message={**answers[0]["message"], "content": []})
    for index, (block, answer) in enumerate(zip(blocks, answers, strict=True)):
        empty, delta = _split(block)
        yield wrap("content_block_start", index=index, content_block={**block, **empty})
        yield wrap("content_block_delta", index=index, delta=delta)
        yield answer
        yield wrap("content_block_stop", index=index)
    stop_reason = "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"
    yield wrap("message_delta", delta={"stop_reason": stop_reason, "stop_sequence": None}, usage=usage)
    yield wrap("message_stop")


def _split(block: Json) -> tuple[Json, Json]:
    """The fields that are empty at a block's start, and the one delta that fills them."""
    match block["type"]:
        case "text":
            return {"text": ""}, {"type": "text_delta", "text": block["text"]}
        case "thinking":
            return {"thinking": "", "signature": ""}, {"type": "thinking_delta", "thinking": block["thinking"]}
        case _:
            return {"input": {}}, {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
