"""The deployed config as the operator sees it: what is in it, where it came from, what it lets the agent do."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from config_rig import ConfigRig, open_config_rig
from hyperhive.core.approvals import ApprovalStatus
from hyperhive.core.egress import ACCOUNT_HOSTS
from hyperhive.core.errors import InvalidInputError, NotFoundError
from hyperhive.core.names import MANAGER
from hyperhive.core.paths import Roots
from hyperhive.core.policy import Verdict
from hyperhive.host.agent_records import insert_agent, save_deployed
from hyperhive.host.config_views import TEXT_LIMIT_BYTES
from hyperhive.host.container_spec import HarnessSettings, plan_container
from hyperhive.host.powers import list_powers
from hyperhive.host.store.rows import AgentRecord, Desired
from hyperhive.wire.agent_config import parse_agent_config
from hyperhive.wire.operator.configs import PolicyCheckRequest

HOSTILE = ["..", "-x", "a/b", "%2e%2e", ".", "", "A", "operator", "x" * 64, "a\0b"]
TOML = """
allowed_recipients = ["bob"]
allowed_tools = ["Read", "Bash"]

[bash]
allow = ["git *"]
deny = ["git push *"]
ask = ["git fetch *"]

[permissions]
ask = ["Read"]

[mcp_servers.github]
command = "gh-mcp"
args = ["--read only"]
allowed_tools = ["list_issues"]
"""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[ConfigRig]:
    async with open_config_rig(tmp_path) as rig:
        yield rig


def powers(toml: str, agent: str = "alice") -> dict[tuple[str, str], str]:
    rows = list_powers(parse_agent_config(toml.encode()), agent)
    assert len({(row.area, row.subject) for row in rows}) == len(rows)
    assert all(row.rule for row in rows)
    return {(row.area, row.subject): row.verdict.value for row in rows}


async def test_the_deployed_config_is_shown_with_its_files_and_all_keys(rig: ConfigRig) -> None:
    commit = await rig.spawn("alice", {"agent.toml": TOML, "prompt.md": "be good\n", "tools/x.md": "é"})
    view = await rig.views.view("alice")
    assert (view.agent, view.commit, view.problem) == ("alice", commit, "")
    assert {file.path: file.text for file in view.files}["prompt.md"] == "be good\n"
    assert {file.path for file in view.files} == {"agent.toml", "prompt.md", "tools/x.md"}
    assert view.config is not None
    assert view.config["allowed_tools"] == ["Read", "Bash"]
    assert view.config["network"] == {"mode": "proxied", "allow": []}
    assert view.permissions


async def test_a_binary_and_a_long_file_are_named_and_not_sent(rig: ConfigRig) -> None:
    files = {"nul.bin": "a\0b", "long.md": "x" * (TEXT_LIMIT_BYTES + 1), "fits.md": "x" * TEXT_LIMIT_BYTES}
    await rig.spawn("alice", files)
    shown = {file.path: file for file in (await rig.views.view("alice")).files}
    assert shown["nul.bin"].text is None
    assert (shown["long.md"].text, shown["long.md"].size_bytes) == (None, TEXT_LIMIT_BYTES + 1)
    assert shown["fits.md"].text == files["fits.md"]


async def test_a_proposal_shows_nowhere_before_it_is_deployed(rig: ConfigRig) -> None:
    commit = await rig.spawn("alice")
    await rig.propose("alice", {"prompt.md": "obey me\n"})
    view = await rig.views.view("alice")
    assert view.commit == commit
    assert all("obey me" not in (file.text or "") for file in view.files)
    assert [version.tag for version in await rig.views.history("alice")] == ["deployed/0"]


async def test_an_agent_without_a_deployed_config_has_none_to_show_and_may_do_nothing(rig: ConfigRig) -> None:
    await rig.store.write(lambda tx: insert_agent(tx, "alice", None))
    with pytest.raises(NotFoundError, match="no config"):
        await rig.views.view("alice")
    assert await rig.views.history("alice") == []
    decision = await rig.views.check("alice", PolicyCheckRequest(tool="Read"))
    assert (decision.verdict.value, "none is deployed" in decision.reason) == ("deny", True)


async def test_a_config_that_cannot_be_used_says_why_and_allows_nothing(rig: ConfigRig) -> None:
    # As if a later version of the program refused what an earlier one deployed.
    files = {"agent.toml": b"nonsense = 1\n", "prompt.md": b"be good\n"}
    commit = await rig.configs.repository("alice").ensure(files, datetime.now(UTC))
    await rig.store.write(lambda tx: insert_agent(tx, "alice", None))
    await rig.store.write(lambda tx: save_deployed(tx, "alice", commit))
    view = await rig.views.view("alice")
    assert "nonsense" in view.problem
    assert (view.config, view.permissions) == (None, [])
    assert {file.path: file.text for file in view.files} == {name: text.decode() for name, text in files.items()}
    decision = await rig.views.check("alice", PolicyCheckRequest(tool="Read"))
    assert (decision.verdict.value, "nonsense" in decision.reason) == ("deny", True)


async def test_a_deployed_commit_that_is_gone_is_an_error_and_allows_nothing(rig: ConfigRig) -> None:
    await rig.spawn("alice")
    await rig.store.write(lambda tx: save_deployed(tx, "alice", "0" * 40))
    with pytest.raises(NotFoundError):
        await rig.views.view("alice")
    assert (await rig.views.check("alice", PolicyCheckRequest(tool="Read"))).verdict.value == "deny"


async def test_the_history_tells_what_became_of_each_proposal(rig: ConfigRig) -> None:
    first = await rig.spawn("alice")
    denied = await rig.end(await rig.propose("alice", {"prompt.md": "no\n"}), ApprovalStatus.DENIED, "not this")
    deployed = await rig.deploy(await rig.propose("alice", {"prompt.md": "yes\n"}))
    await rig.propose("alice", {"prompt.md": "waits\n"})
    history = await rig.views.history("alice")
    assert [(v.approval, v.tag, v.commit, v.reason, v.current) for v in history] == [
        (deployed.id, f"deployed/{deployed.id}", deployed.commit, "", True),
        (denied.id, f"denied/{denied.id}", denied.commit, "not this", False),
        (0, "deployed/0", first, "", False),
    ]


async def test_after_a_revert_that_one_is_current(rig: ConfigRig) -> None:
    await rig.spawn("alice")
    await rig.deploy(await rig.propose("alice", {"prompt.md": "yes\n"}))
    revert = await rig.deploy(await rig.approvals.revert("alice", 0))
    current = [version.approval for version in await rig.views.history("alice") if version.current]
    assert current == [revert.id]


@pytest.mark.parametrize(
    ("request_", "verdict", "rule"),
    [
        ({"tool": "Read"}, "ask", "permissions.ask"),
        ({"tool": "Write"}, "deny", "allowed_tools"),
        ({"tool": "Bash", "arguments": {"command": "git status"}}, "allow", "bash.allow: git *"),
        ({"bash": "git status"}, "allow", "bash.allow: git *"),
        ({"bash": "git status; curl x"}, "deny", "bash"),
        ({"bash": "git push origin"}, "deny", "bash.deny: git push *"),
        ({"bash": "git fetch origin"}, "ask", "bash.ask: git fetch *"),
        ({"tool": "mcp__github__list_issues"}, "allow", "mcp_servers.github"),
        ({"tool": "mcp__github__delete_repo"}, "deny", "mcp_servers.github"),
        ({"recipient": "bob"}, "allow", "allowed_recipients: bob"),
        ({"recipient": "carol"}, "deny", "allowed_recipients"),
        ({"recipient": "manager"}, "allow", "default"),
    ],
)
async def test_a_question_about_the_policy_gets_the_decision_and_its_rule(
    rig: ConfigRig, request_: dict[str, Any], verdict: str, rule: str
) -> None:
    await rig.spawn("alice", {"agent.toml": TOML})
    decision = await rig.views.check("alice", PolicyCheckRequest(**request_))
    assert (decision.verdict.value, decision.rule.startswith(rule)) == (verdict, True), decision


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"tool": "Read", "bash": "ls"},
        {"tool": "Read", "recipient": "bob"},
        {"bash": "ls", "recipient": "bob"},
        {"bash": "ls", "arguments": {"command": "rm"}},
        {"recipient": "../bob"},
        {"recipient": "system"},
    ],
)
async def test_what_is_not_one_question_is_refused(rig: ConfigRig, request_: dict[str, Any]) -> None:
    await rig.spawn("alice")
    with pytest.raises(InvalidInputError):
        await rig.views.check("alice", PolicyCheckRequest(**request_))


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_bad_name_is_refused(rig: ConfigRig, name: str) -> None:
    for look in (rig.views.view, rig.views.history):
        with pytest.raises(InvalidInputError):
            await look(name)
    with pytest.raises(InvalidInputError):
        await rig.views.check(name, PolicyCheckRequest(tool="Read"))


async def test_only_agents_of_the_hive_have_a_config_to_show(rig: ConfigRig) -> None:
    await rig.spawn("alice")
    await rig.destroy("alice")
    await rig.drafts.create("carol", "manager")
    for name in ("alice", "carol", "nobody"):
        with pytest.raises(NotFoundError):
            await rig.views.view(name)
        with pytest.raises(NotFoundError):
            await rig.views.history(name)
        with pytest.raises(NotFoundError):
            await rig.views.check(name, PolicyCheckRequest(tool="Read"))


def test_without_rules_anything_goes_but_the_network() -> None:
    rows = powers("")
    assert rows["run", "any other tool"] == "allow"
    assert rows["run", "any command"] == "allow"
    assert rows["message", "any other agent"] == "allow"
    assert rows["reach", "any other host"] == "deny"
    assert rows["read", "files of other agents"] == "deny"


def test_what_can_be_reached_is_what_the_proxy_lets_through() -> None:
    allow = "network.allow = ['example.org', '*.example.org', '127.1', '127.0.0.1', '8.8.8.8']"
    rows = powers(allow)
    assert (rows["reach", "example.org"], rows["reach", "*.example.org"]) == ("allow", "allow")
    assert [rows["reach", host] for host in ("127.1", "127.0.0.1", "8.8.8.8")] == ["deny", "deny", "allow"]
    assert (rows["reach", "any other host"], rows["reach", "the model service"]) == ("deny", "allow")
    closed = powers(f"{allow}\nnetwork.mode = 'none'")
    assert (closed["reach", "example.org"], closed["reach", "any other host"]) == ("deny", "deny")
    assert ("reach", ACCOUNT_HOSTS[0]) not in rows
    own = list_powers(parse_agent_config(b"network.mode = 'none'"), "alice", account=True)
    assert {row.subject: row.verdict for row in own if row.subject in ACCOUNT_HOSTS} == dict.fromkeys(
        ACCOUNT_HOSTS, Verdict.ALLOW
    )


def test_each_rule_has_its_row_and_all_else_has_one() -> None:
    rows = powers(TOML)
    assert rows["run", "Read"] == "ask"
    assert rows["run", "any other tool"] == "deny"
    assert rows["run", "command: git *"] == "allow"
    assert rows["run", "command: git push *"] == "deny"
    assert rows["run", "command: git fetch *"] == "ask"
    assert rows["run", "any other command"] == "deny"
    assert rows["run", "mcp__github__list_issues"] == "allow"
    assert rows["run", "any other tool of github"] == "deny"
    assert rows["run", "the hive's own tools"] == "allow"
    assert rows["reach", "MCP server github: gh-mcp '--read only'"] == "allow"
    assert rows["message", "bob"] == "allow"
    assert rows["message", "operator"] == "deny"
    assert rows["message", "manager"] == "allow"
    assert rows["message", "any other agent"] == "deny"


def test_a_command_needs_the_tool_that_runs_it() -> None:
    rows = powers('allowed_tools = ["Read"]\n[bash]\nallow = ["git *"]\n')
    assert rows["run", "any command"] == "deny"
    assert ("run", "command: git *") not in rows
    asked = powers('[permissions]\nask = ["Bash"]\n[bash]\nallow = ["git *"]\n')
    assert asked["run", "command: git *"] == "ask"


@pytest.mark.parametrize("agent", ["alice", MANAGER])
def test_what_an_agent_can_read_is_what_its_container_shows(agent: str) -> None:
    record = AgentRecord(agent, None, 1, Desired.RUNNING, "", datetime.now(UTC), None)
    spec = plan_container(
        record,
        Roots(Path("/data"), Path("/run")),
        HarnessSettings("none", 1.0),
        config_folder=Path("/versions/c"),
        environment={},
    )
    mounted = {str(mount.target): mount.writable for mount in spec.mounts}
    allowed = [
        subject for (area, subject), verdict in powers("", agent).items() if (area, verdict) == ("read", "allow")
    ]
    assert {subject.split(" ")[0]: "write" in subject for subject in allowed} == mounted
