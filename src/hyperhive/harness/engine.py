"""The engine: `python -m hyperhive.harness.engine`, the heavy half of the harness.

It holds claude-agent-sdk and one claude, for as long as the agent is warm. Its standard input is a socket to the
harness (see `engine_wire`); when that closes, claude is ended and so is the engine. What it and claude print goes
to the container's log.

The SDK is imported only when claude has been started: each takes half a second, and they take it at the same time.
"""

import asyncio
import contextlib
import gc
import importlib
import logging
import socket
import sys
import uuid
from typing import TYPE_CHECKING, Any

from hyperhive.core.errors import ConflictError, HiveError, InvalidInputError, UnavailableError
from hyperhive.harness import engine_wire
from hyperhive.harness.claude_process import ClaudeProcess
from hyperhive.harness.engine_wire import (
    OpenParams,
    PermissionAnswer,
    PermissionAskParams,
    RunTurnParams,
    ToolResult,
    TurnResult,
)
from hyperhive.harness.excerpt import plan_excerpt
from hyperhive.harness.peer import ConnectionLostError, Peer
from hyperhive.wire.jsonrpc import LINE_LIMIT_BYTES

if TYPE_CHECKING:
    from hyperhive.harness.claude import Claude

log = logging.getLogger("hive.engine")

# Said between the SDK and claude, or so often and so small that it tells a transcript nothing.
_NOISE = frozenset(
    {
        "control_request",
        "control_response",
        "control_cancel_request",
        "keep_alive",
        "stream_event",
        "transcript_mirror",
    }
)
# An interrupted claude reports within milliseconds; the harness allows two seconds for all of the ending.
_INTERRUPT_AT_END_S = 0.5


class _RunningTurn:
    """A prompt given to claude, until the `result` that answers it.

    claude also starts turns by itself when work in the background ends, and their results look the same. Ours is
    the first result after claude has told that it took up our prompt; a CLI that never tells of its commands is
    believed the first result.
    """

    def __init__(self, command_id: str) -> None:
        self.command_id = command_id
        self.taken = False
        self.tells_commands = False
        self.api_error = ""
        self.result: asyncio.Future[TurnResult] = asyncio.get_running_loop().create_future()

    def take(self, event: dict[str, Any]) -> None:
        if event.get("type") == "command_lifecycle":
            self.tells_commands = True
            if event.get("command_uuid") == self.command_id:
                self._follow(str(event.get("state")))
        elif event.get("type") == "assistant":
            self.api_error = str(event.get("error") or "")
        elif event.get("type") == "result" and self._is_ours() and not self.result.done():
            self.result.set_result(TurnResult(result=plan_excerpt(event), api_error=self.api_error))

    def _follow(self, state: str) -> None:
        self.taken |= state == "started"
        if state == "cancelled" and not self.taken and not self.result.done():
            # Interrupted while it waited for another turn to end: no result will come.
            never_begun = {"type": "result", "is_error": True, "terminal_reason": "aborted_streaming"}
            self.result.set_result(TurnResult(result=never_begun, api_error=""))

    def _is_ours(self) -> bool:
        return self.taken or not self.tells_commands


class Engine:
    """Answers the harness. One turn at a time."""

    def __init__(self) -> None:
        self.peer: Peer | None = None
        self._process: ClaudeProcess | None = None
        self._claude: Claude | None = None
        self._draining: asyncio.Task[None] | None = None
        self._turn: _RunningTurn | None = None

    async def answer(self, method: str, params: dict[str, Any]) -> Any:
        match method:
            case engine_wire.OPEN:
                return await self._open(OpenParams(**params))
            case engine_wire.RUN_TURN:
                return await self._run_turn(RunTurnParams(**params))
            case engine_wire.CANCEL_TURN:
                if self._claude is not None:
                    await self._claude.interrupt()
                return {}
            case _:
                raise InvalidInputError(f"no method {method!r}")

    async def close(self) -> None:
        """Ends claude; what it is doing is interrupted, as it would finish that first."""
        if self._claude is None:
            if self._process is not None:
                await self._process.close()
            return
        with contextlib.suppress(HiveError, TimeoutError):
            async with asyncio.timeout(_INTERRUPT_AT_END_S):
                await self._claude.interrupt()
        await self._claude.close()
        if self._draining is not None:
            await asyncio.gather(self._draining, return_exceptions=True)

    async def _open(self, params: OpenParams) -> dict[str, Any]:
        if self._process is not None:
            raise ConflictError("claude is open already")
        self._process = await ClaudeProcess.start(params)
        claude = _load_claude()
        self._claude = claude(self._process, params, self._call_tool, self._ask_permission, self._on_event)
        await self._claude.open()
        self._draining = asyncio.create_task(self._claude.drain())
        self._draining.add_done_callback(self._claude_ended)
        return {}

    def _claude_ended(self, draining: asyncio.Task[None]) -> None:
        """Without claude there is nothing to keep open. A turn under way tells the harness so by its answer."""
        if not draining.cancelled() and draining.exception() is not None:
            log.warning("%s", draining.exception())
        if self._turn is None and self.peer is not None:
            self.peer.close()

    async def _run_turn(self, params: RunTurnParams) -> TurnResult:
        if self._claude is None or self._draining is None or self._turn is not None:
            raise ConflictError("claude is not open, or a turn is running")
        self._turn = turn = _RunningTurn(str(uuid.uuid4()))
        try:
            await self._claude.prompt(params["prompt"], params["model"], turn.command_id, params["command"])
            await asyncio.wait([turn.result, self._draining], return_when=asyncio.FIRST_COMPLETED)
            if not turn.result.done():
                await self._draining  # tells how claude ended
                raise UnavailableError("claude ended in the middle of the turn")
            return turn.result.result()
        finally:
            self._turn = None

    async def _on_event(self, event: dict[str, Any]) -> None:
        if event.get("type") not in _NOISE and self.peer is not None:
            await self.peer.notify(engine_wire.CLAUDE_EVENT, {"event": plan_excerpt(event)})
        if self._turn is not None:
            self._turn.take(event)

    async def _call_tool(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        return await self._request(engine_wire.TOOL_CALL, {"name": name, "arguments": arguments})

    async def _ask_permission(self, tool: str, arguments: dict[str, Any], rule: str) -> PermissionAnswer:
        params = PermissionAskParams(tool=tool, arguments=plan_excerpt(arguments), rule=rule)
        return await self._request(engine_wire.PERMISSION_ASK, {**params})

    async def _request(self, method: str, params: dict[str, Any]) -> Any:
        if self.peer is None:
            raise UnavailableError("the harness is not there")
        try:
            return await self.peer.request(method, params)
        except ConnectionLostError as error:
            raise UnavailableError("the harness ended") from error


def _load_claude() -> "type[Claude]":
    """Imports the SDK; takes half a second."""
    # Nothing of what an import makes is garbage: looking for it takes a tenth of the time.
    gc.disable()
    try:
        return importlib.import_module("hyperhive.harness.claude").Claude
    finally:
        gc.freeze()
        gc.enable()


async def _run() -> None:
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=0), limit=LINE_LIMIT_BYTES)
    engine = Engine()
    engine.peer = Peer(reader, writer, engine.answer, announces_cancel=True)
    try:
        await engine.peer.run()
    finally:
        await engine.close()


def main() -> None:
    # The time as `hive logs --since` reads it.
    logging.basicConfig(
        level=logging.WARNING,
        stream=sys.stderr,
        format="%(asctime)s engine: %(levelname)s %(name)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S%z",
    )
    asyncio.run(_run())


if __name__ == "__main__":
    main()
