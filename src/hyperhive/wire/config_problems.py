"""What is wrong with a config, in words: the key in dotted form, what it has to be, and what was probably meant."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from pydantic_core import ErrorDetails

from hyperhive.core.text import render_safe_line

TOLD_LIMIT = 5

# The keys of a table, each with those below it. _ANY stands for a name that people choose, _EACH for an index.
Keys: TypeAlias = "dict[str, Keys]"
Place: TypeAlias = tuple[int | str, ...]

_ANY = "NAME"
_EACH = "[]"
_KEY_SHOWN_CHARS = 60
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_WORDS = {
    "missing": "is missing",
    "string_type": "has to be a text in quotes",
    "string_too_short": "is empty",
    "bool_type": "has to be true or false",
    "int_type": "has to be a whole number",
    "float_type": "has to be a number",
    "finite_number": "has to be a finite number",
    "list_type": "has to be a list",
    "dict_type": "has to be a table",
    "model_type": "has to be a table",
    "literal_error": "has to be {expected}",
    "too_long": "has more than {max_length} entries",
    "greater_than": "has to be more than {gt}",
    "greater_than_equal": "has to be at least {ge}",
    "less_than_equal": "has to be at most {le}",
    "value_error": "{error}",
}


def render_problems(problems: Sequence[ErrorDetails], schema: Mapping[str, Any]) -> str:
    """The first problems that pydantic found in a config with this JSON Schema, and how many more there are."""
    keys = _list_keys(schema, schema)
    told = [_render_problem(problem, keys) for problem in problems[:TOLD_LIMIT]]
    left = len(problems) - len(told)
    return "; ".join([*told, f"and {left} more"] if left else told)


def _render_problem(problem: ErrorDetails, keys: Keys) -> str:
    place = problem["loc"]
    if problem["type"] == "extra_forbidden":
        return f"{_render_place(place)}: there is no such key{_suggest(keys, place[:-1], str(place[-1]))}"
    if place[-1:] == ("[key]",):
        place = place[:-1]
    words = _WORDS.get(problem["type"])
    said = problem["msg"] if words is None else words.format_map(problem.get("ctx", {}))
    return f"{_render_place(place)}: {said}"


def _render_place(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{_render_key(part)}"
    return text.removeprefix(".")


def _render_key(key: str) -> str:
    shown = render_safe_line(key[:_KEY_SHOWN_CHARS]) + ("…" if len(key) > _KEY_SHOWN_CHARS else "")
    return shown if _BARE_KEY.fullmatch(key) else json.dumps(shown, ensure_ascii=False)


def _suggest(keys: Keys, place: Place, key: str) -> str:
    """ ", did you mean …?", or nothing."""
    # The time to compare grows with the length, and nobody means a key of a page.
    spelled = _respell(key[:_KEY_SHOWN_CHARS])
    here = _find_keys(keys, place)
    elsewhere = dict(_walk(keys))
    if spelled in here:
        return f", did you mean '{_render_place((*place, spelled))}'?"
    meant = [found for found, name in elsewhere.items() if name == spelled]
    if meant:
        return _render_meant(meant, place)
    close = difflib.get_close_matches(spelled, [name for name in here if name not in {_ANY, _EACH}], 1, 0.6)
    if close:
        return f", did you mean '{_render_place((*place, close[0]))}'?"
    far = difflib.get_close_matches(spelled, elsewhere.values(), 1, 0.8)
    return _render_meant([found for found, name in elsewhere.items() if name in far], place) if far else ""


def _render_meant(found: Sequence[str], place: Place) -> str:
    # What stands below a [table] belongs to it, which people do not expect.
    higher = " (it has to stand before the first [table])" if place else ""
    meant = [f"'{name}'" if "." in name else f"'{name}'{higher}" for name in found]
    return f", did you mean {' or '.join(meant)}?"


def _respell(key: str) -> str:
    """`allowedTools` and `allowed-tools` as `allowed_tools`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).replace("-", "_").lower()


def _find_keys(keys: Keys, place: Place) -> Keys:
    for part in place:
        keys = keys.get(_EACH, {}) if isinstance(part, int) else keys.get(part) or keys.get(_ANY, {})
    return keys


def _walk(keys: Keys, above: str = "") -> Iterator[tuple[str, str]]:
    """Every key as (dotted form, name)."""
    for name, below in keys.items():
        if name == _EACH:
            yield from _walk(below, f"{above.removesuffix('.')}[].")
            continue
        if name != _ANY:
            yield above + name, name
        yield from _walk(below, f"{above}{name}.")


def _list_keys(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Keys:
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].removeprefix("#/$defs/")]
    keys = {name: _list_keys(below, schema) for name, below in node.get("properties", {}).items()}
    for kind, name in (("additionalProperties", _ANY), ("items", _EACH)):
        if isinstance(node.get(kind), dict):
            keys[name] = _list_keys(node[kind], schema)
    return keys
