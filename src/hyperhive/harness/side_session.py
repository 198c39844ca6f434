"""A side session: one prompt to a claude of its own, without tools, servers or memory, and the text that it answers.

It shares nothing with the agent's conversation: an engine of its own, a session that is not kept. Its model requests
go the way of all others, so they count for the agent's budget.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from hyperhive.core.errors import TooLargeError, UnavailableError
from hyperhive.core.policy import Policy, render_policy
from hyperhive.harness.engine_client import EngineProcess, Services
from hyperhive.harness.engine_wire import (
    OpenParams,
    PermissionAnswer,
    PermissionAskParams,
    RunTurnParams,
    ToolResult,
    TurnResult,
)

# A text of 64 KiB takes a model minutes to write.
DEADLINE_S = 600.0
# None of claude's tools has this name. claude is offered none in the first place: this is the fence behind that.
_NO_TOOLS = render_policy(Policy(allowed_tools=("none",)))
_REASON_LIMIT_CHARS = 300

OnEvent = Callable[[dict[str, Any]], None]


def _ignore(event: dict[str, Any]) -> None:
    del event


class SideSession:
    """`instructions` are the whole system prompt. `find_model` is asked each time; empty is claude's own default."""

    def __init__(
        self,
        claude: Path | None,
        working_folder: Path,
        instructions: str,
        find_model: Callable[[], str],
        *,
        on_event: OnEvent = _ignore,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._claude = claude
        self._working_folder = working_folder
        self._instructions = instructions
        self._find_model = find_model
        self._on_event = on_event
        self._deadline_s = deadline_s

    async def ask(self, prompt: str) -> str:
        """What claude answers. Raises UnavailableError if it does not, TooLargeError if that is too long for a line.

        Nothing of it runs any more afterwards, also when this is cancelled.
        """
        reader = AnswerReader()

        def take(event: dict[str, Any]) -> None:
            reader.take(event)
            self._on_event(event)

        try:
            async with asyncio.timeout(self._deadline_s):
                return reader.finish(await self._run_turn(prompt, take))
        except TimeoutError as error:
            raise UnavailableError(f"claude did not answer within {self._deadline_s:g} s") from error

    async def _run_turn(self, prompt: str, take: OnEvent) -> TurnResult:
        model = self._find_model()
        engine = await EngineProcess.start(self._plan_opening(model), take, Services(_refuse_tool, _refuse_permission))
        ended = False
        try:
            result = await engine.run_turn(RunTurnParams(prompt=prompt, model=model, command=False))
            ended = True
            return result
        finally:
            # A turn that goes on is of no use to anybody: it must not keep the harness from ending in time.
            await (engine.close() if ended else engine.kill())

    def _plan_opening(self, model: str) -> OpenParams:
        return OpenParams(
            agent="",
            manager=False,
            resume="",
            model=model,
            claude=str(self._claude or ""),
            working_folder=str(self._working_folder),
            policy=_NO_TOOLS,
            mcp_servers={},
            prompt=self._instructions,
            bare=True,
        )


class AnswerReader:
    """Keeps the text of claude's last message, of the blocks that come one event each."""

    def __init__(self) -> None:
        self._message_id: object = None
        self._texts: list[str] = []
        self._is_cut = False

    def take(self, event: dict[str, Any]) -> None:
        message = event.get("message")
        if event.get("type") != "assistant" or event.get("parent_tool_use_id") or not isinstance(message, dict):
            return
        fields = cast("dict[str, Any]", message)
        if fields.get("id") != self._message_id:
            self._message_id, self._texts, self._is_cut = fields.get("id"), [], False
        self._is_cut |= bool(event.get("truncated"))
        content: object = fields.get("content")
        for block in cast("list[object]", content) if isinstance(content, list) else []:
            if isinstance(block, dict):
                self._take_block(cast("dict[str, Any]", block))

    def finish(self, end: TurnResult) -> str:
        """The text, once the turn has ended so. Raises UnavailableError if it did not end well."""
        result = end["result"]
        if result.get("is_error") is not False or end["api_error"]:
            reason = str(result.get("result") or result.get("terminal_reason") or "no reason given")
            raise UnavailableError(f"claude failed: {reason[:_REASON_LIMIT_CHARS]}")
        if self._is_cut:
            raise TooLargeError("claude's answer is too long")
        return "".join(self._texts)

    def _take_block(self, block: dict[str, Any]) -> None:
        if block.get("type") == "text":
            self._texts.append(str(block.get("text", "")))


async def _refuse_tool(name: str, arguments: dict[str, Any]) -> ToolResult:
    del arguments
    return ToolResult(text=f"there is no tool {name!r} in this session", is_error=True)


async def _refuse_permission(params: PermissionAskParams) -> PermissionAnswer:
    del params
    return PermissionAnswer(granted=False, reason="this session may call no tool")
