"""What is wrong with a config, in words: the key in dotted form, what it has to be, and what was probably meant.

The words are those of the language that it is written in.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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


def spell_snake(key: str) -> str:
    """`allowedTools` and `allowed-tools` as `allowed_tools`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).replace("-", "_").lower()


def spell_camel(key: str) -> str:
    """`allowed_tools` and `allowed-tools` as `allowedTools`."""
    first, *others = spell_snake(key).split("_")
    return first + "".join(part.capitalize() for part in others)


@dataclass(frozen=True, slots=True)
class Language:
    """What a config is written in: how keys are spelled, what they are called, and other words than TOML's.

    All keys stand below `above`. With `headers` a key that stands below a [table] belongs to that.
    """

    spell: Callable[[str], str]
    key: str
    words: Mapping[str, str]
    above: str = ""
    headers: bool = False


TOML = Language(spell_snake, "key", _WORDS, headers=True)
_SET = "has to be an attribute set"
NIX = Language(spell_camel, "option", {**_WORDS, "dict_type": _SET, "model_type": _SET}, above="hyperhive")


def render_problems(problems: Sequence[ErrorDetails], schema: Mapping[str, Any], language: Language = TOML) -> str:
    """The first problems that pydantic found in a config with this JSON Schema, and how many more there are.

    Schema and problems name the keys as `language` spells them.
    """
    keys = _list_keys(schema, schema)
    told = [_render_problem(problem, keys, language) for problem in problems[:TOLD_LIMIT]]
    left = len(problems) - len(told)
    return "; ".join([*told, f"and {left} more"] if left else told)


def _render_problem(problem: ErrorDetails, keys: Keys, language: Language) -> str:
    place = problem["loc"]
    if problem["type"] == "extra_forbidden":
        meant = _suggest(keys, place[:-1], str(place[-1]), language)
        return f"{_render_key_at(place, language)}: there is no such {language.key}{meant}"
    if place[-1:] == ("[key]",):
        place = place[:-1]
    words = language.words.get(problem["type"])
    said = problem["msg"] if words is None else words.format_map(problem.get("ctx", {}))
    return f"{_render_key_at(place, language)}: {said}"


def _render_key_at(place: Place, language: Language) -> str:
    return _render_place((language.above, *place) if language.above else place)


def _render_place(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{_render_key(part)}"
    return text.removeprefix(".")


def _render_key(key: str) -> str:
    shown = render_safe_line(key[:_KEY_SHOWN_CHARS]) + ("…" if len(key) > _KEY_SHOWN_CHARS else "")
    return shown if _BARE_KEY.fullmatch(key) else json.dumps(shown, ensure_ascii=False)


def _suggest(keys: Keys, place: Place, key: str, language: Language) -> str:
    """ ", did you mean …?", or nothing."""
    # The time to compare grows with the length, and nobody means a key of a page.
    spelled = language.spell(key[:_KEY_SHOWN_CHARS])
    here = _find_keys(keys, place)
    elsewhere = dict(_walk(keys))
    if spelled in here:
        return f", did you mean '{_render_key_at((*place, spelled), language)}'?"
    meant = [found for found, name in elsewhere.items() if name == spelled]
    if meant:
        return _render_meant(meant, place, language)
    close = difflib.get_close_matches(spelled, [name for name in here if name not in {_ANY, _EACH}], 1, 0.6)
    if close:
        return f", did you mean '{_render_key_at((*place, close[0]), language)}'?"
    far = difflib.get_close_matches(spelled, elsewhere.values(), 1, 0.8)
    return _render_meant([found for found, name in elsewhere.items() if name in far], place, language) if far else ""


def _render_meant(found: Sequence[str], place: Place, language: Language) -> str:
    # What stands below a [table] belongs to it, which people do not expect.
    higher = " (it has to stand before the first [table])" if place and language.headers else ""
    above = f"{language.above}." if language.above else ""
    meant = [f"'{above}{name}'" if "." in name else f"'{above}{name}'{higher}" for name in found]
    return f", did you mean {' or '.join(meant)}?"


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
