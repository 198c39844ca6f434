"""The engine starts claude itself, before the SDK is there to do it: with the very command that the SDK would."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ClaudeSDKError, create_sdk_mcp_server

from hyperhive.core.policy import Policy, render_policy
from hyperhive.core.tool_rules import render_claude_rules
from hyperhive.harness.claude_command import ENVIRONMENT
from hyperhive.harness.claude_process import ClaudeProcess
from hyperhive.harness.engine_wire import OpenParams
from hyperhive.harness.fences import DISALLOWED_TOOLS, plan_fences
from hyperhive.harness.prompt import render_system_prompt
from hyperhive.wire.agent_link import McpServerFields
from hyperhive.wire.tools import SERVER_NAME

# A claude that writes down how it was started, and fails.
TELLER = """#!{python} -IS
import json, os, sys
with open({file!r}, "w") as file:
    json.dump([sys.argv[1:], dict(os.environ), os.getcwd()], file)
sys.exit(3)
"""
RULED = Policy(
    allowed_tools=("Bash", "Read", "mcp__notes__add"),
    bash_deny=("rm *", "touch *"),
    ask=("Read",),
    mcp_tools={"notes": ("add",), "none": ()},
)
SERVERS: dict[str, McpServerFields] = {
    "notes": {"command": "notes", "args": ["--file", "x y"], "env": {"A": "ä"}},
}
CASES: dict[str, tuple[Policy, Mapping[str, Any]]] = {
    "a plain agent": (Policy(), {}),
    "a manager that goes on": (Policy(), {"manager": True, "resume": "a4d5bee6-b90a-4763-aa53-6d6c4149ae19"}),
    "a copy that goes its own way": (Policy(), {"resume": "a4d5bee6-b90a-4763-aa53-6d6c4149ae19", "fork": True}),
    "rules and servers": (RULED, {"model": "opus", "prompt": "-- do\n'this'", "mcp_servers": SERVERS}),
    "only its hive's tools": (Policy(allowed_tools=("mcp__hyperhive__send",)), {}),
    "one that can only answer": (
        Policy(allowed_tools=("none",)),
        {"bare": True, "prompt": "Only answer.", "model": "haiku"},
    ),
}


@pytest.fixture
def told(tmp_path: Path) -> Path:
    return tmp_path / "told.json"


@pytest.fixture
def teller(tmp_path: Path, told: Path) -> Path:
    program = tmp_path / "claude"
    program.write_text(TELLER.format(python=sys.executable, file=str(told)))
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("case", CASES)
async def test_claude_is_started_as_the_sdk_would_start_it(case: str, teller: Path, told: Path, tmp_path: Path) -> None:
    policy, more = CASES[case]
    params = _plan_params(policy, teller, tmp_path, more)

    process = await ClaudeProcess.start(params)
    assert await process.wait() == 3
    await process.close()
    ours = json.loads(told.read_text())
    told.unlink()
    # Which of the two it meets first: that it has ended, or that it no longer reads.
    with pytest.raises(ClaudeSDKError, match=r"exit code: 3|Failed to write to process stdin"):
        await ClaudeSDKClient(_plan_options(params, policy)).connect()
    theirs = json.loads(told.read_text())

    assert ours == theirs


def _plan_params(policy: Policy, claude: Path, folder: Path, more: Mapping[str, Any]) -> OpenParams:
    params = OpenParams(
        agent="alice",
        manager=False,
        resume="",
        model="",
        claude=str(claude),
        working_folder=str(folder),
        policy=render_policy(policy),
        mcp_servers={},
        prompt="",
    )
    return cast("OpenParams", {**params, **more})


def _plan_options(params: OpenParams, policy: Policy) -> ClaudeAgentOptions:
    """How the SDK is told the same."""
    if params.get("bare"):
        return ClaudeAgentOptions(
            system_prompt=params["prompt"],
            permission_mode="default",
            tools=[],
            disallowed_tools=list(DISALLOWED_TOOLS),
            can_use_tool=_never,
            setting_sources=[],
            strict_mcp_config=True,
            verbatim_prompts=True,
            model=params["model"],
            cli_path=params["claude"],
            cwd=params["working_folder"],
            env=ENVIRONMENT,
            extra_args={"no-session-persistence": None},
        )
    fences = plan_fences(policy, render_claude_rules(policy)[1])
    servers: dict[str, Any] = {
        name: {"type": "stdio", "command": server["command"], "args": server["args"], "env": server["env"]}
        for name, server in params["mcp_servers"].items()
    }
    return ClaudeAgentOptions(
        system_prompt={
            "type": "preset",
            "preset": "claude_code",
            "append": render_system_prompt(params["agent"], params["manager"], params["prompt"]),
            "snapshot": False,
        },
        permission_mode=fences.permission_mode,
        tools=fences.tools,
        disallowed_tools=fences.disallowed_tools,
        can_use_tool=_never if fences.judged else None,
        setting_sources=[],
        strict_mcp_config=True,
        mcp_servers={**servers, SERVER_NAME: create_sdk_mcp_server(SERVER_NAME)},
        verbatim_prompts=True,
        resume=params["resume"] or None,
        fork_session=params.get("fork", False),
        model=params["model"] or None,
        cli_path=params["claude"],
        cwd=params["working_folder"],
        env=ENVIRONMENT,
    )


async def _never(*_: Any) -> Any:
    raise AssertionError("nothing is called")
