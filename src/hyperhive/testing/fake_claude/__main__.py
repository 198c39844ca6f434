"""The program: answers control requests, plays one turn for each prompt, ends when its input ends."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from hyperhive.testing.fake_claude import events
from hyperhive.testing.fake_claude.channel import CallerGoneError, Channel
from hyperhive.testing.fake_claude.commands import run_command
from hyperhive.testing.fake_claude.ledger import Ledger
from hyperhive.testing.fake_claude.mcp import McpServers
from hyperhive.testing.fake_claude.options import DEFAULT_MODEL, VERSION, Options, parse_options
from hyperhive.testing.fake_claude.tools import ToolRunner
from hyperhive.testing.fake_claude.turn import Parts, Turn, read_prompt

Json = dict[str, Any]


class Program:
    def __init__(self, options: Options) -> None:
        channel = Channel(self._answer_request)
        servers = McpServers(channel, options.mcp_servers)
        runner = ToolRunner(channel, servers, options)
        self._options = options
        self._parts = Parts(options, channel, Ledger(), servers, runner)
        self._initialized = self._connected = self._ending = False
        self._answers: dict[str, Callable[[Json], Json]] = {
            "initialize": self._initialize,
            "interrupt": self._interrupt,
            "set_model": self._set_model,
            "set_permission_mode": self._set_permission_mode,
            "get_context_usage": self._get_context_usage,
            "mcp_status": self._get_mcp_status,
            "end_session": self._end_session,
        }

    def run(self) -> int:
        """Serves until the input ends; returns the exit status."""
        if self._options.resume and not self._options.session_file.exists():
            self._refuse_resume()
            return 1
        channel = self._parts.channel
        while True:
            if self._initialized and not self._connected:
                self._connected = True
                self._parts.servers.connect()
            elif channel.prompts:
                self._run_prompt(read_prompt(channel.prompts.popleft()))
            elif channel.closed or self._ending:
                return 0
            else:
                channel.pump()

    def _run_prompt(self, prompt: str) -> None:
        self._options.session_file.parent.mkdir(parents=True, exist_ok=True)
        with self._options.session_file.open("a", encoding="utf-8") as file:
            file.write(f"{events.now()}\n")
        if prompt.startswith("/"):
            run_command(self._parts, prompt)
        else:
            Turn(self._parts).run(prompt)

    def _refuse_resume(self) -> None:
        error = f"No conversation found with session ID: {self._options.resume}"
        fields = {"subtype": "error_during_execution", "is_error": True, "num_turns": 0, "errors": [error]}
        self._parts.channel.emit(self._parts.ledger.make_result(self._options, 0, **fields))

    # -- control requests ---------------------------------------------------------------------------------

    def _answer_request(self, message: Json) -> None:
        request: Json = message["request"]
        subtype = str(request.get("subtype"))
        response: Json = {"subtype": "success", "request_id": message["request_id"]}
        if answer := self._answers.get(subtype):
            response["response"] = answer(request)
        else:
            error = f"Unsupported control request subtype: {subtype}"
            response.update(subtype="error", error=error, error_code="unsupported_request")
        self._parts.channel.emit({"type": "control_response", "response": response})

    def _initialize(self, request: Json) -> Json:
        hooks: Json = request.get("hooks") or {}
        self._parts.runner.hooks = hooks.get("PreToolUse") or []
        self._initialized = True
        return {
            "commands": [],
            "agents": [],
            "output_style": "default",
            "available_output_styles": ["default"],
            "models": [],
            "account": {"tokenSource": "none", "apiProvider": "firstParty"},
            "pid": os.getpid(),
            "claude_code_version": VERSION,
            "current_permission_mode": self._options.permission_mode,
            "hook_on_failure_supported": True,
            "session_state": "idle",
            "capabilities": [],
        }

    def _interrupt(self, _request: Json) -> Json:
        self._parts.channel.interrupt()
        return {"still_queued": []}

    def _set_model(self, request: Json) -> Json:
        self._options.model = request.get("model") or DEFAULT_MODEL
        text = f"<local-command-stdout>Set model to `{self._options.model}`</local-command-stdout>"
        self._parts.channel.emit(events.user_event(self._options, text, isReplay=True))
        return {"model": self._options.model}

    def _set_permission_mode(self, request: Json) -> Json:
        self._options.permission_mode = str(request.get("mode"))
        return {"mode": self._options.permission_mode}

    def _get_context_usage(self, _request: Json) -> Json:
        used, limit = self._parts.ledger.context_tokens, 200_000
        return {
            "categories": [],
            "totalTokens": used,
            "maxTokens": limit,
            "rawMaxTokens": limit,
            "percentage": round(100 * used / limit),
            "model": self._options.model,
            "isAutoCompactEnabled": True,
            "autoCompactThreshold": 167_000,
        }

    def _get_mcp_status(self, _request: Json) -> Json:
        status = self._parts.servers.status
        return {"mcpServers": [{"name": name, "status": state} for name, state in status.items()]}

    def _end_session(self, _request: Json) -> Json:
        self._ending = True
        return {}


def main() -> None:
    # Raised as an exception so that a tool which is running is ended on the way out.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(128 + signal.SIGTERM))
    try:
        sys.exit(Program(parse_options(sys.argv[1:], os.environ)).run())
    except (CallerGoneError, BrokenPipeError):
        # The interpreter would flush its output once more and complain that nobody reads it.
        os._exit(1)


if __name__ == "__main__":
    main()
