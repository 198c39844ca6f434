"""The second spelling of a config: the options of an `agent.nix`, as its evaluation tells them.

They are the fields of `AgentConfig` below `hyperhive.`, in camelCase. What people name themselves, such as MCP servers
and variables, is spelled as they spell it. The schema says which is which, so a new field needs nothing here.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any, TypeAlias, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hyperhive.core.errors import InvalidInputError
from hyperhive.wire.agent_config import AgentConfig, render_schema
from hyperhive.wire.config_problems import NIX, Place, render_problems, spell_camel

NIX_FILE = "agent.nix"
# As JSON, with the names of all options: more than agent.toml may have.
OPTIONS_LIMIT_BYTES = 256 * 1024

# A node of a JSON Schema.
Node: TypeAlias = Mapping[str, Any]


def parse_agent_options(content: bytes) -> AgentConfig:
    """The config that the evaluation of an `agent.nix` gave, as JSON.

    Every option has to be there, as an evaluation has them all: what is missing never counts as its default. Raises
    InvalidInputError in the words of agent.nix: the option, what it has to be, and what was probably meant.
    """
    options = _parse_json(content)
    problems: list[ErrorDetails] = []
    fields = _respell(options, _get_schema(), (), problems)
    try:
        config = AgentConfig.model_validate(fields)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        # What is missing has been found already.
        problems += [_move(one) for one in found if one["type"] != "missing"]
    else:
        if not problems:
            return config
    message = f"{NIX_FILE}: {render_problems(problems, render_options_schema(), NIX)}"
    raise InvalidInputError(message, "correct it and commit it again")


@functools.cache
def render_options_schema() -> dict[str, Any]:
    """The JSON Schema of what stands below `hyperhive.` in an `agent.nix`. What has no default may be null: not set."""
    return {**_spell_schema(_get_schema()), "title": f"{NIX_FILE}: {NIX.above}"}


def list_changed_options(before: bytes, after: bytes) -> list[str]:
    """The options that two evaluations both have, with other values, such as `hyperhive.bash.allow`.

    They may be of versions of the hive that have other options: what only one of them has does not count. Raises
    InvalidInputError for what is no evaluation.
    """
    places = _find_changed(_parse_json(before), _parse_json(after), _get_schema(), ())
    return [".".join((NIX.above, *place)) for place in places]


def _find_changed(before: Any, after: Any, node: Node, place: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    node = _resolve(node)
    if isinstance(before, dict) and isinstance(after, dict):
        old, new = cast("dict[str, Any]", before), cast("dict[str, Any]", after)
        if "properties" in node:
            for field, below in node["properties"].items():
                name = spell_camel(field)
                if name in old and name in new:
                    yield from _find_changed(old[name], new[name], below, (*place, name))
            return
        if old.keys() == new.keys() and isinstance(node.get("additionalProperties"), dict):
            for name in old:
                yield from _find_changed(old[name], new[name], node["additionalProperties"], (*place, name))
            return
    if isinstance(before, list) and isinstance(after, list) and "items" in node:
        pairs = list(zip_longest(cast("list[Any]", before), cast("list[Any]", after)))
        if any(True for old, new in pairs for _ in _find_changed(old, new, node["items"], place)):
            yield place
    elif before != after:
        yield place


def _parse_json(content: bytes) -> dict[str, Any]:
    if len(content) > OPTIONS_LIMIT_BYTES:
        raise InvalidInputError(
            f"{NIX_FILE}: its options are {len(content):,} bytes of JSON", f"at most {OPTIONS_LIMIT_BYTES:,} are read"
        )
    try:
        options: Any = json.loads(content, object_pairs_hook=_refuse_twice, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        # Of what Nix itself wrote: it was cut off or damaged on its way.
        raise InvalidInputError(f"{NIX_FILE}: its evaluation gave no JSON", "see the daemon's log") from error
    if not isinstance(options, dict):
        raise InvalidInputError(f"{NIX_FILE}: its evaluation gave no attribute set", "see the daemon's log")
    return cast("dict[str, Any]", options)


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name stands there twice")
    return table


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _respell(value: Any, node: Node, place: Place, problems: list[ErrorDetails]) -> Any:
    """`value` with the fields of the schema's `node` in snake_case; `problems` gets what is unknown or missing."""
    node = _resolve(node)
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        if "properties" in node:
            return dict(_respell_fields(table, node["properties"], place, problems))
        if isinstance(node.get("additionalProperties"), dict):
            named: Node = node["additionalProperties"]
            return {name: _respell(item, named, (*place, name), problems) for name, item in table.items()}
    if isinstance(value, list) and "items" in node:
        items = cast("list[Any]", value)
        return [_respell(item, node["items"], (*place, index), problems) for index, item in enumerate(items)]
    # What has another type than it should is pydantic's to refuse.
    return cast("object", value)


def _respell_fields(
    table: Mapping[str, Any], fields: Mapping[str, Node], place: Place, problems: list[ErrorDetails]
) -> Iterator[tuple[str, Any]]:
    spelled = {spell_camel(field): field for field in fields}
    problems += [_say("missing", (*place, name)) for name in spelled if name not in table]
    for name, item in table.items():
        field = spelled.get(name)
        if field is None:
            # Never handed on: it could be spelled as in agent.toml, and would count.
            problems.append(_say("extra_forbidden", (*place, name)))
        else:
            yield field, _respell(item, fields[field], (*place, name), problems)


def _say(kind: str, place: Place) -> ErrorDetails:
    return {"type": kind, "loc": place, "msg": "", "input": None}


def _move(problem: ErrorDetails) -> ErrorDetails:
    moved = problem.copy()
    moved["loc"] = _spell_place(problem["loc"])
    return moved


def _spell_place(place: Place) -> Place:
    """A place of the config as agent.nix has it."""
    node: Node = _get_schema()
    spelled: list[int | str] = []
    for part in place:
        node = _resolve(node)
        fields: Mapping[str, Node] = node.get("properties", {})
        if isinstance(part, str) and part in fields:
            spelled.append(spell_camel(part))
            node = fields[part]
        else:
            spelled.append(part)
            below = node.get("items" if isinstance(part, int) else "additionalProperties")
            node = cast("Node", below) if isinstance(below, dict) else {}
    return tuple(spelled)


def _spell_schema(node: Node) -> dict[str, Any]:
    spelled = dict(node)
    if "properties" in node:
        spelled["properties"] = {spell_camel(name): _spell_schema(below) for name, below in node["properties"].items()}
    if "required" in node:
        spelled["required"] = [spell_camel(name) for name in node["required"]]
    if "$defs" in node:
        spelled["$defs"] = {name: _spell_schema(below) for name, below in node["$defs"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            spelled[key] = _spell_schema(node[key])
    fields = _resolve(node).get("properties", {})
    if isinstance(node.get("default"), dict) and fields:
        spelled["default"] = {spell_camel(name): value for name, value in node["default"].items()}
    return spelled


def _resolve(node: Node) -> Node:
    reference = node.get("$ref")
    return node if reference is None else _get_schema()["$defs"][str(reference).removeprefix("#/$defs/")]


@functools.cache
def _get_schema() -> dict[str, Any]:
    # Not when this is loaded: most hives read no agent.nix.
    return render_schema()
