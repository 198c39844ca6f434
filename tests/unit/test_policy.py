"""Recipients and tools: what an agent's policy allows, and by which rule. Commands are in `test_bash_rules.py`."""

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.core.policy import Decision, Policy, Verdict, decide_recipient, parse_policy, render_policy
from hyperhive.core.tool_rules import HIVE_SERVER, decide_tool, render_claude_rules, render_mcp_name
from hyperhive.wire.tools import SERVER_NAME

NOTHING: dict[str, Any] = {}
LISTED = Policy(
    allowed_tools=("Read", "Bash", "mcp__web__*"),
    bash_allow=("git *",),
    ask=("WebFetch", "Bash", "mcp__github__create_*"),
    mcp_tools={"github": ("get_issue", "create_*"), "web": ("*",), "silent": ()},
)


def decide(policy: Policy, tool: str, **arguments: Any) -> tuple[Verdict, str]:
    decision = decide_tool(policy, tool, arguments)
    assert decision.reason
    return decision.verdict, decision.rule


# -- recipients ----------------------------------------------------------------------------------------------------


def test_without_a_list_anyone_may_be_sent_to() -> None:
    for recipient in ("bob", "operator", "manager", "nobody-of-that-name"):
        assert decide_recipient(Policy(), "alice", recipient).verdict is Verdict.ALLOW


def test_with_a_list_only_those_on_it_and_the_manager_may_be_sent_to() -> None:
    policy = Policy(allowed_recipients=("bob",))
    assert decide_recipient(policy, "alice", "bob") == Decision(
        Verdict.ALLOW, "allowed_recipients: bob", "bob is listed"
    )
    assert decide_recipient(policy, "alice", "manager").rule == "default"
    for recipient in ("carol", "operator", "bo", "bobby", "BOB", "*", ""):
        decision = decide_recipient(policy, "alice", recipient)
        assert (decision.verdict, decision.rule) == (Verdict.DENY, "allowed_recipients")
        assert "bob, manager" in decision.reason


def test_the_manager_may_send_to_anyone_whatever_its_list_says() -> None:
    assert decide_recipient(Policy(allowed_recipients=("bob",)), "manager", "carol").verdict is Verdict.ALLOW


def test_a_refused_recipient_is_shown_without_what_a_terminal_obeys() -> None:
    assert "\x1b" not in decide_recipient(Policy(allowed_recipients=("bob",)), "alice", "\x1b[2J" * 100).reason


# -- claude's own tools --------------------------------------------------------------------------------------------


def test_without_rules_any_tool_may_be_called() -> None:
    for tool in ("Read", "Bash", "Monitor", "PowerShell", "SomethingNew"):
        assert decide(Policy(), tool, command="curl x") == (Verdict.ALLOW, "default")


def test_with_a_list_only_the_tools_on_it_may_be_called() -> None:
    policy = Policy(allowed_tools=("Read", "Gr*"))
    assert decide(policy, "Read") == (Verdict.ALLOW, "allowed_tools: Read")
    for tool in ("Write", "read", "ReadX", "Grep", "", "Read ", "mcp_x"):
        assert decide(policy, tool) == (Verdict.DENY, "allowed_tools")


@pytest.mark.parametrize("tool", ["Bash", "Monitor", "SomethingNew"])
def test_the_rules_for_commands_judge_every_tool_that_takes_a_command(tool: str) -> None:
    policy = Policy(bash_allow=("git *",))
    assert decide(policy, tool, command="git x") == (Verdict.ALLOW, "bash.allow: git *")
    assert decide(policy, tool, command="git x; curl x") == (Verdict.DENY, "bash.allow")
    assert decide(policy, tool, command=["curl"])[0] is Verdict.DENY
    assert decide(policy, tool, command=None)[0] is Verdict.DENY


def test_with_rules_for_commands_bash_without_a_command_and_other_interpreters_are_denied() -> None:
    for policy in (Policy(bash_allow=("*",)), Policy(bash_deny=("x",)), Policy(bash_ask=("x",))):
        assert decide(policy, "Bash") == (Verdict.DENY, "bash")
        assert decide(policy, "PowerShell", command="git x") == (Verdict.DENY, "bash")
        assert decide(policy, "REPL", code="1") == (Verdict.DENY, "bash")
        assert decide(policy, "Monitor", ws={"url": "wss://example.org"}) == (Verdict.ALLOW, "default")
        assert decide(policy, "Read", file_path="x") == (Verdict.ALLOW, "default")


def test_a_tool_that_is_not_listed_is_denied_whatever_the_rules_for_commands_say() -> None:
    assert decide(Policy(allowed_tools=("Read",), bash_allow=("git *",)), "Bash", command="git x") == (
        Verdict.DENY,
        "allowed_tools",
    )


# -- tools of MCP servers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "verdict", "rule"),
    [
        ("mcp__github__get_issue", Verdict.ALLOW, "mcp_servers.github.allowed_tools: get_issue"),
        ("mcp__web__anything", Verdict.ALLOW, "mcp_servers.web.allowed_tools: *"),
        ("mcp__github__get_issues", Verdict.DENY, "mcp_servers.github.allowed_tools"),
        ("mcp__github__delete", Verdict.DENY, "mcp_servers.github.allowed_tools"),
        ("mcp__silent__anything", Verdict.DENY, "mcp_servers.silent.allowed_tools"),
        ("mcp__other__get_issue", Verdict.DENY, "mcp_servers"),
        ("mcp__githubx__get_issue", Verdict.DENY, "mcp_servers"),
        ("mcp__github__", Verdict.DENY, "mcp_servers"),
        ("mcp__github", Verdict.DENY, "mcp_servers"),
        ("mcp__", Verdict.DENY, "mcp_servers"),
        ("mcp__web_", Verdict.DENY, "mcp_servers"),
        ("MCP__web__x", Verdict.DENY, "allowed_tools"),
    ],
)
def test_a_tool_of_a_server_is_allowed_if_its_server_lists_it(tool: str, verdict: Verdict, rule: str) -> None:
    assert decide(LISTED, tool) == (verdict, rule)


def test_the_hives_own_tools_are_always_allowed() -> None:
    assert HIVE_SERVER == SERVER_NAME
    policy = Policy(allowed_tools=("Read",), ask=("*", "mcp__hyperhive__*"), mcp_tools={"web": ()})
    assert decide(policy, "mcp__hyperhive__send") == (Verdict.ALLOW, "default")
    assert decide(policy, "mcp__hyperhive__") == (Verdict.ALLOW, "default")
    assert decide(policy, "mcp__hyperhivex__send")[0] is Verdict.DENY


def test_a_server_that_looks_like_the_hives_own_is_restricted_like_any_other() -> None:
    policy = Policy(mcp_tools={"hyperhive__x": ("a",)}, ask=("mcp__hyperhive__x__*",))
    assert decide(policy, "mcp__hyperhive__x__a")[0] is Verdict.ASK
    assert decide(policy, "mcp__hyperhive__x__b")[0] is Verdict.DENY


def test_a_name_that_can_be_read_in_two_ways_needs_both_to_be_allowed() -> None:
    policy = Policy(mcp_tools={"a": ("b__c", "d"), "a__b": ("c", "e")})
    assert decide(policy, "mcp__a__b__c") == (Verdict.ALLOW, "mcp_servers.a__b.allowed_tools: c")
    assert decide(policy, "mcp__a__b__e") == (Verdict.DENY, "mcp_servers.a.allowed_tools")
    assert decide(policy, "mcp__a__d")[0] is Verdict.ALLOW


def test_a_server_is_known_by_the_name_that_claude_gives_it() -> None:
    assert render_mcp_name("my.server x") == "my_server_x"
    policy = Policy(mcp_tools={"my.server": ("x",), "my_server": ("x", "y")})
    assert decide(policy, "mcp__my_server__x")[0] is Verdict.ALLOW
    assert decide(policy, "mcp__my_server__y")[0] is Verdict.DENY


# -- asking --------------------------------------------------------------------------------------------------------


def test_what_is_to_be_asked_about_is_asked_about_unless_it_is_denied() -> None:
    assert decide(LISTED, "mcp__github__create_issue") == (Verdict.ASK, "permissions.ask: mcp__github__create_*")
    assert decide(LISTED, "WebFetch") == (Verdict.DENY, "allowed_tools")
    assert decide(LISTED, "Bash", command="git x") == (Verdict.ASK, "permissions.ask: Bash")
    assert decide(LISTED, "Bash", command="curl x") == (Verdict.DENY, "bash.allow")
    assert decide(Policy(ask=("WebFetch",)), "WebFetch") == (Verdict.ASK, "permissions.ask: WebFetch")
    assert decide(Policy(ask=("WebFetch",)), "WebFetchX") == (Verdict.ALLOW, "default")


def test_a_question_names_all_the_rules_that_want_it() -> None:
    policy = Policy(ask=("Bash", "*"), bash_ask=("git *",))
    assert decide(policy, "Bash", command="git x") == (Verdict.ASK, "permissions.ask: Bash, *; bash.ask: git *")


# -- claude's own grammar ------------------------------------------------------------------------------------------


def test_what_claude_can_say_of_the_denials_is_rendered_and_nothing_wider() -> None:
    policy = Policy(
        bash_deny=("curl *", "git push -f", "npm run test*", "npm run x:*", "a(b) *", "git * x", "* x"),
        mcp_tools={"silent": (), "web": ("*",), "github": ("get_issue",)},
    )
    assert render_claude_rules(policy)[1] == ["mcp__silent", "Bash(curl *)", "Bash(git push -f)"]
    assert render_claude_rules(Policy(bash_deny=("*",)))[1] == ["Bash"]
    assert render_claude_rules(Policy())[1] == []


def test_what_claude_can_say_of_the_allowances_is_rendered_and_nothing_wider() -> None:
    tools = {"github": ("get_issue", "create_*"), "web": ("*",), "silent": ()}
    policy = Policy(allowed_tools=("Read", "Bash", "WebFetch"), ask=("WebFetch",), mcp_tools=tools)
    hive = "mcp__hyperhive"
    assert render_claude_rules(policy)[0] == [hive, "mcp__github__get_issue", "mcp__web__*", "Read", "Bash"]
    assert render_claude_rules(Policy(bash_allow=("git *", "npm run test*")))[0] == [hive, "Bash(git *)"]
    for narrowed in (
        Policy(bash_allow=("git *",), bash_ask=("git push *",)),
        Policy(bash_allow=("git *",), bash_deny=("git push *",)),
        Policy(bash_allow=("git *",), ask=("Bash",)),
        Policy(bash_allow=("git *",), allowed_tools=("Read",), ask=("Read",)),
        Policy(mcp_tools={"web": ("*",)}, ask=("mcp__web__x",)),
    ):
        assert render_claude_rules(narrowed)[0] == [hive]


# -- all of it -----------------------------------------------------------------------------------------------------

_texts = st.text(max_size=20) | st.sampled_from(["Bash", "Read", "mcp__a__b", "mcp__", "*", "git *", "a", "a__b"])
_lists = st.lists(_texts, max_size=3).map(tuple)
_policies = st.builds(
    Policy,
    allowed_recipients=_lists,
    allowed_tools=_lists,
    bash_allow=_lists,
    bash_deny=_lists,
    bash_ask=_lists,
    ask=_lists,
    mcp_tools=st.dictionaries(_texts, _lists, max_size=3),
)
_arguments = st.dictionaries(st.just("command") | _texts, _texts | st.none() | st.integers(), max_size=2)


@given(_policies, _texts, _arguments)
def test_whatever_is_asked_there_is_a_decision_with_a_rule_and_a_reason(
    policy: Policy, tool: str, arguments: dict[str, Any]
) -> None:
    for decision in (decide_tool(policy, tool, arguments), decide_recipient(policy, "alice", tool)):
        assert decision.rule
        assert decision.reason
    render_claude_rules(policy)


@given(_policies)
def test_a_policy_survives_its_way_as_json(policy: Policy) -> None:
    assert parse_policy(json.loads(json.dumps(render_policy(policy)))) == policy


def test_what_only_carries_a_policy_does_not_load_the_parser() -> None:
    program = """
import sys
import hyperhive.harness.main, hyperhive.wire.agent_link, hyperhive.core.policy
assert not [name for name in sys.modules if name.startswith("tree_sitter")]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("called", ["Task", "Agent"])
@pytest.mark.parametrize("listed", ["Task", "Agent"])
def test_a_rule_for_either_name_of_the_tool_for_sub_agents_is_for_both(called: str, listed: str) -> None:
    assert decide_tool(Policy(ask=(listed,)), called, {}).verdict is Verdict.ASK
    assert decide_tool(Policy(allowed_tools=(listed,)), called, {}).verdict is Verdict.ALLOW
    assert decide_tool(Policy(allowed_tools=("Read",)), called, {}).verdict is Verdict.DENY
