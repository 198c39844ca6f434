"""What claude is started with so that an agent's rules hold: the first fence is `judge`, the second claude's own. Pure.

What was measured of claude for this stands in docs/decisions/0014-two-fences.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hyperhive.core.policy import Policy

# Tools that would reach around the hive (other sessions of this machine), or promise what ends with the process
# (timers), or ask somebody who is not there.
DISALLOWED_TOOLS = (
    "AskUserQuestion",
    "CronCreate",
    "CronDelete",
    "CronList",
    "ListAgents",
    "RemoteTrigger",
    "ScheduleWakeup",
    "SendMessage",
)
_MCP_PREFIX = "mcp__"


@dataclass(frozen=True, slots=True)
class Fences:
    """`judged`: every call needs the judge's word. `tools`: claude's own tools that are offered; None: all."""

    judged: bool
    permission_mode: Literal["bypassPermissions", "default"]
    tools: list[str] | None
    disallowed_tools: list[str]


def plan_fences(policy: Policy, claude_deny: Sequence[str]) -> Fences:
    """The fences for a policy, `claude_deny` being what of it can be said in claude's own grammar.

    Rules that allow are not handed on: claude would then let pass what the judge has not seen.
    """
    if not has_rules(policy):
        return Fences(False, "bypassPermissions", None, list(DISALLOWED_TOOLS))
    tools = (
        [tool for tool in policy.allowed_tools if not tool.startswith(_MCP_PREFIX)] if policy.allowed_tools else None
    )
    return Fences(True, "default", tools, [*DISALLOWED_TOOLS, *claude_deny])


def has_rules(policy: Policy) -> bool:
    """Whether there is any call that this policy would not simply allow."""
    lists = (policy.allowed_tools, policy.ask, policy.bash_allow, policy.bash_deny, policy.bash_ask)
    return any(lists) or any(set(tools) != {"*"} for tools in policy.mcp_tools.values())


def has_bash_rules(policy: Policy) -> bool:
    return bool(policy.bash_allow or policy.bash_deny or policy.bash_ask)
