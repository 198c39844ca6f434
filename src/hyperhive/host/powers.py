"""What an agent may run, reach, read, message and spend, each with the rule that says so. Pure.

What is judged at each call is judged here, too, by the same functions: the table cannot say other than what happens.
"""

import shlex
from collections.abc import Iterable

from hyperhive.core.egress import ACCOUNT_HOSTS, BadConnectError, EgressPolicy, decide_egress, parse_target
from hyperhive.core.egress_entries import parse_entry
from hyperhive.core.names import MANAGER, OPERATOR
from hyperhive.core.policy import Decision, Policy, Verdict, decide_recipient
from hyperhive.core.tool_rules import HIVE_SERVER, decide_tool, render_mcp_name
from hyperhive.wire.agent_config import AgentConfig
from hyperhive.wire.operator.configs import Permission

BASH = "Bash"

# As `container_spec` mounts them.
_MOUNTS = {
    "/state": "read and write",
    "/home/agent/.claude": "read and write",
    "/run/hive": "its sockets",
    "/config": "read",
}
_MANAGER_MOUNTS = {"/agents": "read and write", "/applied": "read"}


def list_powers(config: AgentConfig, agent: str, *, account: bool = False) -> list[Permission]:
    """The powers that `config` gives to `agent`, a row for each rule and one for all else.

    `account`: whether its claude has a login of its own.
    """
    policy = config.to_policy()
    return [
        *_list_tools(policy),
        *_list_commands(policy),
        *_list_reach(config, account),
        *_list_mounts(agent),
        *_list_recipients(policy, agent),
        *_list_budget(config),
    ]


def _list_tools(policy: Policy) -> list[Permission]:
    tools = [tool for tool in dict.fromkeys([*policy.allowed_tools, *policy.ask]) if tool != BASH]
    rows = [_decide_call(policy, tool, tool) for tool in tools]
    rows.append(_decide_call(policy, f"mcp__{HIVE_SERVER}__send", "the hive's own tools"))
    for server, names in policy.mcp_tools.items():
        prefix = f"mcp__{render_mcp_name(server)}__"
        known = [prefix + name for name in names if name != "*"]
        rows += [_decide_call(policy, tool, tool) for tool in known if tool not in tools]
        rows.append(_decide_call(policy, prefix + _other([*names]), f"any other tool of {server}"))
    return [*rows, _decide_call(policy, _other(tools), "any other tool")]


def _list_commands(policy: Policy) -> list[Permission]:
    if policy.allowed_tools and BASH not in policy.allowed_tools:
        return [_decide_command(policy, "any command")]
    may = Verdict.ASK if BASH in policy.ask else Verdict.ALLOW
    rules = (
        *(("bash.deny", pattern, Verdict.DENY) for pattern in policy.bash_deny),
        *(("bash.ask", pattern, Verdict.ASK) for pattern in policy.bash_ask),
        *(("bash.allow", pattern, may) for pattern in policy.bash_allow),
    )
    rows = [
        Permission(area="run", subject=f"command: {pattern}", verdict=verdict, rule=f"{key}: {pattern}")
        for key, pattern, verdict in rules
    ]
    return [*rows, _decide_command(policy, "any other command" if rows else "any command")]


def _list_reach(config: AgentConfig, account: bool) -> list[Permission]:
    policy = EgressPolicy(config.network.mode, tuple(config.network.allow), account)
    listed = [*(ACCOUNT_HOSTS if account else ()), *config.network.allow]
    rows = [
        Permission(area="reach", subject="the model service", verdict=Verdict.ALLOW, rule="the hive's gateway"),
        *(_decide_reach(policy, entry) for entry in dict.fromkeys(listed)),
        _decide_others(policy),
    ]
    for name, server in config.mcp_servers.items():
        command = shlex.join([server.command, *server.args])
        rows.append(
            Permission(
                area="reach",
                subject=f"MCP server {name}: {command}",
                verdict=Verdict.ALLOW,
                rule=f"mcp_servers.{name}",
            )
        )
    return rows


def _decide_reach(policy: EgressPolicy, text: str) -> Permission:
    """What becomes of a request that an entry is for: of what is below a host or path, of one that is there."""
    entry = parse_entry(text)
    try:
        target = parse_target(f"{entry.host.replace('*', 'any')}:{entry.port}")
        method = "GET" if entry.method == "*" else entry.method
        decision = decide_egress(policy, target, method, entry.path.removesuffix("*"))
    except BadConnectError as error:
        decision = Decision(Verdict.DENY, f"network.allow: {text}", error.reason)
    return _render("reach", text, decision)


def _decide_others(policy: EgressPolicy) -> Permission:
    if policy.mode == "host":
        subject = "any host, port and private network, and what listens on this machine itself"
        return Permission(area="reach", subject=subject, verdict=Verdict.ALLOW, rule="network.mode: host")
    return _render("reach", "any other host", decide_egress(policy, parse_target("any.invalid:443")))


def _list_mounts(agent: str) -> list[Permission]:
    mounts = _MOUNTS | (_MANAGER_MOUNTS if agent == MANAGER else {})
    return [
        Permission(area="read", subject=f"{folder} ({how})", verdict=Verdict.ALLOW, rule="mounted")
        for folder, how in mounts.items()
    ] + [Permission(area="read", subject="files of other agents", verdict=Verdict.DENY, rule="not mounted")]


def _list_budget(config: AgentConfig) -> list[Permission]:
    tokens, usd = config.budget.tokens_per_day, config.budget.usd_per_day
    most = {
        "tokens": None if tokens is None else f"budget.tokens_per_day: {tokens:,}",
        "money": None if usd is None else f"budget.usd_per_day: {usd:g}",
    }
    return [
        Permission(area="spend", subject=subject, verdict=Verdict.ALLOW, rule=rule or "none but the hive's budget")
        for subject, rule in most.items()
    ]


def _list_recipients(policy: Policy, agent: str) -> list[Permission]:
    listed = dict.fromkeys([MANAGER, OPERATOR, *policy.allowed_recipients])
    rows = [_render("message", name, decide_recipient(policy, agent, name)) for name in listed if name != agent]
    other = _other(listed, "other")
    return [*rows, _render("message", "any other agent", decide_recipient(policy, agent, other))]


def _other(known: Iterable[str], name: str = "Other") -> str:
    """A name that no rule names."""
    taken = set(known)
    while name in taken:
        name += "x"
    return name


def _decide_call(policy: Policy, tool: str, subject: str) -> Permission:
    return _render("run", subject, decide_tool(policy, tool, {}))


def _decide_command(policy: Policy, subject: str) -> Permission:
    """What becomes of a command that no rule of the config was written for."""
    return _render("run", subject, decide_tool(policy, BASH, {"command": "some-other-command"}))


def _render(area: str, subject: str, decision: Decision) -> Permission:
    return Permission.model_validate(
        {"area": area, "subject": subject, "verdict": decision.verdict, "rule": decision.rule}
    )
