"""The meaning of a change leaves nothing out: what differs has a row, and what has no row does not differ."""

from collections.abc import Iterator
from typing import Any, Literal, cast

import pytest
from hypothesis import given
from pydantic import BaseModel

from config_strategies import CONFIGS
from hyperhive.core.effects import Effect
from hyperhive.host.configs.meaning import plan_effect, plan_meaning
from hyperhive.wire.agent_config import AgentConfig, ScheduleEntry, get_effect, parse_agent_config
from hyperhive.wire.operator.configs import FileDiff, MeaningRow

Change = Literal["added", "removed", "changed"]


def compare(before: str, after: str) -> list[MeaningRow]:
    return plan_meaning(parse_agent_config(before.encode()), parse_agent_config(after.encode()), [])


def tell(rows: list[MeaningRow]) -> list[tuple[str, str, str, str, str]]:
    return [(row.area, row.change, row.subject, row.before, row.after) for row in rows]


def make_file(path: str, change: Change = "changed", executable: bool | None = None, binary: bool = False) -> FileDiff:
    return FileDiff(
        path=path,
        change=change,
        binary=binary,
        executable=executable,
        old_size_bytes=10,
        new_size_bytes=20,
        added=3,
        removed=1,
        large=False,
        truncated=False,
        hunks=[],
    )


# -- nothing is left out -----------------------------------------------------------------------------------


@given(CONFIGS, CONFIGS)
def test_there_is_a_row_exactly_if_the_configs_differ(before: AgentConfig, after: AgentConfig) -> None:
    assert (plan_meaning(before, after, []) == []) == (before == after)


@given(CONFIGS)
def test_a_config_compared_with_itself_means_nothing(config: AgentConfig) -> None:
    assert plan_meaning(config, config.model_copy(deep=True), []) == []


def list_leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every value in a config: entries of lists by what they are, all else by its key."""
    if isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, dict):
        for name, below in cast("dict[str, Any]", value).items():
            yield from list_leaves(below, (*path, name))
    elif isinstance(value, list) and path[-1] != "args":
        for item in cast("list[Any]", value):
            name = f"{item.cron} {item.message}" if isinstance(item, ScheduleEntry) else str(item)
            yield (*path, name), name
    else:
        yield path, repr(cast("object", value))


@given(CONFIGS, CONFIGS)
def test_every_value_that_differs_has_a_row_of_its_own(before: AgentConfig, after: AgentConfig) -> None:
    old, new = (dict(list_leaves(config)) for config in (before, after))
    rows = plan_meaning(before, after, [])
    for path in old.keys() | new.keys():
        if old.get(path) == new.get(path):
            continue
        found = [row for row in rows if row.area == path[0] and row.subject.endswith(path[-1])]
        assert found, path
        if path not in old:
            assert any(row.change == "added" for row in found), path
        if path not in new:
            assert any(row.change == "removed" for row in found), path


@given(CONFIGS, CONFIGS)
def test_the_way_back_means_the_opposite(before: AgentConfig, after: AgentConfig) -> None:
    opposite = {"added": "removed", "removed": "added", "changed": "changed"}
    there = {(row.area, row.subject, row.change, row.before, row.after) for row in plan_meaning(before, after, [])}
    back = plan_meaning(after, before, [])
    assert there == {(row.area, row.subject, opposite[row.change], row.after, row.before) for row in back}


@given(CONFIGS, CONFIGS)
def test_every_row_has_the_effect_of_its_key_and_the_whole_has_the_latest(
    before: AgentConfig, after: AgentConfig
) -> None:
    rows = plan_meaning(before, after, [])
    # But for what counts sooner than the table it is in.
    sooner = [row for row in rows if row.subject.startswith("allow") and row.area == "network"]
    assert all(row.effect is Effect.LIVE for row in sooner)
    assert all(row.effect is get_effect(row.area) for row in rows if row not in sooner)
    order = list(Effect)
    assert order.index(plan_effect(rows)) == max((order.index(row.effect) for row in rows), default=0)


# -- a new agent -------------------------------------------------------------------------------------------


def test_a_new_agent_with_the_defaults_means_nothing() -> None:
    assert plan_meaning(None, AgentConfig(), []) == []


@given(CONFIGS)
def test_of_a_new_agent_all_that_is_set_is_added(config: AgentConfig) -> None:
    rows = plan_meaning(None, config, [])
    assert {(row.change, row.before) for row in rows} <= {("added", "")}
    assert {row.area for row in rows} == set(config.model_dump(exclude_defaults=True))


# -- what is easily misread --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("area", "key", "subject", "item"),
    [
        ("allowed_recipients", "allowed_recipients", "allowed_recipients", "bob"),
        ("allowed_tools", "allowed_tools", "allowed_tools", "Read"),
        ("bash", "bash.allow", "allow", "git *"),
    ],
)
def test_a_list_that_is_emptied_allows_anything_and_that_is_said(area: str, key: str, subject: str, item: str) -> None:
    listed = f"{key} = ['{item}']"
    [whole, entry] = compare(listed, "")
    assert tell([whole]) == [(area, "changed", subject, "(only what is listed)", "(anything)")]
    assert (entry.change, entry.before, entry.after) == ("removed", item, "")
    [whole, entry] = compare("", listed)
    assert tell([whole]) == [(area, "changed", subject, "(anything)", "(only what is listed)")]
    assert (entry.change, entry.after) == ("added", item)
    assert plan_meaning(None, parse_agent_config(listed.encode()), [])[0].after == "(only what is listed)"


def test_of_two_lists_only_the_entries_that_differ_are_told() -> None:
    assert tell(compare("allowed_recipients = ['bob', 'eve']", "allowed_recipients = ['bob', 'dan']")) == [
        ("allowed_recipients", "removed", "eve", "eve", ""),
        ("allowed_recipients", "added", "dan", "", "dan"),
    ]


def test_the_same_entries_in_another_order_are_told() -> None:
    assert tell(compare("bash.deny = ['a', 'b c']", "bash.deny = ['b c', 'a']")) == [
        ("bash", "changed", "deny (order)", "a 'b c'", "'b c' a")
    ]


def test_a_new_mcp_server_is_told_with_all_that_it_is_started_with() -> None:
    server = """
    [mcp_servers.github]
    command = "github-mcp"
    args = ["--read only", ""]
    env = {TOKEN = "s3cret; x", EMPTY = ""}
    allowed_tools = ["get_issue"]
    """
    rows = compare("", server)
    assert tell(rows) == [
        ("mcp_servers", "added", "github.command", "", "github-mcp"),
        ("mcp_servers", "added", "github.args", "", "'--read only' ''"),
        ("mcp_servers", "added", "github.env.TOKEN", "", "'s3cret; x'"),
        ("mcp_servers", "added", "github.env.EMPTY", "", "''"),
        ("mcp_servers", "added", "github.allowed_tools", "", "(only what is listed)"),
        ("mcp_servers", "added", "github.allowed_tools: get_issue", "", "get_issue"),
    ]


def test_a_server_without_arguments_says_so_and_all_tools_are_called_anything() -> None:
    assert tell(compare("", "mcp_servers.a.command = 'b'")) == [
        ("mcp_servers", "added", "a.command", "", "b"),
        ("mcp_servers", "added", "a.args", "", "(none)"),
        ("mcp_servers", "added", "a.allowed_tools", "", "(anything)"),
        ("mcp_servers", "added", "a.allowed_tools: *", "", "*"),
    ]


def test_a_server_none_of_whose_tools_may_be_called_says_so() -> None:
    rows = compare("mcp_servers.a.command = 'b'", "mcp_servers.a = {command = 'b', allowed_tools = []}")
    assert tell(rows)[0] == ("mcp_servers", "changed", "a.allowed_tools", "(anything)", "(nothing)")


@pytest.mark.parametrize(
    ("key", "before", "after"),
    [
        ("args", "['a', 'b']", "['a b']"),
        ("args", "['a', 'b']", "['b', 'a']"),
        ("env.A", "''", "\"''\""),
        ("command", "'a b'", "'a  b'"),
    ],
)
def test_what_runs_differently_reads_differently(key: str, before: str, after: str) -> None:
    server = "mcp_servers.a.command = 'b'\n" if key != "command" else ""
    place = f"mcp_servers.a.{key} = "
    [row] = compare(f"{server}{place}{before}", f"{server}{place}{after}")
    assert row.before != row.after


def test_values_that_are_not_set_and_switches_are_told_in_words() -> None:
    after = "autostart = false\nwarm_s = 60\nmodel = 'm'\nlimits.memory = '2G'\n"
    assert tell(compare("", after)) == [
        ("model", "changed", "model", "(claude's default)", "m"),
        ("limits", "changed", "memory", "(not set)", "2G"),
        ("warm_s", "changed", "warm_s", "(not set)", "60"),
        ("autostart", "changed", "autostart", "yes", "no"),
    ]


# -- files -------------------------------------------------------------------------------------------------


def test_files_have_rows_but_agent_toml_whose_keys_have_them() -> None:
    config = AgentConfig()
    files = [make_file("agent.toml"), make_file("prompt.md"), make_file("skills/agent.toml", "added")]
    rows = plan_meaning(config, config, [*files, make_file("run.sh", "removed")])
    assert tell(rows) == [
        ("files", "changed", "prompt.md", "10 bytes", "20 bytes, 3 lines added, 1 removed"),
        ("files", "added", "skills/agent.toml", "", "20 bytes"),
        ("files", "removed", "run.sh", "10 bytes", ""),
    ]
    assert [row.effect for row in rows] == [Effect.NEXT_TURN, Effect.RESTART, Effect.RESTART]


def test_that_a_file_can_be_executed_is_told() -> None:
    for executable, words in ((True, ", can be executed"), (False, ", can no longer be executed")):
        [row] = plan_meaning(AgentConfig(), AgentConfig(), [make_file("a", executable=executable, binary=True)])
        assert row.after == "20 bytes, not text" + words


def test_what_may_be_reached_counts_at_once_and_the_mode_with_a_restart() -> None:
    before = parse_agent_config(b"")
    rows = plan_meaning(before, parse_agent_config(b"network.allow = ['a.org:22', 'GET http://b.org/c/*']"), [])
    assert [(row.subject, row.effect) for row in rows] == [
        ("allow: a.org:22", Effect.LIVE),
        ("allow: GET http://b.org/c/*", Effect.LIVE),
    ]
    assert plan_effect(rows) is Effect.LIVE
    rows = plan_meaning(before, parse_agent_config(b"network.mode = 'none'"), [])
    assert plan_effect(rows) is Effect.RESTART


def test_what_the_hosts_network_gives_away_is_said() -> None:
    [row] = plan_meaning(parse_agent_config(b""), parse_agent_config(b"network.mode = 'host'"), [])
    assert row.before == "proxied"
    for word in ("loopback", "abstract sockets", "private network", "nothing is recorded"):
        assert word in row.after


def test_an_agent_nix_has_a_row_beside_those_of_its_options_as_it_makes_a_system() -> None:
    before, after = AgentConfig(), AgentConfig(allowed_recipients=["bob"])
    rows = plan_meaning(before, after, [make_file("agent.nix"), make_file("more.nix")])
    assert tell(rows)[-2:] == [
        (
            "files",
            "changed",
            "agent.nix",
            "10 bytes",
            "20 bytes, 3 lines added, 1 removed, with its system: see the diff",
        ),
        ("files", "changed", "more.nix", "10 bytes", "20 bytes, 3 lines added, 1 removed"),
    ]
    assert plan_effect(rows) is Effect.REBUILD
    # Also if no option differs: it may be another system all the same.
    [alone] = plan_meaning(before, before, [make_file("agent.nix")])
    assert alone.effect is Effect.REBUILD
    [removed] = plan_meaning(before, before, [make_file("agent.nix", "removed")])
    assert removed.after == ""


def test_an_agent_toml_has_no_row_of_its_own() -> None:
    assert plan_meaning(AgentConfig(), AgentConfig(), [make_file("agent.toml")]) == []
