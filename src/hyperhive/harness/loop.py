"""The turn loop: messages come, claude runs a turn with them, they are settled by how it ended."""

import asyncio
import contextlib
import logging
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from hyperhive.core.errors import HiveError
from hyperhive.core.messages import render_wake_prompt
from hyperhive.core.turns import (
    SETTLING_OUTCOMES,
    TurnOutcome,
    TurnState,
    classify_result,
    is_messages_fault,
    plan_retry_s,
)
from hyperhive.harness.config import Configs
from hyperhive.harness.engine_wire import RunTurnParams
from hyperhive.harness.feed import Feed
from hyperhive.harness.inbox import Delivery, Inbox
from hyperhive.harness.link import Greeting, Link
from hyperhive.harness.settings import Settings, observe_model
from hyperhive.harness.status import StatusBoard
from hyperhive.harness.turn import Turn, TurnEnd, is_recorded, read_turn_end
from hyperhive.harness.wake import plan_wake
from hyperhive.harness.warm_engine import WarmEngine
from hyperhive.wire.agent_link import HarnessConfig

log = logging.getLogger("hive.loop")

# Below the daemon's limit of 180 s for one wait.
_RECV_WAIT_S = 170.0
# Eight of the largest messages, written as JSON, are about half of what a line holds.
_MESSAGES_PER_TURN = 8
# A login or a usage limit does not mend within seconds, and trying costs a request each time.
_BLOCKED_RETRY_S = 60.0
_BLOCKED = {TurnOutcome.LOGIN: TurnState.NEEDS_LOGIN, TurnOutcome.LIMIT: TurnState.PARKED}
_INTERRUPT_EVERY_S = 0.5
_INTERRUPT_DEADLINE_S = 10.0
_FAREWELL_S = 0.5


class TurnLoop:
    """Runs one turn after another until it is cancelled. Everything it is told of claude goes into the transcript."""

    def __init__(
        self,
        settings: Settings,
        configs: Configs,
        link: Link,
        inbox: Inbox,
        feed: Feed,
        status: StatusBoard,
        engine: WarmEngine,
    ) -> None:
        self._settings = settings
        self._configs = configs
        self._link = link
        self._inbox = inbox
        self._feed = feed
        self._status = status
        self._engine = engine
        self._failures = 0
        self._turn: Turn | None = None
        self._chores: set[asyncio.Task[Any]] = set()

    async def run(self, agent: Greeting) -> NoReturn:
        if self._configs.current is None:
            # Nothing says what it may do: so it does nothing.
            self._status.enter(TurnState.PARKED, self._configs.trouble)
            await self._configs.get()
        self._status.enter(TurnState.IDLE)
        while True:
            try:
                delivery = await self._inbox.fetch(self._link, _MESSAGES_PER_TURN, _RECV_WAIT_S)
                if delivery.messages:
                    end = await self._run_turn(agent, delivery)
                    await self._settle(end)
                    await self._pause(end)
                elif not self._engine.alive:
                    # What claude did by itself has ended with it, unsaid.
                    self._enter_if(TurnState.THINKING, TurnState.IDLE)
            except HiveError as error:
                log.warning("the daemon refused: %r", error.message)
                await asyncio.sleep(plan_retry_s(1))

    async def cancel(self) -> bool:
        """Interrupts the turn, or what claude does by itself; whether there was anything to interrupt."""
        turn = self._turn
        if turn is None:
            working = self._status.state in {TurnState.THINKING, TurnState.COMPACTING}
            return working and await self._engine.interrupt()
        if not turn.cancelled:
            turn.cancelled = True
            self._feed.notice("the operator cancels the turn")
            self._do(self._interrupt_until_ended(turn))
        return True

    def take_event(self, event: dict[str, Any]) -> None:
        """Told each event of claude, in the turn and between turns."""
        if is_recorded(event):
            self._feed.record("claude", event)
        match event:
            case {"type": "system", "subtype": "init", "model": str(model)}:
                self._status.report_model(model)
            case {"type": "system", "subtype": "status", "status": "compacting"}:
                self._enter_if(TurnState.THINKING, TurnState.COMPACTING)
            case {"type": "system", "subtype": "status" | "compact_boundary"}:
                self._enter_if(TurnState.COMPACTING, TurnState.THINKING)
            case {"type": "system", "subtype": "session_state_changed", "state": "running"} if self._turn is None:
                self._enter_if(TurnState.IDLE, TurnState.THINKING, "work in the background ended")
            case {"type": "system", "subtype": "session_state_changed", "state": "idle"} if self._turn is None:
                self._enter_if(TurnState.THINKING, TurnState.IDLE)
            case {"type": "result"} if self._turn is None:
                self._settle_between_turns(event)
            case _:
                pass

    def take_config(self, config: HarnessConfig) -> None:
        """A new config: from the next turn on. A claude that does nothing is not kept open under the old one."""
        if self._turn is None and self._status.state not in {TurnState.THINKING, TurnState.COMPACTING}:
            self._do(self._engine.leave(config))

    async def _run_turn(self, agent: Greeting, delivery: Delivery) -> TurnEnd:
        messages, rest = plan_wake(delivery.messages)
        prompt = render_wake_prompt(messages, delivery.waiting + len(rest))
        self._inbox.give_back(self._link, [message.id for message in rest], "too long for one turn")
        clock = asyncio.get_running_loop().time
        self._turn = turn = Turn(prompt, [message.id for message in messages], clock())
        self._feed.begin_turn({"prompt": prompt, "message_ids": turn.message_ids})
        self._status.enter(TurnState.THINKING)
        end = TurnEnd(TurnOutcome.CRASH, "the harness was stopped in the middle of the turn")
        try:
            end = await self._ask_claude(agent, turn)
        finally:
            self._turn = None
            turn.ended.set()
            self._feed.end_turn(end.render_event(round((clock() - turn.started_at_s) * 1000)))
        return end

    async def _ask_claude(self, agent: Greeting, turn: Turn) -> TurnEnd:
        config = await self._configs.get()
        params = RunTurnParams(prompt=turn.prompt, model=observe_model(self._settings.state, config["model"]))
        try:
            answer = await self._engine.run_turn(agent, config, params, lambda: turn.cancelled)
        except HiveError as error:
            if turn.cancelled:
                return TurnEnd(TurnOutcome.CANCELLED, f"cancelled by the operator: {error.message}")
            return TurnEnd(TurnOutcome.CRASH, error.message)
        return read_turn_end(answer, turn.cancelled)

    async def _settle(self, end: TurnEnd) -> None:
        """Acks or requeues what the turn held, with what it fetched itself; waits for the daemon if it is away."""
        ids = self._inbox.unsettled()
        if end.outcome in SETTLING_OUTCOMES:
            self._status.enter(TurnState.IDLE)
            await self._inbox.ack(self._link, ids)
        else:
            failed = is_messages_fault(end.outcome, end.result or {})
            self._failures += end.outcome not in _BLOCKED
            self._status.enter(*self._plan_pause(end)[:2])
            await self._inbox.requeue(self._link, ids, f"{end.outcome}: {end.reason}", failed=failed)

    async def _pause(self, end: TurnEnd) -> None:
        """After a failed turn, waits before the next."""
        if end.outcome in SETTLING_OUTCOMES:
            self._failures = 0
            return
        await asyncio.sleep(self._plan_pause(end)[2])
        if self._status.state is TurnState.PARKED:
            self._status.enter(TurnState.IDLE)

    def _plan_pause(self, end: TurnEnd) -> tuple[TurnState, str, float]:
        """What to be in after a failed turn, why, and for how many seconds."""
        if end.outcome in _BLOCKED:
            return _BLOCKED[end.outcome], end.reason, _BLOCKED_RETRY_S
        pause_s = plan_retry_s(self._failures)
        again_at = datetime.now(UTC) + timedelta(seconds=pause_s)
        reason = f"{end.outcome}: {end.reason}; next try at {again_at:%H:%M:%S} UTC"
        return TurnState.PARKED, reason, pause_s

    async def farewell(self) -> None:
        """Gives back what is held, if the daemon is there: the successor gets it in any case."""
        try:
            await self._inbox.give_all_back(self._link, "the harness stops", _FAREWELL_S)
        except HiveError as error:
            log.warning("held messages are given back at the next start: %s", error.message)

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

    def _settle_between_turns(self, result: dict[str, Any]) -> None:
        """claude ended a turn that it began by itself: what it fetched in it is settled."""
        ids = self._inbox.unsettled()
        outcome = classify_result(result, cancelled=True)
        if outcome in SETTLING_OUTCOMES:
            self._do(self._inbox.ack(self._link, ids))
        else:
            self._do(self._inbox.requeue(self._link, ids, str(outcome), failed=True))

    def _enter_if(self, now: TurnState, then: TurnState, reason: str = "") -> None:
        if self._status.state is now:
            self._status.enter(then, reason)

    def _do(self, chore: Any) -> None:
        task = asyncio.create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
