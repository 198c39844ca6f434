"""A host that is added to an agent.toml by the hive: one entry more, and all else as it was written."""

import pytest
from hypothesis import given

from config_strategies import CONFIGS
from hyperhive.core.errors import ConflictError, InvalidInputError
from hyperhive.host.configs.edits import add_allowed
from hyperhive.wire.agent_config import AgentConfig, parse_agent_config


def add(text: str, entry: str = "new.org") -> str:
    return add_allowed(text.encode(), entry).decode()


CASES = {
    "": '[network]\nallow = ["new.org"]\n',
    '# nothing yet\nmodel = "x"\n': '# nothing yet\nmodel = "x"\n\n[network]\nallow = ["new.org"]\n',
    '[network]\nmode = "proxied"  # as ever\n': '[network]\nallow = ["new.org"]\nmode = "proxied"  # as ever\n',
    '[network]\nallow = ["a.org"]\n': '[network]\nallow = ["a.org", "new.org"]\n',
    '[network]\nallow = ["a.org", ]\n': '[network]\nallow = ["a.org", "new.org" ]\n',
    "[network]\nallow = []\n": '[network]\nallow = ["new.org"]\n',
    "network.allow = ['a.org']\n": "network.allow = ['a.org', \"new.org\"]\n",
    "network = {mode = 'none', allow = ['a.org']}\n": "network = {mode = 'none', allow = ['a.org', \"new.org\"]}\n",
    # The allow of another table comes first.
    "[bash]\nallow = ['git *']\n[network]\nallow = ['a.org']\n": (
        "[bash]\nallow = ['git *']\n[network]\nallow = ['a.org', \"new.org\"]\n"
    ),
    "[bash]\nallow = ['git *']\n": "[bash]\nallow = ['git *']\n\n[network]\nallow = [\"new.org\"]\n",
    '[network]\nallow = [\n    "a.org",  # for git ]\n    "b.org",  # for pip\n]\n': (
        '[network]\nallow = [\n    "a.org",  # for git ]\n    "b.org",  # for pip\n    "new.org",\n]\n'
    ),
    '[network]\nallow = [\n  "a.org",\n  "b.org"\n]\n': (
        '[network]\nallow = [\n  "a.org",\n  "b.org",\n  "new.org",\n]\n'
    ),
    # What looks like the place and is a text.
    "[environment]\nX = 'network.allow = [ \"a\" ]'\n": (
        '[environment]\nX = \'network.allow = [ "a" ]\'\n\n[network]\nallow = ["new.org"]\n'
    ),
}


@pytest.mark.parametrize("text", CASES)
def test_an_entry_is_added_where_a_person_would_add_it(text: str) -> None:
    assert add(text) == CASES[text]


def test_a_plain_request_is_an_entry_like_any_other() -> None:
    assert 'allow = ["GET http://new.org/a/*"]' in add("", "GET http://new.org/a/*")


def test_an_entry_that_is_there_is_not_added_again() -> None:
    with pytest.raises(ConflictError):
        add("network.allow = ['new.org']")


@pytest.mark.parametrize("entry", ['a.org", "evil.org', "a.org\n", "", "GET https://a.org/", "a.org]", "'"])
def test_what_is_no_entry_is_never_written(entry: str) -> None:
    with pytest.raises(InvalidInputError):
        add("", entry)


def test_a_config_in_an_odd_way_is_left_to_a_person() -> None:
    with pytest.raises(ConflictError, match="cannot be added by itself"):
        add("network = {mode = 'proxied'}\n")


def test_a_config_that_does_not_parse_is_not_changed() -> None:
    with pytest.raises(InvalidInputError):
        add("network.allow = [")


@given(CONFIGS)
def test_all_else_means_what_it_did(config: AgentConfig) -> None:
    text = render_network(config)
    changed = parse_agent_config(add_allowed(text.encode(), "new.org"))
    assert changed.network.allow == [*config.network.allow, "new.org"]
    assert changed.network.mode == config.network.mode and changed.bash == config.bash


def render_network(config: AgentConfig) -> str:
    allow = ", ".join(f"'{entry}'" for entry in config.network.allow)
    bash = ", ".join(f"'{pattern}'" for pattern in config.bash.allow)
    deny = ", ".join(f"'{pattern}'" for pattern in config.bash.deny)
    ask = ", ".join(f"'{pattern}'" for pattern in config.bash.ask)
    return (
        f"[bash]\nallow = [{bash}]\ndeny = [{deny}]\nask = [{ask}]\n"
        f"[network]\nmode = '{config.network.mode}'\nallow = [{allow}]\n"
    )
