"""What the judge in the container tells of a call that a rule denied: one more event in the agent's transcript."""

from collections.abc import Mapping
from typing import Any

# No type of claude's own has a dot.
DENIED_TYPE = "hive.tool_denied"


def render_denied(tool: str, rule: str) -> dict[str, Any]:
    return {"type": DENIED_TYPE, "tool": tool, "rule": rule}


def parse_denied(event: Mapping[str, Any]) -> tuple[str, str] | None:
    """The tool and the rule; None for any other event. It is the word of the harness, which its agent could write."""
    if event.get("type") != DENIED_TYPE:
        return None
    return str(event.get("tool", "")), str(event.get("rule", ""))
