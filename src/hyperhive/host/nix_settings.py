"""nix/settings.json: the daemon's settings as data, from which nix/module.nix makes its options.

Written by scripts/nix-settings; a test finds one that is not current.
"""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from hyperhive.host.settings import Settings
from hyperhive.wire.config_problems import spell_camel


def describe_settings() -> dict[str, dict[str, Any]]:
    """Each setting by the name of its option: variable, type, bounds if it has any, default and meaning."""
    properties: dict[str, dict[str, Any]] = Settings.model_json_schema()["properties"]
    return {spell_camel(name): _describe(name, schema) for name, schema in properties.items()}


def render_settings() -> str:
    return json.dumps(describe_settings(), indent=2) + "\n"


def _describe(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    # What may be None is not set then, as with every option.
    kind = next((one for one in schema.get("anyOf", ()) if one["type"] != "null"), schema)
    default = Settings.model_fields[name].default
    assert default is not PydanticUndefined, "a setting that has no default"
    return {
        "variable": f"HIVE_{name.upper()}",
        "type": "path" if kind.get("format") == "path" else kind["type"],
        **{bound: kind[bound] for bound in ("minimum", "maximum") if bound in kind},
        "default": default,
        "description": schema["description"],
    }


def main() -> None:
    """Writes the settings to the file that is named."""
    Path(sys.argv[1]).write_text(render_settings(), encoding="utf-8")


if __name__ == "__main__":
    main()
