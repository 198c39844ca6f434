"""An agent.toml is what the schema says or is refused, and the refusal says where and what was meant."""

import re
import time
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config_strategies import CONFIGS, TABLES
from hyperhive.core import config_values
from hyperhive.core.bash_rules import parse_bash_pattern
from hyperhive.core.effects import Effect
from hyperhive.core.errors import InvalidInputError
from hyperhive.wire.agent_config import AgentConfig, get_effect, parse_agent_config, render_schema

REFERENCE = (Path(__file__).parents[2] / "docs/reference/config.md").read_text()
SCHEMA = render_schema()
VALIDATOR: Any = jsonschema.Draft202012Validator(SCHEMA)


# Marks what JSON Schema cannot tell.
ONLY_PARSER = " (only the parser)"
# A config, and what the refusal says.
REFUSED = [
    # keys
    ("allowed_tool = ['Read']", "allowed_tool: there is no such key, did you mean 'allowed_tools'?"),
    ("allowedRecipients = ['bob']", "allowedRecipients: there is no such key, did you mean 'allowed_recipients'?"),
    ("warm-s = 3", "did you mean 'warm_s'?"),
    ("allow = ['git *']", "allow: there is no such key, did you mean 'bash.allow' or 'network.allow'?"),
    ("message = 'x'", "did you mean 'schedule[].message'?"),
    ("[bash]\nalow = []", "bash.alow: there is no such key, did you mean 'bash.allow'?"),
    ("[bash]\nautostart = true", "did you mean 'autostart' (it has to stand before the first [table])?"),
    ("[mcpServers.a]\ncommand = 'b'", "did you mean 'mcp_servers'?"),
    ("[mcp_servers.a]\ncommand = 'b'\nallowedTools = []", "did you mean 'mcp_servers.a.allowed_tools'?"),
    ("[[schedule]]\ncron = '* * * * *'\nmessage = 'a'\ncrom = ''", "schedule[0].crom: there is no such key, did you"),
    ("xyzzy = 1", "xyzzy: there is no such key"),
    ('"a\\u001b[2J\\u202e" = 1', '"a\\\\x1b[2J\\\\u202e": there is no such key'),
    # types
    ("model = 3", "model: has to be a text in quotes"),
    ("autostart = 1", "autostart: has to be true or false"),
    ("autostart = 'yes'", "autostart: has to be true or false"),
    ("warm_s = '300'", "warm_s: has to be a number"),
    ("warm_s = true", "warm_s: has to be a number"),
    ("limits.tasks = 1.5", "limits.tasks: has to be a whole number"),
    ("allowed_tools = 'Read'", "allowed_tools: has to be a list"),
    ("allowed_tools = [1]", "allowed_tools[0]: has to be a text in quotes"),
    ("bash = []", "bash: has to be a table"),
    ("environment.A = 1", "environment.A: has to be a text in quotes"),
    ("mcp_servers.a = 'b'", "mcp_servers.a: has to be a table"),
    ("model = 2026-01-01", "model: has to be a text in quotes"),
    # names
    ("model = 'a b'", "model: 'a b' is not the name of a model"),
    ("model = '-x'", "is not the name of a model"),
    ("allowed_recipients = ['..']", "allowed_recipients[0]: '..' is nobody who can receive messages"),
    ("allowed_recipients = ['system']", "the name 'system' is reserved"),
    ("allowed_recipients = ['*']", "is nobody who can receive messages"),
    ("allowed_recipients = ['Bob']", "is nobody who can receive messages"),
    ("allowed_recipients = ['bob', 'bob']", "allowed_recipients: has 'bob' twice"),
    ("allowed_tools = ['Bash(git *)']", "rules for commands are in [bash]"),
    ("allowed_tools = ['*']", "an empty list means any tool"),
    ("allowed_tools = ['Web*']", "'Web*' is not the name of a tool of claude"),
    (
        "allowed_tools = ['mcp__a__b']",
        "'mcp__a__b' belongs to an MCP server: list it in mcp_servers.NAME.allowed_tools",
    ),
    ("permissions.ask = ['Bash(git *)']", "rules for commands are in [bash]"),
    ("permissions.ask = ['a*b']", "is not the name of a tool, such as 'WebFetch'"),
    ("permissions.ask = ['']", "permissions.ask[0]: is empty"),
    (
        "mcp_servers.hyperhive.command = 'a'",
        "mcp_servers.hyperhive: the name 'hyperhive' is reserved (only the parser)",
    ),
    ("mcp_servers.HyperHive.command = 'a'", "is reserved (only the parser)"),
    ("mcp_servers.hyper-hive.command = 'a'", "is reserved (only the parser)"),
    ("mcp_servers.claude-in-chrome.command = 'a'", "is reserved (only the parser)"),
    ("mcp_servers.\"hyperh\u0456ve\".command = 'a'", "is not the name of a server"),
    ("mcp_servers.a__b.command = 'a'", "is not the name of a server"),
    ("mcp_servers.a_.command = 'a'", "is not the name of a server"),
    ("mcp_servers._a.command = 'a'", "is not the name of a server"),
    ("mcp_servers.\"\".command = 'a'", ": is empty"),
    ("mcp_servers.\"a b\".command = 'a'", "is not the name of a server"),
    (f"mcp_servers.{'a' * 64}.command = 'a'", "is not the name of a server"),
    ("packages = ['-y']", "packages[0]: '-y' is not the name of a package"),
    ("packages = ['git=1.0']", "is not the name of a package"),
    ("packages = ['Git']", "is not the name of a package"),
    ("packages = ['git;id']", "is not the name of a package"),
    ("network.allow = ['https://example.org']", "is not what may be reached"),
    ("network.allow = ['example.org:0']", "is not what may be reached"),
    ("network.allow = ['example.org:65536']", "is not what may be reached"),
    ("network.allow = ['GET http://example.org']", "is not what may be reached"),
    ("network.allow = ['GET http://example.org/a/../b']", "is not what may be reached"),
    ("network.allow = ['CONNECT http://example.org/']", "is not what may be reached"),
    # MCP servers
    ("[mcp_servers.a]\nargs = []", "mcp_servers.a.command: is missing"),
    ("mcp_servers.a.command = ''", "mcp_servers.a.command: is empty"),
    ("mcp_servers.a.command = ' b'", "is not printable ASCII"),
    ("mcp_servers.a.command = 'pyth\u043en'", "is not printable ASCII"),
    (
        "mcp_servers.a = {command = 'b', args = [\"a\\u0000b\"]}",
        "args[0]: holds the character U+0000 (only the parser)",
    ),
    ("mcp_servers.a = {command = 'b', args = [\"a\\u202eb\"]}", "holds the character U+202E (only the parser)"),
    ("mcp_servers.a = {command = 'b', args = ['${TOKEN}']}", "claude would put the value (only the parser)"),
    ("mcp_servers.a = {command = 'b', env = {A = '${B:-c}'}}", "claude would put the value (only the parser)"),
    ("mcp_servers.a = {command = 'b', env = {'A B' = ''}}", "mcp_servers.a.env.\"A B\": 'A B' is not the name of a"),
    ("mcp_servers.a = {command = 'b', allowed_tools = ['*', 'c']}", "beside others (only the parser)"),
    ("mcp_servers.a = {command = 'b', allowed_tools = ['get.it']}", "is not the name of a tool"),
    # bash
    ("bash.allow = ['']", "bash.allow[0]: is empty"),
    ("bash.allow = ['git * ']", "is not a command in printable ASCII"),
    ("bash.allow = ['git  *']", "with one space between words"),
    ("bash.deny = ['g\u0456t *']", "is not a command in printable ASCII"),
    ('bash.ask = ["git\\n"]', "is not a command in printable ASCII (only the parser)"),
    # environment
    ('environment.A = "a\\u0000"', "environment.A: holds the character U+0000 (only the parser)"),
    ('environment.A = "a\\nb"', "holds the character U+000A (only the parser)"),
    ("environment.\"A=B\" = ''", "is not the name of a variable"),
    # numbers
    ("warm_s = -1", "warm_s: has to be at least 0"),
    ("warm_s = 604801", "warm_s: has to be at most 604800"),
    ("hibernate_s = 0", "hibernate_s: has to be at least 1"),
    ("limits.cpu = 0", "limits.cpu: has to be more than 0"),
    ("limits.cpu = nan", "limits.cpu: has to be a finite number (only the parser)"),
    ("limits.tasks = 0", "limits.tasks: has to be at least 1"),
    ("budget.tokens_per_day = -1", "budget.tokens_per_day: has to be at least 0"),
    ("budget.usd_per_day = inf", "budget.usd_per_day: has to be a finite number"),
    (f"warm_s = 1{'0' * 390}", "warm_s: has to be a number"),
    # the rest
    ("network.mode = 'open'", "network.mode: has to be 'none', 'proxied' or 'host'"),
    ("limits.memory = '2g'", "limits.memory: '2g' is not an amount of memory, such as '512M' or '2G'"),
    ("limits.memory = '0G'", "is not an amount of memory"),
    ("schedule = [{cron = '@daily', message = 'a'}]", "is not five fields"),
    ("schedule = [{cron = '* * * *', message = 'a'}]", "is not five fields"),
    ("schedule = [{cron = '60 * * * *', message = 'a'}]", "'60' is not a minute (only the parser)"),
    ("schedule = [{cron = '* * * foo *', message = 'a'}]", "'foo' is not a month (only the parser)"),
    ("schedule = [{cron = '* * * * fri-mon', message = 'a'}]", "is not a weekday (only the parser)"),
    ("schedule = [{cron = '*/0 * * * *', message = 'a'}]", "is not a minute (only the parser)"),
    ("schedule = [{cron = '0 0 30-31 2 *', message = 'a'}]", "'0 0 30-31 2 *' never comes (only the parser)"),
    ("schedule = [{cron = '* * * * *', message = ''}]", "schedule[0].message: is empty"),
    ("schedule = [{cron = '* * * * *'}]", "schedule[0].message: is missing"),
    ("schedule = [{cron='* * * * *',message='a'},{cron='* * * * *',message='a'}]", "schedule: has an entry twice"),
    # sizes
    (f"environment.A = '{'a' * 4097}'", "environment.A: is longer than 4096 bytes"),
    (f"bash.allow = ['{'a' * 501}']", "of at most 500 characters"),
    (f"packages = {[f'p{n}' for n in range(201)]}", "packages: has more than 200 entries"),
    ("".join(f"environment.A{n} = ''\n" for n in range(201)), "environment: has more than 200 entries"),
    ("".join(f"mcp_servers.a{n}.command = 'b'\n" for n in range(21)), "mcp_servers: has more than 20 entries"),
]


def parse(text: str) -> AgentConfig:
    return parse_agent_config(text.encode())


def refuse(content: str | bytes) -> str:
    with pytest.raises(InvalidInputError) as caught:
        parse_agent_config(content.encode() if isinstance(content, str) else content)
    return caught.value.message


def read_toml(text: str) -> Any:
    return tomllib.loads(text)


# -- what is accepted --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "\r\n", "[bash]\n"])
def test_an_empty_config_is_all_defaults(text: str) -> None:
    assert parse(text) == AgentConfig()


@pytest.mark.parametrize(
    "text",
    [
        "model = 'claude-opus-4-5[1m]'",
        "allowed_recipients = ['manager', 'operator', 'a-1']",
        "allowed_tools = ['Bash', 'Read']",
        "permissions.ask = ['WebFetch', 'mcp__github__*', '*']",
        "mcp_servers.git-hub_2 = {command = '/usr/bin/x y', args = ['', ' ', 'ä', 'a', 'a', '$HOME']}",
        "mcp_servers.a = {command = 'b', allowed_tools = []}",
        "mcp_servers.a = {command = 'b', allowed_tools = ['get_*', 'put']}",
        "mcp_servers.a = {command = 'b', env = {PATH = '/opt', LD_LIBRARY_PATH = '', _ = ''}}",
        "packages = ['g++', 'libc6', 'python3.11', '0ad']",
        "environment = {GIT_AUTHOR_NAME = 'A', GIT_COMMITTER_EMAIL = 'a@b', Path = 'x', PATHS = '', HOMEPAGE = ''}",
        "limits = {memory = '512M', cpu = 0.5, tasks = 100}",
        "network = {mode = 'none', allow = ['example.org', '*.example.org', '127.0.0.1']}",
        "network.allow = ['example.org:8443', '*.a.org:22', 'GET http://a.org/b/*', '* http://*.a.org:8080/']",
        "schedule = [{cron = '*/5 0-6/2,12 1 jan-MAR mon,7', message = 'guten Morgen, Käthe'}]",
        "warm_s = 0\nhibernate_s = 1\nbudget = {tokens_per_day = 0, usd_per_day = 0}",
        "bash = {allow = ['git *', 'a \"b\" $(c)'], deny = ['rm *'], ask = ['git push*']}",
    ],
)
def test_what_is_right_is_accepted_by_parser_and_schema(text: str) -> None:
    assert parse(text) != AgentConfig()
    VALIDATOR.validate(read_toml(text))


@given(TABLES)
def test_the_schema_accepts_what_the_parser_does(tables: dict[str, Any]) -> None:
    AgentConfig.model_validate(tables)
    VALIDATOR.validate(tables)


@given(CONFIGS)
def test_a_config_written_out_in_full_is_the_same_config(config: AgentConfig) -> None:
    tables = config.model_dump(exclude_none=True)
    VALIDATOR.validate(tables)
    assert AgentConfig.model_validate(tables) == config


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "said"), REFUSED, ids=[text.replace("\n", " ")[:60] for text, _ in REFUSED])
def test_what_is_wrong_is_refused_with_the_key_and_what_was_meant(text: str, said: str) -> None:
    words = said.removesuffix(ONLY_PARSER)
    message = refuse(text)
    assert message.startswith("agent.toml: ")
    assert words in message
    if words == said:
        assert not VALIDATOR.is_valid(read_toml(text))


@pytest.mark.parametrize("name", [*config_values.VARIABLES, *(f"{p}X" for p in config_values.VARIABLE_PREFIXES)])
def test_a_variable_that_is_the_hives_is_refused(name: str) -> None:
    assert f"environment.{name}: '{name}' cannot be set" in refuse(f"environment.{name} = ''")
    assert not VALIDATOR.is_valid({"environment": {name: ""}})


@pytest.mark.parametrize("name", ["GIT_DIR", "GIT_SSH_COMMAND", "GIT_AUTHOR_NAME_X", "GIT_CONFIG_COUNT", "GIT_"])
def test_of_git_only_who_commits_may_be_set(name: str) -> None:
    assert "cannot be set" in refuse(f"environment.{name} = ''")
    assert not VALIDATOR.is_valid({"environment": {name: ""}})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("model = ", r"is not TOML: Invalid value \(at line 1, the end of the file\)"),
        ("a = 1\n[bash", r"\(at line 2, the end of the file\)"),
        ("\n\nmodel = 'a' b", r"\(at line 3, column 13\)"),
        ("model = 'a'\nmodel = 'b'\n#", r"Cannot overwrite a value \(at line 2, column 12\)"),
        (b"\n# \xff", r"is not UTF-8 \(at line 2\)"),
        ("\ufeffmodel = 'a'", "is not TOML: "),
        ("a = '\x1b[2J'", r"is not TOML: [ -~]+$"),
        ("a = " + "[" * 20_000, "lists or tables in one another without end"),
        ("a = 13:61:00", "is not TOML"),
        (b"#" * 65_537, "has 65537 bytes"),
    ],
)
def test_what_is_not_toml_is_refused_with_line_and_column(content: str | bytes, said: str) -> None:
    assert re.search(said, refuse(content))


def test_several_errors_are_told_at_once_but_not_all_of_many() -> None:
    message = refuse("a = 1\nmodel = 2\nautostart = 3\nwarm_s = -1")
    assert [part.split(":")[0] for part in message.removeprefix("agent.toml: ").split("; ")] == [
        "model",
        "warm_s",
        "autostart",
        "a",
    ]
    many = refuse("".join(f"a{n} = 1\n" for n in range(100)))
    assert many.count("there is no such key") == 5 and many.endswith("; and 95 more")


def test_a_refusal_is_short_whatever_is_refused() -> None:
    for text in (
        f"{'k' * 390} = 1",
        f"'{'k' * 60_000}' = 1",
        f"model = '{'m' * 60_000}'",
        f"packages = ['{'p' * 60_000}']",
    ):
        assert len(refuse(text)) < 300


@pytest.mark.parametrize(
    "text",
    [
        "a" + ".a" * 32_000 + " = 1",
        "a" + " . a" * 16_000 + " = 1",
        "'a'" + '."a"' * 16_000 + " = 1",
        "x = '''\n#'''\na" + ".a" * 30_000 + " = 1",
        "a = " + "1_" * 32_000,
        "a = " + "9" * 60_000,
        "".join(f"k{n}" + ".a" * 190 + " = 1\n" for n in range(165)),
        '"""' + '\\"""' * 16_000,
        "'''" * 21_000,
        " " * 65_000,
        "a = " + "{a=" * 20_000,
        "[[a]]\n" * 10_000,
    ],
)
def test_no_file_keeps_the_parser_busy(text: str) -> None:
    began = time.process_time()
    try:
        parse(text)
    except InvalidInputError as error:
        assert len(error.message) < 1000
    assert time.process_time() - began < 3


def test_dots_and_digits_in_texts_and_comments_are_not_counted() -> None:
    long = "a." * 1000
    text = f'# {long}\nenvironment = {{A = \'{long}\', B = "\\"{long}", C = \'\'\'{long}\'\'\', D = """{long}\\"""""}}'
    assert list(parse(text).environment) == ["A", "B", "C", "D"]


@given(st.one_of(st.text(), st.binary(), st.text(alphabet="ab.=[]{}'\"\\#\n 1_-", max_size=200)))
def test_anything_else_is_refused_in_words_and_never_breaks(content: str | bytes) -> None:
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    try:
        parse_agent_config(data)
    except InvalidInputError as error:
        assert error.message.isprintable()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.sampled_from(list(AgentConfig.model_fields)), JSON)
def test_whatever_stands_at_a_key_what_the_parser_takes_the_schema_takes(key: str, value: Any) -> None:
    try:
        AgentConfig.model_validate({key: value})
    except ValueError:
        return
    if value is not None:
        VALIDATOR.validate({key: value})


# -- the schema --------------------------------------------------------------------------------------------


def list_tables() -> list[dict[str, Any]]:
    return [SCHEMA, *SCHEMA["$defs"].values()]


def test_the_schema_is_one_and_every_table_in_it_is_closed() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert [table["additionalProperties"] for table in list_tables()] == [False] * 8
    VALIDATOR.validate({})


def test_every_key_has_a_description_and_every_top_level_key_its_effect() -> None:
    for table in list_tables():
        for name, key in table["properties"].items():
            assert key["description"].endswith((".", "none")), name
    effects = {name: key["x-effect"] for name, key in SCHEMA["properties"].items()}
    assert effects == {name: get_effect(name).value for name in AgentConfig.model_fields}
    assert set(effects.values()) == {effect.value for effect in Effect}


def test_what_may_be_left_out_may_not_be_null_and_its_default_is_valid() -> None:
    assert not VALIDATOR.is_valid({"warm_s": None})
    defaults = {name: key["default"] for name, key in SCHEMA["properties"].items() if "default" in key}
    VALIDATOR.validate(defaults)
    assert AgentConfig.model_validate(defaults) == AgentConfig()


@given(st.from_regex(config_values.BASH_PATTERN.replace("$", r"\Z"), fullmatch=True))
def test_every_rule_for_commands_that_a_config_may_hold_is_understood(text: str) -> None:
    assert parse_bash_pattern(config_values.parse_bash_pattern(text)).source == text


# -- the reference -----------------------------------------------------------------------------------------


def list_keys() -> dict[str, dict[str, Any]]:
    """Every key in dotted form, as the reference writes it."""
    keys: dict[str, dict[str, Any]] = {}
    for name, key in SCHEMA["properties"].items():
        keys[name] = key
        below = key.get("$ref") or key.get("items", {}).get("$ref")
        below = below or (
            key["additionalProperties"].get("$ref") if isinstance(key.get("additionalProperties"), dict) else None
        )
        mark = {"mcp_servers": ".NAME", "schedule": "[]"}.get(name, "")
        if below:
            table = SCHEMA["$defs"][below.rpartition("/")[2]]
            keys |= {f"{name}{mark}.{inner}": field for inner, field in table["properties"].items()}
    return keys


def read_rows() -> dict[str, list[str]]:
    rows = [
        [cell.strip() for cell in line[1:-1].split(" | ")] for line in REFERENCE.splitlines() if line.startswith("| `")
    ]
    return {row[0].strip("`"): row for row in rows}


def test_every_key_has_a_row_in_the_reference_and_no_other() -> None:
    tables = {"bash", "mcp_servers", "network", "limits", "budget", "permissions", "schedule"}
    assert list(read_rows()) == [name for name in list_keys() if name not in tables]


def test_the_reference_tells_default_and_effect_as_they_are() -> None:
    keys = list_keys()
    for name, row in read_rows().items():
        top = re.split(r"[.\[]", name)[0]
        effect = keys[name].get("x-effect", SCHEMA["properties"][top]["x-effect"])
        assert row[3] == effect.replace("_", " "), name
        default = keys[name].get("default")
        shown = {None: "", True: "`true`"}.get(default) if not isinstance(default, list | dict | str) else None
        assert row[2] in ({shown} if shown is not None else {f"`{default!r}`".replace("'", '"')}) | {"required"}, name


def test_the_example_of_the_reference_is_a_config_that_sets_every_key() -> None:
    [example] = re.findall(r"```toml\n(.+?)```", REFERENCE, re.DOTALL)
    config = parse(example)
    VALIDATOR.validate(read_toml(example))
    assert set(config.model_dump(exclude_defaults=True)) == set(AgentConfig.model_fields)
