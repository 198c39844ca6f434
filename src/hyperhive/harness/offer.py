"""What claude has of what the config says that it should have. Pure."""

from collections.abc import Mapping
from typing import Any, cast

from hyperhive.core.text import render_safe_line
from hyperhive.wire.agent_link import HarnessConfig

# claude lists the one tool and asks hooks about the other: they are the same.
_SAME = {"Agent": "Task"}
_STATUS_LIMIT_CHARS = 80


def list_gaps(config: HarnessConfig, init: Mapping[str, Any]) -> list[str]:
    """A line for each MCP server that is not connected and each allowed tool that is not offered.

    `init` is claude's `system/init` event.
    """
    status = {str(server.get("name")): str(server.get("status")) for server in _list_objects(init.get("mcp_servers"))}
    offered = {str(tool) for tool in cast("list[object]", init.get("tools") or [])}
    gaps = [
        f"the MCP server {name} is not connected ({_shorten(status.get(name, 'not started'))}): its tools are missing"
        for name in config["mcp_servers"]
        if status.get(name) != "connected"
    ]
    wanted = [
        f"mcp__{name}__{tool}"
        for name, tools in config["policy"]["mcp_tools"].items()
        for tool in tools
        if not tool.endswith("*") and status.get(name) == "connected"
    ]
    wanted += [tool for tool in config["policy"]["allowed_tools"] if not tool.startswith("mcp__")]
    missing = [tool for tool in dict.fromkeys(wanted) if _SAME.get(tool, tool) not in offered]
    return gaps + [f"the config allows the tool {tool}, which claude does not offer" for tool in missing]


def _list_objects(value: object) -> list[dict[str, Any]]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]


def _shorten(text: str) -> str:
    return render_safe_line(text)[:_STATUS_LIMIT_CHARS]
