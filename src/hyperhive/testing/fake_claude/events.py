"""The events of the protocol, in the shape the real program was recorded with. Pure but for the ids and the clock."""

import os
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hyperhive.testing.fake_claude.options import VERSION, Options
from hyperhive.testing.steps import ERROR_TYPES, RateLimit

Json = dict[str, Any]

BUILTIN_TOOLS = ("Task", "Bash", "Edit", "Read", "Skill", "ToolSearch", "WebFetch", "Write")
_PRICE_INPUT_USD, _PRICE_OUTPUT_USD = 3e-6, 15e-6

# How the real program names an API error's class in its own events.
_ERROR_NAMES = {400: "invalid_request", 401: "authentication_failed", 403: "authentication_failed", 429: "rate_limit"}


def make_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex[:22]}"


def make_uuid() -> str:
    return str(uuid.uuid4())


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def error_name(status: int) -> str:
    return _ERROR_NAMES.get(status, "server_error")


def system_event(options: Options, subtype: str, **fields: Any) -> Json:
    return {
        "type": "system",
        "subtype": subtype,
        **fields,
        "session_id": options.session_id,
        "uuid": make_uuid(),
    }


def init_event(options: Options, tools: Sequence[str], servers: Mapping[str, str]) -> Json:
    """`system/init`, with which every turn starts."""
    cwd = os.fspath(Path.cwd())
    return system_event(
        options,
        "init",
        cwd=cwd,
        tools=[*BUILTIN_TOOLS, *tools],
        mcp_servers=[{"name": name, "status": status} for name, status in servers.items()],
        model=options.model,
        permissionMode=options.permission_mode,
        slash_commands=["clear", "compact", "context", "model"],
        terminal_slash_commands=[],
        apiKeySource="none",
        claude_code_version=VERSION,
        output_style="default",
        agents=[],
        skills=[],
        plugins=[],
        capabilities=["interrupt_receipt_v1"],
        analytics_disabled=True,
        product_feedback_disabled=True,
        served_by_anthropic=False,
        memory_paths={},
        original_cwd=cwd,
        additional_directories=[],
        messaging_socket_path="",
        fast_mode_state="off",
        fast_mode_disabled_reason="sdk_opt_in_required",
        per_turn_effort_active=True,
        ultrathink_available=False,
        ultrathink_typed_raises=False,
        view_mode="default",
    )


def assistant_event(options: Options, message_id: str, block: Json, usage: Json) -> Json:
    """One block of an answer; the blocks of one answer share `message_id`."""
    event: Json = {
        "type": "assistant",
        "message": {
            "id": message_id,
            "type": "message",
            "role": "assistant",
            "model": options.model,
            "content": [block],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {**usage, "output_tokens": 1},
            "context_management": None,
        },
        "parent_tool_use_id": None,
        "session_id": options.session_id,
        "uuid": make_uuid(),
        "timestamp": now(),
        "request_id": make_id("req"),
    }
    if str(block.get("name", "")).startswith("mcp__"):
        _, server, tool = block["name"].split("__", 2)
        names = {"display_name": tool.capitalize(), "server_display_name": server, "tool_name": tool}
        event["tool_use_meta"] = [{"id": block["id"], **names}]
    return event


def api_error_event(options: Options, status: int, text: str) -> Json:
    """The answer that the program makes up itself when the service refused."""
    usage: Json = {**token_usage(0, 0), "output_tokens_details": None, **_usage_extras(None)}
    return {
        "type": "assistant",
        "message": {
            "diagnostics": None,
            "id": make_uuid(),
            "container": None,
            "model": "<synthetic>",
            "role": "assistant",
            "stop_details": None,
            "stop_reason": "stop_sequence",
            "stop_sequence": "",
            "type": "message",
            "usage": usage,
            "content": [{"type": "text", "text": text}],
            "context_management": None,
        },
        "parent_tool_use_id": None,
        "session_id": options.session_id,
        "uuid": make_uuid(),
        "timestamp": now(),
        "error": error_name(status),
        "request_id": make_id("req"),
        "is_api_error_message": True,
        "api_error_status": status,
        "api_error_type": ERROR_TYPES.get(status, ("api_error", ""))[0],
    }


def user_event(options: Options, content: Any, **fields: Any) -> Json:
    return {
        "type": "user",
        "message": {"role": "user", "content": content},
        "parent_tool_use_id": None,
        "session_id": options.session_id,
        "uuid": make_uuid(),
        "timestamp": now(),
        **fields,
    }


def tool_result_event(options: Options, block: Json, detail: Any, decision: Json) -> Json:
    """What a tool returned. `detail` is the program's own view of it, `decision` why the tool was let through."""
    meta = [{"id": block["tool_use_id"], **decision}]
    return user_event(options, [{"type": "tool_result", **block}], tool_use_result=detail, tool_result_meta=meta)


def rate_limit_event(options: Options, limit: RateLimit) -> Json:
    return {
        "type": "rate_limit_event",
        "rate_limit_info": rate_limit_info(limit),
        "uuid": make_uuid(),
        "session_id": options.session_id,
    }


def rate_limit_info(limit: RateLimit) -> Json:
    return {
        "status": limit.status,
        "resetsAt": limit.resets_at,
        "rateLimitType": "five_hour",
        "isUsingOverage": False,
    }


def token_usage(input_tokens: int, output_tokens: int, cache_read: int = 0, cache_creation: int = 0) -> Json:
    return {
        "input_tokens": input_tokens,
        "cache_creation_input_tokens": cache_creation,
        "cache_read_input_tokens": cache_read,
        "output_tokens": output_tokens,
    }


def _usage_extras(tier: str | None) -> Json:
    return {
        "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
        "service_tier": tier,
        "cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 0},
        "inference_geo": "" if tier else None,
        "iterations": [] if tier else None,
        "speed": tier,
        "fallback_credit": None,
    }


def result_usage(usage: Json) -> Json:
    return {**usage, "output_tokens_details": {"thinking_tokens": 0}, **_usage_extras("standard")}


def model_usage(usage: Json) -> Json:
    return {
        "inputTokens": usage["input_tokens"],
        "outputTokens": usage["output_tokens"],
        "cacheReadInputTokens": usage["cache_read_input_tokens"],
        "cacheCreationInputTokens": usage["cache_creation_input_tokens"],
        "webSearchRequests": 0,
        "costUSD": usage["input_tokens"] * _PRICE_INPUT_USD + usage["output_tokens"] * _PRICE_OUTPUT_USD,
        "contextWindow": 200_000,
        "maxOutputTokens": 32_000,
        "thinkingTokens": 0,
        "cacheCreationEphemeral5mInputTokens": 0,
        "cacheCreationEphemeral1hInputTokens": 0,
        "canonicalModel": "claude-fake",
        "provider": "firstParty",
        "costBasis": "list",
    }
