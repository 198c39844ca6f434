"""The seam to claude-agent-sdk: how claude is started, and how nothing that it says is lost."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKClient,
    ClaudeSDKError,
    SdkMcpTool,
    ToolAnnotations,
    Transport,
    create_sdk_mcp_server,
)
from claude_agent_sdk._errors import MessageParseError
from claude_agent_sdk._internal.transport.subprocess_cli import (  # pyright: ignore[reportPrivateUsage]
    SubprocessCLITransport,  # the SDK wants a transport of one's own whole, and offers this one nowhere else
)
from claude_agent_sdk.types import McpStdioServerConfig

from hyperhive.core.errors import UnavailableError
from hyperhive.core.policy import parse_policy
from hyperhive.core.tool_rules import render_claude_rules
from hyperhive.harness.engine_wire import OpenParams, ToolResult
from hyperhive.harness.fences import Fences, plan_fences
from hyperhive.harness.judge import Ask, Judge
from hyperhive.harness.prompt import render_system_prompt
from hyperhive.wire.tools import SERVER_NAME, Tool, list_tools

ENVIRONMENT = {
    # The hive's tools are few and always needed: not hidden behind a search.
    "ENABLE_TOOL_SEARCH": "false",
    "DISABLE_AUTOUPDATER": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    # The container confines claude; as the container's uid 0 it would refuse to run unasked otherwise.
    "IS_SANDBOX": "1",
    # Otherwise messages of over 25,000 tokens together would not come through `recv`.
    "MAX_MCP_OUTPUT_TOKENS": "250000",
}
# Up to here claude puts a tool's result into the conversation, rather than into a file with a preview.
_RESULT_LIMIT_CHARS = 500_000
# One event of claude, such as a tool result with pictures. What the harness is told of it is an excerpt.
_EVENT_LIMIT_BYTES = 64 * 1024 * 1024

CallTool = Callable[[str, dict[str, Any]], Awaitable[ToolResult]]
OnEvent = Callable[[dict[str, Any]], Awaitable[None]]


class _TeeTransport(Transport):
    """The SDK's own transport, which also hands each raw event to `on_event` before the SDK sees it."""

    def __init__(self, inner: Transport, on_event: OnEvent) -> None:
        self._inner = inner
        self._on_event = on_event

    async def connect(self) -> None:
        await self._inner.connect()

    async def write(self, data: str) -> None:
        await self._inner.write(data)

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        async for message in self._inner.read_messages():
            await self._on_event(message)
            yield message

    async def close(self) -> None:
        await self._inner.close()

    def is_ready(self) -> bool:
        return self._inner.is_ready()

    async def end_input(self) -> None:
        await self._inner.end_input()


class Claude:
    """One claude process. Open it once, prompt it as often as wanted, close it."""

    def __init__(self, params: OpenParams, call_tool: CallTool, ask: Ask, on_event: OnEvent) -> None:
        policy = parse_policy(params["policy"])
        _, denied = render_claude_rules(policy)
        options = _plan_options(params, plan_fences(policy, denied), Judge(policy, ask), call_tool)
        # The SDK makes this of `can_use_tool` only for the transports that it makes itself.
        told = replace(options, permission_prompt_tool_name="stdio") if options.can_use_tool else options
        self._model = params["model"]
        self._client = ClaudeSDKClient(
            options,
            transport=_TeeTransport(SubprocessCLITransport(_no_input(), told), on_event),
        )

    async def open(self) -> None:
        """Starts claude and shakes hands. Raises UnavailableError if it does not start, or not with that session."""
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

    async def prompt(self, text: str, model: str, command_id: str) -> None:
        """Gives claude a prompt; its `command_lifecycle` events carry `command_id`. Raises UnavailableError."""
        try:
            if model and model != self._model:
                await self._client.set_model(model)
                self._model = model
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


def _plan_options(params: OpenParams, fences: Fences, judge: Judge, call_tool: CallTool) -> ClaudeAgentOptions:
    """All that decides how claude runs. Nothing of the working folder is obeyed: no settings, hooks or servers."""
    return ClaudeAgentOptions(
        system_prompt={
            "type": "preset",
            "preset": "claude_code",
            "append": render_system_prompt(params["agent"], params["manager"], params["prompt"]),
            # Otherwise a resumed conversation would keep the text that it began with.
            "snapshot": False,
        },
        permission_mode=fences.permission_mode,
        tools=fences.tools,
        disallowed_tools=fences.disallowed_tools,
        hooks={"PreToolUse": [judge.matcher]} if fences.judged else None,
        can_use_tool=judge.confirm if fences.judged else None,
        setting_sources=[],
        strict_mcp_config=True,
        mcp_servers={
            **{
                name: McpStdioServerConfig(
                    type="stdio", command=server["command"], args=list(server["args"]), env=dict(server["env"])
                )
                for name, server in params["mcp_servers"].items()
            },
            # Last, so that nothing of the config can stand in its place.
            SERVER_NAME: create_sdk_mcp_server(
                SERVER_NAME, tools=[_plan_tool(tool, call_tool) for tool in list_tools(params["manager"])]
            ),
        },
        # A message is text: `@path` and `/command` in it do nothing.
        verbatim_prompts=True,
        resume=params["resume"] or None,
        model=params["model"] or None,
        cli_path=params["claude"] or None,
        cwd=params["working_folder"],
        env=ENVIRONMENT,
        max_buffer_size=_EVENT_LIMIT_BYTES,
    )


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


async def _no_input() -> AsyncIterator[dict[str, Any]]:
    """No prompt at the start: each comes by `prompt`."""
    for message in ():
        yield message


async def _as_user_message(text: str, command_id: str) -> AsyncIterator[dict[str, Any]]:
    yield {
        "type": "user",
        "message": {"role": "user", "content": text},
        "parent_tool_use_id": None,
        "uuid": command_id,
    }
