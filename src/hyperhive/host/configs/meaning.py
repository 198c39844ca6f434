"""What a change of a config means. Pure: every value that differs between two configs has a row.

The rows are found by walking over all that a config holds, not by asking about what is known to matter: a key that
is new to the schema shows from its first day.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hyperhive.core.effects import Effect, latest_effect
from hyperhive.wire.agent_config import CONFIG_FILE, PROMPT_FILE, AgentConfig, get_effect
from hyperhive.wire.agent_nix import NIX_FILE
from hyperhive.wire.operator.configs import FileDiff, MeaningRow

FILES_AREA = "files"
ANYTHING = "(anything)"
ONLY_LISTED = "(only what is listed)"
NOTHING = "(nothing)"
NOT_SET = "(not set)"

# What an empty list allows, for those that allow.
_EMPTY_LISTS: dict[tuple[str, ...], str] = {
    ("allowed_recipients",): ANYTHING,
    ("allowed_tools",): ANYTHING,
    ("bash", "allow"): ANYTHING,
    ("mcp_servers", "*", "allowed_tools"): NOTHING,
}
# The one list whose order is its meaning: shown as a whole.
_ARGUMENTS = ("mcp_servers", "*", "args")
# What it gives away is more than the word says.
_HOST_NETWORK = (
    "host (shares this machine's network: any host and private network, what listens on its loopback, also of other "
    "programs and agents, and its abstract sockets; network.allow is not asked and nothing is recorded)"
)
# Values that run as they stand: quoted, so that spaces and unusual letters in them are seen.
_QUOTED = ("mcp_servers", "environment")


class _Absent:
    """Stands for what is not there on one of the two sides."""


_ABSENT = _Absent()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the config a value is: the names of the keys above it and its own."""

    path: tuple[str, ...]

    @property
    def kind(self) -> tuple[str, ...]:
        """The place in the schema: without the names of MCP servers."""
        if self.path[0] == "mcp_servers" and len(self.path) > 1:
            return (self.path[0], "*", *self.path[2:])
        return self.path

    @property
    def subject(self) -> str:
        return ".".join(self.path[1:] or self.path)

    def child(self, name: str) -> "_Place":
        return _Place((*self.path, name))

    def item_subject(self, item: str) -> str:
        """What one entry of the list at this place is called."""
        return item if len(self.path) == 1 else f"{self.subject}: {item}"


def plan_meaning(before: AgentConfig | None, after: AgentConfig, files: Sequence[FileDiff]) -> list[MeaningRow]:
    """One row for each value that differs between the two configs, and for each of `files` but agent.toml.

    agent.nix has a row of its own: it says more than a config holds, which stands in its diff alone. Without
    `before` the agent is new: what is set to other than the default is shown as added.
    """
    old = (before or AgentConfig()).model_dump()
    new = after.model_dump()
    rows = [row for name in AgentConfig.model_fields for row in _compare(_Place((name,)), old[name], new[name])]
    if before is None:
        rows = [row.model_copy(update={"change": "added", "before": ""}) for row in rows]
    return [*rows, *(_plan_file(file) for file in files if file.path != CONFIG_FILE)]


def plan_effect(meaning: Sequence[MeaningRow]) -> Effect:
    """When the whole change takes effect: with the last of its parts."""
    return latest_effect(row.effect for row in meaning)


def _compare(place: _Place, old: Any, new: Any) -> Iterator[MeaningRow]:
    """The rows for what differs at and below `place`. Either side may be _ABSENT."""
    known = new if old is _ABSENT else old
    if isinstance(known, dict):
        yield from _compare_tables(place, _or_empty(old, {}), _or_empty(new, {}))
    elif isinstance(known, list) and place.kind != _ARGUMENTS:
        yield from _compare_lists(place, old, new)
    elif old != new:
        yield _plan_row(place, place.subject, _render_value(place, old), _render_value(place, new), old, new)


def _compare_tables(place: _Place, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[MeaningRow]:
    for name in dict.fromkeys([*old, *new]):
        yield from _compare(place.child(name), old.get(name, _ABSENT), new.get(name, _ABSENT))


def _compare_lists(place: _Place, old: Any, new: Any) -> Iterator[MeaningRow]:
    """What an allowing list allows on the whole, if that changes; each entry that comes or goes; another order."""
    whole_old, whole_new = _render_whole(place, old), _render_whole(place, new)
    if whole_old != whole_new:
        yield _plan_row(place, place.subject, whole_old, whole_new, old, new)
    items_old = [_render_item(item) for item in _or_empty(old, [])]
    items_new = [_render_item(item) for item in _or_empty(new, [])]
    for item in items_old:
        if item not in items_new:
            yield _plan_row(place, place.item_subject(item), item, "", item, _ABSENT)
    for item in items_new:
        if item not in items_old:
            yield _plan_row(place, place.item_subject(item), "", item, _ABSENT, item)
    kept_old = [item for item in items_old if item in items_new]
    kept_new = [item for item in items_new if item in items_old]
    if kept_old != kept_new:
        yield _plan_row(place, f"{place.subject} (order)", shlex.join(kept_old), shlex.join(kept_new), old, new)


def _plan_row(place: _Place, subject: str, before: str, after: str, old: Any, new: Any) -> MeaningRow:
    area = place.path[0]
    change: Literal["added", "removed", "changed"] = "changed"
    if old is _ABSENT:
        change = "added"
    elif new is _ABSENT:
        change = "removed"
    effect = get_effect(*place.path[:2])
    return MeaningRow(area=area, change=change, subject=subject, before=before, after=after, effect=effect)


def _plan_file(file: FileDiff) -> MeaningRow:
    before = "" if file.change == "added" else f"{file.old_size_bytes} bytes"
    after = "" if file.change == "removed" else f"{file.new_size_bytes} bytes"
    if file.change == "changed":
        after += ", not text" if file.binary else f", {file.added} lines added, {file.removed} removed"
    if file.executable is not None and file.change != "removed":
        after += ", can be executed" if file.executable else ", can no longer be executed"
    effect = Effect.NEXT_TURN if file.path == PROMPT_FILE else Effect.RESTART
    if file.path == NIX_FILE:
        effect = Effect.REBUILD
        after += ", with its system: see the diff" if after else ""
    return MeaningRow(area=FILES_AREA, change=file.change, subject=file.path, before=before, after=after, effect=effect)


def _or_empty(value: Any, empty: Any) -> Any:
    return empty if value is _ABSENT else value


def _render_whole(place: _Place, items: Any) -> str:
    """What a list allows on the whole; the same for every list that does not allow."""
    if items is _ABSENT or place.kind not in _EMPTY_LISTS:
        return ""
    if items == ["*"]:
        return ANYTHING
    return ONLY_LISTED if items else _EMPTY_LISTS[place.kind]


def _render_item(item: Any) -> str:
    """An entry of a list. Of a schedule: the five fields, which hold no other spaces, and the message."""
    return f"{item['cron']} {item['message']}" if isinstance(item, dict) else str(item)


def _render_value(place: _Place, value: Any) -> str:
    if value is _ABSENT:
        return ""
    if value is None:
        return NOT_SET
    if isinstance(value, bool):
        return "yes" if value else "no"
    if place.kind == _ARGUMENTS:
        return shlex.join(value) or "(none)"
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if place.path == ("network", "mode") and value == "host":
        return _HOST_NETWORK
    if place.path == ("model",):
        return value or "(claude's default)"
    return shlex.quote(value) if place.path[0] in _QUOTED else str(value)
