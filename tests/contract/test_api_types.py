"""The pages' types and the operator's API name the same fields, of the same kinds."""

import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
from pydantic import BaseModel

from hyperhive.core.events import EventName
from hyperhive.wire import operator
from hyperhive.wire.operator.base import Model

WEB = Path(__file__).parents[2] / "web" / "src"
SOURCE = (WEB / "api_types.ts").read_text()

KINDS = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean"}


def read_interfaces() -> dict[str, dict[str, str]]:
    """Each interface's fields with their types, `?` kept at the name."""
    found = re.findall(r"export interface (\w+) \{(.*?)\n\}", SOURCE, re.DOTALL)
    return {name: dict(re.findall(r"^  (\w+\??): (.+);$", body, re.MULTILINE)) for name, body in found}


def read_aliases() -> dict[str, set[str]]:
    found = re.findall(r"export type (\w+) =([^;]+);", SOURCE)
    return {name: set(re.findall(r'"(\w+)"', body)) for name, body in found}


def render_type(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A JSON Schema as the pages would write it; enums as the sorted list of their values."""
    if "anyOf" in schema:
        return " | ".join(render_type(option, definitions) for option in schema["anyOf"])
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        # Another model is named, and compared by itself; an enum is compared by its values.
        return name if "properties" in definitions[name] else render_type(definitions[name], definitions)
    if "enum" in schema or "const" in schema:
        return "|".join(sorted(schema.get("enum", [schema.get("const")])))
    match schema.get("type"):
        case "array":
            return f"{render_type(schema['items'], definitions)}[]"
        case "object":
            return "Record<string, unknown>"
        case "null":
            return "null"
        case kind:
            return KINDS[str(kind)]


def expand(text: str, aliases: dict[str, set[str]]) -> str:
    return " | ".join("|".join(sorted(aliases[part])) if part in aliases else part for part in text.split(" | "))


def load_models() -> dict[str, type[BaseModel]]:
    """Every request and answer of the API."""
    modules = [import_module(f"{operator.__name__}.{found.name}") for found in iter_modules(operator.__path__)]
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Model)
    }


INTERFACES = read_interfaces()
MODELS = load_models()


@pytest.mark.parametrize("name", sorted(INTERFACES))
def test_the_pages_read_what_the_api_writes(name: str) -> None:
    schema = MODELS[name].model_json_schema()
    properties: dict[str, Any] = schema["properties"]
    fields = {field.rstrip("?"): text for field, text in INTERFACES[name].items()}
    assert set(fields) == set(properties)
    aliases = read_aliases()
    for field, text in fields.items():
        expected = render_type(properties[field], schema.get("$defs", {}))
        assert expand(text, aliases) == expected, f"{name}.{field}"


def test_a_model_that_another_one_holds_is_known_to_the_pages() -> None:
    held = {
        name
        for fields in INTERFACES.values()
        for text in fields.values()
        for name in re.findall(r"\b[A-Z]\w+", text.replace("Record", ""))
    }
    assert held <= INTERFACES.keys() | read_aliases().keys()


def test_the_pages_know_every_event_and_no_other() -> None:
    source = "".join(path.read_text() for path in WEB.rglob("*.ts") if not path.name.endswith(".test.ts"))
    named = set(re.findall(r'"((?:message|approval|question|agent|draft|budget|reminder|notes)\.[a-z_]+)"', source))
    assert named <= {event.value for event in EventName}
