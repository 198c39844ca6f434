"""Configs nobody thought of: valid ones, drawn so that two of them often share parts."""

from typing import Any

from hypothesis import strategies as st

from hyperhive.wire.agent_config import AgentConfig

NAMES = ("alice", "bob", "manager", "operator", "a-1")
TOOLS = ("Bash", "Read", "WebFetch")
ASKED = ("Bash", "Web*", "mcp__github__get_issue", "*")
COMMANDS = ("git *", "ls", "git *, ls", "order", "a: b", "(not set)")
TEXTS = ("", " ", "a", "(empty)", "''", "(not set)", "a b", "'a' b", "ä")
PACKAGES = ("git", "g++", "jq")
VARIABLES = ("A", "TOKEN", "GIT_AUTHOR_NAME", "args", "allowed_tools")
SERVERS = ("github", "A", "args", "env")


def lists(values: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), unique=True, max_size=3)


def tables(values: tuple[str, ...]) -> st.SearchStrategy[dict[str, str]]:
    return st.dictionaries(st.sampled_from(values), st.sampled_from(TEXTS), max_size=3)


def parts(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Tables in which any of `fields` may be left out."""
    return st.fixed_dictionaries({}, optional=fields)


SERVER = st.fixed_dictionaries(
    {"command": st.sampled_from(("run", "run x"))},
    optional={
        "args": st.lists(st.sampled_from(TEXTS), max_size=3),
        "env": tables(VARIABLES),
        "allowed_tools": st.one_of(st.just(["*"]), lists(("get", "put*", "order"))),
    },
)
ENTRY = st.fixed_dictionaries(
    {"cron": st.sampled_from(("* * * * *", "0 9 * * mon-fri")), "message": st.sampled_from(("go", "* go"))}
)
TABLES = parts(
    model=st.sampled_from(("", "claude-opus-4-5", "a")),
    allowed_recipients=lists(NAMES),
    allowed_tools=lists(TOOLS),
    bash=parts(allow=lists(COMMANDS), deny=lists(COMMANDS), ask=lists(COMMANDS)),
    mcp_servers=st.dictionaries(st.sampled_from(SERVERS), SERVER, max_size=2),
    packages=lists(PACKAGES),
    environment=tables(VARIABLES),
    network=parts(
        mode=st.sampled_from(("none", "proxied", "host")),
        allow=lists(("a.org", "*.b.org", "c.org:8443", "GET http://d.org/*")),
    ),
    limits=parts(memory=st.sampled_from(("1G", "2G")), cpu=st.sampled_from((1, 1.5)), tasks=st.sampled_from((1, 2))),
    budget=parts(tokens_per_day=st.sampled_from((0, 1)), usd_per_day=st.sampled_from((0, 0.1, 0.10000000000000001))),
    permissions=parts(ask=lists(ASKED)),
    schedule=st.lists(ENTRY, unique_by=lambda entry: (entry["cron"], entry["message"]), max_size=3),
    warm_s=st.sampled_from((0, 1, 60.5)),
    hibernate_s=st.sampled_from((1, 600)),
    autostart=st.booleans(),
)
CONFIGS = TABLES.map(AgentConfig.model_validate)
