"""Runs one turn in claude at a time: begins it, interrupts it if asked to or if it hangs, tells how it ended."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from hyperhive.core.claude_events import ClaudeView, begin_turn, reduce_event
from hyperhive.core.errors import HiveError
from hyperhive.core.turns import TurnOutcome, TurnPurpose, TurnState
from hyperhive.harness.config import Configs
from hyperhive.harness.engine_wire import RunTurnParams
from hyperhive.harness.feed import Feed
from hyperhive.harness.link import Greeting
from hyperhive.harness.notes import observe_notes_bytes
from hyperhive.harness.settings import Settings, observe_model
from hyperhive.harness.status import StatusBoard
from hyperhive.harness.turn import Turn, TurnEnd, TurnRequest, fail_turn, is_recorded, read_turn_end, render_ended
from hyperhive.harness.warm_engine import WarmEngine

log = logging.getLogger("hive.runner")

_INTERRUPT_EVERY_S = 0.5
_INTERRUPT_DEADLINE_S = 10.0
_STATES = {
    TurnPurpose.MESSAGES: TurnState.THINKING,
    TurnPurpose.CHECKPOINT: TurnState.COMPACTING,
    TurnPurpose.COMPACT: TurnState.COMPACTING,
}
_REASONS = {TurnPurpose.CHECKPOINT: "writes its notes first"}


class TurnRunner:
    """`view` is what claude's events have told.

    `waits_for_operator` says whether a call waits for a permission; `wait_for_login` returns once no login is just
    being written.
    """

    def __init__(
        self,
        settings: Settings,
        configs: Configs,
        feed: Feed,
        status: StatusBoard,
        engine: WarmEngine,
        waits_for_operator: Callable[[], bool],
        wait_for_login: Callable[[], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._configs = configs
        self._feed = feed
        self._status = status
        self._engine = engine
        self._waits_for_operator = waits_for_operator
        self._wait_for_login = wait_for_login
        self._turn: Turn | None = None
        self._chores: set[asyncio.Task[None]] = set()
        self.view = ClaudeView()

    @property
    def running(self) -> bool:
        return self._turn is not None

    async def run(self, agent: Greeting, request: TurnRequest) -> TurnEnd:
        """Runs one turn to its end, however that is. Raises nothing but a cancel."""
        await self._wait_for_login()
        clock = asyncio.get_running_loop().time
        self._turn = turn = Turn(request, clock())
        self.view = begin_turn(self.view)
        self._feed.begin_turn(
            {"prompt": request.prompt, "message_ids": list(request.message_ids), "purpose": str(request.purpose)}
        )
        self._status.enter(_STATES[request.purpose], _REASONS.get(request.purpose, ""))
        end = TurnEnd(TurnOutcome.CRASH, "the harness was stopped in the middle of the turn")
        watch = asyncio.create_task(self._watch(turn))
        try:
            end = await self._ask_claude(agent, turn)
        finally:
            self._turn = None
            turn.ended.set()
            watch.cancel()
            duration_ms = round((clock() - turn.started_at_s) * 1000)
            notes_bytes = observe_notes_bytes(self._settings.state)
            self._feed.end_turn({**render_ended(request, end, duration_ms, self.view, notes_bytes)})
            self.report()
        return end

    async def cancel(self) -> bool:
        """Interrupts the turn for the operator; false if none runs."""
        if self._turn is None:
            return False
        if self._turn.interrupted is None:
            self._feed.notice("the operator cancels the turn")
            self._interrupt(self._turn, TurnOutcome.CANCELLED)
        return True

    def take_event(self, event: dict[str, Any]) -> None:
        """Told each event of claude, in the turn and between turns."""
        if is_recorded(event):
            self._feed.record("claude", event)
        before, self.view = self.view, reduce_event(self.view, event)
        if self.view == before:
            return
        if self.view.compacting and not before.compacting:
            self._enter_if(TurnState.THINKING, TurnState.COMPACTING)
        elif before.compacting and not self.view.compacting and not self._is_aside():
            self._enter_if(TurnState.COMPACTING, TurnState.THINKING)
        if self.view.retry != before.retry:
            self._status.explain(self.view.retry)
        self.report()

    def report(self) -> None:
        """Tells the status board what claude is like now."""
        self._status.report_claude(self.view, self._engine.alive)

    def _is_aside(self) -> bool:
        """Whether the turn is one that compacts: then that is what it does until its end."""
        return self._turn is not None and self._turn.request.purpose is not TurnPurpose.MESSAGES

    async def _ask_claude(self, agent: Greeting, turn: Turn) -> TurnEnd:
        config = await self._configs.get()
        params = RunTurnParams(
            prompt=turn.request.prompt,
            model=observe_model(self._settings.state, config["model"]),
            command=turn.request.command,
        )
        try:
            answer = await self._engine.run_turn(agent, config, params, lambda: turn.interrupted is not None)
        except HiveError as error:
            return fail_turn(error.message, turn.interrupted)
        return read_turn_end(turn.request, answer, turn.interrupted, self.view)

    async def _watch(self, turn: Turn) -> None:
        """Interrupts a turn in which claude has not said anything for too long.

        Waiting for the operator does not count, nor does opening claude, which has a deadline of its own.
        """
        clock = asyncio.get_running_loop().time
        silence_s = self._settings.silence_s
        quiet_since_s = turn.started_at_s
        while (left_s := max(quiet_since_s, self._engine.last_sign_at_s) + silence_s - clock()) > 0:
            await asyncio.sleep(left_s)
            if self._waits_for_operator() or not self._engine.alive:
                quiet_since_s = clock()
        self._feed.notice(f"claude has said nothing for {silence_s:g} s: it is interrupted")
        self._interrupt(turn, TurnOutcome.TIMEOUT)

    def _interrupt(self, turn: Turn, why: TurnOutcome) -> None:
        if turn.interrupted is None:
            turn.interrupted = why
            task = asyncio.create_task(self._interrupt_until_ended(turn))
            self._chores.add(task)
            task.add_done_callback(self._chores.discard)

    async def _interrupt_until_ended(self, turn: Turn) -> None:
        """Asks again and again, since claude ignores an interrupt before it has begun; in the end kills it."""
        try:
            async with asyncio.timeout(_INTERRUPT_DEADLINE_S):
                while self._turn is turn:
                    await self._engine.interrupt()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(turn.ended.wait(), _INTERRUPT_EVERY_S)
        except TimeoutError:
            self._feed.notice("claude does not stop: it is ended")
            await self._engine.kill()

    def _enter_if(self, now: TurnState, then: TurnState) -> None:
        if self._status.state is now:
            self._status.enter(then)
