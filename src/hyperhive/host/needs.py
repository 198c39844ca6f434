"""Needs you: the one queue of what waits for the operator. It is kept nowhere: each look finds it anew.

It is looked at soon after whatever may change it was committed; those who listen are told what is new in it, and what
is gone, never what was there when the daemon started.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from hyperhive.core.approvals import Approval
from hyperhive.core.errors import ConflictError, NotFoundError
from hyperhive.core.events import Event, EventName
from hyperhive.core.messages import Message, MessageState
from hyperhive.core.needs import Need, NeedKind, sort_needs
from hyperhive.core.parking import Park, ParkKind, decide_park
from hyperhive.core.questions import Question
from hyperhive.host.feed import Feed, Item
from hyperhive.host.need_views import (
    view_approval,
    view_crash,
    view_letter,
    view_more_letters,
    view_parks,
    view_question,
)
from hyperhive.host.roster import Roster
from hyperhive.host.store.rows import (
    AgentRecord,
    Desired,
    to_agent,
    to_approval,
    to_message,
    to_park,
    to_question,
)
from hyperhive.host.store.store import Store, Transaction, View
from hyperhive.system.clock import from_millis, now

# Many changes come together: they are told as one.
SETTLE_S = 0.1
# That an agent was stopped, or runs steadily again, is no event: what waits for that is looked at again meanwhile.
RECHECK_S = 5.0
# What ends at its deadline has an event; should that not come, it is looked at all the same, not too often.
OVERDUE_S = 2.0
# Dead letters that are listed one by one; the rest is a number.
LETTERS_LIMIT = 200
# Of the newest events, how many are searched for troubles at the start.
TROUBLES_REACH = 20_000

# What is the queue's business; of messages, only what is given up or queued again.
_NOUNS = frozenset({"approval", "question", "agent", "budget", "pair", "disk"})
_NAMES = frozenset({EventName.MESSAGE_DEAD, EventName.MESSAGE_REQUEUED, EventName.MESSAGE_DISMISSED})
_TROUBLES = frozenset({EventName.AGENT_CRASHED, EventName.AGENT_FAILED, EventName.AGENT_OVER_QUOTA})
_BY_AGENT = frozenset({NeedKind.LOGIN, NeedKind.CRASH, NeedKind.BUDGET, NeedKind.LIMIT})

OnEdge = Callable[[Sequence[Need], Sequence[str]], None]
"""Told the needs that are new and the keys of those that are gone."""


class Needs:
    def __init__(self, store: Store, feed: Feed, roster: Roster, recheck_s: float = RECHECK_S) -> None:
        self._store = store
        self._feed = feed
        self._roster = roster
        self._recheck_s = recheck_s
        self._sources: list[Callable[[], Sequence[Need]]] = []
        self._listeners: list[OnEdge] = []
        # As it was last told; None before the first look.
        self._told: list[Need] | None = None
        self._woken = asyncio.Event()
        # When each agent last crashed or could not be started; what is not known was before the start.
        self._troubled_at: dict[str, datetime] = {}
        self._begun_at = now()

    async def load(self) -> None:
        """At the daemon's start: since when agents are in trouble, as far back as that is looked for."""
        for row in await self._store.read(lambda view: view.list("list_troubles", reach=TROUBLES_REACH)):
            self._troubled_at[row["agent"]] = from_millis(row["at"])

    def include(self, source: Callable[[], Sequence[Need]]) -> None:
        """Has the queue hold also what `source` gives, from memory; it calls `changed` when that is another."""
        self._sources.append(source)

    def on_edge(self, listener: OnEdge) -> None:
        """`listener` is called with what is new and with the keys that are gone, on the event loop; it returns at once.

        Never for what is there at the daemon's start. What went and came again is new again.
        """
        self._listeners.append(listener)

    def changed(self) -> None:
        """Says that the queue may be another now: it is looked at soon, once for many changes."""
        self._woken.set()

    def on_event(self, event: Event) -> None:
        """The feed's listener."""
        if event.name in _TROUBLES and event.agent is not None:
            self._troubled_at[event.agent] = event.at
        if event.name in _NAMES or event.name.partition(".")[0] in _NOUNS:
            self.changed()

    async def list_needs(self) -> list[Need]:
        """All that waits now, the most urgent first. Raises StorageError."""
        found = await self._store.read(_look)
        at = now()
        needs = [view_approval(approval) for approval in found.approvals]
        needs += [view_question(question) for question in found.questions]
        stopped = {record.name for record in found.agents if record.desired is Desired.STOPPED}
        # Whoever was stopped by the operator waits for nobody.
        needs += view_parks([park for park in found.parks if park.agent not in stopped], at)
        failing = {park.agent: park for park in found.parks if park.kind is ParkKind.FAILING}
        needs += [need for record in found.agents if (need := self._view_crash(record, failing.get(record.name), at))]
        needs += _view_letters(found)
        needs += [need for source in self._sources for need in source()]
        return sort_needs(needs)

    async def dismiss(self, message_id: int) -> None:
        """Has a dead letter need nobody any more; it stays dead, and dismissing it again is no error.

        Raises NotFoundError for an unknown message, ConflictError for one that is not dead.
        """

        def dismiss(tx: Transaction) -> None:
            row = tx.find("find_letter", id=message_id)
            if row is None:
                raise NotFoundError(f"there is no message {message_id}", "see `hive needs`")
            if row["state"] != MessageState.DEAD:
                raise ConflictError(f"message {message_id} is {row['state']}, not dead", "nothing was changed")
            if tx.list("dismiss_letter", id=message_id):
                tx.emit(EventName.MESSAGE_DISMISSED, row["recipient"], {"id": message_id})

        await self._store.write(dismiss)

    async def watch_forever(self) -> None:
        """Tells what changes in the queue, for as long as the daemon runs."""
        while True:
            self._woken.clear()
            needs = await self.list_needs()
            self._tell(needs)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_plan_wait_s(needs, now(), self._recheck_s)):
                    await self._woken.wait()
            await asyncio.sleep(SETTLE_S)

    def _view_crash(self, record: AgentRecord, failing: Park | None, at: datetime) -> Need | None:
        holding = None if failing is None else decide_park([failing], at)
        troubled_at = self._troubled_at.get(record.name, self._begun_at)
        return view_crash(record, holding, self._roster.live(record.name).crashes, troubled_at)

    def _tell(self, needs: list[Need]) -> None:
        before, self._told = self._told, needs
        if before is None or before == needs:
            return
        known, keys = {need.key for need in before}, {need.key for need in needs}
        new = [need for need in needs if need.key not in known]
        gone = [need.key for need in before if need.key not in keys]
        if new or gone:
            for listener in self._listeners:
                listener(new, gone)
        # Whoever shows the queue fetches it: it may be long, and there may be many who do.
        self._feed.publish(Item("needs", {}))


@dataclass(frozen=True, slots=True)
class _Found:
    """What the store knows of all that may wait, at one moment. `more` dead letters are not in `letters`."""

    approvals: list[Approval]
    questions: list[Question]
    parks: list[Park]
    agents: list[AgentRecord]
    letters: list[tuple[Message, datetime]]
    more: int


def _look(view: View) -> _Found:
    letters = [
        (to_message(row), from_millis(row["died_at"])) for row in view.list("list_dead_letters", limit=LETTERS_LIMIT)
    ]
    dead = len(letters) if len(letters) < LETTERS_LIMIT else int(view.get("count_dead_letters")["dead"])
    return _Found(
        approvals=[to_approval(row) for row in view.list("list_pending_approvals")],
        questions=[to_question(row) for row in view.list("list_needed_questions")],
        parks=[to_park(row) for row in view.list("list_parks")],
        agents=[to_agent(row) for row in view.list("list_agents")],
        letters=letters,
        more=dead - len(letters),
    )


def _view_letters(found: _Found) -> list[Need]:
    needs = [view_letter(message, died_at) for message, died_at in found.letters]
    if found.more > 0:
        needs.append(view_more_letters(found.more, found.letters[-1][1]))
    return needs


def _plan_wait_s(needs: Sequence[Need], at: datetime, recheck_s: float) -> float | None:
    """When to look again at the latest; None: once something happens."""
    waits_s = [max((need.deadline - at).total_seconds(), 0.0) + OVERDUE_S for need in needs if need.deadline]
    if any(need.kind in _BY_AGENT for need in needs):
        waits_s.append(recheck_s)
    return min(waits_s, default=None)
