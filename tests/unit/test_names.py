"""Names: validated once, before they reach anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.names import (
    RESERVED,
    container_name,
    parse_agent_name,
    parse_known_agent_name,
    parse_recipient,
)

BAD = ["", "..", ".", "-x", "a/b", "A", "a_b", "9a", "a-", "a" * 64, "a b", "a\n", "ä", "a\x00", "*", "\u0430"]


@pytest.mark.parametrize("text", BAD)
def test_what_is_not_a_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        parse_agent_name(text)
    assert refusal.value.hint


@pytest.mark.parametrize("text", sorted(RESERVED))
def test_reserved_names_cannot_be_spawned(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_agent_name(text)


@pytest.mark.parametrize("text", ["a", "alice", "a-b-c", "a9", "a" * 63])
def test_good_names_are_kept_as_they_are(text: str) -> None:
    assert parse_agent_name(text) == text


def test_the_manager_is_known_but_cannot_be_spawned() -> None:
    assert parse_known_agent_name("manager") == "manager"
    assert container_name("manager") == "hm1nd"
    assert container_name("alice") == "alice"


def test_messages_can_go_to_the_operator_but_not_to_the_system() -> None:
    assert parse_recipient("operator") == "operator"
    with pytest.raises(InvalidInputError):
        parse_recipient("system")


@given(st.text(max_size=80))
def test_no_accepted_name_can_leave_a_folder(text: str) -> None:
    try:
        name = parse_agent_name(text)
    except InvalidInputError:
        return
    assert "/" not in name
    assert not name.startswith((".", "-"))
    assert name.isascii()
