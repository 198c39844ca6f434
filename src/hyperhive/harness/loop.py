"""The turn loop: messages come, claude runs a turn with them, they are settled by how it ended."""

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from hyperhive.core.errors import ConflictError, HiveError
from hyperhive.core.messages import render_wake_prompt
from hyperhive.core.turns import (
    SETTLING_OUTCOMES,
    TurnOutcome,
    TurnPurpose,
    TurnState,
    classify_result,
    is_messages_fault,
    plan_retry_s,
)
from hyperhive.harness.config import Configs
from hyperhive.harness.events import EventStore
from hyperhive.harness.failures import load_failures, may_be_poisoned, save_failures
from hyperhive.harness.feed import Feed
from hyperhive.harness.inbox import Delivery, Inbox
from hyperhive.harness.link import Greeting, Link
from hyperhive.harness.notes import NotesKeeper
from hyperhive.harness.park import find_resting_state, plan_park
from hyperhive.harness.runner import TurnRunner
from hyperhive.harness.status import StatusBoard
from hyperhive.harness.turn import CHECKPOINT, COMPACT, TurnEnd, TurnRequest
from hyperhive.harness.wake import plan_wake
from hyperhive.harness.warm_engine import WarmEngine
from hyperhive.wire.agent_link import PARK, HarnessConfig, ParkFields

log = logging.getLogger("hive.loop")

# Below the daemon's limit of 180 s for one wait.
_RECV_WAIT_S = 170.0
# Eight of the largest messages, written as JSON, are about half of what a line holds.
_MESSAGES_PER_TURN = 8
_FAREWELL_S = 0.5

# How a compaction ends so that the turn it was for is not tried again now.
_ENDING = frozenset({TurnOutcome.CANCELLED, TurnOutcome.LIMIT, TurnOutcome.LOGIN})


class TurnLoop:
    """Runs one turn after another until it is cancelled."""

    def __init__(
        self,
        configs: Configs,
        link: Link,
        inbox: Inbox,
        feed: Feed,
        status: StatusBoard,
        engine: WarmEngine,
        runner: TurnRunner,
        store: EventStore,
        notes: NotesKeeper,
    ) -> None:
        self._configs = configs
        self._link = link
        self._inbox = inbox
        self._feed = feed
        self._status = status
        self._engine = engine
        self._runner = runner
        self._store = store
        self._notes = notes
        self._rewriting: asyncio.Task[str | None] | None = None
        self._failures = load_failures(store)
        self._began_afresh = False
        self._park: ParkFields | None = None
        self._park_told = asyncio.Event()
        self._compact_wished = asyncio.Event()
        self._chores: set[asyncio.Task[Any]] = set()

    async def run(self, agent: Greeting) -> NoReturn:
        self._rest()
        await self._configs.get()
        self._rest()
        while True:
            try:
                delivery = await self._await_work()
                if delivery is not None and delivery.messages:
                    await self._serve(agent, delivery)
                elif self._compact_wished.is_set():
                    self._compact_wished.clear()
                    await self._compact(agent)
                elif not self._engine.alive and self._status.state is TurnState.THINKING:
                    # What claude did by itself has ended with it, unsaid.
                    self._rest()
            except HiveError as error:
                log.warning("the daemon refused: %r", error.message)
                await asyncio.sleep(plan_retry_s(1))

    # -- what the daemon asks for -----------------------------------------------------------------------------

    async def cancel(self) -> bool:
        """Interrupts the turn, or what claude does by itself; whether there was anything to interrupt."""
        if await self._runner.cancel():
            return True
        if self._rewriting is not None:
            return self._rewriting.cancel()
        working = self._status.state in {TurnState.THINKING, TurnState.COMPACTING}
        return working and await self._engine.interrupt()

    def wish_compact(self) -> bool:
        """Compacts the conversation as soon as no turn runs; false if there is none. Raises ConflictError if parked."""
        if self._park is not None:
            raise ConflictError(f"it is parked: {self._park['reason']}", "resume it first")
        if not self._engine.has_session:
            return False
        self._compact_wished.set()
        return True

    def take_park(self, park: ParkFields | None) -> None:
        """Why no messages come now; None: they come."""
        self._park = park
        self._park_told.set()
        if self._status.state in {TurnState.IDLE, TurnState.PARKED, TurnState.NEEDS_LOGIN} and not self._runner.running:
            self._rest()

    def take_config(self, config: HarnessConfig) -> None:
        """A new config: from the next turn on. A claude that does nothing is not kept open under the old one."""
        if not self._runner.running and self._status.state not in {TurnState.THINKING, TurnState.COMPACTING}:
            self._do(self._engine.leave(config))

    def take_event(self, event: dict[str, Any]) -> None:
        """Told each event of claude, in the turn and between turns."""
        self._runner.take_event(event)
        if self._runner.running:
            return
        match event:
            case {"type": "system", "subtype": "session_state_changed", "state": "running"}:
                if self._status.state is TurnState.IDLE:
                    self._status.enter(TurnState.THINKING, "work in the background ended")
            case {"type": "system", "subtype": "session_state_changed", "state": "idle"}:
                if self._status.state is TurnState.THINKING:
                    self._rest()
            case {"type": "result"}:
                self._settle_between_turns(event)
            case _:
                pass

    def count_crash(self) -> None:
        """The last harness did not see its turn end."""
        self._count(TurnEnd(TurnOutcome.CRASH))

    async def farewell(self) -> None:
        """Gives back what is held, if the daemon is there: the successor gets it in any case."""
        try:
            await self._inbox.give_all_back(self._link, "the harness stops", _FAREWELL_S)
        except HiveError as error:
            log.warning("held messages are given back at the next start: %s", error.message)

    # -- turns ------------------------------------------------------------------------------------------------

    async def _await_work(self) -> Delivery | None:
        """The next messages, none after a while; None if there is something else to do. Raises HiveError."""
        fetching = asyncio.create_task(self._inbox.fetch(self._link, _MESSAGES_PER_TURN, _RECV_WAIT_S))
        wished = asyncio.create_task(self._compact_wished.wait())
        try:
            await asyncio.wait([fetching, wished], return_when=asyncio.FIRST_COMPLETED)
            return fetching.result() if fetching.done() else None
        finally:
            # Messages that come all the same go straight back.
            for task in (fetching, wished):
                task.cancel()
            await asyncio.gather(fetching, wished, return_exceptions=True)

    async def _serve(self, agent: Greeting, delivery: Delivery) -> None:
        messages, rest = plan_wake(delivery.messages)
        prompt = render_wake_prompt(messages, delivery.waiting + len(rest))
        self._inbox.give_back(self._link, [message.id for message in rest], "too long for one turn")
        request = TurnRequest(TurnPurpose.MESSAGES, prompt, [message.id for message in messages])
        end = await self._run_to_end(agent, request)
        if end.outcome in SETTLING_OUTCOMES:
            await self._settle(end)
        else:
            await self._give_up_turn(end)
        if end.outcome is TurnOutcome.OK and self._park is None:
            await self._tidy(agent)

    async def _run_to_end(self, agent: Greeting, request: TurnRequest) -> TurnEnd:
        """Runs a turn; if its prompt is too long, once more with a compacted conversation, then in a new one."""
        end = await self._runner.run(agent, request)
        if end.outcome is not TurnOutcome.COMPACT_RETRY:
            return end
        if not self._runner.view.compacted:
            # claude has not done so itself.
            compacted = await self._runner.run(agent, COMPACT)
            if compacted.outcome in _ENDING:
                return compacted
        if self._runner.view.compacted:
            end = await self._runner.run(agent, request)
            if end.outcome is not TurnOutcome.COMPACT_RETRY:
                return end
        await self._begin_afresh("the conversation is too long and cannot be compacted")
        end = await self._runner.run(agent, request)
        if end.outcome is TurnOutcome.COMPACT_RETRY:
            return replace(
                end, outcome=TurnOutcome.API_ERROR, reason="the prompt is too long even in a new conversation"
            )
        return end

    async def _settle(self, end: TurnEnd) -> None:
        """Acks what the turn held, with what it fetched itself; waits for the daemon if it is away."""
        self._rest()
        self._count(end)
        self._began_afresh &= end.outcome is not TurnOutcome.OK
        await self._inbox.ack(self._link, self._inbox.unsettled())

    async def _give_up_turn(self, end: TurnEnd) -> None:
        """Requeues what a failed turn held, then waits: for the daemon's word if it parks, or for a while."""
        self._count(end)
        if may_be_poisoned(end, self._failures) and not self._began_afresh:
            await self._begin_afresh(f"the turn failed ({end.reason[:200]}), maybe for what stands in it")
        if end.outcome is TurnOutcome.LOGIN:
            # An open claude does not read what another one logs in with.
            await self._engine.cool()
        parks = await self._ask_to_park(end)
        retry_s = self._failures.retry_s or plan_retry_s(1)
        if not parks:
            again_at = datetime.now(UTC) + timedelta(seconds=retry_s)
            reason = f"{end.outcome}: {end.reason}; next try at {again_at:%H:%M:%S} UTC"
            self._status.enter(TurnState.PARKED, reason)
        failed = is_messages_fault(end.outcome, end.result)
        reason = f"{end.outcome}: {end.reason}"
        await self._inbox.requeue(self._link, self._inbox.unsettled(), reason, failed=failed)
        if not parks:
            await self._wait(retry_s)
            self._rest()

    async def _ask_to_park(self, end: TurnEnd) -> bool:
        """Tells the daemon of a failure that time or an act has to mend; whether it holds messages back now."""
        params = plan_park(end, self._failures, self._runner.view)
        if params is None:
            return False
        try:
            self.take_park(await self._link.request(PARK, params))
        except HiveError as error:
            log.warning("the daemon does not park: %r", error.message)
        if self._park is None:
            return False
        self._rest()
        return True

    async def _wait(self, wait_s: float) -> None:
        """Waits, but not on when the daemon tells of parks: the operator may want it to go on."""
        self._park_told.clear()
        try:
            async with asyncio.timeout(wait_s):
                await self._park_told.wait()
        except TimeoutError:
            pass

    # -- between turns ----------------------------------------------------------------------------------------

    async def _tidy(self, agent: Greeting) -> None:
        """After a turn that ended well: keeps context and notes within their bounds."""
        config = await self._configs.get()
        view = self._runner.view
        if view.context_limit and view.context_tokens >= config["compact_at"] * view.context_limit:
            await self._compact(agent)
        if self._notes.is_due(config) and self._park is None:
            await self._rewrite_notes(config)

    async def _rewrite_notes(self, config: HarnessConfig) -> None:
        """Has a second session rewrite the notes; the operator's cancel ends it, and nothing is written then."""
        self._status.enter(TurnState.COMPACTING, "rewrites its notes")
        self._rewriting = rewriting = asyncio.create_task(self._notes.keep(config))
        try:
            await asyncio.wait([rewriting])
            self._notice("the operator cancels: the notes stay" if rewriting.cancelled() else rewriting.result())
        finally:
            self._rewriting = None
            rewriting.cancel()
            await asyncio.gather(rewriting, return_exceptions=True)
        self._rest()

    async def _compact(self, agent: Greeting) -> None:
        """Lets the agent write its notes, then compacts the conversation. Failing is told, and harms nothing."""
        end = await self._runner.run(agent, CHECKPOINT)
        await self._settle_aside(end)
        if end.outcome in {TurnOutcome.OK, TurnOutcome.COMPACT_RETRY}:
            end = await self._runner.run(agent, COMPACT)
        if end.outcome is not TurnOutcome.OK:
            self._notice(f"the conversation was not compacted: {end.reason}")
        if end.outcome in {TurnOutcome.LIMIT, TurnOutcome.LOGIN}:
            await self._ask_to_park(end)
        self._rest()

    async def _settle_aside(self, end: TurnEnd) -> None:
        """Settles what a checkpoint turn fetched, if it did."""
        ids = self._inbox.unsettled()
        if end.outcome in SETTLING_OUTCOMES:
            await self._inbox.ack(self._link, ids)
        else:
            await self._inbox.requeue(self._link, ids, f"{end.outcome}: {end.reason}", failed=False)

    async def _begin_afresh(self, why: str) -> None:
        self._began_afresh = True
        await self._engine.forget_session()
        self._notice(f"{why}: a new conversation begins")

    def _rest(self) -> None:
        """The state between turns, which the daemon's park decides."""
        if self._configs.current is None:
            # Nothing says what it may do: so it does nothing.
            self._status.enter(TurnState.PARKED, self._configs.trouble)
        else:
            self._status.enter(*find_resting_state(self._park))

    def _count(self, end: TurnEnd) -> None:
        before, self._failures = self._failures, self._failures.count(end.outcome, end.result)
        if before != self._failures:
            save_failures(self._store, self._failures)

    def _settle_between_turns(self, result: dict[str, Any]) -> None:
        """claude ended a turn that it began by itself: what it fetched in it is settled."""
        ids = self._inbox.unsettled()
        outcome = classify_result(result, TurnOutcome.CANCELLED)
        if outcome in SETTLING_OUTCOMES:
            self._do(self._inbox.ack(self._link, ids))
        else:
            failed = is_messages_fault(outcome, result)
            self._do(self._inbox.requeue(self._link, ids, str(outcome), failed=failed))

    def _notice(self, text: str | None) -> None:
        if text:
            self._feed.notice(text)

    def _do(self, chore: Any) -> None:
        task = asyncio.create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
