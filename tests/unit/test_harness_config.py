"""The config as the harness takes it: strictly, and never none in the place of one."""

import asyncio
import copy
from typing import Any

import pytest

from harness_rig import make_config
from hyperhive.core.errors import InvalidInputError
from hyperhive.harness.config import Configs, parse_harness_config
from hyperhive.harness.offer import list_gaps
from hyperhive.wire.agent_link import HarnessConfig

SERVER = {"command": "notes", "args": ["--file", "x"], "env": {"A": "b"}}


def _with(path: str, value: Any) -> dict[str, Any]:
    """A good config, but for what is at `path`."""
    config = make_config(mcp_servers={"notes": SERVER}, mcp_tools={"notes": ["*"]})
    config = copy.deepcopy(config)
    *parents, last = path.split(".")
    place = config
    for parent in parents:
        place = place[parent]
    place[last] = value
    return config


def test_a_good_config_is_taken_as_it_is() -> None:
    config = make_config(
        model="claude-x[1m]", prompt="Be brief.", warm_s=2.5, bash_allow=["git *"], ask=["WebFetch"],
        mcp_servers={"notes": SERVER}, mcp_tools={"notes": ["add_note"]},
    )  # fmt: skip
    assert parse_harness_config(config) == config


@pytest.mark.parametrize("value", [None, [], "config", {}, 7])
def test_what_is_no_config_is_refused(value: object) -> None:
    with pytest.raises(InvalidInputError):
        parse_harness_config(value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("surprise", 1),
        ("commit", None),
        ("model", "--dangerous"),
        ("model", ["a"]),
        ("prompt", 5),
        ("prompt", "\0"),
        ("prompt", "\ud800"),
        ("warm_s", -1),
        ("warm_s", True),
        ("warm_s", float("nan")),
        ("warm_s", float("inf")),
        ("warm_s", "5"),
        ("policy", None),
        ("policy.surprise", []),
        ("policy.bash_deny", "curl *"),
        ("policy.bash_deny", [["curl *"]]),
        ("policy.allowed_tools", {"Bash": 1}),
        ("policy.mcp_tools", {}),
        ("policy.mcp_tools", {"notes": "*"}),
        ("policy.mcp_tools", {"notes": ["*"], "other": ["*"]}),
        ("mcp_servers", []),
        ("mcp_servers.notes.surprise", 1),
        ("mcp_servers.notes.command", ""),
        ("mcp_servers.notes.args", "--file"),
        ("mcp_servers.notes.env", {"A": 1}),
    ],
)
def test_a_config_that_is_wrong_anywhere_is_refused_as_a_whole(path: str, value: Any) -> None:
    with pytest.raises(InvalidInputError, match="the config that the daemon sent cannot be used"):
        parse_harness_config(_with(path, value))


@pytest.mark.parametrize("field", sorted(make_config()))
def test_a_config_with_a_field_missing_is_refused(field: str) -> None:
    config = make_config()
    del config[field]
    with pytest.raises(InvalidInputError):
        parse_harness_config(config)


@pytest.mark.parametrize("field", sorted(make_config()["policy"]))
def test_a_policy_with_a_field_missing_is_refused(field: str) -> None:
    config = make_config()
    del config["policy"][field]
    with pytest.raises(InvalidInputError):
        parse_harness_config(config)


@pytest.mark.parametrize("name", ["hyperhive", "Hyperhive", "hyperhive__x", "a__b", "", "-a", "a b", "..", "a/b"])
def test_no_server_can_take_the_place_of_the_hives_own(name: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_harness_config(make_config(mcp_servers={name: SERVER}, mcp_tools={name: ["*"]}))


async def test_a_malformed_config_leaves_the_last_good_one_and_says_so() -> None:
    changes: list[HarnessConfig] = []
    configs = Configs(changes.append)
    waiting = asyncio.create_task(configs.get())
    with pytest.raises(InvalidInputError):
        configs.take({"commit": "1"})
    assert configs.current is None
    assert "cannot be used" in configs.trouble
    configs.take(make_config(model="good"))
    assert (await waiting)["model"] == "good"
    with pytest.raises(InvalidInputError):
        configs.take(_with("policy.bash_deny", None))
    assert configs.current is not None
    assert configs.current["model"] == "good"
    configs.take(make_config(model="good"))
    assert len(changes) == 1
    configs.take(make_config(model="better"))
    assert [change["model"] for change in changes] == ["good", "better"]


# -- what claude has of it ---------------------------------------------------------------------------------


def _init(tools: list[str], **servers: str) -> dict[str, Any]:
    return {"tools": tools, "mcp_servers": [{"name": name, "status": status} for name, status in servers.items()]}


def test_what_claude_has_is_no_gap() -> None:
    config = parse_harness_config(
        make_config(
            allowed_tools=["Bash", "Agent", "mcp__notes__add_note"],
            mcp_servers={"notes": SERVER},
            mcp_tools={"notes": ["add_note", "list_*", "*"]},
        )
    )
    assert list_gaps(config, _init(["Bash", "Task", "mcp__notes__add_note"], notes="connected")) == []


def test_a_server_that_is_not_connected_is_named_with_its_status_and_not_each_of_its_tools() -> None:
    config = parse_harness_config(make_config(mcp_servers={"notes": SERVER}, mcp_tools={"notes": ["add_note"]}))
    (gap,) = list_gaps(config, _init(["Bash"], notes="failed\x1b[31m"))
    assert gap == "the MCP server notes is not connected (failed\\x1b[31m): its tools are missing"
    (gap,) = list_gaps(config, _init(["Bash"]))
    assert "not started" in gap


def test_a_tool_that_is_allowed_and_not_offered_is_named() -> None:
    config = parse_harness_config(
        make_config(
            allowed_tools=["Bash", "Baesh"], mcp_servers={"notes": SERVER}, mcp_tools={"notes": ["add_note", "lost"]}
        )
    )
    gaps = list_gaps(config, _init(["Bash", "mcp__notes__add_note"], notes="connected"))
    assert gaps == [
        "the config allows the tool mcp__notes__lost, which claude does not offer",
        "the config allows the tool Baesh, which claude does not offer",
    ]


def test_an_init_event_that_tells_nothing_is_all_gaps() -> None:
    config = parse_harness_config(make_config(mcp_servers={"notes": SERVER}, mcp_tools={"notes": ["*"]}))
    assert len(list_gaps(config, {"mcp_servers": ["x", None], "tools": None})) == 1
