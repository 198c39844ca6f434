"""Keeps an engine, and so a claude, open while the agent is warm, and the conversation going from one to the next."""

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hyperhive.core.errors import HiveError
from hyperhive.core.paths import FORK_FILE
from hyperhive.harness.engine_client import EngineProcess, Services
from hyperhive.harness.engine_wire import OpenParams, RunTurnParams, TurnResult
from hyperhive.harness.events import EventStore
from hyperhive.harness.link import Greeting
from hyperhive.harness.offer import list_gaps
from hyperhive.system.plain_files import find_size_bytes
from hyperhive.wire.agent_link import HarnessConfig

log = logging.getLogger("hive.engine")

_SESSION_KEY = "session_id"
_SESSION = re.compile(r"[0-9a-fA-F-]{36}")
# What a turn ends with that was cancelled before claude heard of it.
_NEVER_BEGUN: TurnResult = {
    "result": {"type": "result", "is_error": True, "terminal_reason": "aborted_streaming"},
    "api_error": "",
}

OnEvent = Callable[[dict[str, Any]], None]


class WarmEngine:
    """Starts an engine for the first turn, ends it `warm_s` after the last sign of claude, and resumes the session.

    A turn whose config wants claude opened otherwise than it is open gets a new one, with the same session. A config's
    `warm_s` goes before the one given here. `notice` is told what the transcript should tell, `ended` called when there
    is no claude open any more. One turn at a time.
    """

    def __init__(
        self,
        claude: Path | None,
        working_folder: Path,
        warm_s: float,
        store: EventStore,
        services: Services,
        on_event: OnEvent,
        notice: Callable[[str], None],
        ended: Callable[[], None],
    ) -> None:
        self._claude = claude
        self._working_folder = working_folder
        self._warm_s = warm_s
        self._store = store
        self._services = services
        self._on_event = on_event
        self._notice = notice
        self._ended = ended
        self._engine: EngineProcess | None = None
        self._config: HarnessConfig | None = None
        self._offer_seen = False
        self._resumed = False
        self._running = False
        self.last_sign_at_s = 0.0
        """When claude last said something, by the loop's clock."""
        self._cooling: asyncio.Task[None] | None = None
        # Held while an engine is started or ended.
        self._changing = asyncio.Lock()

    async def run_turn(
        self, agent: Greeting, config: HarnessConfig, params: RunTurnParams, is_cancelled: Callable[[], bool]
    ) -> TurnResult:
        """Runs one turn of the agent that the daemon says this is. Raises HiveError if that failed.

        A session that cannot be resumed is left, with a notice, and the turn runs in a new one.
        """
        self._running = True
        try:
            engine = await self._warm_up(agent, config, params["model"])
            if is_cancelled():
                return _NEVER_BEGUN
            result = await engine.run_turn(params)
            if self._resumed and _is_refused_session(result) and not is_cancelled():
                engine = await self._start_afresh(agent, config, params["model"])
                result = await engine.run_turn(params)
        except HiveError:
            # Whatever is left of it is of no use for another turn.
            async with self._changing:
                await self._end()
            raise
        else:
            self._resumed = False
            return result
        finally:
            self._running = False
            self._sign()
            self._cool()

    @property
    def alive(self) -> bool:
        return self._engine is not None and self._engine.alive

    @property
    def has_session(self) -> bool:
        """Whether there is a conversation to go on with."""
        return bool(self._find_session())

    async def interrupt(self) -> bool:
        """Asks claude to end what it does; whether there was a claude that took it."""
        try:
            if self._engine is None:
                return False
            await self._engine.interrupt()
        except HiveError as error:
            log.warning("%s", error.message)
            return False
        return True

    async def kill(self) -> None:
        """Ends the engine at once, with whatever it does. The next turn starts another."""
        if self._engine is not None:
            await self._engine.kill()

    async def leave(self, config: HarnessConfig) -> None:
        """Ends an engine that `config` wants opened otherwise, unless a turn runs: then the next turn does so."""
        async with self._changing:
            if not self._running and self._config is not None and not _is_opened_alike(self._config, config):
                await self._end()

    async def cool(self) -> None:
        """Ends the engine now. The next turn starts another and goes on with the conversation."""
        async with self._changing:
            await self._end()

    async def forget_session(self) -> None:
        """Ends the engine; the next turn begins a new conversation."""
        async with self._changing:
            await self._end()
            try:
                self._store.save_meta(_SESSION_KEY, None)
            except HiveError as error:
                log.warning("%s", error.message)

    async def close(self) -> None:
        """Ends the engine in good order. Nothing may be called afterwards."""
        if self._cooling is not None:
            self._cooling.cancel()
        async with self._changing:
            await self._end()

    async def _warm_up(self, agent: Greeting, config: HarnessConfig, model: str) -> EngineProcess:
        async with self._changing:
            alike = self._config is not None and _is_opened_alike(self._config, config)
            self._config = config
            if self._engine is not None and self._engine.alive and alike:
                return self._engine
            await self._end()
            session = self._find_session()
            try:
                self._engine = await self._start(agent, config, model, session)
                self._resumed = bool(session)
            except HiveError as error:
                if not session:
                    raise
                # If this fails as well it was not for the session, and the next turn tries that one again.
                self._engine = await self._start(agent, config, model, "")
                self._resumed = False
                self._notice(f"the conversation {session} cannot be resumed, a new one begins: {error.message}")
            return self._engine

    async def _start_afresh(self, agent: Greeting, config: HarnessConfig, model: str) -> EngineProcess:
        async with self._changing:
            await self._end()
            self._engine = await self._start(agent, config, model, "")
            self._resumed = False
        self._notice("the conversation could not be resumed, a new one begins")
        return self._engine

    async def _start(self, agent: Greeting, config: HarnessConfig, model: str, session: str) -> EngineProcess:
        self._offer_seen = False
        params = OpenParams(
            agent=agent.agent,
            manager=agent.manager,
            resume=session,
            model=model,
            claude=str(self._claude or ""),
            working_folder=str(self._working_folder),
            policy=config["policy"],
            mcp_servers=config["mcp_servers"],
            prompt=config["prompt"],
            fork=bool(session) and self._is_to_fork(),
        )
        engine = await EngineProcess.start(params, self._take_event, self._services)
        engine.when_ended(self._ended)
        return engine

    async def _end(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.close()

    def _take_event(self, event: dict[str, Any]) -> None:
        self._sign()
        if event.get("type") == "system" and event.get("subtype") == "init":
            self._save_session(str(event.get("session_id")))
            self._check_offer(event)
        self._on_event(event)

    def _check_offer(self, init: dict[str, Any]) -> None:
        """Tells once for each opening what of the config claude does not have."""
        if self._config is None or self._offer_seen:
            return
        self._offer_seen = True
        for gap in list_gaps(self._config, init):
            self._notice(gap)

    def _find_session(self) -> str:
        session = self._store.find_meta(_SESSION_KEY) or ""
        return session if _SESSION.fullmatch(session) else ""

    def _save_session(self, session: str) -> None:
        if session == self._find_session() or not _SESSION.fullmatch(session):
            return
        try:
            self._store.save_meta(_SESSION_KEY, session)
        except HiveError:
            log.exception("the session's id cannot be kept: after a restart the conversation begins anew")
            return
        # Only once it has a conversation of its own.
        with contextlib.suppress(OSError):
            (self._working_folder / FORK_FILE).unlink()

    def _is_to_fork(self) -> bool:
        """Whether the conversation is also that of another agent, which this one is a copy of."""
        return find_size_bytes(self._working_folder, FORK_FILE) is not None

    def _sign(self) -> None:
        self.last_sign_at_s = asyncio.get_running_loop().time()

    def _cool(self) -> None:
        if self._cooling is None or self._cooling.done():
            self._cooling = asyncio.create_task(self._end_when_cold())

    def _get_warm_s(self) -> float:
        warm_s = self._config["warm_s"] if self._config is not None else None
        return self._warm_s if warm_s is None else warm_s

    async def _end_when_cold(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            left_s = self.last_sign_at_s + self._get_warm_s() - clock()
            if left_s <= 0:
                break
            await asyncio.sleep(left_s)
        async with self._changing:
            # A turn that runs by now starts this anew when it ends.
            if not self._running:
                await self._end()


def _is_opened_alike(one: HarnessConfig, other: HarnessConfig) -> bool:
    """Whether claude is opened the same way for both configs."""
    return all(one[field] == other[field] for field in ("policy", "mcp_servers", "prompt", "model"))


def _is_refused_session(result: TurnResult) -> bool:
    """Whether claude refused the session it was to resume, rather than failed in the turn."""
    return result["result"].get("subtype") == "error_during_execution" and not result["result"].get("num_turns")
