"""The slash commands the harness uses. `/compact` is told as the real program tells it; others only end."""

import time
from typing import Any

from hyperhive.testing.fake_claude import events
from hyperhive.testing.fake_claude.turn import Parts

Json = dict[str, Any]

_POST_TOKENS = 2_700


def run_command(parts: Parts, prompt: str) -> None:
    """Runs one command: its events, and a `result` that names it and counts no turn."""
    started = time.monotonic()
    command = prompt.removeprefix("/").split()[0] if len(prompt.split()[0]) > 1 else ""
    parts.ledger.start_turn()
    if command == "compact":
        _compact(parts)
    else:
        parts.channel.emit(events.init_event(parts.options, parts.servers.tools, parts.servers.status))
    duration_ms = int((time.monotonic() - started) * 1000)
    parts.channel.emit(
        parts.ledger.make_result(
            parts.options,
            duration_ms,
            subtype="success",
            is_error=False,
            result="",
            num_turns=0,
            stop_reason=None,
            local_command=command,
        )
    )


def _compact(parts: Parts) -> None:
    options, emit = parts.options, parts.channel.emit
    before, last = parts.ledger.context_tokens, events.make_uuid()
    parts.ledger.context_tokens = _POST_TOKENS
    emit(events.system_event(options, "status", status="compacting"))
    emit(events.system_event(options, "status", status=None, compact_result="success"))
    emit(events.init_event(options, parts.servers.tools, parts.servers.status))
    metadata: Json = {
        "trigger": "manual",
        "pre_tokens": before,
        "post_tokens": _POST_TOKENS,
        "cumulative_dropped_tokens": max(0, before - _POST_TOKENS),
        "duration_ms": 0,
        "preserved_segment": {"head_uuid": last, "anchor_uuid": last, "tail_uuid": last},
        "preserved_messages": {"anchor_uuid": last, "uuids": [last], "all_uuids": [last]},
    }
    emit(events.system_event(options, "compact_boundary", compact_metadata=metadata, logical_parent_uuid=last))
    summary = "This session is being continued from a previous conversation that ran out of context."
    emit(events.user_event(options, summary, isReplay=False, isSynthetic=True))
    text = "<local-command-stdout>Compacted </local-command-stdout>"
    emit(events.user_event(options, text, isReplay=True))
