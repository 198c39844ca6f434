"""One engine process (see `engine`), as the harness sees it."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from hyperhive.core.errors import UnavailableError
from hyperhive.harness import engine_wire
from hyperhive.harness.engine_wire import (
    OpenParams,
    PermissionAnswer,
    PermissionAskParams,
    RunTurnParams,
    ToolResult,
    TurnResult,
)
from hyperhive.harness.peer import ConnectionLostError, Peer
from hyperhive.system.children import CHILDREN
from hyperhive.system.memory_kills import Kills, is_killed_since, observe_kills
from hyperhive.wire.jsonrpc import INVALID_PARAMS, LINE_LIMIT_BYTES, METHOD_NOT_FOUND, ProtocolError

# Importing the SDK takes a second, starting claude half of one, on a loaded machine several times that.
_OPEN_TIMEOUT_S = 90.0
# Together below the 5 s in which the harness ends: claude finishes what it writes, then is asked, then made to.
_EOF_DEADLINE_S = 2.0
_TERM_DEADLINE_S = 1.0
_INTERRUPT_TIMEOUT_S = 2.0
# What the SDK says of a claude that SIGKILL ended; the engine passes it on.
_CLAUDE_KILLED = "(exit code: -9)"

OnEvent = Callable[[dict[str, Any]], None]
CallTool = Callable[[str, dict[str, Any]], Awaitable[ToolResult]]
AskPermission = Callable[[PermissionAskParams], Awaitable[PermissionAnswer]]


@dataclass(frozen=True, slots=True)
class Services:
    """What the harness does for an engine that asks."""

    call_tool: CallTool
    ask_permission: AskPermission


class EngineProcess:
    """Made by `start`, which opens claude too. It is one process group: engine, claude and what shares the group.

    However it ends, nothing that claude's tools started outlives the last engine that is open.
    """

    _open_pids: ClassVar[set[int]] = set()

    def __init__(self, process: asyncio.subprocess.Process, peer: Peer) -> None:
        self._process = process
        self._peer = peer
        self._reading = asyncio.create_task(peer.run())
        self._ending = asyncio.create_task(self._clean_up())
        # Whether it was killed by us.
        self._killed = False
        # At its start, and anew at each turn: it may be open for days.
        self._kills = observe_kills()

    @classmethod
    async def start(cls, params: OpenParams, on_event: OnEvent, services: Services) -> Self:
        """A new engine with claude open. Raises UnavailableError; then nothing of it is left."""
        CHILDREN.adopt_orphans()
        ours, theirs = socket.socketpair()
        try:
            # Neither way of starting imports from the working folder, which is the agent's.
            with CHILDREN.starting() as note:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-I" if sys.flags.isolated else "-P", "-m", "hyperhive.harness.engine",
                    stdin=theirs.fileno(), stdout=sys.stderr, start_new_session=True,
                )  # fmt: skip
                note(process.pid)
                cls._open_pids.add(process.pid)
        except OSError as error:
            ours.close()
            raise UnavailableError(f"the engine cannot be started: {error.strerror}") from error
        finally:
            theirs.close()

        async def answer(method: str, request: dict[str, Any]) -> ToolResult | PermissionAnswer:
            match method, request:
                case engine_wire.TOOL_CALL, {"name": str(name), "arguments": {**arguments}}:
                    return await services.call_tool(name, arguments)
                case engine_wire.PERMISSION_ASK, {"tool": str(tool), "arguments": {**arguments}, "rule": str(rule)}:
                    return await services.ask_permission(PermissionAskParams(tool=tool, arguments=arguments, rule=rule))
                case ((engine_wire.TOOL_CALL | engine_wire.PERMISSION_ASK), _):
                    raise ProtocolError(INVALID_PARAMS, f"these are not the params of {method}")
                case _:
                    raise ProtocolError(METHOD_NOT_FOUND, f"no method {method!r}")

        def notice(method: str, params: dict[str, Any]) -> None:
            if method == engine_wire.CLAUDE_EVENT:
                on_event(params["event"])

        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=LINE_LIMIT_BYTES)
        engine = cls(process, Peer(reader, writer, answer, notice))
        try:
            await engine._open(params)
        except BaseException:
            await engine.close()
            raise
        return engine

    def when_ended(self, told: Callable[[], None]) -> None:
        """`told` is called once it is not alive any more, however that came."""
        self._reading.add_done_callback(lambda _: told())

    @property
    def alive(self) -> bool:
        return self._process.returncode is None and not self._reading.done()

    async def run_turn(self, params: RunTurnParams) -> TurnResult:
        """Runs one turn to its end. Raises UnavailableError if claude or the engine ended in it."""
        self._kills = observe_kills()
        try:
            return await self._request(engine_wire.RUN_TURN, params)
        except UnavailableError as error:
            if _CLAUDE_KILLED in error.message:
                raise UnavailableError(f"claude was {explain_kill(self._kills)}", error.hint) from error
            raise

    async def interrupt(self) -> None:
        """Asks claude to end its turn. Raises UnavailableError if it does not even answer."""
        try:
            async with asyncio.timeout(_INTERRUPT_TIMEOUT_S):
                await self._request(engine_wire.CANCEL_TURN, {})
        except TimeoutError as error:
            raise UnavailableError("the engine does not answer") from error

    async def close(self) -> None:
        """Ends the whole process group: EOF, TERM, KILL. May be called again, and at any time."""
        self._peer.close()
        for deadline_s, signum in ((_EOF_DEADLINE_S, signal.SIGTERM), (_TERM_DEADLINE_S, signal.SIGKILL)):
            if await self._ends_within(deadline_s):
                break
            self._signal(signum)
        await self._ending
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def kill(self) -> None:
        """Ends the whole process group at once."""
        self._signal(signal.SIGKILL)
        await self.close()

    async def _clean_up(self) -> None:
        """Waits for the engine's end, and ends what it leaves: also when nobody asked it to end."""
        await self._process.wait()
        # claude, had it been killed over the engine's end, would be left.
        self._signal(signal.SIGKILL)
        self._open_pids.discard(self._process.pid)
        CHILDREN.ended(self._process.pid)
        await CHILDREN.end_strays(lambda: bool(self._open_pids))

    async def _open(self, params: OpenParams) -> None:
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT_S):
                await self._request(engine_wire.OPEN, params)
        except TimeoutError as error:
            raise UnavailableError(f"claude did not start within {_OPEN_TIMEOUT_S:g} s") from error

    async def _request(self, method: str, params: Any) -> Any:
        try:
            return await self._peer.request(method, params)
        except ConnectionLostError as error:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _TERM_DEADLINE_S)
            raise UnavailableError(self._explain_end(), "see the container's log for what it wrote") from error

    def _explain_end(self) -> str:
        status = self._process.returncode
        if status == -signal.SIGKILL and not self._killed:
            return f"the engine was {explain_kill(self._kills)}"
        return f"the engine ended (exit status {status})" if status is not None else "the engine hung up"

    async def _ends_within(self, deadline_s: float) -> bool:
        try:
            await asyncio.wait_for(self._process.wait(), deadline_s)
        except TimeoutError:
            return False
        return True

    def _signal(self, signum: signal.Signals) -> None:
        self._killed |= signum is signal.SIGKILL and self._process.returncode is None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signum)


def explain_kill(before: Kills) -> str:
    """What to say of a SIGKILL that nobody here sent; `before` is what the kernel had counted earlier."""
    why = "the machine was out of memory" if is_killed_since(before) else "something else did that"
    return f"killed (SIGKILL): {why}"
