"""The seam to claude-agent-sdk: how it talks with a claude that runs, and how nothing that claude says is lost."""

import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKClient,
    ClaudeSDKError,
    CLIConnectionError,
    CLIJSONDecodeError,
    McpSdkServerConfig,
    ProcessError,
    SdkMcpTool,
    ToolAnnotations,
    Transport,
    create_sdk_mcp_server,
)
from claude_agent_sdk._errors import MessageParseError

from hyperhive.core.errors import TooLargeError, UnavailableError
from hyperhive.core.policy import parse_policy
from hyperhive.harness.claude_command import is_bare, is_judged
from hyperhive.harness.claude_process import ClaudeProcess
from hyperhive.harness.engine_wire import OpenParams, ToolResult
from hyperhive.harness.judge import Ask, Judge
from hyperhive.wire.tools import SERVER_NAME, Tool, list_tools

log = logging.getLogger("hive.engine")

# Up to here claude puts a tool's result into the conversation, rather than into a file with a preview.
_RESULT_LIMIT_CHARS = 500_000

# The first that takes text for text.
_VERBATIM_SINCE = (2, 1, 248)
_VERSION = re.compile(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})")

CallTool = Callable[[str, dict[str, Any]], Awaitable[ToolResult]]
OnEvent = Callable[[dict[str, Any]], Awaitable[None]]


class _ProcessTransport(Transport):
    """A claude that runs already, for the SDK. Each raw event goes to `on_event` before the SDK sees it."""

    def __init__(self, process: ClaudeProcess, on_event: OnEvent) -> None:
        self._process = process
        self._on_event = on_event
        self._closed = False

    async def connect(self) -> None:
        """Nothing is left to do."""

    async def write(self, data: str) -> None:
        if not self.is_ready():
            raise CLIConnectionError(f"claude has ended (exit code: {self._process.exit_status})")
        try:
            await self._process.write(data)
        except OSError as error:
            raise CLIConnectionError(f"claude does not read: {error}") from error

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        try:
            async for line in self._process.read_lines():
                if (message := _parse_line(line)) is not None:
                    _check_version(message)
                    await self._on_event(message)
                    yield message
        except TooLargeError as error:
            raise CLIConnectionError(error.message) from error
        status = await self._process.wait()
        if status != 0:
            raise ProcessError("claude ended", status, "see the container's log for what it wrote")

    async def close(self) -> None:
        self._closed = True
        await self._process.close()

    def is_ready(self) -> bool:
        return not self._closed and self._process.exit_status is None

    async def end_input(self) -> None:
        self._process.end_input()


def _check_version(event: dict[str, Any]) -> None:
    """Complains of a claude that is too old for `verbatim_prompts`."""
    if event.get("type") != "system" or event.get("subtype") != "init":
        return
    found = _VERSION.match(str(event.get("claude_code_version")))
    if found is None or tuple(map(int, found.groups())) < _VERBATIM_SINCE:
        log.warning("claude is older than %d.%d.%d: it obeys @path and /command in messages", *_VERBATIM_SINCE)


def _parse_line(line: bytes) -> dict[str, Any] | None:
    """An event; None for what is none, such as a line meant for a person. Raises CLIJSONDecodeError for half a one."""
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        event: dict[str, Any] = json.loads(line)
    except ValueError as error:
        raise CLIJSONDecodeError(line[:100].decode(errors="replace"), error) from error
    return event


class Claude:
    """A claude that was started with `params`. Open it once, prompt it as often as wanted, close it."""

    def __init__(
        self, process: ClaudeProcess, params: OpenParams, call_tool: CallTool, ask: Ask, on_event: OnEvent
    ) -> None:
        self._model = params["model"]
        self._transport = _ProcessTransport(process, on_event)
        options = _plan_options(params, Judge(parse_policy(params["policy"]), ask, on_event), call_tool)
        self._client = ClaudeSDKClient(options, transport=self._transport)

    async def open(self) -> None:
        """Shakes hands. Raises UnavailableError if claude does not start, or not with that session."""
        try:
            await self._client.connect()
        except Exception as error:  # the SDK raises plain Exception here as well
            raise UnavailableError(
                f"claude cannot be started: {error}", "see the container's log for what it wrote"
            ) from error

    async def drain(self) -> None:
        """Reads until claude ends. Must run while claude is open, or its output piles up and blocks it."""
        while True:
            try:
                async for _ in self._client.receive_messages():
                    pass
            except MessageParseError:
                # It is in the transcript all the same: only the end ends this.
                continue
            except ClaudeSDKError as error:
                raise UnavailableError(f"claude ended: {error}") from error
            return

    async def prompt(self, text: str, model: str, command_id: str, command: bool) -> None:
        """Gives claude a prompt; its `command_lifecycle` events carry `command_id`. Raises UnavailableError.

        A `command` is obeyed as one of claude's own; anything else is text, whatever it begins with.
        """
        try:
            if model != self._model:
                await self._client.set_model(model or None)
                self._model = model
            if command:
                # Without the SDK's mark of `verbatim_prompts`.
                async for message in _as_user_message(text, command_id):
                    await self._transport.write(json.dumps(message) + "\n")
            else:
                await self._client.query(_as_user_message(text, command_id))
        except Exception as error:  # as above
            raise UnavailableError(f"claude does not take a prompt: {error}") from error

    async def interrupt(self) -> None:
        """Ends what claude is doing; nothing happens if it is idle. Raises UnavailableError."""
        try:
            await self._client.interrupt()
        except Exception as error:  # as above
            raise UnavailableError(f"claude does not take an interrupt: {error}") from error

    async def close(self) -> None:
        """Ends claude: EOF, TERM, KILL. May be called at any time, once."""
        await self._client.disconnect()


def _plan_options(params: OpenParams, judge: Judge, call_tool: CallTool) -> ClaudeAgentOptions:
    """What is agreed on in the handshake. The rest of how claude runs is its command line: see `claude_command`."""
    judged = is_judged(params)
    return ClaudeAgentOptions(
        # Otherwise a resumed conversation would keep the text that it began with.
        system_prompt=None if is_bare(params) else {"type": "preset", "preset": "claude_code", "snapshot": False},
        hooks={"PreToolUse": [judge.matcher]} if judged else None,
        can_use_tool=judge.confirm if judged else None,
        mcp_servers={} if is_bare(params) else {SERVER_NAME: _plan_server(params["manager"], call_tool)},
        # A message is text: `@path` and `/command` in it do nothing.
        verbatim_prompts=True,
    )


def _plan_server(manager: bool, call_tool: CallTool) -> McpSdkServerConfig:
    return create_sdk_mcp_server(SERVER_NAME, tools=[_plan_tool(tool, call_tool) for tool in list_tools(manager)])


def _plan_tool(tool: Tool, call_tool: CallTool) -> SdkMcpTool[Any]:
    async def call(arguments: dict[str, Any]) -> dict[str, Any]:
        result = await call_tool(tool.name, arguments)
        return {"content": [{"type": "text", "text": result["text"]}], "is_error": result.get("is_error", False)}

    return SdkMcpTool(
        name=tool.name,
        description=tool.description,
        input_schema=tool.input_schema,
        handler=call,
        annotations=ToolAnnotations(maxResultSizeChars=_RESULT_LIMIT_CHARS),
    )


async def _as_user_message(text: str, command_id: str) -> AsyncIterator[dict[str, Any]]:
    yield {
        "type": "user",
        "message": {"role": "user", "content": text},
        "parent_tool_use_id": None,
        "uuid": command_id,
    }
