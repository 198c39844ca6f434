"""The judge: hears of every tool call of claude before it runs, and says whether it may. Whatever goes wrong denies.

claude asks twice. First by a PreToolUse hook, for each call, also of sub-agents, in the background and of MCP tools:
there the policy decides. Then, for a call that claude's own rules would ask a person about, by `confirm`: it passes
if the hook let it pass. A call that the hook has not seen is refused there.
"""

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from claude_agent_sdk import (
    HookContext,
    HookInput,
    HookJSONOutput,
    HookMatcher,
    PermissionResult,
    PermissionResultAllow,
    PermissionResultDeny,
    ToolPermissionContext,
)

from hyperhive.core.policy import Decision, Policy, Verdict
from hyperhive.core.questions import PERMISSION_TTL_S
from hyperhive.core.tool_rules import decide_tool
from hyperhive.core.verdicts import render_denied
from hyperhive.harness.engine_wire import PermissionAnswer
from hyperhive.harness.fences import has_bash_rules

log = logging.getLogger("hive.judge")

# The hook may take as long as the operator, and what the harness adds for a daemon that restarts. Without an answer
# by then claude does not run the tool.
HOOK_TIMEOUT_S = PERMISSION_TTL_S + 120.0
# Calls that passed the hook and that claude may still ask about: it does so at once or never.
_PASSED_LIMIT = 256
_ADVICE = "Do not try to get around this rule. If you need more, ask the manager to propose a change of your config."
_GUARDED = "claude guards this file, as what is in it may be run as a command, and your config has rules for commands. "

Ask = Callable[[str, dict[str, Any], str], Awaitable[PermissionAnswer]]
Tell = Callable[[dict[str, Any]], Awaitable[None]]


async def _tell_nobody(event: dict[str, Any]) -> None:
    """For a judge that nobody listens to."""


class Judge:
    """Judges by one policy. `ask` asks the operator about a tool, its arguments, by a rule.

    `tell` is given an event for each call that a rule denied, for the transcript and the audit.
    """

    def __init__(self, policy: Policy, ask: Ask, tell: Tell = _tell_nobody) -> None:
        self._policy = policy
        self._ask = ask
        self._tell = tell
        # Whether the operator granted it, by the call's id.
        self._passed: OrderedDict[str, bool] = OrderedDict()

    @property
    def matcher(self) -> HookMatcher:
        """For every tool. `on_failure`: an answer that claude cannot use blocks the call; by default it would pass."""
        return HookMatcher(matcher=None, hooks=[self.judge], timeout=HOOK_TIMEOUT_S, on_failure="block")

    async def judge(self, call: HookInput, tool_use_id: str | None, context: HookContext) -> HookJSONOutput:
        """The hook. Never raises, but for being cancelled with the turn."""
        del context
        try:
            # Whatever else the hook is called for has no tool to judge, and raises.
            event: Any = call
            refusal, granted = await self._decide(event["tool_name"], event["tool_input"])
        except Exception:
            log.exception("a tool call cannot be judged")
            return _render_hook("deny", f"this call cannot be judged, so it is denied. {_ADVICE}")
        if refusal:
            return _render_hook("deny", refusal)
        if tool_use_id:
            self._passed[tool_use_id] = granted
            while len(self._passed) > _PASSED_LIMIT:
                self._passed.popitem(last=False)
        return _render_hook("allow", "the agent's config allows it")

    async def confirm(self, tool: str, arguments: dict[str, Any], context: ToolPermissionContext) -> PermissionResult:
        """The second question about a call: of claude's own rules."""
        del arguments
        granted = self._passed.pop(context.tool_use_id or "", None)
        if granted is None:
            log.error("claude asks about a call of %r that was not judged", tool)
            return PermissionResultDeny(message=f"this call was not judged, so it is denied. {_ADVICE}")
        if not granted and has_bash_rules(self._policy):
            return PermissionResultDeny(message=_GUARDED + _ADVICE)
        return PermissionResultAllow()

    async def _decide(self, tool: str, arguments: dict[str, Any]) -> tuple[str, bool]:
        """Why the call is refused, or nothing; and whether the operator granted it."""
        decision = decide_tool(self._policy, tool, arguments)
        match decision.verdict:
            case Verdict.ALLOW:
                return "", False
            case Verdict.ASK:
                answer = await self._ask(tool, arguments, decision.rule)
                if answer["granted"] is True:
                    return "", True
                return f"denied: the rule {decision.rule!r} asks the operator, and {answer['reason']}. {_ADVICE}", False
            case Verdict.DENY:
                await self._tell(render_denied(tool, decision.rule))
                return _render_denial(decision), False


def _render_denial(decision: Decision) -> str:
    return f"denied by the rule {decision.rule!r} of your config: {decision.reason}. {_ADVICE}"


def _render_hook(decision: str, reason: str) -> HookJSONOutput:
    return {
        "hookSpecificOutput": {
            "hookEventName": "PreToolUse",
            "permissionDecision": "allow" if decision == "allow" else "deny",
            "permissionDecisionReason": reason,
        }
    }
