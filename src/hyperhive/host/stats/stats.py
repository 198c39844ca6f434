"""The stats: counts what happens, saves it each minute, and answers for any span of time.

Each minute is written whole as soon as it changed, so a kill loses a minute at most. A half hour that is over becomes
blocks (see `host/stats/blocks.py`) in the same transaction that deletes its minutes: it is counted once, whenever the
daemon dies.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import structlog

from hyperhive.core.errors import StorageError
from hyperhive.core.events import TRAFFIC, Event, EventName
from hyperhive.core.names import OPERATOR
from hyperhive.core.stats import HIVE, SERIES_BY_KEY, Slot
from hyperhive.core.turns import TurnState
from hyperhive.host.agent_records import get_any_agent
from hyperhive.host.link.params import AgentEvent
from hyperhive.host.stats import records
from hyperhive.host.stats.answers import Answer, find_atoms, render_answer
from hyperhive.host.stats.blocks import MINUTES, plan_grid
from hyperhive.host.stats.collector import KEPT_IN_MIND, Collector
from hyperhive.host.stats.inputs import list_traffic, read_turn
from hyperhive.host.stats.usage import UsageReader
from hyperhive.host.store.store import Store, Transaction, View
from hyperhive.system.clock import now

log = structlog.get_logger(__name__)

TRIM_EVERY_S = 3600
# Who asks sees levels and requests of at most so long ago, however often pages ask.
LOOK_EVERY_S = 5
_ACTIVE = frozenset({TurnState.THINKING, TurnState.COMPACTING})
# Totals are wanted: slots need only be so fine that what is told is of the span that was asked for, or little more.
_COMPARED_POINTS = 50


class Stats:
    def __init__(
        self,
        store: Store,
        telemetry: Store,
        observe_online: Callable[[], Mapping[str, TurnState]],
        clock: Callable[[], datetime] = now,
    ) -> None:
        """`observe_online` tells the agents whose harness is connected, and what each is doing."""
        self.usage = UsageReader(store, telemetry, clock)
        self._store = store
        self._telemetry = telemetry
        self._observe_online = observe_online
        self._clock = clock
        self._collector = Collector()
        # The messages of one minute: there may be thousands in a second, and each would be counted like a turn.
        self._traffic = Counter[tuple[str, str]]()
        self._traffic_minute = 0
        self._traffic_at_s = 0
        self._request_id = 0
        self._trimmed_at_s = 0
        self._looked_at_s = 0
        self._purged: set[str] = set()
        self._woken = asyncio.Event()
        # What moves from memory to the disk must be seen in one of them, and not in both.
        self._lock = asyncio.Lock()

    async def load(self) -> None:
        """Goes on where the last daemon ended. To be called once, before anything is counted."""
        left = await self._telemetry.read(lambda view: records.read_unfinished(view, KEPT_IN_MIND))
        self._collector.load(left.minutes, left.known)
        self._request_id = left.request_id
        rows = await self._store.read(lambda view: view.list("list_agent_names"))
        # What a purge has left when the daemon died in it.
        self._purged = left.known.keys() - {row["name"] for row in rows} - {HIVE}

    # -- what happens --------------------------------------------------------------------------------------

    def count(self, agent: str, slot: Slot) -> None:
        """Counts `slot` now."""
        self._collector.add(agent, self._now_s(), slot)

    def note_events(self, agent: str, events: Sequence[AgentEvent]) -> None:
        """Told each event of a transcript once. When it was is the daemon's own clock's to say."""
        for event in events:
            if event.kind == "turn.ended":
                self.count(agent, read_turn(event.body, self._now_s()))

    def on_event(self, event: Event) -> None:
        """Told each fact of the hive after its commit."""
        if event.name in TRAFFIC:
            self._note_traffic(event)
        elif event.name is EventName.AGENT_PURGED and event.agent is not None:
            self._purged.add(event.agent)
            self._woken.set()

    def _note_traffic(self, event: Event) -> None:
        if event.at.minute != self._traffic_minute or not self._traffic:
            self._count_traffic()
            self._traffic_minute, self._traffic_at_s = event.at.minute, self._now_s()
        for agent, atom, count in list_traffic(event):
            self._traffic[agent, atom] += count

    def _count_traffic(self) -> None:
        for (agent, atom), count in self._traffic.items():
            self._collector.add(agent, self._traffic_at_s, {atom: count})
        self._traffic.clear()

    async def run_forever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(MINUTES.step_s - self._clock().timestamp() % MINUTES.step_s):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            await self.save()

    async def save(self) -> None:
        """Looks at the levels, and writes all that is in memory. Raises StorageError: then it is tried again later."""
        async with self._lock:
            await self._look()
            await self._purge()
            await self._save_minutes()
            await self._close_half_hours()
            if abs(self._now_s() - self._trimmed_at_s) >= TRIM_EVERY_S:
                await self._trim()

    async def finish(self) -> None:
        """Writes what is in memory, at the daemon's end."""
        try:
            await self.save()
        except StorageError as error:
            log.warning("stats.not_saved", message=error.message)

    async def _look(self) -> None:
        """Counts what nobody tells: the levels as they are now, and what went through the gateway."""
        self._count_traffic()
        self._looked_at_s = self._now_s()
        await self._sample()
        await self._count_requests()

    async def _look_again(self) -> None:
        self._count_traffic()
        if abs(self._now_s() - self._looked_at_s) >= LOOK_EVERY_S:
            await self._look()

    async def _sample(self) -> None:
        waiting, levels = await self._store.read(_read_levels)
        online = self._observe_online()
        operator_inbox = waiting.pop(OPERATOR, 0)
        for agent in online.keys() | waiting.keys():
            depth = waiting.get(agent, 0)
            known = self._collector.recall(agent) if agent in online else {}
            self.count(agent, known | {"inbox": depth, "inbox_max": depth})
        depth = sum(waiting.values())
        hive = {
            "inbox": depth,
            "inbox_max": depth,
            "operator_inbox": operator_inbox,
            "agents_online": len(online),
            "agents_active": sum(state in _ACTIVE for state in online.values()),
        }
        self.count(HIVE, self._collector.recall(HIVE) | levels | hive)

    async def _count_requests(self) -> None:
        """What the gateway has recorded since it was last looked at counts in this minute."""
        after = self._request_id
        rows = await self._telemetry.read(lambda view: view.list("sum_model_requests", after=after))
        for row in rows:
            counts: Slot = {key: row[key] for key in row.keys() if key not in ("agent", "newest") and row[key]}  # noqa: SIM118
            self.count(row["agent"], counts)
            self._request_id = max(self._request_id, row["newest"])

    async def _purge(self) -> None:
        for agent in sorted(self._purged):
            self._collector.forget(agent)
            await self._telemetry.write(lambda tx, agent=agent: tx.list("delete_stats_blocks", agent=agent))
            self._purged.discard(agent)

    async def _save_minutes(self) -> None:
        minutes = self._collector.take_unsaved()
        request_id = self._request_id
        try:
            await self._telemetry.write(lambda tx: records.save_minutes(tx, minutes, request_id))
        except StorageError:
            self._collector.put_unsaved(minutes)
            raise

    async def _close_half_hours(self) -> None:
        while (finished := self._collector.take_finished(self._now_s())) is not None:
            at_s, minutes = finished

            def close(tx: Transaction, at_s: int = at_s, minutes: Mapping[int, records.Minute] = minutes) -> None:
                records.close_half_hour(tx, at_s, minutes)

            try:
                await self._telemetry.write(close)
            except StorageError:
                self._collector.put_back(minutes)
                raise

    async def _trim(self) -> None:
        now_s = self._now_s()
        self._trimmed_at_s = now_s
        for agent in await self._telemetry.read(records.list_agents):
            await self._telemetry.write(lambda tx, agent=agent: records.trim(tx, agent, now_s))

    # -- what is asked -------------------------------------------------------------------------------------

    async def read(self, agent: str, since: datetime, keys: Sequence[str], points: int) -> Answer:
        """The series `keys` of an agent, or of the HIVE, from `since` until now.

        Raises NotFoundError for an agent that never was or was purged.
        """
        if agent != HIVE:
            await self._store.read(lambda view: get_any_agent(view, agent))
        async with self._lock:
            await self._look_again()
            return await self._read(agent, since, keys, points)

    async def compare(self, since: datetime, keys: Sequence[str]) -> dict[str, Answer]:
        """The same of each agent that is not destroyed; its totals are what can be compared."""
        rows = await self._store.read(lambda view: view.list("list_agents"))
        answers: dict[str, Answer] = {}
        async with self._lock:
            await self._look_again()
        for row in rows:
            # One after another: whoever reads something else gets a turn in between.
            async with self._lock:
                answers[row["name"]] = await self._read(row["name"], since, keys, _COMPARED_POINTS)
        return answers

    async def _read(self, agent: str, since: datetime, keys: Sequence[str], points: int) -> Answer:
        now_s = self._now_s()
        grid = plan_grid(int(since.timestamp()), now_s, points)
        atoms = find_atoms(SERIES_BY_KEY[key] for key in keys)
        recent = self._collector.list_slots(agent)

        def look(view: View) -> Answer:
            window = records.read_blocks(view, agent, grid, atoms)
            window.add_slots(recent)
            return render_answer(window, keys, now_s)

        return await self._telemetry.read(look)

    def _now_s(self) -> int:
        return int(self._clock().timestamp())


def _read_levels(view: View) -> tuple[dict[str, int], Slot]:
    waiting = {row["recipient"]: int(row["waiting"]) for row in view.list("count_queued_by_recipient")}
    return waiting, {
        "approvals": int(view.get("count_pending_approvals")["pending"]),
        "questions": int(view.get("count_all_open_questions")["open"]),
    }
