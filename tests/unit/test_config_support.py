"""What an agent begins with can be used; what this version cannot do is refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.core.errors import InvalidInputError
from hyperhive.host.configs.defaults import plan_default_files
from hyperhive.host.configs.support import list_unsupported
from hyperhive.wire.agent_config import AgentConfig, parse_agent_config


@given(st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True).filter(lambda name: name != "system"))
def test_the_first_config_of_any_agent_is_all_defaults_and_always_the_same(name: str) -> None:
    if name in {"operator", "hyperhive", "hm1nd"}:
        return
    files = plan_default_files(name)
    assert parse_agent_config(files["agent.toml"]) == AgentConfig()
    assert files["prompt.md"].decode() == f"# {name}\n"
    assert list(files) == ["agent.toml", "prompt.md"] and files == plan_default_files(name)
    assert list_unsupported(AgentConfig(), UNLIMITED, account=True) == []


# As a driver says it that cannot set any.
UNLIMITED: dict[str, str] = dict.fromkeys(("memory", "cpu", "tasks"), "control groups of version 1 are root's alone")


@pytest.mark.parametrize("name", ["..", "a\nmodel = 'x'", "operator", ""])
def test_what_is_no_agent_has_no_first_config(name: str) -> None:
    with pytest.raises(InvalidInputError):
        plan_default_files(name)


@pytest.mark.parametrize(
    ("text", "key", "advice"),
    [
        ("network.mode = 'host'", "network.mode", "use 'none' or 'proxied'"),
        ("limits.memory = '2G'", "limits.memory", "control groups of version 1 are root's alone"),
        ("limits.cpu = 1", "limits.cpu", "leave the key out"),
        ("limits.tasks = 10", "limits.tasks", "leave the key out"),
    ],
)
def test_a_key_without_effect_is_named_with_what_to_do(text: str, key: str, advice: str) -> None:
    [message] = list_unsupported(parse_agent_config(text.encode()), UNLIMITED, account=True)
    assert message.startswith(f"{key}: ") and advice in message


def test_every_key_without_effect_is_told() -> None:
    config = parse_agent_config(b"limits = {cpu = 1, tasks = 1}\nnetwork.mode = 'host'")
    assert [message.split(":")[0] for message in list_unsupported(config, UNLIMITED, account=True)] == [
        "network.mode",
        "limits.cpu",
        "limits.tasks",
    ]


@pytest.mark.parametrize("mode", ["none", "proxied"])
def test_what_is_reached_through_the_proxy_is_there(mode: str) -> None:
    text = f"network = {{ mode = '{mode}', allow = ['example.org', '*.example.org'] }}"
    assert list_unsupported(parse_agent_config(text.encode()), UNLIMITED) == []


def test_a_limit_that_the_driver_sets_is_there_and_the_others_are_told_with_their_reason() -> None:
    config = parse_agent_config(b"limits = {memory = '1G', cpu = 1, tasks = 1}")
    assert list_unsupported(config, {}) == []
    assert list_unsupported(config, {"cpu": "the kernel has no cpu controller"}) == [
        "limits.cpu: it cannot be set here: the kernel has no cpu controller, leave the key out"
    ]


def test_the_hosts_network_is_there_where_the_hive_has_a_credential_for_its_agents() -> None:
    config = parse_agent_config(b"network.mode = 'host'")
    assert list_unsupported(config, UNLIMITED) == []
    [message] = list_unsupported(config, UNLIMITED, account=True)
    assert "every program's on this machine" in message and "give the hive a credential" in message
