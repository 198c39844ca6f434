"""Changes of an `agent.toml` that the hive writes itself: the text as it was, with its comments, and one entry more.

TOML can be written in many ways. So a place that looks right is tried, and what came of it is read again: only a
config that differs by the entry, and by nothing else, is a change.
"""

import re
from collections.abc import Iterator

from hyperhive.core.errors import ConflictError, InvalidInputError
from hyperhive.wire.agent_config import CONFIG_FILE, AgentConfig, parse_agent_config

# More places that look like the beginning of the list, or a header, than any config has.
_TRIES = 40
_LIST = re.compile(r"""(?<![\w.'"-])(?:network[ \t]*\.[ \t]*)?allow[ \t]*=[ \t]*\[""")
_HEADER = re.compile(r"^[ \t]*\[[ \t]*network[ \t]*\][ \t]*(?:#[^\n]*)?\r?$", re.MULTILINE)
# What stands in a list of strings, besides the commas.
_TOKEN = re.compile(r"""\s+|#[^\n]*|"(?:\\[^\n]|[^"\\\n])*"|'[^'\n]*'|,|\]""")


def add_allowed(content: bytes, entry: str) -> bytes:
    """The file with `entry` as the last of its network.allow.

    Raises InvalidInputError if the file or the entry cannot be used, ConflictError if the entry is there already or
    the file is written in a way in which it cannot be added.
    """
    before = parse_agent_config(content)
    if entry in before.network.allow:
        raise ConflictError(f"{entry} is in network.allow already", "see the agent's config")
    wanted = _plan_config(before, entry)
    # Decoded without a change of its line ends.
    text = content.decode("utf-8")
    for count, changed in enumerate(_list_changes(text, f'"{entry}"')):
        if count < _TRIES and _find_config(changed.encode()) == wanted:
            return changed.encode()
    raise ConflictError(
        f"{CONFIG_FILE} is written in a way in which {entry} cannot be added by itself", "ask the manager to add it"
    )


def _plan_config(before: AgentConfig, entry: str) -> AgentConfig:
    network = before.network.model_dump() | {"allow": [*before.network.allow, entry]}
    try:
        return AgentConfig.model_validate(before.model_dump() | {"network": network})
    except ValueError as error:
        raise InvalidInputError(f"{entry[:200]!r} cannot be an entry of network.allow", "see config.md") from error


def _find_config(content: bytes) -> AgentConfig | None:
    try:
        return parse_agent_config(content)
    except InvalidInputError:
        return None


def _list_changes(text: str, quoted: str) -> Iterator[str]:
    """The text with the entry at each place that may be right, the likeliest first."""
    for found in _LIST.finditer(text):
        changed = _add_to_list(text, found.end(), quoted)
        if changed is not None:
            yield changed
    for found in _HEADER.finditer(text):
        yield f"{text[: found.end()]}\nallow = [{quoted}]{text[found.end() :]}"
    yield f"{text.rstrip()}\n\n[network]\nallow = [{quoted}]\n".lstrip()


def _add_to_list(text: str, start: int, quoted: str) -> str | None:
    """With the entry behind the last of the list whose first character is at `start`; None if that is no list."""
    last_end, last, at = start, "", start
    while (token := _TOKEN.match(text, at)) is not None and token[0] != "]":
        at = token.end()
        if not token[0].isspace() and not token[0].startswith("#"):
            last_end, last = at, token[0]
    if token is None:
        return None
    if not last:
        return f"{text[:start]}{quoted}{text[start:]}"
    if "\n" in text[start:last_end] or "\n" in text[last_end : token.start()]:
        # A list with a line for each: the new one is written as the last one is.
        line = text.rfind("\n", 0, last_end) + 1
        indent = text[line : len(text) - len(text[line:].lstrip(" \t"))] if line > start - 1 else "    "
        comma = "" if last == "," else ","
        rest = text[last_end : token.start()]
        end_of_line = rest.find("\n")
        kept = rest if end_of_line < 0 else rest[:end_of_line]
        tail = "\n" if end_of_line < 0 else rest[end_of_line:]
        return f"{text[:last_end]}{comma}{kept}\n{indent}{quoted},{tail}{text[token.start() :]}"
    comma = " " if last == "," else ", "
    return f"{text[:last_end]}{comma}{quoted}{text[last_end:]}"
