"""The command that claude is started with. Light: nothing of claude-agent-sdk is imported for it.

It is what the SDK would start for the same options, and a test compares the two: so claude can begin to start while
the engine still imports the SDK, which takes as long. Nothing of the working folder is obeyed: no settings, hooks or
servers.
"""

import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from hyperhive.core.policy import parse_policy
from hyperhive.core.tool_rules import render_claude_rules
from hyperhive.harness.engine_wire import OpenParams
from hyperhive.harness.fences import DISALLOWED_TOOLS, Fences, plan_fences
from hyperhive.harness.login import find_bundled_claude
from hyperhive.harness.prompt import render_system_prompt
from hyperhive.wire.tools import SERVER_NAME

ENVIRONMENT = {
    # The hive's tools are few and always needed: not hidden behind a search.
    "ENABLE_TOOL_SEARCH": "false",
    "DISABLE_AUTOUPDATER": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    # The container confines claude; as the container's uid 0 it would refuse to run unasked otherwise.
    "IS_SANDBOX": "1",
    # Otherwise messages of over 25,000 tokens together would not come through `recv`.
    "MAX_MCP_OUTPUT_TOKENS": "250000",
}
# They tell claude that it runs inside another one, and whose.
_OF_ANOTHER_CLAUDE = frozenset({"CLAUDECODE", "CLAUDE_AGENT_SDK_DERIVED_CLIENT_APP"})
_READS_STATE = "CLAUDE_CODE_SDK_READS_SESSION_STATE"


def plan_argv(params: OpenParams) -> list[str]:
    """The CLI and its arguments. Raises UnavailableError if there is no CLI, InvalidInputError for a bad policy."""
    fences = _plan_fences(params)
    argv = [params["claude"] or str(find_bundled_claude()), "--output-format", "stream-json", "--verbose"]
    argv += _plan_prompt(params)
    if fences.tools is not None:
        argv += ["--tools", ",".join(fences.tools)]
    argv += ["--disallowedTools", ",".join(fences.disallowed_tools)]
    if params["model"]:
        argv += ["--model", params["model"]]
    if fences.judged:
        # claude asks over its standard output, and the SDK answers.
        argv += ["--permission-prompt-tool", "stdio"]
    argv += ["--permission-mode", fences.permission_mode]
    if params["resume"]:
        argv += [f"--resume={params['resume']}"]
    if not is_bare(params):
        argv += ["--mcp-config", json.dumps({"mcpServers": _plan_servers(params)})]
    argv += ["--strict-mcp-config"]
    if params.get("fork", False):
        argv += ["--fork-session"]
    argv += ["--setting-sources="]
    if is_bare(params):
        argv += ["--no-session-persistence"]
    return [*argv, "--input-format", "stream-json"]


def plan_environment(inherited: Mapping[str, str], working_folder: str) -> dict[str, str]:
    """All that claude finds in its environment."""
    kept = {name: value for name, value in inherited.items() if name not in _OF_ANOTHER_CLAUDE}
    return {
        _READS_STATE: "1",
        **kept,
        "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
        **ENVIRONMENT,
        "CLAUDE_AGENT_SDK_VERSION": version("claude-agent-sdk"),
        "PWD": working_folder,
    }


def is_bare(params: OpenParams) -> bool:
    """Whether it is a claude that can only answer."""
    return params.get("bare", False)


def is_judged(params: OpenParams) -> bool:
    """Whether claude has to ask about every tool call."""
    return _plan_fences(params).judged


def _plan_fences(params: OpenParams) -> Fences:
    if is_bare(params):
        # Should it call a tool all the same, the judge denies that by the policy.
        return Fences(True, "default", [], list(DISALLOWED_TOOLS))
    policy = parse_policy(params["policy"])
    _, denied = render_claude_rules(policy)
    return plan_fences(policy, denied)


def _plan_prompt(params: OpenParams) -> list[str]:
    if is_bare(params):
        return ["--system-prompt", params["prompt"]]
    return ["--append-system-prompt", render_system_prompt(params["agent"], params["manager"], params["prompt"])]


def _plan_servers(params: OpenParams) -> dict[str, Any]:
    return {
        **{
            name: {
                "type": "stdio",
                "command": server["command"],
                "args": list(server["args"]),
                "env": dict(server["env"]),
            }
            for name, server in params["mcp_servers"].items()
        },
        # Last, so that nothing of the config can stand in its place.
        SERVER_NAME: {"type": "sdk", "name": SERVER_NAME},
    }
