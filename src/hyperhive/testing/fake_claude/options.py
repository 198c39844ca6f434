"""What the command line and the environment say. Flags of the real program that change nothing here are ignored."""

import argparse
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

VERSION = "2.1.329"
DEFAULT_MODEL = "claude-opus-5-5"


@dataclass(slots=True)
class Options:
    """`model` is the only thing that changes while the program runs: by `set_model`."""

    model: str
    session_id: str
    resume: str | None
    max_turns: int | None
    partial_messages: bool
    permission_mode: str
    max_retries: int
    projects: Path
    mcp_servers: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    @property
    def session_file(self) -> Path:
        return self.projects / f"{self.session_id}.jsonl"


def parse_options(arguments: Sequence[str], environment: Mapping[str, str]) -> Options:
    """Raises SystemExit for a command line that asks for what the fake cannot do."""
    parser = argparse.ArgumentParser(prog="claude", allow_abbrev=False)
    parser.add_argument("-v", "--version", action="version", version=f"{VERSION} (Claude Code)")
    parser.add_argument("--input-format", default="text")
    parser.add_argument("--output-format", default="text")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--resume")
    parser.add_argument("--session-id")
    parser.add_argument("--max-turns", type=int)
    parser.add_argument("--permission-mode", default="default")
    parser.add_argument("--mcp-config", default="{}")
    parser.add_argument("--include-partial-messages", action="store_true")
    parsed, _ = parser.parse_known_args(arguments)
    if (parsed.input_format, parsed.output_format) != ("stream-json", "stream-json"):
        parser.error("the fake speaks stream-json only, in and out")
    return Options(
        model=parsed.model,
        session_id=parsed.resume or parsed.session_id or str(uuid.uuid4()),
        resume=parsed.resume,
        max_turns=parsed.max_turns,
        partial_messages=parsed.include_partial_messages,
        permission_mode=parsed.permission_mode,
        max_retries=int(environment.get("CLAUDE_CODE_MAX_RETRIES", "10")),
        projects=_projects_folder(environment),
        mcp_servers=_read_mcp_servers(parsed.mcp_config),
    )


def _projects_folder(environment: Mapping[str, str]) -> Path:
    """Where sessions are kept: like the real one, in a folder named after the working folder."""
    home = Path(environment.get("CLAUDE_CONFIG_DIR") or Path(environment.get("HOME", "/")) / ".claude")
    return home / "projects" / os.fspath(Path.cwd()).replace("/", "-")


def _read_mcp_servers(text: str) -> dict[str, dict[str, Any]]:
    """`--mcp-config` is JSON itself or the path of a file with it."""
    if not text.lstrip().startswith("{"):
        text = Path(text).read_text(encoding="utf-8")
    value = cast("dict[str, Any]", json.loads(text))
    return cast("dict[str, dict[str, Any]]", value.get("mcpServers", {}))
