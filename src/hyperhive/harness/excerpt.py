"""Excerpts: values made small and flat enough for one line of a link, still as JSON. Pure."""

import json
import math
from typing import Any, cast

# What of one event is kept: four fit into a line of a link with room for the rest.
BODY_LIMIT_BYTES = 256 * 1024
# Below the depth that `wire.jsonrpc` accepts, with room for what an event is wrapped into.
_DEPTH_LIMIT = 48
_STRING_LIMITS_CHARS = (64 * 1024, 16 * 1024, 4 * 1024, 1024, 128)
_ITEMS_LIMIT = 64


def render_body(body: dict[str, Any]) -> str:
    """`body` as JSON of at most `BODY_LIMIT_BYTES`; what was shortened to fit is marked `"truncated": true`."""
    return json.dumps(plan_excerpt(body), ensure_ascii=False, separators=(",", ":"))


def plan_excerpt(body: dict[str, Any]) -> dict[str, Any]:
    """`body` itself if it is small and flat enough and valid text, or an excerpt of it, marked `truncated`."""
    clean = cast("dict[str, Any]", _clean(body, _DEPTH_LIMIT))
    if _size_bytes(clean) <= BODY_LIMIT_BYTES:
        return clean if clean == body else clean | {"truncated": True}
    for limit_chars in _STRING_LIMITS_CHARS:
        excerpt = cast("dict[str, Any]", _shorten(clean, limit_chars)) | {"truncated": True}
        if _size_bytes(excerpt) <= BODY_LIMIT_BYTES:
            return excerpt
    return {"type": str(body.get("type", ""))[:128], "size_bytes": _size_bytes(clean), "truncated": True}


def _size_bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def _clean(value: Any, depth: int) -> Any:
    """`value` without what a line cannot carry: lone surrogates, infinite numbers, depth over `depth`."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict | list) and depth == 0:
        return "…"
    if isinstance(value, dict):
        entries = cast("dict[str, Any]", value).items()
        return {_clean(str(key), 0): _clean(item, depth - 1) for key, item in entries}
    if isinstance(value, list):
        return [_clean(item, depth - 1) for item in cast("list[Any]", value)]
    return value


def _shorten(value: Any, limit_chars: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= limit_chars else value[:limit_chars] + "…"
    if isinstance(value, dict):
        entries = list(cast("dict[str, Any]", value).items())[: 4 * _ITEMS_LIMIT]
        return {key[:128]: _shorten(item, limit_chars) for key, item in entries}
    if isinstance(value, list):
        return [_shorten(item, limit_chars) for item in cast("list[Any]", value)[:_ITEMS_LIMIT]]
    return value
