"""The judge and the fences: what claude is told about a call, and that whatever goes wrong denies."""

import asyncio
from typing import Any, cast

import pytest
from claude_agent_sdk import HookContext, PermissionResultAllow, PermissionResultDeny, ToolPermissionContext

from hyperhive.core.policy import Policy
from hyperhive.core.questions import PERMISSION_TTL_S
from hyperhive.harness.engine_wire import PermissionAnswer
from hyperhive.harness.fences import DISALLOWED_TOOLS, plan_fences
from hyperhive.harness.judge import Judge

GIT = Policy(bash_allow=("git *",), bash_deny=("git push *",), bash_ask=("git fetch *",))
CONTEXT: HookContext = {"signal": None}


class Operator:
    """Answers each question the same way, and keeps what was asked."""

    def __init__(self, granted: Any = True, error: Exception | None = None) -> None:
        self.asked: list[tuple[str, dict[str, Any], str]] = []
        self._granted = granted
        self._error = error

    async def ask(self, tool: str, arguments: dict[str, Any], rule: str) -> PermissionAnswer:
        self.asked.append((tool, arguments, rule))
        if self._error is not None:
            raise self._error
        return PermissionAnswer(granted=self._granted, reason="the operator said so")


async def _judge(judge: Judge, tool: str, arguments: Any, call_id: str | None = "call-1") -> tuple[str, str]:
    call = {"hook_event_name": "PreToolUse", "tool_name": tool, "tool_input": arguments}
    output = cast("dict[str, Any]", await judge.judge(cast("Any", call), call_id, CONTEXT))["hookSpecificOutput"]
    assert output["hookEventName"] == "PreToolUse"
    return output["permissionDecision"], output["permissionDecisionReason"]


@pytest.mark.parametrize("listed", ["Task", "Agent"])
@pytest.mark.parametrize("called", ["Task", "Agent"])
async def test_sub_agents_are_one_tool_by_either_of_its_names(listed: str, called: str) -> None:
    judge = Judge(Policy(allowed_tools=(listed,)), Operator().ask)
    assert (await _judge(judge, called, {"prompt": "x"}))[0] == "allow"
    operator = Operator(granted=False)
    assert (await _judge(Judge(Policy(ask=(listed,)), operator.ask), called, {"prompt": "x"}))[0] == "deny"
    assert len(operator.asked) == 1


async def test_what_the_policy_allows_is_allowed_in_words_that_claude_obeys() -> None:
    decision, _ = await _judge(Judge(GIT, Operator().ask), "Bash", {"command": "git status"})
    assert decision == "allow"


async def test_a_denial_names_the_rule_and_what_to_do() -> None:
    decision, reason = await _judge(Judge(GIT, Operator().ask), "Bash", {"command": "git push origin"})
    assert decision == "deny"
    assert "bash.deny: git push *" in reason
    assert "ask the manager" in reason


async def test_a_call_that_is_asked_about_passes_only_with_the_operators_word() -> None:
    operator = Operator(granted=True)
    assert (await _judge(Judge(GIT, operator.ask), "Bash", {"command": "git fetch origin"}))[0] == "allow"
    ((tool, arguments, rule),) = operator.asked
    assert (tool, arguments) == ("Bash", {"command": "git fetch origin"})
    assert "git fetch *" in rule
    decision, reason = await _judge(Judge(GIT, Operator(granted=False).ask), "Bash", {"command": "git fetch origin"})
    assert decision == "deny"
    assert "the operator said so" in reason


@pytest.mark.parametrize("granted", ["yes", 1, None, {}])
async def test_an_answer_that_is_not_plainly_true_is_no_permission(granted: Any) -> None:
    decision, _ = await _judge(Judge(GIT, Operator(granted=granted).ask), "Bash", {"command": "git fetch origin"})
    assert decision == "deny"


@pytest.mark.parametrize("error", [RuntimeError("broken"), TimeoutError(), KeyError("granted")])
async def test_a_question_that_fails_denies(error: Exception) -> None:
    decision, reason = await _judge(Judge(GIT, Operator(error=error).ask), "Bash", {"command": "git fetch origin"})
    assert decision == "deny"
    assert "cannot be judged" in reason


@pytest.mark.parametrize(
    "call",
    [
        {},
        {"hook_event_name": "PreToolUse"},
        {"hook_event_name": "PreToolUse", "tool_name": "Bash"},
        {"hook_event_name": "PreToolUse", "tool_name": None, "tool_input": {"command": "git status"}},
        {"hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_input": None},
        {"hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_input": {"command": ["git", "status"]}},
    ],
)
async def test_a_call_that_cannot_be_understood_is_denied(call: Any) -> None:
    output = cast("dict[str, Any]", await Judge(GIT, Operator().ask).judge(call, "call-1", CONTEXT))
    assert output["hookSpecificOutput"]["permissionDecision"] == "deny"


async def test_a_cancelled_turn_ends_the_wait_for_the_operator() -> None:
    asked = asyncio.Event()

    async def never(tool: str, arguments: dict[str, Any], rule: str) -> PermissionAnswer:
        del tool, arguments, rule
        asked.set()
        return await asyncio.get_running_loop().create_future()

    judging = asyncio.create_task(_judge(Judge(GIT, never), "Bash", {"command": "git fetch origin"}))
    await asked.wait()
    judging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await judging


def test_the_hook_is_for_every_tool_outlives_the_question_and_blocks_when_it_fails() -> None:
    matcher = Judge(GIT, Operator().ask).matcher
    assert matcher.matcher is None
    assert matcher.on_failure == "block"
    assert matcher.timeout is not None
    assert matcher.timeout > PERMISSION_TTL_S + 60


# -- the second question -----------------------------------------------------------------------------------


def _about(call_id: str | None) -> ToolPermissionContext:
    return ToolPermissionContext(tool_use_id=call_id)


async def test_claude_gets_no_permission_for_a_call_that_was_not_judged() -> None:
    judge = Judge(Policy(allowed_tools=("Write",)), Operator().ask)
    assert isinstance(await judge.confirm("Write", {}, _about("call-1")), PermissionResultDeny)
    assert isinstance(await judge.confirm("Write", {}, _about(None)), PermissionResultDeny)


async def test_claude_gets_permission_once_for_a_call_that_passed() -> None:
    judge = Judge(Policy(allowed_tools=("Write",)), Operator().ask)
    await _judge(judge, "Write", {"file_path": "/state/.vscode/x"})
    assert isinstance(await judge.confirm("Write", {}, _about("call-1")), PermissionResultAllow)
    assert isinstance(await judge.confirm("Write", {}, _about("call-1")), PermissionResultDeny)


async def test_a_denied_call_is_none_that_passed() -> None:
    judge = Judge(Policy(allowed_tools=("Read",)), Operator().ask)
    await _judge(judge, "Write", {"file_path": "/state/x"})
    assert isinstance(await judge.confirm("Write", {}, _about("call-1")), PermissionResultDeny)


async def test_files_that_run_commands_are_guarded_where_commands_have_rules_unless_the_operator_granted_it() -> None:
    guarded = Policy(bash_allow=("git *",))
    judge = Judge(guarded, Operator().ask)
    await _judge(judge, "Write", {"file_path": "/home/agent/.bashrc"})
    refusal = await judge.confirm("Write", {}, _about("call-1"))
    assert isinstance(refusal, PermissionResultDeny)
    assert "claude guards this file" in refusal.message
    judge = Judge(Policy(bash_allow=("git *",), ask=("Write",)), Operator(granted=True).ask)
    await _judge(judge, "Write", {"file_path": "/home/agent/.bashrc"})
    assert isinstance(await judge.confirm("Write", {}, _about("call-1")), PermissionResultAllow)


async def test_calls_that_claude_never_asked_about_are_forgotten() -> None:
    judge = Judge(Policy(allowed_tools=("Write",)), Operator().ask)
    for number in range(1000):
        await _judge(judge, "Write", {}, f"call-{number}")
    assert isinstance(await judge.confirm("Write", {}, _about("call-0")), PermissionResultDeny)
    assert isinstance(await judge.confirm("Write", {}, _about("call-999")), PermissionResultAllow)


# -- fences ------------------------------------------------------------------------------------------------


def test_an_agent_without_rules_is_not_judged() -> None:
    fences = plan_fences(Policy(allowed_recipients=("bob",), mcp_tools={"notes": ("*",)}), [])
    assert (fences.judged, fences.permission_mode, fences.tools) == (False, "bypassPermissions", None)
    assert fences.disallowed_tools == list(DISALLOWED_TOOLS)


@pytest.mark.parametrize(
    "policy",
    [
        Policy(allowed_tools=("Read",)),
        Policy(ask=("Read",)),
        Policy(bash_allow=("git *",)),
        Policy(bash_deny=("git *",)),
        Policy(bash_ask=("git *",)),
        Policy(mcp_tools={"notes": ("add_note",)}),
        Policy(mcp_tools={"notes": ()}),
    ],
)
def test_any_rule_about_tools_has_every_call_judged_and_nothing_bypassed(policy: Policy) -> None:
    fences = plan_fences(policy, ["Bash(curl *)"])
    assert (fences.judged, fences.permission_mode) == (True, "default")
    assert fences.disallowed_tools == [*DISALLOWED_TOOLS, "Bash(curl *)"]


def test_only_the_listed_tools_of_claude_are_offered() -> None:
    assert plan_fences(Policy(allowed_tools=("Read", "mcp__notes__add_note")), []).tools == ["Read"]
    assert plan_fences(Policy(allowed_tools=("mcp__notes__add_note",)), []).tools == []
    assert plan_fences(Policy(bash_deny=("curl *",)), []).tools is None
