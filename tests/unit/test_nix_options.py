"""The options of agent.nix are the fields of AgentConfig, and those of services.hyperhive the daemon's settings."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import jsonschema
import pytest

from hyperhive.host.nix_settings import describe_settings, render_settings
from hyperhive.host.settings import Settings
from hyperhive.wire.agent_config import AgentConfig, McpServer, ScheduleEntry, parse_agent_config
from hyperhive.wire.agent_nix import parse_agent_options
from hyperhive.wire.config_problems import spell_camel
from nix_rig import ROOT, SYSTEM, Bench, EvaluationError, Variant, open_bench

# What names in agent.nix that people chose themselves are below.
CHOSEN = {"environment", "env", "mcp_servers"}
ALIASES = {"allowedBashPatterns", "extraMcpServers"}
# What says more than of which type something is: that is judged when a config is read.
BEYOND_TYPES = {
    "exclusiveMinimum",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minLength",
    "minimum",
    "pattern",
    "propertyNames",
    "uniqueItems",
}
CANDIDATES: list[Any] = [
    None,
    True,
    7,
    0.5,
    "",
    "text",
    "proxied",
    [],
    ["text"],
    [7],
    [["text"]],
    {},
    {"name": "text"},
    {"name": 7},
    {"name": {}},
    {"name": {"command": "text"}},
    {"name": {"command": 7}},
    {"name": {"command": "text", "other": "text"}},
    [{"cron": "text", "message": "text"}],
    [{"cron": "text"}],
    [{"cron": "text", "message": "text", "other": 1}],
]
# The hive's options alone: each probe is a config, and is accepted or not.
PROBES = """
let
  lib = nixpkgs.lib;
  accepts = probe: (builtins.tryEval (builtins.deepSeq (read probe) true)).success;
  read = probe: (lib.evalModules { modules = [ "${hyperhive}/nix/agent-options.nix" { hyperhive = probe; } ]; }).config;
  options = (lib.evalModules { modules = [ "${hyperhive}/nix/agent-options.nix" ]; }).options.hyperhive;
  describe =
    option: if option._type or "" == "option" then option.description else builtins.mapAttrs (_: describe) option;
in
{
  accepted = map accepts (builtins.fromJSON (builtins.readFile ./probes.json));
  descriptions = builtins.mapAttrs (_: describe) options;
}
"""
AGENT = f"""hyperhive.lib.makeAgent {{
  inherit nixpkgs unstable;
  identity = {{ name = "alice"; machine = "h-alice"; port = 8945; system = "{SYSTEM}"; }};
  modules = [ ./config/agent.nix ];
}}"""


@pytest.fixture(scope="module", params=list(Variant))
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return open_bench(tmp_path_factory.mktemp("nix"), request.param)


def read_agent(bench: Bench, text: str) -> Any:
    return bench.evaluate(AGENT, "agentConfig", {"config/agent.nix": text})


def respell(value: Any, *, chosen: bool = False) -> Any:
    """What pydantic dumps, with keys as in agent.nix."""
    if isinstance(value, list):
        return [respell(item) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    pairs = cast("dict[str, Any]", value)
    return {
        key if chosen else spell_camel(key): respell(item, chosen=not chosen and key in CHOSEN)
        for key, item in pairs.items()
    }


# -- agent.nix ---------------------------------------------------------------------------------------------


def test_an_empty_agent_nix_is_every_field_with_its_default_and_no_other(bench: Bench) -> None:
    assert read_agent(bench, "{ }") == respell(AgentConfig().model_dump(mode="json"))


def test_what_stands_in_lists_and_sets_has_its_fields_and_defaults_too(bench: Bench) -> None:
    text = '{ hyperhive = { mcpServers.one.command = "x"; schedule = [ { cron = "0 9 * * *"; message = "go"; } ]; }; }'
    read = read_agent(bench, text)
    assert read["mcpServers"] == {"one": respell(McpServer(command="x").model_dump(mode="json"))}
    assert read["schedule"] == [respell(ScheduleEntry(cron="0 9 * * *", message="go").model_dump(mode="json"))]


def test_an_option_takes_what_its_field_takes_and_nothing_of_another_type(bench: Bench) -> None:
    schema = loosen(AgentConfig.model_json_schema())
    places = list(walk(schema, schema, ()))
    assert len(places) > 30
    probes: list[dict[str, Any]] = []
    wanted: list[bool] = []
    for place, field in places:
        validator: Any = jsonschema.Draft202012Validator({**field, "$defs": schema["$defs"]})
        for candidate in CANDIDATES:
            probes.append(put(place, candidate))
            wanted.append(validator.is_valid(candidate))
    found = bench.evaluate(PROBES, "accepted", {"probes.json": json.dumps(respell(probes))})
    wrong = [
        (probe, "taken" if taken else "refused")
        for probe, taken, want in zip(probes, found, wanted, strict=True)
        if taken is not want
    ]
    assert not wrong


def test_an_option_says_what_its_field_says(bench: Bench) -> None:
    found = bench.evaluate(PROBES, "descriptions", {"probes.json": "[]"})
    for alias in ALIASES:
        assert found.pop(alias)
    wanted: dict[str, Any] = {}
    for name, field in AgentConfig.model_fields.items():
        nested = getattr(field.annotation, "model_fields", None)
        wanted[spell_camel(name)] = (
            {spell_camel(key): inner.description for key, inner in nested.items()} if nested else field.description
        )
    assert found == wanted


def test_agent_nix_and_agent_toml_say_the_same(bench: Bench) -> None:
    read = read_agent(bench, (ROOT / "tests/nix/full.nix").read_text())
    config = parse_agent_config((ROOT / "tests/nix/full.toml").read_bytes())
    assert parse_agent_options(json.dumps(read).encode()) == config
    # Nothing that could be set is left out of it.
    default = AgentConfig()
    assert [name for name in AgentConfig.model_fields if getattr(config, name) == getattr(default, name)] == []


def test_both_names_of_the_first_hive_mean_the_present_ones(bench: Bench) -> None:
    old = '{ hyperhive = { allowedBashPatterns = [ "git *" ]; extraMcpServers.one.command = "x"; }; }'
    new = '{ hyperhive = { bash.allow = [ "git *" ]; mcpServers.one.command = "x"; }; }'
    assert read_agent(bench, old) == read_agent(bench, new)


def test_a_list_of_several_files_is_put_together_and_a_forced_one_counts_alone(bench: Bench) -> None:
    text = """{ lib, ... }: {
      imports = [ ./more.nix ];
      hyperhive.bash.allow = [ "git *" ];
      hyperhive.packages = lib.mkForce [ "hello" ];
      hyperhive.model = "one";
    }"""
    more = """{ lib, ... }: {
      hyperhive.bash.allow = [ "ls" ];
      hyperhive.packages = [ "ripgrep" ];
      hyperhive.model = lib.mkDefault "two";
    }"""
    read = bench.evaluate(AGENT, "agentConfig", {"config/agent.nix": text, "config/more.nix": more})
    assert sorted(read["bash"]["allow"]) == ["git *", "ls"]
    assert (read["packages"], read["model"]) == (["hello"], "one")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{ hyperhive.modle = true; }", ("hyperhive.modle", "does not exist", "config/agent.nix")),
        ('{ hyperhive.bash.alow = [ "x" ]; }', ("hyperhive.bash.alow", "does not exist", "config/agent.nix")),
        ("{ hyperhive.bash.allow = [ 7 ]; }", ("hyperhive.bash.allow", "is not of type", "config/agent.nix")),
        ('{ hyperhive.network.mode = "open"; }', ("hyperhive.network.mode", "is not of type", "config/agent.nix")),
        ('{ hyperhive.packages = [ "no-such-package" ]; }', ("nixpkgs has no package 'no-such-package'",)),
        ('{ hyperhive.packages = [ "python3Packages" ]; }', ("nixpkgs has no package 'python3Packages'",)),
        ("{ pkgs, ... }: {\n  hyperhive.model = pkgs.no-such;\n}", ("no-such", "config/agent.nix:2")),
        ("{ hyperhive = ; }", ("syntax error", "config/agent.nix:1")),
    ],
)
def test_what_is_wrong_is_told_with_its_option_and_file(bench: Bench, text: str, told: tuple[str, ...]) -> None:
    with pytest.raises(EvaluationError) as raised:
        read_agent(bench, text)
    for part in told:
        assert part in str(raised.value)


def walk(schema: dict[str, Any], node: dict[str, Any], place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every field of a schema, with the keys that lead to it; `*` is a name in a set, `[]` an entry of a list."""
    for name, field in node["properties"].items():
        yield (*place, name), field
        inner = resolve(schema, field)
        if "properties" in inner:
            yield from walk(schema, inner, (*place, name))
        for step, key in (("*", "additionalProperties"), ("[]", "items")):
            below = resolve(schema, inner.get(key))
            if "properties" in below:
                yield from walk(schema, below, (*place, name, step))


def resolve(schema: dict[str, Any], node: Any) -> dict[str, Any]:
    if not isinstance(node, dict):
        return {}
    found = cast("dict[str, Any]", node)
    return schema["$defs"][found["$ref"].rsplit("/", 1)[1]] if "$ref" in found else found


def loosen(node: Any) -> Any:
    """A schema without what is beyond types; what is beside a `$ref` stays."""
    if isinstance(node, list):
        return [loosen(item) for item in cast("list[Any]", node)]
    if not isinstance(node, dict):
        return node
    pairs = cast("dict[str, Any]", node)
    return {key: loosen(item) for key, item in pairs.items() if key not in BEYOND_TYPES}


def put(place: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A config that has `value` at `place`, with what has to be beside it."""
    for position in reversed(range(len(place))):
        key = place[position]
        if key == "*":
            value = {"name": {"command": "text", **value}}
        elif key == "[]":
            value = [{"cron": "text", "message": "text", **value}]
        else:
            value = {key: value}
    return value


# -- services.hyperhive ------------------------------------------------------------------------------------


def test_the_file_of_the_settings_is_as_the_code_has_them(tmp_path: Path) -> None:
    assert (ROOT / "nix/settings.json").read_text() == render_settings(), "run scripts/nix-settings"
    written = tmp_path / "settings.json"
    subprocess.run([ROOT / "scripts/nix-settings", written], check=True)
    assert written.read_text() == render_settings()


def test_every_setting_is_in_the_file() -> None:
    described = describe_settings()
    assert {row["variable"] for row in described.values()} == {f"HIVE_{name.upper()}" for name in Settings.model_fields}
    assert set(described) == {spell_camel(name) for name in Settings.model_fields}
    assert {row["type"] for row in described.values()} == {"boolean", "integer", "number", "path", "string"}
