"""What the values in an agent's config may be.

Each `parse_` returns the text it was given or raises ValueError, whose message continues the name of the key. The
patterns are for JSON Schema, too: they mean the same in Python and in ECMAScript.
"""

import re
from collections.abc import Callable
from typing import Final

from hyperhive.core.egress_entries import ENTRY, parse_entry
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.names import MANAGER, OPERATOR, RESERVED, parse_recipient

TEXT_LIMIT_BYTES = 4096
_SHOWN_CHARS = 60

MODEL: Final = r"^([A-Za-z0-9][A-Za-z0-9._:@/\[\]-]{0,99})?$"
# claude's own tools: those of MCP servers, which begin with `mcp__`, are allowed with their servers.
OWN_TOOL: Final = r"^(?!mcp__)[A-Za-z][A-Za-z0-9_-]{0,199}$"
# Any tool; with a `*` at its end, all that begin so.
TOOLS: Final = r"^([A-Za-z][A-Za-z0-9_-]{0,199}\*?|\*)$"
# As claude names them: any other character of a server's own name for a tool becomes `_`.
SERVER_TOOLS: Final = r"^([A-Za-z0-9_-]{1,128}\*?|\*)$"
# claude calls a tool `mcp__SERVER__TOOL`: what SERVER is must be plain in it.
SERVER: Final = r"^(?!.*__)[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9-])?$"
PACKAGE: Final = r"^[a-z0-9][a-z0-9+.-]{1,63}$"
# Printable ASCII that neither begins nor ends with a space.
LINE: Final = r"^[!-~]([ -~]*[!-~])?$"
# As `core.bash_rules` takes a rule for commands.
BASH_PATTERN: Final = r"^(?=.{1,500}$)[!-~]+( [!-~]+)*$"
MEMORY: Final = r"^[1-9][0-9]{0,5}[KMGT]$"
_NOBODY = "|".join(sorted(re.escape(name) for name in RESERVED - {MANAGER, OPERATOR}))
RECIPIENT: Final = rf"^(?!({_NOBODY})$)[a-z]([a-z0-9-]{{0,61}}[a-z0-9])?$"
CRON: Final = r"^[0-9A-Za-z*,/-]+( [0-9A-Za-z*,/-]+){4}$"
# An entry of network.allow.
REACH: Final = ENTRY

# What the hive sets, what decides whom claude talks to, and what makes another program of the harness, of claude or
# of the shell that the bash rules judge.
VARIABLE_PREFIXES: Final = (
    "ANTHROPIC_",
    "BUN_",
    "CLAUDE",
    "DISABLE_",
    "HIVE_",
    "LC_",
    "LD_",
    "NODE_",
    "OPENSSL_",
    "PYTHON",
    "SSL_",
)
VARIABLES: Final = (
    "ALL_PROXY",
    "BASHOPTS",
    "BASH_ENV",
    "ENABLE_TOOL_SEARCH",
    "ENV",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "IS_SANDBOX",
    "LANG",
    "LOCPATH",
    "LOGNAME",
    "MAX_MCP_OUTPUT_TOKENS",
    "NO_PROXY",
    "PATH",
    "PS4",
    "PWD",
    "SHELL",
    "SHELLOPTS",
    "USER",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
_NOT_A_VARIABLE = "|".join(
    (
        *VARIABLE_PREFIXES,
        # Who commits is the one thing about git that may be set.
        "GIT_(?!(AUTHOR|COMMITTER)_(NAME|EMAIL)$)",
        *(f"{name}$" for name in VARIABLES),
    )
)
ANY_VARIABLE: Final = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
VARIABLE: Final = rf"^(?!{_NOT_A_VARIABLE})[A-Za-z_][A-Za-z0-9_]{{0,127}}$"

# `hyperhive` would be taken for the hive's own server; the others claude has plans for or refuses.
RESERVED_SERVERS: Final = frozenset(
    {"claude", "claudeinchrome", "computeruse", "constructor", "hyperhive", "ide", "prototype", "workspace"}
)

_CRON_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
_LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_CRON_NAMES = {
    "month": ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    "weekday": ("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
}
_CRON_PART = re.compile(
    r"(?:\*|(?P<first>[0-9]{1,2}|[a-z]{3})(?:-(?P<last>[0-9]{1,2}|[a-z]{3}))?)(?:/(?P<step>[0-9]{1,2}))?"
)


def _make_parser(pattern: str, complaint: str) -> Callable[[str], str]:
    """A `parse_` for texts that match `pattern`, whose `complaint` follows the text."""
    matches = re.compile(pattern.removeprefix("^").removesuffix("$"))

    def parse(text: str) -> str:
        if not text and not matches.fullmatch(text):
            raise ValueError("is empty")
        if not matches.fullmatch(text) or len(text) > TEXT_LIMIT_BYTES:
            raise ValueError(f"{text[:_SHOWN_CHARS]!r} {complaint}")
        return text

    return parse


parse_model = _make_parser(MODEL, "is not the name of a model")
parse_package = _make_parser(
    PACKAGE, "is not the name of a package: a to z, 0 to 9, '+', '.' and '-', 2 to 64 characters"
)
parse_server_tools = _make_parser(
    SERVER_TOOLS, "is not the name of a tool: letters, digits, '_' and '-', and a '*' at the end for all that begin so"
)
parse_bash_pattern = _make_parser(
    BASH_PATTERN, "is not a command in printable ASCII, with one space between words, of at most 500 characters"
)
parse_line = _make_parser(LINE, "is not printable ASCII on one line, without a space at its ends")
parse_memory = _make_parser(MEMORY, "is not an amount of memory, such as '512M' or '2G'")
parse_any_variable = _make_parser(ANY_VARIABLE, "is not the name of a variable: letters, digits and '_'")
_parse_own_tool = _make_parser(OWN_TOOL, "is not the name of a tool of claude, such as 'Read'")
_parse_tools = _make_parser(TOOLS, "is not the name of a tool, such as 'WebFetch', or the beginning of one and '*'")
_parse_server_name = _make_parser(
    SERVER, "is not the name of a server: letters, digits, '-' and single '_' between them, at most 63 characters"
)


def parse_text(text: str) -> str:
    """Any text of which all can be seen: nothing in it moves a cursor, hides or turns around what is read."""
    if len(text.encode("utf-8", "surrogatepass")) > TEXT_LIMIT_BYTES:
        raise ValueError(f"is longer than {TEXT_LIMIT_BYTES} bytes")
    for char in text:
        if not char.isprintable():
            raise ValueError(f"holds the character U+{ord(char):04X}, which cannot be shown")
    return text


def parse_reach(text: str) -> str:
    """What may be reached: a host, with a port if it is not that of https, or a plain http request."""
    try:
        parse_entry(text)
    except ValueError as error:
        if not text:
            raise ValueError("is empty") from error
        raise ValueError(
            f"{text[:_SHOWN_CHARS]!r} is not what may be reached, such as 'example.org', '*.example.org:8443' or "
            "'GET http://example.org/debian/*'"
        ) from error
    return text


def parse_server_text(text: str) -> str:
    """A text that claude starts a server with, and does not change before."""
    if "${" in text:
        raise ValueError("holds '${', in whose place claude would put the value of a variable: write the value itself")
    return parse_text(text)


def parse_command(text: str) -> str:
    """The program of a server."""
    return parse_line(parse_server_text(text))


def parse_allowed_recipient(text: str) -> str:
    """Somebody who can receive a message."""
    try:
        return parse_recipient(text)
    except InvalidInputError as error:
        raise ValueError(f"{text[:_SHOWN_CHARS]!r} is nobody who can receive messages: {error.message}") from error


def parse_own_tool(text: str) -> str:
    """One of claude's own tools."""
    if text == "*":
        raise ValueError("'*' is not the name of a tool: an empty list means any tool")
    if text.startswith("mcp__"):
        raise ValueError(f"{text[:_SHOWN_CHARS]!r} belongs to an MCP server: list it in mcp_servers.NAME.allowed_tools")
    return _parse_own_tool(_check_no_rule(text))


def parse_tools(text: str) -> str:
    """A tool as claude names it, or the beginning of such names and `*`."""
    return _parse_tools(_check_no_rule(text))


def _check_no_rule(text: str) -> str:
    if "(" in text:
        raise ValueError(f"{text[:_SHOWN_CHARS]!r} is not the name of a tool: rules for commands are in [bash]")
    return text


def parse_server(text: str) -> str:
    """The key of an MCP server."""
    name = _parse_server_name(text)
    if re.sub("[-_]", "", name).casefold() in RESERVED_SERVERS:
        raise ValueError(f"the name {name!r} is reserved: choose another one")
    return name


def parse_variable(text: str) -> str:
    """The name of a variable that an agent's config may set for its container."""
    name = parse_any_variable(text)
    if not re.match(VARIABLE, name):
        raise ValueError(f"{name!r} cannot be set: it is the hive's, or decides how claude and its shell run")
    return name


def parse_cron(text: str) -> str:
    """Five fields: minute, hour, day, month, weekday."""
    expand_cron(text)
    return text


def expand_cron(text: str) -> tuple[tuple[int, ...], ...]:
    """The values of each of the five fields, sorted; Sunday is 0. Raises ValueError, also for what never comes."""
    if text.startswith("@"):
        raise ValueError(f"{text[:_SHOWN_CHARS]!r} is not five fields, such as '0 9 * * mon-fri'")
    fields = text.split(" ")
    if len(fields) != len(_CRON_FIELDS):
        raise ValueError(f"{text[:_SHOWN_CHARS]!r} is not five fields with one space between them")
    expanded = tuple(
        _expand_cron_field(field, name, low, high)
        for field, (name, low, high) in zip(fields, _CRON_FIELDS, strict=True)
    )
    days, months, weekdays = expanded[2:]
    # With weekdays named either is enough.
    if len(weekdays) == 7 and min(days) > max(_LONGEST_MONTHS[month - 1] for month in months):
        raise ValueError(f"{text[:_SHOWN_CHARS]!r} never comes: no such month has that many days")
    return expanded


def _expand_cron_field(field: str, name: str, low: int, high: int) -> tuple[int, ...]:
    values: set[int] = set()
    for part in field.lower().split(","):
        found = _find_cron_range(part, name, low, high)
        if found is None:
            raise ValueError(
                f"{field[:_SHOWN_CHARS]!r} is not a {name}: numbers from {low} to {high}, '*', '-', '/', ','"
            )
        values.update(found)
    if name == "weekday":
        values = {value % 7 for value in values}
    return tuple(sorted(values))


def _find_cron_range(part: str, name: str, low: int, high: int) -> range | None:
    found = _CRON_PART.fullmatch(part)
    if found is None or (found["step"] is not None and not 1 <= int(found["step"]) <= high):
        return None
    if found["first"] is None:
        first, last = low, high
    else:
        first = _parse_cron_value(found["first"], name)
        # `5/15` begins at 5 and goes on to the end, which for weekdays is Saturday.
        end = first if found["step"] is None else max(first, high - (name == "weekday"))
        last = end if found["last"] is None else _parse_cron_value(found["last"], name)
    return range(first, last + 1, int(found["step"] or 1)) if low <= first <= last <= high else None


def _parse_cron_value(text: str, name: str) -> int:
    """A number or name as a number; -1, which is out of every range, for another name."""
    if text.isdigit():
        return int(text)
    names = _CRON_NAMES.get(name, ())
    return names.index(text) + (name == "month") if text in names else -1
