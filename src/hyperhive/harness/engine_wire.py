"""What the harness and its engine say to each other: JSON-RPC lines over one socket pair."""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from hyperhive.core.policy import PolicyFields
from hyperhive.wire.agent_link import McpServerFields

# -- harness to engine -------------------------------------------------------------------------------------

OPEN = "engine.open"
"""params OpenParams -> {}: starts claude. Refused with `unavailable` if it does not start or does not resume."""
RUN_TURN = "turn.run"
"""params RunTurnParams -> TurnResult; ends with the turn. Refused with `unavailable` if claude ended."""
CANCEL_TURN = "turn.cancel"
"""params {} -> {}: interrupts what claude is doing, if anything."""

# -- engine to harness -------------------------------------------------------------------------------------

CLAUDE_EVENT = "claude.event"
"""A notification {event}: one raw event of the CLI, or an excerpt of it when it is long."""
TOOL_CALL = "tool.call"
"""params {name, arguments} -> ToolResult."""
PERMISSION_ASK = "permission.ask"
"""params PermissionAskParams -> PermissionAnswer: asks the operator. May take as long as the operator has to answer."""


class OpenParams(TypedDict):
    """`resume` is the session to go on with, empty for a new one. `claude` is the CLI, empty for the SDK's own.

    `policy`, `mcp_servers` and `prompt` are those of the agent's config. With `bare` claude has no tools, not the
    hive's either, its session is not kept, and `prompt` is the whole system prompt. With `fork` the session is only
    read, and what follows is one of its own.
    """

    agent: str
    manager: bool
    resume: str
    model: str
    claude: str
    working_folder: str
    policy: PolicyFields
    mcp_servers: Mapping[str, McpServerFields]
    prompt: str
    bare: NotRequired[bool]
    fork: NotRequired[bool]


class RunTurnParams(TypedDict):
    """`model` is the one to run this turn on; empty: claude's default.

    `command` says that the prompt is a command of claude's own, such as /compact, rather than text.
    """

    prompt: str
    model: str
    command: bool


class TurnResult(TypedDict):
    """`result` is claude's `result` event. `api_error` is the error it marked its last answer with, or empty."""

    result: dict[str, Any]
    api_error: str


class PermissionAskParams(TypedDict):
    """`rule` is the rule of the config that wants the question."""

    tool: str
    arguments: dict[str, Any]
    rule: str


class PermissionAnswer(TypedDict):
    """`reason` is for the agent."""

    granted: bool
    reason: str


class ToolResult(TypedDict):
    text: str
    is_error: NotRequired[bool]
