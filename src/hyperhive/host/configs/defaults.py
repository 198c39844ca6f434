"""The first config of an agent: all defaults."""

from hyperhive.core.names import parse_known_agent_name
from hyperhive.wire.agent_config import CONFIG_FILE, PROMPT_FILE
from hyperhive.wire.agent_nix import NIX_FILE

_CONFIG = """\
# The config of {name}: its powers, and what it is made of. Every key is described in docs/reference/config.md.
# What is not set here has its default: any recipient, any tool, any command, no MCP servers, no network.
"""
_NIX_CONFIG = """\
# The config of {name}: a NixOS module. Its powers are the options below `hyperhive.`, which docs/reference/config.md
# describes; all others make its system.
# What is not set here has its default: any recipient, any tool, any command, no MCP servers, no network.
{{ }}
"""
_CONFIGS = {CONFIG_FILE: _CONFIG, NIX_FILE: _NIX_CONFIG}
_PROMPT = """\
# {name}
"""


def plan_default_files(name: str, file: str = CONFIG_FILE) -> dict[str, bytes]:
    """The files of the config that an agent called `name` begins with: always the same for the same name.

    `file` is the one that the hive's driver reads. Raises InvalidInputError for anything but an agent's name.
    """
    known = parse_known_agent_name(name)
    return {file: _CONFIGS[file].format(name=known).encode(), PROMPT_FILE: _PROMPT.format(name=known).encode()}
