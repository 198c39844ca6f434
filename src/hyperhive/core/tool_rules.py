"""Whether an agent may call one of claude's tools or one of an MCP server's, from its applied config. Pure.

`docs/reference/policy.md` tells the rules. Heavy by its parser of bash: not for the harness's own process.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from hyperhive.core.bash_rules import decide_bash, has_bash_rules
from hyperhive.core.policy import DEFAULT_RULE, Decision, Policy, Verdict
from hyperhive.core.text import cut_text, render_safe_line

HIVE_SERVER = "hyperhive"
"""The MCP server with the hive's own tools: never restricted, as the daemon judges what they ask for."""

# claude lists this tool by one name and calls it by the other: a rule for either is for both.
_OTHER_NAMES = {"Task": "Agent"}
_MCP = "mcp__"
_BASH = "Bash"
# They take a command, but not one of bash: with rules for bash nobody could judge it.
_OTHER_INTERPRETERS = frozenset({"PowerShell", "REPL"})
_SHOWN_CHARS = 120


def decide_tool(policy: Policy, tool: str, arguments: Mapping[str, Any]) -> Decision:
    """Whether the agent may call `tool` (as claude names it: `Bash`, `mcp__server__tool`) with `arguments`.

    Deny goes before ask, and ask before allow. Never raises: what is not understood is denied.
    """
    policy, tool = _use_one_name(policy), _OTHER_NAMES.get(tool, tool)
    decision = _decide_mcp(policy, tool) if tool.startswith(_MCP) else _decide_own(policy, tool, arguments)
    if decision.verdict is Verdict.DENY or _is_hives_own(policy, tool):
        return decision
    return _with_ask(policy, tool, decision)


def _use_one_name(policy: Policy) -> Policy:
    if not _OTHER_NAMES.keys() & {*policy.allowed_tools, *policy.ask}:
        return policy
    allowed, ask = ([_OTHER_NAMES.get(tool, tool) for tool in tools] for tools in (policy.allowed_tools, policy.ask))
    return replace(policy, allowed_tools=tuple(allowed), ask=tuple(ask))


def _decide_own(policy: Policy, tool: str, arguments: Mapping[str, Any]) -> Decision:
    """One of claude's own tools."""
    if policy.allowed_tools and tool not in policy.allowed_tools:
        return Decision(Verdict.DENY, "allowed_tools", f"{_show(tool)} is not listed")
    listed = Decision(Verdict.ALLOW, f"allowed_tools: {tool}", f"{tool} is listed")
    decision = listed if policy.allowed_tools else Decision(Verdict.ALLOW, DEFAULT_RULE, "no list: any tool")
    return _decide_command(policy, tool, arguments) or decision


def _decide_command(policy: Policy, tool: str, arguments: Mapping[str, Any]) -> Decision | None:
    """What the rules for commands say; None if there are none, or nothing to judge.

    Whichever tool is called, an argument `command` is taken for a line of bash: `Bash` and `Monitor` have one.
    """
    if not has_bash_rules(policy):
        return None
    if tool in _OTHER_INTERPRETERS:
        return Decision(Verdict.DENY, "bash", f"{tool} does not run bash: the rules for commands cannot judge it")
    if "command" not in arguments and tool != _BASH:
        return None
    command = arguments.get("command")
    if not isinstance(command, str):
        return Decision(Verdict.DENY, "bash", "there is no command to judge")
    return decide_bash(policy, command)


# -- tools of MCP servers ----------------------------------------------------------------------------------------


def _decide_mcp(policy: Policy, tool: str) -> Decision:
    if _is_hives_own(policy, tool):
        return Decision(Verdict.ALLOW, DEFAULT_RULE, "a tool of the hive itself")
    readings = list(_list_readings(policy, tool))
    if not readings:
        return Decision(Verdict.DENY, "mcp_servers", f"{_show(tool)} belongs to no MCP server of the config")
    rule = ""
    for server, name in readings:
        entries = policy.mcp_tools[server]
        entry = next((entry for entry in entries if _matches(entry, name)), None)
        if entry is None:
            reason = f"{_show(name)} is not among the tools of it that may be called: {', '.join(entries) or 'none'}"
            return Decision(Verdict.DENY, f"mcp_servers.{server}.allowed_tools", reason)
        rule = rule or f"mcp_servers.{server}.allowed_tools: {entry}"
    return Decision(Verdict.ALLOW, rule, f"{tool} is listed")


def _is_hives_own(policy: Policy, tool: str) -> bool:
    if not tool.startswith(f"{_MCP}{HIVE_SERVER}__"):
        return False
    return all(server == HIVE_SERVER for server, _ in _list_readings(policy, tool))


def _list_readings(policy: Policy, tool: str) -> Iterator[tuple[str, str]]:
    """Every server of the config and tool of it that `tool` may mean, longest server name first.

    `mcp__a__b__c` is tool `b__c` of server `a` or tool `c` of server `a__b`: only what all readings allow is allowed.
    """
    for server in sorted(policy.mcp_tools, key=len, reverse=True):
        prefix = f"{_MCP}{render_mcp_name(server)}__"
        if tool.startswith(prefix) and len(tool) > len(prefix):
            yield server, tool.removeprefix(prefix)


def render_mcp_name(server: str) -> str:
    """The name of an MCP server as it stands in the names of its tools."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", server)


def _matches(entry: str, name: str) -> bool:
    """Whether `entry`, a name or the beginning of one and `*`, means `name`."""
    return name.startswith(entry[:-1]) if entry.endswith("*") else name == entry


# -- asking ------------------------------------------------------------------------------------------------------


def _with_ask(policy: Policy, tool: str, decision: Decision) -> Decision:
    """`decision`, turned into a question if `permissions.ask` wants one. The rule names all that ask."""
    entries = [entry for entry in policy.ask if _matches(entry, tool)]
    if not entries:
        return decision
    rule = f"permissions.ask: {', '.join(entries)}"
    if decision.verdict is Verdict.ASK:
        return Decision(Verdict.ASK, f"{rule}; {decision.rule}", decision.reason)
    return Decision(Verdict.ASK, rule, f"the operator is asked about {tool}")


# -- claude's own grammar ----------------------------------------------------------------------------------------

# In claude's patterns `*` goes across words, a `:` before it and brackets mean something.
_PLAIN_WORDS = re.compile(r"[A-Za-z0-9_./+@%,=-]+(?: [A-Za-z0-9_./+@%,=-]+)*(?: \*)?")


def render_claude_rules(policy: Policy) -> tuple[list[str], list[str]]:
    """What of the policy can be said in claude's grammar: rules that allow, and rules that deny.

    Neither ever says more than the policy does. A rule that denies is left out if claude would deny by it what the
    policy allows; one that allows, if the policy asks or denies some of what it means. So what is left out is still
    judged by `decide_tool`, and nothing is denied by claude alone.
    """
    return _render_allow(policy), _render_deny(policy)


def _render_deny(policy: Policy) -> list[str]:
    servers = [f"{_MCP}{render_mcp_name(server)}" for server, tools in policy.mcp_tools.items() if not tools]
    return servers + [rule for pattern in policy.bash_deny if (rule := _render_bash_rule(pattern))]


def _render_allow(policy: Policy) -> list[str]:
    tools = [f"{_MCP}{HIVE_SERVER}"] + [
        f"{_MCP}{render_mcp_name(server)}__{entry}"
        for server, entries in policy.mcp_tools.items()
        for entry in entries
        if entry == "*" or not entry.endswith("*")
    ]
    tools += [tool for tool in policy.allowed_tools if not tool.startswith(_MCP) and tool != _BASH]
    rules = [tool for tool in tools if _is_never_refused(policy, tool)]
    if policy.bash_ask or policy.bash_deny or not _is_never_refused(policy, _BASH):
        return rules
    if not policy.bash_allow:
        return rules + [tool for tool in policy.allowed_tools if tool == _BASH]
    if policy.allowed_tools and _BASH not in policy.allowed_tools:
        return rules
    return rules + [rule for pattern in policy.bash_allow if (rule := _render_bash_rule(pattern))]


def _is_never_refused(policy: Policy, rule: str) -> bool:
    """Whether nothing that `rule` means is asked about. A rule for a whole server ends in `__*`."""
    meant = rule.removesuffix("*")
    if rule == f"{_MCP}{HIVE_SERVER}":
        return True
    return not any(_matches(entry, meant) or entry.startswith(meant) for entry in policy.ask)


def _render_bash_rule(pattern: str) -> str:
    """A pattern as claude writes it; empty if it cannot be said."""
    if pattern == "*":
        return _BASH
    return f"{_BASH}({pattern})" if _PLAIN_WORDS.fullmatch(pattern) else ""


def _show(name: str) -> str:
    return cut_text(render_safe_line(name), _SHOWN_CHARS)
