"""Reminders that agents set for themselves, and the schedules of their configs: sent by the hive, as messages.

They last longer than any claude, container or daemon. One loop sleeps until the next of them is due; what came due
while nothing ran is sent afterwards (`core.schedules` says what of it).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime

import structlog

from hyperhive.core.errors import HiveError
from hyperhive.core.events import Event, EventName
from hyperhive.core.reminders import Reminder, parse_due, parse_note
from hyperhive.core.schedules import Due, find_due, find_next
from hyperhive.host.configs.configs import Version
from hyperhive.host.schedule_records import (
    cancel_reminder,
    find_by_key,
    save_schedule,
    send_reminders,
    send_scheduled,
    set_reminder,
)
from hyperhive.host.store.rows import ScheduleRecord, to_reminder, to_schedule
from hyperhive.host.store.store import Store
from hyperhive.system.clock import from_millis, now, to_millis
from hyperhive.wire.operator.records import ScheduledMessage

log = structlog.get_logger(__name__)

# The clock may be set, and a machine may sleep: it is looked again after this long whatever was planned.
LOOK_EVERY_S = 30.0
# A config that was deployed a moment ago is noted in a moment.
SOON_S = 0.1
UNREADABLE_RETRY_S = 300.0
AT_ONCE = 100

_CHANGING = frozenset(
    {
        EventName.AGENT_CONFIGURED,
        EventName.AGENT_DESTROYED,
        EventName.AGENT_REVIVED,
        EventName.AGENT_PURGED,
        EventName.SCHEDULE_SENT,
    }
)

Plan = Mapping[ScheduleRecord, datetime | None]


class Schedule:
    def __init__(
        self, store: Store, get_deployed: Callable[[str], Awaitable[Version]], clock: Callable[[], datetime] = now
    ) -> None:
        """`get_deployed` gives the deployed config of an agent, or raises a HiveError."""
        self._store = store
        self._get_deployed = get_deployed
        self._clock = clock
        # When each entry comes next: found once for each time that it has dealt with.
        self._plan: Plan = {}
        self._stale = True
        self._woken = asyncio.Event()
        # The agents whose config could not be read, and when that is tried again.
        self._unreadable: dict[str, float] = {}

    # -- what agents and the operator ask for --------------------------------------------------------------

    async def remind(self, agent: str, note: str, at: str | None, in_seconds: float | None, key: str) -> Reminder:
        """Remembers a reminder and returns it once it is durable; the same key again gives the same one.

        Raises InvalidInputError for a note or a time that cannot be, TooLargeError over WAITING_LIMIT.
        """
        known = await self._store.read(lambda view: find_by_key(view, agent, key))
        if known is not None:
            # Its time may have passed by now.
            return known
        text, due_at = parse_note(note), parse_due(at, in_seconds, self._clock())
        return await self._store.write(lambda tx: set_reminder(tx, agent, text, due_at, key))

    async def cancel(self, reminder_id: int, by: str) -> None:
        """Drops a reminder: of the agent `by`, or any if that is the operator. Again is no error.

        Raises NotFoundError if there is none, ConflictError if it was sent.
        """
        await self._store.write(lambda tx: cancel_reminder(tx, reminder_id, by))

    async def list_reminders(self, agent: str | None) -> list[Reminder]:
        """Those that wait, of one agent or the first thousand of all, the next one first."""
        return [
            to_reminder(row) for row in await self._store.read(lambda view: view.list("list_reminders", agent=agent))
        ]

    async def list_scheduled(self, agent: str | None) -> list[ScheduledMessage]:
        """The entries of deployed configs, of one agent or of all, with the times they were and will be sent."""
        rows = await self._store.read(lambda view: view.list("list_schedules", agent=agent))
        plan = await asyncio.to_thread(_make_plan, [to_schedule(row) for row in rows], self._plan)
        return [
            ScheduledMessage(
                agent=record.agent, cron=record.cron, message=record.message, next_at=next_at, last_at=record.last_at
            )
            for record, next_at in plan.items()
        ]

    # -- the loop ------------------------------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        """Looks again when something has changed; called by the feed after each commit."""
        if event.name in _CHANGING:
            self._stale = True
            self._unreadable.pop(event.agent or "", None)
            self._woken.set()
        elif event.name is EventName.REMINDER_SET:
            self._woken.set()

    async def run_forever(self) -> None:
        """Sends everything at its time, for as long as the daemon runs."""
        while True:
            self._woken.clear()
            wait_s = await self.send_due()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()

    async def send_due(self) -> float:
        """Sends what is due now, and returns how long it is until something is, LOOK_EVERY_S at most.

        Raises StorageError: what was not sent is due again.
        """
        at = self._clock()
        await self._read_configs(at)
        await self._refresh()
        while await self._store.read(lambda view: view.list("list_due_reminders", at=to_millis(at), limit=1)):
            await self._store.write(lambda tx: send_reminders(tx, at, AT_ONCE))
        await self._send_scheduled(at)
        return await self._measure_wait()

    async def _read_configs(self, at: datetime) -> None:
        """Takes over the schedules of what was deployed since the last look."""
        for row in await self._store.read(lambda view: view.list("list_unread_schedules")):
            await self._read_config(row["name"], row["deployed_commit"], at)

    async def _read_config(self, name: str, commit: str, at: datetime) -> None:
        loop = asyncio.get_running_loop()
        if self._unreadable.get(name, 0.0) > loop.time():
            return
        try:
            version = await self._get_deployed(name)
        except HiveError as error:
            self._unreadable[name] = loop.time() + UNREADABLE_RETRY_S
            log.warning("schedule.config_unreadable", agent=name, message=error.message)
            return
        self._unreadable.pop(name, None)
        if version.commit != commit:
            loop.call_later(SOON_S, self._woken.set)
            return
        entries = [(entry.cron, entry.message) for entry in version.config.schedule]
        await self._store.write(lambda tx: save_schedule(tx, name, commit, entries, at))
        self._stale = True

    async def _send_scheduled(self, at: datetime) -> None:
        coming = [record for record, next_at in self._plan.items() if next_at is not None and next_at <= at]
        if not coming:
            return
        due = await asyncio.to_thread(_find_all_due, coming, at)
        for start in range(0, len(due), AT_ONCE):
            batch = due[start : start + AT_ONCE]
            await self._store.write(lambda tx, batch=batch: send_scheduled(tx, batch))
        for record, found in due:
            if found.too_late:
                log.info("schedule.too_late", agent=record.agent, cron=record.cron, due_at=found.at.isoformat())
        self._stale = True
        await self._refresh()

    async def _measure_wait(self) -> float:
        first_ms = (await self._store.read(lambda view: view.get("find_first_reminder")))["due_at"]
        times = [next_at for next_at in self._plan.values() if next_at is not None]
        if first_ms is not None:
            times.append(from_millis(first_ms))
        at = self._clock()
        left_s = min((left.total_seconds() for left in (time - at for time in times)), default=LOOK_EVERY_S)
        # Never at once again because of what the store rounds off.
        return min(max(left_s, 0.001), LOOK_EVERY_S)

    async def _refresh(self) -> None:
        """Brings the plan to what the store says, if that has changed."""
        if not self._stale:
            return
        self._stale = False
        try:
            rows = await self._store.read(lambda view: view.list("list_schedules", agent=None))
        except HiveError:
            self._stale = True
            raise
        self._plan = await asyncio.to_thread(_make_plan, [to_schedule(row) for row in rows], self._plan)


def _make_plan(records: Iterable[ScheduleRecord], known: Plan) -> Plan:
    """When each entry comes next. What is `known` is not looked for again: it takes a third of a millisecond."""
    return {record: known[record] if record in known else _find_next(record) for record in records}


def _find_next(record: ScheduleRecord) -> datetime | None:
    try:
        return find_next(record.cron, record.done_to)
    except ValueError:
        # Deployed by an earlier version of the hive, which took it: such an agent does not start either.
        return None


def _find_all_due(records: Iterable[ScheduleRecord], at: datetime) -> list[tuple[ScheduleRecord, Due]]:
    found = [(record, find_due(record.cron, record.done_to, at)) for record in records]
    return [(record, due) for record, due in found if due is not None]
