"""What claude's events tell: a pure reducer over the raw events of the CLI, proven on recordings of it.

Only structured fields count. An event that is not known, or has another shape than expected, changes nothing: it
stays in the transcript as it came.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

# What claude writes as the model of an answer that it made up itself, such as an error.
SYNTHETIC_MODEL = "<synthetic>"
_TEXT_LIMIT_CHARS = 200
_TOOLS_LIMIT = 100
# Counts above this are no counts.
_COUNT_LIMIT = 2**53
# The year 6325: well within what a date can be.
_EPOCH_LIMIT_S = 2**37


@dataclass(frozen=True, slots=True)
class ClaudeView:
    """What is known of a claude.

    `context_tokens` is what its last inference had in its context, `context_limit` the model's window, both 0 when not
    known. `session_usd` is what it counts for the conversation. The rest is of the turn: calls of each `tools`, the
    usage `limit_status` (empty, allowed, allowed_warning, rejected) and when that ends, the `retry` it waits for, the
    kind of `api_error` its last answer was marked with, and how a compaction went (`compacting`, `compact_error`,
    empty if it succeeded; `compacted` says whether there was one that did).
    """

    model: str = ""
    context_tokens: int = 0
    context_limit: int = 0
    session_usd: float | None = None
    tools: Mapping[str, int] = field(default_factory=dict[str, int])
    limit_status: str = ""
    limit_ends_at: datetime | None = None
    retry: str = ""
    api_error: str = ""
    compacting: bool = False
    compacted: bool = False
    compact_error: str = ""


def begin_turn(view: ClaudeView) -> ClaudeView:
    """`view` as a turn begins: what was told of the last turn is forgotten, what was told of the conversation stays."""
    return ClaudeView(
        model=view.model,
        context_tokens=view.context_tokens,
        context_limit=view.context_limit,
        session_usd=view.session_usd,
    )


def reduce_event(view: ClaudeView, event: Mapping[str, Any]) -> ClaudeView:
    """`view` after one raw event of claude."""
    match event:
        case {"type": "system", "subtype": str(subtype)}:
            return _reduce_system(view, subtype, event)
        case {"type": "assistant", "message": {**message}}:
            return _reduce_answer(view, event, message)
        case {"type": "rate_limit_event", "rate_limit_info": {"status": str(status), **info}}:
            return replace(view, limit_status=status[:_TEXT_LIMIT_CHARS], limit_ends_at=_read_epoch(info))
        case {"type": "result"}:
            return _reduce_result(view, event)
        case {"type": "conversation_reset"}:
            return replace(view, context_tokens=0, session_usd=None)
        case _:
            return view


def _reduce_system(view: ClaudeView, subtype: str, event: Mapping[str, Any]) -> ClaudeView:
    match subtype, event:
        case "init", {"model": str(model)}:
            return replace(view, model=model[:_TEXT_LIMIT_CHARS])
        case "status", {"status": "compacting"}:
            return replace(view, compacting=True)
        case "status", {"compact_result": str(result)}:
            error = "" if result == "success" else _read_text(event, "compact_error") or result
            return replace(view, compacting=False, compacted=result == "success", compact_error=error)
        case "status", _:
            return replace(view, compacting=False)
        case "compact_boundary", {"compact_metadata": {**metadata}}:
            return replace(view, compacting=False, context_tokens=_read_count(metadata, "post_tokens"))
        case "api_retry", _:
            return replace(view, retry=_render_retry(event))
        case _:
            return view


def _reduce_answer(view: ClaudeView, event: Mapping[str, Any], message: Mapping[str, Any]) -> ClaudeView:
    view = replace(view, retry="", tools=_count_tools(view.tools, message))
    if event.get("parent_tool_use_id") is not None:
        # A sub-agent has a context of its own.
        return view
    view = replace(view, api_error=_read_text(event, "error"))
    model, usage = message.get("model"), message.get("usage")
    if not isinstance(usage, dict) or not isinstance(model, str) or model == SYNTHETIC_MODEL:
        return view
    counts = cast("dict[str, Any]", usage)
    tokens = sum(
        _read_count(counts, key) for key in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    )
    return replace(view, model=model[:_TEXT_LIMIT_CHARS], context_tokens=tokens or view.context_tokens)


def _reduce_result(view: ClaudeView, event: Mapping[str, Any]) -> ClaudeView:
    cost = event.get("total_cost_usd")
    if isinstance(cost, int | float) and not isinstance(cost, bool) and 0 <= cost < _COUNT_LIMIT:
        view = replace(view, session_usd=float(cost))
    usage = event.get("modelUsage")
    models = cast("dict[str, Any]", usage) if isinstance(usage, dict) else {}
    of_model = models.get(view.model)
    limit = _read_count(cast("dict[str, Any]", of_model), "contextWindow") if isinstance(of_model, dict) else 0
    return replace(view, context_limit=limit or view.context_limit, retry="", compacting=False)


def _count_tools(tools: Mapping[str, int], message: Mapping[str, Any]) -> Mapping[str, int]:
    content = message.get("content")
    counted = dict(tools)
    for block in cast("list[object]", content) if isinstance(content, list) else []:
        match block:
            case {"type": "tool_use", "name": str(name)}:
                name = name[:_TEXT_LIMIT_CHARS]
                if name in counted or len(counted) < _TOOLS_LIMIT:
                    counted[name] = counted.get(name, 0) + 1
            case _:
                pass
    return counted


def _render_retry(event: Mapping[str, Any]) -> str:
    attempt, most = _read_count(event, "attempt"), _read_count(event, "max_retries")
    status = event.get("error_status")
    cause = f"answers {status}" if isinstance(status, int) else "cannot be reached"
    delay_s = _read_count(event, "retry_delay_ms") / 1000
    return f"the model service {cause}: retry {attempt} of {most} in {delay_s:.0f} s"


def _read_text(fields: Mapping[str, Any], key: str) -> str:
    value = fields.get(key)
    return value[:_TEXT_LIMIT_CHARS] if isinstance(value, str) else ""


def _read_count(fields: Mapping[str, Any], key: str) -> int:
    value = fields.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _COUNT_LIMIT:
        return 0
    return int(value)


def _read_epoch(info: Mapping[str, Any]) -> datetime | None:
    """When the service says that the limit ends; None if it does not say so."""
    value = info.get("resetsAt")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _EPOCH_LIMIT_S:
        return None
    return datetime.fromtimestamp(value, UTC)
