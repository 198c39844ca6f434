"""Configs as agent.nix spells them: read back they are what they were, and mistakes are told in its words."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given

from config_strategies import CONFIGS
from hyperhive.core.errors import InvalidInputError
from hyperhive.wire.agent_config import AgentConfig, render_schema
from hyperhive.wire.agent_nix import (
    OPTIONS_LIMIT_BYTES,
    list_changed_options,
    parse_agent_options,
    render_options_schema,
)

# By hand, so that nothing here is spelled by what is tested.
SPELLED = {
    "model": "model",
    "allowed_recipients": "allowedRecipients",
    "allowed_tools": "allowedTools",
    "bash": "bash",
    "mcp_servers": "mcpServers",
    "packages": "packages",
    "environment": "environment",
    "network": "network",
    "limits": "limits",
    "budget": "budget",
    "permissions": "permissions",
    "schedule": "schedule",
    "warm_s": "warmS",
    "hibernate_s": "hibernateS",
    "autostart": "autostart",
    "resume_after_limit": "resumeAfterLimit",
    "compact_at": "compactAt",
    "notes_limit": "notesLimit",
}
FULL = AgentConfig.model_validate(
    {
        "model": "claude-opus-4-5",
        "allowed_recipients": ["bob"],
        "allowed_tools": ["Bash"],
        "bash": {"allow": ["git *"], "deny": ["rm *"], "ask": ["ssh *"]},
        "mcp_servers": {
            "allowed_tools": {"command": "a", "args": ["-x"], "env": {"allowed_tools": "1"}, "allowed_tools": ["get_*"]}
        },
        "packages": ["jq"],
        "environment": {"warm_s": "2", "warmS": "3"},
        "network": {"mode": "none", "allow": ["example.org"]},
        "limits": {"memory": "2G", "cpu": 1.5, "tasks": 9, "disk": "3G"},
        "budget": {"tokens_per_day": 5, "usd_per_day": 0.25},
        "permissions": {"ask": ["WebFetch"]},
        "schedule": [{"cron": "0 9 * * *", "message": "go"}],
        "warm_s": 1.5,
        "hibernate_s": 60,
        "autostart": False,
        "resume_after_limit": False,
        "compact_at": 0.5,
        "notes_limit": 10,
    }
)


def spell(config: AgentConfig) -> dict[str, Any]:
    """A config as the evaluation of an agent.nix gives it."""
    fields = config.model_dump(mode="json")
    budget = fields["budget"]
    fields["budget"] = {"tokensPerDay": budget["tokens_per_day"], "usdPerDay": budget["usd_per_day"]}
    for server in fields["mcp_servers"].values():
        server["allowedTools"] = server.pop("allowed_tools")
    return {SPELLED[name]: value for name, value in fields.items()}


def parse(options: Any) -> AgentConfig:
    return parse_agent_options(json.dumps(options).encode())


def refuse(options: Any) -> str:
    with pytest.raises(InvalidInputError) as refused:
        parse(options)
    return refused.value.message


@given(config=CONFIGS)
def test_a_config_spelled_as_nix_spells_it_is_the_same_config(config: AgentConfig) -> None:
    assert parse(spell(config)) == config


@pytest.mark.parametrize("field", AgentConfig.model_fields)
def test_each_option_is_read_by_its_own_name_alone(field: str) -> None:
    options = spell(AgentConfig())
    options[SPELLED[field]] = spell(FULL)[SPELLED[field]]
    assert parse(options) == AgentConfig.model_validate({field: FULL.model_dump()[field]})
    assert parse(options) != AgentConfig()


def test_names_that_people_choose_are_not_respelled() -> None:
    config = parse(spell(FULL))
    assert config == FULL
    assert list(config.environment) == ["warm_s", "warmS"]
    assert list(config.mcp_servers) == ["allowed_tools"]


@pytest.mark.parametrize("field", AgentConfig.model_fields)
def test_an_option_that_the_evaluation_left_out_never_counts_as_its_default(field: str) -> None:
    options = spell(FULL)
    del options[SPELLED[field]]
    assert refuse(options) == f"agent.nix: hyperhive.{SPELLED[field]}: is missing"


def test_an_option_of_a_table_is_missed_as_well() -> None:
    options = spell(FULL)
    del options["bash"]["allow"]
    del options["mcpServers"]["allowed_tools"]["allowedTools"]
    message = "agent.nix: hyperhive.bash.allow: is missing; hyperhive.mcpServers.allowed_tools.allowedTools: is missing"
    assert refuse(options) == message
    assert "hyperhive.model: is missing" in refuse({})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": {"mode": "all", "allow": []}}, "hyperhive.network.mode: has to be 'none', 'proxied' or 'host'"),
        ({"bash": []}, "hyperhive.bash: has to be an attribute set"),
        ({"model": None}, "hyperhive.model: has to be a text in quotes"),
        ({"warmS": "3"}, "hyperhive.warmS: has to be a number"),
        ({"compactAt": 1}, "hyperhive.compactAt: has to be at most 0.95"),
        ({"allowedRecipients": ["bob", "bob"]}, "hyperhive.allowedRecipients: has 'bob' twice"),
        (
            {"allowed_recipients": ["bob"]},
            "hyperhive.allowed_recipients: there is no such option, did you mean 'hyperhive.allowedRecipients'?",
        ),
        ({"Model": "a"}, "hyperhive.Model: there is no such option, did you mean 'hyperhive.model'?"),
        (
            {"budget": {"tokens_per_day": 1, "tokensPerDay": 1, "usdPerDay": 1}},
            "hyperhive.budget.tokens_per_day: there is no such option, did you mean 'hyperhive.budget.tokensPerDay'?",
        ),
        (
            {"usdPerDay": 1},
            "hyperhive.usdPerDay: there is no such option, did you mean 'hyperhive.budget.usdPerDay'?",
        ),
        (
            {"mcpServers": {"g": {"command": "a", "args": [], "env": {}, "allowedTools": ["*", "b"]}}},
            "hyperhive.mcpServers.g.allowedTools: has '*', which means all tools, beside others",
        ),
        ({"schedule": [{"cron": "* * * * *", "message": ""}]}, "hyperhive.schedule[0].message: is empty"),
    ],
)
def test_mistakes_are_told_in_the_words_of_agent_nix(change: dict[str, Any], message: str) -> None:
    assert refuse(spell(AgentConfig()) | change) == f"agent.nix: {message}"


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"3", b"null", b'{"model": ', b"\xff", b'{"model": NaN}', b"[" * 100_000, b'{"a": 1, "a": 1}'],
)
def test_what_is_no_whole_evaluation_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInputError, match="its evaluation gave no"):
        parse_agent_options(content)


def test_a_very_long_evaluation_is_refused_unread() -> None:
    with pytest.raises(InvalidInputError, match="bytes of JSON"):
        parse_agent_options(b" " * (OPTIONS_LIMIT_BYTES + 1))


def test_a_table_without_end_is_a_mistake_and_no_crash() -> None:
    deep: Any = {}
    for _ in range(500):
        deep = {"bash": deep}
    assert "hyperhive.bash.bash: there is no such option" in refuse(spell(AgentConfig()) | {"bash": deep})


def test_the_schema_describes_the_options_as_they_are_spelled() -> None:
    schema = render_options_schema()
    assert list(schema["properties"]) == list(SPELLED.values())
    assert schema["$defs"]["Budget"]["properties"].keys() == {"tokensPerDay", "usdPerDay"}
    assert schema["title"] == "agent.nix: hyperhive"
    validator: Any = jsonschema.Draft202012Validator(schema)
    validator.validate(spell(FULL))
    assert not validator.is_valid(spell(FULL) | {"allowed_tools": []})
    assert render_schema()["title"] == "agent.toml"


def find_changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return list_changed_options(json.dumps(before).encode(), json.dumps(after).encode())


@given(config=CONFIGS)
def test_what_is_the_same_has_no_changed_options(config: AgentConfig) -> None:
    assert find_changed(spell(config), spell(config)) == []


@pytest.mark.parametrize("field", AgentConfig.model_fields)
def test_each_option_that_changes_is_found(field: str) -> None:
    after = spell(AgentConfig()) | {SPELLED[field]: spell(FULL)[SPELLED[field]]}
    changed = find_changed(spell(AgentConfig()), after)
    assert changed
    assert all(option.startswith(f"hyperhive.{SPELLED[field]}") for option in changed)


def test_options_that_only_one_version_has_do_not_count() -> None:
    older, newer = spell(FULL), spell(FULL)
    del older["schedule"], older["network"]["mode"], older["mcpServers"]["allowed_tools"]["allowedTools"]
    older |= {"gone": 1}
    assert find_changed(older, newer) == []
    assert find_changed(newer, older) == []


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"environment": {"warm_s": "2"}}, "hyperhive.environment"),
        ({"environment": {"warm_s": "2", "warmS": "4"}}, "hyperhive.environment.warmS"),
        ({"mcpServers": {}}, "hyperhive.mcpServers"),
        ({"allowedRecipients": ["bob", "carol"]}, "hyperhive.allowedRecipients"),
        ({"allowedRecipients": []}, "hyperhive.allowedRecipients"),
        ({"schedule": [{"cron": "0 9 * * *", "message": "stop"}]}, "hyperhive.schedule"),
        ({"bash": {"allow": [], "deny": ["rm *"], "ask": ["ssh *"]}}, "hyperhive.bash.allow"),
        ({"bash": []}, "hyperhive.bash"),
        ({"limits": {"memory": None, "cpu": 1.5, "tasks": 9, "disk": "3G"}}, "hyperhive.limits.memory"),
    ],
)
def test_what_people_have_named_counts_also_if_only_one_of_them_has_it(change: dict[str, Any], option: str) -> None:
    before = spell(FULL)
    assert find_changed(before, before | change) == [option]
    assert find_changed(before | change, before) == [option]
