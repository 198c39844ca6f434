"""What an agent may do: the part of its applied config that is judged at each message and each call of a tool.

Recipients are judged here, tools in `core.tool_rules` (apart, as that loads a parser of bash). The daemon, the harness
and `hive policy check` all ask there. The rules guide; what confines an agent is its container.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypedDict

from hyperhive.core.names import MANAGER
from hyperhive.core.text import render_safe_line

DEFAULT_RULE = "default"
"""The rule of a decision that no rule of the config made."""

NOT_UNDERSTOOD_RULE = "bash.ask: what is not understood"
"""The rule by which a line that only bash can tell is asked about: each by itself, as they have nothing in common."""


class Verdict(StrEnum):
    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Decision:
    """`rule` says which rule decided, as it stands in the config ("bash.allow: git *"), or "default" if none did.

    `reason` is for people and for the agent.
    """

    verdict: Verdict
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Policy:
    """The part of an agent's config that is judged.

    Empty `allowed_tools`, `allowed_recipients`, `bash_allow`: anything. `mcp_tools` has, for each MCP server of the
    config, the tools of it that may be called ("*": all).
    """

    allowed_recipients: tuple[str, ...] = ()
    allowed_tools: tuple[str, ...] = ()
    bash_allow: tuple[str, ...] = ()
    bash_deny: tuple[str, ...] = ()
    bash_ask: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    mcp_tools: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


class PolicyFields(TypedDict):
    """A `Policy` as JSON."""

    allowed_recipients: Sequence[str]
    allowed_tools: Sequence[str]
    bash_allow: Sequence[str]
    bash_deny: Sequence[str]
    bash_ask: Sequence[str]
    ask: Sequence[str]
    mcp_tools: Mapping[str, Sequence[str]]


def parse_policy(fields: PolicyFields) -> Policy:
    """The inverse of `render_policy`."""
    return Policy(
        allowed_recipients=tuple(fields["allowed_recipients"]),
        allowed_tools=tuple(fields["allowed_tools"]),
        bash_allow=tuple(fields["bash_allow"]),
        bash_deny=tuple(fields["bash_deny"]),
        bash_ask=tuple(fields["bash_ask"]),
        ask=tuple(fields["ask"]),
        mcp_tools={server: tuple(tools) for server, tools in fields["mcp_tools"].items()},
    )


def render_policy(policy: Policy) -> PolicyFields:
    return PolicyFields(
        allowed_recipients=list(policy.allowed_recipients),
        allowed_tools=list(policy.allowed_tools),
        bash_allow=list(policy.bash_allow),
        bash_deny=list(policy.bash_deny),
        bash_ask=list(policy.bash_ask),
        ask=list(policy.ask),
        mcp_tools={server: list(tools) for server, tools in policy.mcp_tools.items()},
    )


def decide_recipient(policy: Policy, sender: str, recipient: str) -> Decision:
    """Whether `sender`, whose policy this is, may send to `recipient`.

    The manager may send to anyone and is reached by anyone. All others, the operator too, must be listed once a list
    is there; a question (`ask_operator`) is no message.
    """
    if MANAGER in (sender, recipient):
        return Decision(Verdict.ALLOW, DEFAULT_RULE, "the manager may send to anyone and is reached by anyone")
    if not policy.allowed_recipients:
        return Decision(Verdict.ALLOW, DEFAULT_RULE, "no list: anyone may be sent to")
    if recipient in policy.allowed_recipients:
        return Decision(Verdict.ALLOW, f"allowed_recipients: {recipient}", f"{recipient} is listed")
    return Decision(
        Verdict.DENY,
        "allowed_recipients",
        f"{render_safe_line(recipient[:80])} is not among those that {sender} may send to:"
        f" {', '.join((*policy.allowed_recipients, MANAGER))}",
    )
