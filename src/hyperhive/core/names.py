"""Who may be called what. A name is parsed here before it reaches any path, process, socket or query."""

import re

from hyperhive.core.errors import InvalidInputError

MANAGER = "manager"
OPERATOR = "operator"
SYSTEM = "system"

# The manager's container has had this name since the first hyperhive; its address is `manager`.
MANAGER_CONTAINER = "hm1nd"

RESERVED = frozenset({MANAGER, OPERATOR, SYSTEM, MANAGER_CONTAINER, "hyperhive", "*"})

_PATTERN = re.compile(r"[a-z][a-z0-9-]{0,62}")
_HINT = "use a to z, 0 to 9 and '-', start with a letter, end without '-', at most 63 characters"


def parse_agent_name(text: str) -> str:
    """`text` as the name of an agent that the hive may spawn.

    Raises InvalidInputError for anything but a well-formed name that is not reserved.
    """
    name = parse_known_agent_name(text)
    if name in RESERVED:
        raise InvalidInputError(f"the name {name!r} is reserved", "choose another name")
    return name


def parse_known_agent_name(text: str) -> str:
    """`text` as the name of an agent that may already exist: like `parse_agent_name`, the manager included."""
    if text == MANAGER:
        return text
    if not _PATTERN.fullmatch(text) or text.endswith("-"):
        raise InvalidInputError(f"{text[:80]!r} is not an agent name", _HINT)
    if text in RESERVED:
        raise InvalidInputError(f"the name {text!r} is reserved", "choose another name")
    return text


def parse_recipient(text: str) -> str:
    """`text` as somebody who can receive a message: an agent, the manager or the operator."""
    return text if text == OPERATOR else parse_known_agent_name(text)


def container_name(agent: str) -> str:
    """What a driver calls the container of `agent`."""
    return MANAGER_CONTAINER if agent == MANAGER else agent
