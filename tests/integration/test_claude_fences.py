"""What the two fences rely on in claude, with the real CLI: each of these would let a command run if it changed."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import (
    CanUseTool,
    ClaudeAgentOptions,
    HookContext,
    HookInput,
    HookJSONOutput,
    HookMatcher,
    ResultMessage,
    ToolResultBlock,
    UserMessage,
)

from hyperhive.core.policy import Policy
from hyperhive.harness.engine_wire import PermissionAnswer
from hyperhive.harness.judge import Judge
from stand_in import make_claude_environment, open_client, run_stand_in

Hook = Callable[[HookInput, str | None, HookContext], Awaitable[HookJSONOutput]]


@dataclass
class Seen:
    """What came of one turn: the text of each tool result, and who was asked about what."""

    results: list[str] = field(default_factory=list[str])
    hooked: list[str] = field(default_factory=list[str])


async def _run(
    folder: Path, prompt: str, hook: Hook | None, *, timeout_s: float = 60, on_failure: Any = "block",
    can_use_tool: CanUseTool | None = None, until: Callable[[Seen], bool] = lambda _: True,
) -> Seen:  # fmt: skip
    seen = Seen()

    async def note(call: HookInput, call_id: str | None, context: HookContext) -> HookJSONOutput:
        seen.hooked.append(f"{call.get('agent_type') or 'claude'}: {call.get('tool_name')}")
        assert hook is not None
        return await hook(call, call_id, context)

    async with run_stand_in("--port", "0") as service:
        options = ClaudeAgentOptions(
            permission_mode="default",
            setting_sources=[],
            strict_mcp_config=True,
            verbatim_prompts=True,
            cwd=folder,
            env=make_claude_environment(service.url, folder / "home"),
            hooks={"PreToolUse": [HookMatcher(hooks=[note], timeout=timeout_s, on_failure=on_failure)]}
            if hook
            else None,
            can_use_tool=can_use_tool,
            stderr=lambda _: None,
        )
        async with asyncio.timeout(60), open_client(options) as client:
            await client.query(prompt)
            async for message in client.receive_messages():
                if isinstance(message, UserMessage) and isinstance(message.content, list):
                    seen.results += [
                        str(block.content) for block in message.content if isinstance(block, ToolResultBlock)
                    ]
                if isinstance(message, ResultMessage) and until(seen):
                    break
    return seen


def _bash(command: str) -> str:
    return f"%% tool Bash {json.dumps({'command': command, 'description': 'x'})}"


async def _allow(call: HookInput, call_id: str | None, context: HookContext) -> HookJSONOutput:
    del call, call_id, context
    return {"hookSpecificOutput": {"hookEventName": "PreToolUse", "permissionDecision": "allow"}}


async def _say_nothing(call: HookInput, call_id: str | None, context: HookContext) -> HookJSONOutput:
    del call, call_id, context
    return {}


async def _fail(call: HookInput, call_id: str | None, context: HookContext) -> HookJSONOutput:
    raise RuntimeError("broken")


async def _answer_nonsense(call: HookInput, call_id: str | None, context: HookContext) -> HookJSONOutput:
    nonsense: Any = {"hookSpecificOutput": {"hookEventName": "PreToolUse", "permissionDecision": "Allow"}}
    return nonsense


async def _never_answer(call: HookInput, call_id: str | None, context: HookContext) -> HookJSONOutput:
    return await asyncio.get_running_loop().create_future()


def _make_judge(policy: Policy) -> Judge:
    async def refuse(tool: str, arguments: dict[str, Any], rule: str) -> PermissionAnswer:
        del tool, arguments
        return PermissionAnswer(granted=False, reason=f"nobody is there ({rule})")

    return Judge(policy, refuse)


async def test_what_the_hook_allows_runs_without_another_question(tmp_path: Path) -> None:
    await _run(tmp_path, _bash("touch ran"), _allow)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("hook", [_fail, _answer_nonsense])
async def test_a_hook_that_fails_blocks_the_call(tmp_path: Path, hook: Hook) -> None:
    seen = await _run(tmp_path, _bash("touch ran"), hook)
    assert "blocking" in seen.results[0]
    assert not (tmp_path / "ran").exists()


async def test_a_hook_that_does_not_answer_in_time_blocks_the_call(tmp_path: Path) -> None:
    seen = await _run(tmp_path, _bash("touch ran"), _never_answer, timeout_s=1)
    assert "did not respond before its timeout" in seen.results[0]
    assert not (tmp_path / "ran").exists()


async def test_a_call_that_no_hook_has_allowed_is_refused_by_the_second_question(tmp_path: Path) -> None:
    judge = _make_judge(Policy(bash_allow=("touch *",)))
    for hook in (None, _say_nothing):
        seen = await _run(tmp_path, _bash("touch ran"), hook, can_use_tool=judge.confirm)
        assert "was not judged" in seen.results[0]
        assert not (tmp_path / "ran").exists()


async def test_a_second_question_that_fails_refuses_the_call(tmp_path: Path) -> None:
    async def fail(tool: str, arguments: dict[str, Any], context: Any) -> Any:
        raise RuntimeError("broken")

    await _run(tmp_path, _bash("touch ran"), _say_nothing, can_use_tool=fail)
    assert not (tmp_path / "ran").exists()


async def test_an_interrupt_ends_a_hook_that_waits_and_the_call_never_runs(tmp_path: Path) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def wait(call: HookInput, call_id: str | None, context: HookContext) -> HookJSONOutput:
        del call, call_id, context
        asked.set()
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    async with run_stand_in("--port", "0") as service:
        options = ClaudeAgentOptions(
            setting_sources=[],
            cwd=tmp_path,
            env=make_claude_environment(service.url, tmp_path / "home"),
            hooks={"PreToolUse": [HookMatcher(hooks=[wait], timeout=600, on_failure="block")]},
        )
        async with asyncio.timeout(60), open_client(options) as client:
            await client.query(_bash("touch ran"))
            reading = asyncio.create_task(_read_to_result(client.receive_response()))
            await asked.wait()
            await client.interrupt()
            result = await reading
            await ended.wait()
    assert result.terminal_reason in {"aborted_tools", "aborted_streaming"}
    assert not (tmp_path / "ran").exists()


async def _read_to_result(messages: Any) -> Any:
    return [message async for message in messages][-1]


async def test_sub_agents_and_monitors_pass_the_hook_as_well(tmp_path: Path) -> None:
    judge = _make_judge(Policy(bash_deny=("touch *",)))
    agent = {"description": "x", "prompt": _bash("touch by-agent"), "subagent_type": "general-purpose"}
    monitor = {"command": "touch by-monitor", "description": "x", "timeout_ms": 2000}
    seen = await _run(
        tmp_path,
        f"%% tool Agent {json.dumps(agent)}\n%% tool Monitor {json.dumps(monitor)}",
        judge.judge,
        can_use_tool=judge.confirm,
        until=lambda seen: len(seen.hooked) >= 3,
    )
    assert sorted(seen.hooked) == ["claude: Agent", "claude: Monitor", "general-purpose: Bash"]
    assert not list(tmp_path.glob("by-*"))
