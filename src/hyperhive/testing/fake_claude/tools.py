"""The tools the fake can really run: Bash, and those of the caller's MCP servers, after asking the caller's hooks."""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from dataclasses import dataclass, replace
from typing import Any, cast

from hyperhive.testing.fake_claude.channel import Channel, InterruptError, RefusedError
from hyperhive.testing.fake_claude.mcp import McpServers
from hyperhive.testing.fake_claude.options import Options

Json = dict[str, Any]

ACCEPTED: Json = {"permission_decision": {"decision": "accept", "source": "config", "reason_type": "rule"}}
REJECTED: Json = {
    "non_execution_kind": "user-rejected",
    "permission_decision": {"decision": "reject", "source": "config"},
}


@dataclass(frozen=True, slots=True)
class Call:
    id: str
    name: str
    input: Json


@dataclass(frozen=True, slots=True)
class Outcome:
    """`block` is what the model gets, `detail` the program's own view, `denied` the reason of a hook's refusal."""

    block: Json
    detail: Any
    decision: Json
    denied: str | None = None


class ToolRunner:
    def __init__(self, channel: Channel, servers: McpServers, options: Options) -> None:
        self._channel = channel
        self._servers = servers
        self._options = options
        self.hooks: list[Json] = []

    def run(self, call: Call) -> Outcome:
        """Runs one call. Raises InterruptError when the caller interrupts; what runs is ended with it."""
        denied, call = self._ask_hooks(call)
        if denied is not None:
            block = {"content": denied, "is_error": True, "tool_use_id": call.id}
            return Outcome(block, f"Error: {denied}", REJECTED, denied)
        if call.name == "Bash":
            return self._run_bash(call)
        if call.name.startswith("mcp__"):
            return self._run_mcp(call)
        return _failed(call, f"No such tool available: {call.name}")

    # -- hooks --------------------------------------------------------------------------------------------

    def _ask_hooks(self, call: Call) -> tuple[str | None, Call]:
        """The reason of a PreToolUse hook that denies, and the call, perhaps with an input that a hook changed."""
        for hook in self.hooks:
            matcher = hook.get("matcher")
            if matcher not in {None, "", "*"} and not re.fullmatch(str(matcher), call.name):
                continue
            for callback in cast("list[str]", hook.get("hookCallbackIds", [])):
                try:
                    decision = self._ask_hook(callback, call)
                except RefusedError:
                    if hook.get("onFailure") == "block":
                        return 'failed; blocking because onFailure is "block"', call
                    continue
                if decision.get("permissionDecision") == "deny":
                    return str(decision.get("permissionDecisionReason", "denied by a hook")), call
                call = replace(call, input=decision.get("updatedInput", call.input))
        return None, call

    def _ask_hook(self, callback: str, call: Call) -> Json:
        options = self._options
        answer = self._channel.request(
            {
                "subtype": "hook_callback",
                "callback_id": callback,
                "tool_use_id": call.id,
                "input": {
                    "session_id": options.session_id,
                    "transcript_path": os.fspath(options.session_file),
                    "cwd": os.fspath(options.projects),
                    "permission_mode": options.permission_mode,
                    "hook_event_name": "PreToolUse",
                    "tool_name": call.name,
                    "tool_input": call.input,
                    "tool_use_id": call.id,
                },
            }
        )
        decision: Json = answer.get("hookSpecificOutput", {})
        return decision

    # -- the tools ----------------------------------------------------------------------------------------

    def _run_bash(self, call: Call) -> Outcome:
        command = ["bash", "-c", str(call.input.get("command", ""))]
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
            watched = os.pidfd_open(process.pid)
            try:
                self._channel.wait_for(watched)
            except (InterruptError, SystemExit):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
            finally:
                os.close(watched)
                process.wait()
            output.seek(0)
            text = output.read().decode("utf-8", "replace").strip("\n")
        if process.returncode:
            return _failed(call, f"Exit code {process.returncode}\n{text}".strip())
        content = text or "(Bash completed with no output)"
        block = {"tool_use_id": call.id, "content": content, "is_error": False}
        detail = {
            "stdout": text,
            "stderr": "",
            "interrupted": False,
            "isImage": False,
            "noOutputExpected": False,
        }
        return Outcome(block, detail, ACCEPTED)

    def _run_mcp(self, call: Call) -> Outcome:
        try:
            result = self._servers.call_tool(call.name, call.input)
        except RefusedError as error:
            return _failed(call, str(error))
        content: Any = result.get("content", [])
        block: Json = {"tool_use_id": call.id, "content": content}
        if result.get("isError"):
            block["is_error"] = True
        return Outcome(block, {"content": content, "_meta": {}}, ACCEPTED)


def _failed(call: Call, text: str) -> Outcome:
    block = {"content": text, "is_error": True, "tool_use_id": call.id}
    return Outcome(block, f"Error: {text}", ACCEPTED)
