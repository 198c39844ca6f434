"""A small MCP server over stdio that keeps notes: standard library only, JSON-RPC lines.

    python mcp_notes_server.py [--slow SECONDS] [--crash] FILE

Notes are lines of FILE. `--slow` waits before the first answer, `--crash` ends at once. The prefix of each note is the
variable NOTES_PREFIX, so that a test sees the environment arrive.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

Json = dict[str, Any]

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
NOTHING: Json = {"type": "object", "properties": {}}
TOOLS: list[Json] = [
    {"name": "add_note", "description": "Adds a note.", "inputSchema": TEXT},
    {"name": "list_notes", "description": "Lists all notes.", "inputSchema": NOTHING},
    {"name": "drop_notes", "description": "Removes all notes.", "inputSchema": NOTHING},
]


class Notes:
    def __init__(self, file: Path) -> None:
        self._file = file

    def call(self, tool: str, arguments: Json) -> str:
        if tool == "add_note":
            with self._file.open("a", encoding="utf-8") as file:
                file.write(os.environ.get("NOTES_PREFIX", "") + arguments["text"] + "\n")
            return "added"
        if tool == "list_notes":
            return self._file.read_text(encoding="utf-8") if self._file.exists() else "no notes"
        if tool == "drop_notes":
            self._file.unlink(missing_ok=True)
            return "dropped"
        raise ValueError(f"no tool is called {tool}")


def answer(notes: Notes, method: str, params: Json) -> Json | None:
    """The result of a request, None for a method that is not there."""
    match method:
        case "initialize":
            return {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "notes", "version": "1"},
            }
        case "ping":
            return {}
        case "tools/list":
            return {"tools": TOOLS}
        case "tools/call":
            text = notes.call(params["name"], params.get("arguments") or {})
            return {"content": [{"type": "text", "text": text}]}
        case _:
            return None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--slow", type=float, default=0)
    parser.add_argument("--crash", action="store_true")
    options = parser.parse_args()
    if options.crash:
        sys.exit("the notes server cannot start")
    time.sleep(options.slow)
    notes = Notes(options.file)
    for line in sys.stdin:
        request: Json = json.loads(line)
        if "id" not in request:
            continue
        reply: Json = {"jsonrpc": "2.0", "id": request["id"]}
        result = answer(notes, request["method"], request.get("params") or {})
        if result is None:
            reply["error"] = {"code": -32601, "message": "no such method"}
        else:
            reply["result"] = result
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
