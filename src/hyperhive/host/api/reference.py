"""The reference page of the API, written from the code: `scripts/api-reference`."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from hyperhive.host.api.app import create_app
from hyperhive.host.api.errors import STATUS_BY_CODE
from hyperhive.host.api.guard import is_local_only
from hyperhive.host.api.scopes import get_scope
from hyperhive.host.api.services import Services

_HEAD = """# The HTTP API

Written from the code by `scripts/api-reference`; do not edit. `docs/programs.md` says how to be let in.
`/api/openapi.json` of a running hive has the same with every detail. Bodies are JSON, instants RFC 3339 in UTC. *Scope*
is what a token needs; a session and the hive's own socket may do all of it.

## Refusals

Each has the body `ErrorBody`: `code` is stable, `message` and `hint` are for people. Beside these codes, 401
`unauthenticated`: no session and no token; 421: the `Host` is not this hive's; 500 `internal`: a mistake of the hive's.
"""

Schema = Mapping[str, Any]


class _Unbuilt:
    """Stands for the services: routes only keep what they are given until a request comes."""

    origin = "http://127.0.0.1"

    def __getattr__(self, name: str) -> "_Unbuilt":
        return self


def describe_api() -> Schema:
    """The OpenAPI document, of no hive that runs."""
    return create_app(cast("Services", _Unbuilt())).openapi()


def render_reference(document: Schema) -> str:
    """The whole page."""
    models: Schema = document["components"]["schemas"]
    lines = [_HEAD, "| code | status |", "|---|---|"]
    lines += [f"| `{code}` | {status} |" for code, status in STATUS_BY_CODE.items()]
    tags = sorted({_get_tag(operation) for _, _, operation in _list_operations(document)})
    for tag in tags:
        lines += ["", f"## {tag.capitalize()}"]
        for method, path, operation in _list_operations(document):
            if _get_tag(operation) == tag:
                lines += ["", *_render_operation(method, path, operation)]
    lines += ["", "## Bodies"]
    for name in sorted(models):
        if name not in {"HTTPValidationError", "ValidationError"}:
            lines += ["", *_render_model(name, models[name])]
    return "\n".join(lines) + "\n"


def _list_operations(document: Schema) -> Iterator[tuple[str, str, Schema]]:
    for path in sorted(document["paths"]):
        for method, operation in document["paths"][path].items():
            yield method.upper(), path, operation


def _get_tag(operation: Schema) -> str:
    return operation.get("tags", ["hive"])[0]


def _render_operation(method: str, path: str, operation: Schema) -> list[str]:
    lines = [f"### `{method} {path}`", ""]
    text = _one_line(operation.get("description", ""))
    if text:
        lines += [*_wrap(text), ""]
    answers = ", ".join(
        f"{status} {_render_content(answer)}".rstrip()
        for status, answer in operation["responses"].items()
        if not status.endswith("XX") and status != "422"
    )
    scope = get_scope(method, path)
    facts = [f"- Scope: {scope}." if scope else "- Never with a token."]
    if is_local_only(path):
        facts = ["- Only over the hive's own socket."]
    if "requestBody" in operation:
        facts.append(f"- Takes: {_render_content(operation['requestBody'])}.")
    lines += [*facts, f"- Answers: {answers}."]
    rows = [_render_parameter(p) for p in operation.get("parameters", []) if p["in"] != "cookie"]
    return [*lines, "", "| parameter | in | type | |", "|---|---|---|---|", *rows] if rows else lines


def _render_content(holder: Schema) -> str:
    """What it holds; nothing for JSON of no known shape."""
    names = [
        _render_type(content.get("schema", {})) or kind.removeprefix("application/json")
        for kind, content in holder.get("content", {}).items()
    ]
    return " or ".join(f"`{name}`" for name in names if name)


def _render_parameter(parameter: Schema) -> str:
    schema: Schema = parameter["schema"]
    text = _one_line(parameter.get("description", "") or schema.get("description", ""))
    need = "" if parameter.get("required") else _render_default(schema)
    return f"| `{parameter['name']}` | {parameter['in']} | {_cell(_render_type(schema))} | {_cell(_join(text, need))} |"


def _render_model(name: str, model: Schema) -> list[str]:
    lines = [f"### {name}", ""]
    text = _one_line(model.get("description", ""))
    if text:
        lines += [*_wrap(text), ""]
    if "enum" in model:
        return [*lines, *_wrap(f"One of {', '.join(f'`{value}`' for value in model['enum'])}.")]
    required = set(model.get("required", []))
    lines += ["| field | type | |", "|---|---|---|"]
    for field, schema in model.get("properties", {}).items():
        need = "" if field in required else _render_default(schema)
        text = _join(_one_line(schema.get("description", "")), need)
        lines.append(f"| `{field}` | {_cell(_render_type(schema))} | {_cell(text)} |")
    return lines


def _render_default(schema: Schema) -> str:
    default = schema.get("default")
    return "May be left out." if default in (None, "", [], {}) else f"Left out: {json.dumps(default)}."


def _render_type(schema: Schema) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_render_type(option) for option in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_render_type(schema.get('items', {})) or 'anything'}"
    return str(schema.get("format") or schema.get("type", ""))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _join(*texts: str) -> str:
    return " ".join(text if text.endswith(".") else f"{text}." for text in texts if text)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _wrap(text: str, width: int = 110) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def main() -> None:
    """Writes the page to the file that is named."""
    Path(sys.argv[1]).write_text(render_reference(describe_api()), encoding="utf-8")


if __name__ == "__main__":
    main()
