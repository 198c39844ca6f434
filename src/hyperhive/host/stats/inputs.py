"""What happens, as slots of stats. A harness is an agent's: what it tells is bounded and cleaned here."""

from collections.abc import Mapping
from itertools import islice
from typing import Any, cast

from hyperhive.core.events import Event, EventName
from hyperhive.core.messages import sender_kind
from hyperhive.core.names import OPERATOR, SYSTEM
from hyperhive.core.stats import (
    DURATION_LIMIT_MS,
    OTHER,
    TOOLS_LIMIT,
    Slot,
    clean_tool_name,
    keep_most_used,
    name_bucket,
)
from hyperhive.core.turns import TurnOutcome

# Of one turn. No claude gets there; one that says so must not drown what the others did.
CALLS_LIMIT = 10_000
_TOKENS_LIMIT = 10**9
_BYTES_LIMIT = 2**40

_OUTCOMES = frozenset(outcome.value for outcome in TurnOutcome)
_UPKEEP = frozenset({"checkpoint", "compact", "notes"})


def read_turn(body: Mapping[str, Any], at_s: int) -> Slot:
    """What a `turn.ended` counts. What is missing or is none of what it should be counts nothing."""
    levels: Slot = {}
    if (notes_bytes := _take_number(body, "notes_bytes", _BYTES_LIMIT)) is not None:
        levels["notes_bytes"] = notes_bytes
    # 0 stands for a context that is not known.
    if context_tokens := _take_number(body, "context_tokens", _TOKENS_LIMIT):
        levels["context_tokens"] = context_tokens
    purpose, outcome = body.get("purpose"), body.get("outcome")
    if isinstance(purpose, str) and purpose in _UPKEEP:
        return levels | {"upkeep_turns": 1}
    tools = _take_tools(body.get("tools"))
    slot = levels | {
        "turns": 1,
        f"outcome.{outcome if isinstance(outcome, str) and outcome in _OUTCOMES else OTHER}": 1,
        "last_turn_at": at_s,
    }
    if (duration_ms := _take_number(body, "duration_ms", DURATION_LIMIT_MS)) is not None:
        slot["turn_ms"] = {name_bucket(duration_ms): 1}
    if tools:
        slot |= {"tools": tools, "tool_calls": sum(tools.values())}
    return slot


def _take_number(body: Mapping[str, Any], key: str, most: int) -> int | None:
    value = body.get(key)
    return min(max(value, 0), most) if isinstance(value, int) and not isinstance(value, bool) else None


def _take_tools(value: object) -> dict[str, int]:
    if not isinstance(value, dict):
        return {}
    counts = cast("dict[str, Any]", value)
    tools: dict[str, int] = {}
    left = CALLS_LIMIT
    for name in islice(counts, 4 * TOOLS_LIMIT):
        calls = _take_number(counts, name, left)
        if calls:
            tools[clean_tool_name(name)] = tools.get(clean_tool_name(name), 0) + calls
            left -= calls
    return keep_most_used(tools)


def list_traffic(event: Event) -> list[tuple[str, str, int]]:
    """What the way of a message counts: for which agent, the atom, and how many."""
    if event.agent is None:
        return []
    if event.name is EventName.MESSAGE_SENT:
        return _list_sent(event.agent, SYSTEM if event.message is None else event.message.sender)
    if event.name is EventName.MESSAGE_ACKED and event.agent != OPERATOR:
        return [(event.agent, "handled", len(event.body["ids"]))]
    return []


def _list_sent(recipient: str, sender: str) -> list[tuple[str, str, int]]:
    found: list[tuple[str, str, int]] = []
    if recipient != OPERATOR:
        found.append((recipient, f"in.{sender_kind(sender)}", 1))
    if sender not in (OPERATOR, SYSTEM):
        found.append((sender, f"out.{sender_kind(recipient)}", 1))
    return found
