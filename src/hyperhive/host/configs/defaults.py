"""The first config of an agent: all defaults."""

from hyperhive.core.names import parse_known_agent_name
from hyperhive.wire.agent_config import CONFIG_FILE, PROMPT_FILE

_CONFIG = """\
# The config of {name}: its powers, and what it is made of. Every key is described in docs/reference/config.md.
# What is not set here has its default: any recipient, any tool, any command, no MCP servers, no network.
"""
_PROMPT = """\
# {name}
"""


def plan_default_files(name: str) -> dict[str, bytes]:
    """The files of the config that an agent called `name` begins with: always the same for the same name.

    Raises InvalidInputError for anything but an agent's name.
    """
    known = parse_known_agent_name(name)
    return {CONFIG_FILE: _CONFIG.format(name=known).encode(), PROMPT_FILE: _PROMPT.format(name=known).encode()}
