"""What agents take of the disk: measured in turn, and at once when the disk fills up.

A disk that has quotas of its own for folders is rare: so the folders are walked, slowly, and the free room of the disk
is looked at all the time, which costs nothing. Who is over its limit is stopped; so is who grew most once the disk is
at its reserve. What the hive itself has to write has the reserve for itself, the last of it the operator alone.
The room is `disk_room.py`'s, what folders hold `disk_folders.py`'s; here is decided what follows from both.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from hyperhive.core.errors import ConflictError, HiveError, InvalidInputError, StorageError
from hyperhive.core.events import Event, EventName
from hyperhive.core.limits import parse_memory_bytes
from hyperhive.core.names import parse_known_agent_name
from hyperhive.core.needs import Need
from hyperhive.core.paths import Roots
from hyperhive.core.quotas import (
    CALM_AT,
    MIB,
    DiskUse,
    Quota,
    find_excess,
    find_grower,
    is_near,
    render_bytes,
)
from hyperhive.host.agent_records import get_agent
from hyperhive.host.configs.configs import Configs
from hyperhive.host.disk_folders import DiskFolders
from hyperhive.host.disk_records import clear_over_quota, mark_over_quota, tell_warned
from hyperhive.host.disk_room import DiskRoom
from hyperhive.host.lifecycle import Lifecycle
from hyperhive.host.need_views import view_full_disk
from hyperhive.host.store.rows import AgentRecord
from hyperhive.host.store.store import Store, Transaction
from hyperhive.system.clock import from_millis, now, to_millis
from hyperhive.system.disk_usage import Room

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.5
ROUND_EVERY_S = 300.0
FIRST_ROUND_AFTER_S = 5.0
# The next round is at once when the disk has lost so much since the last one began, though not sooner than this.
EARLY_BYTES = 512 * MIB
EARLIEST_S = 10.0
# Of the time of an urgent look, how long the next one waits at the least.
URGENT_REST_FACTOR = 2
ALLOWED_LIMIT = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class DiskSettings:
    """`limit_bytes`: None for no limit. `reserve_bytes`: None for what fits the disk, 0 for none."""

    limit_bytes: int | None = 10 * 1024**3
    reserve_bytes: int | None = None
    look_every_s: float = LOOK_EVERY_S
    round_every_s: float = ROUND_EVERY_S


def parse_disk_settings(state_limit: str, disk_reserve: str) -> DiskSettings:
    """From settings that were checked."""
    limit_bytes = None if state_limit == "0" else parse_memory_bytes(state_limit)
    reserve_bytes = None if not disk_reserve else 0 if disk_reserve == "0" else parse_memory_bytes(disk_reserve)
    return DiskSettings(limit_bytes, reserve_bytes)


@dataclass(frozen=True, slots=True)
class DiskView:
    """What is known of one agent's use of the disk."""

    use: DiskUse
    limit_bytes: int | None
    allowed_until: datetime | None


class DiskQuotas:
    """`list_running` names the agents whose containers run, with the pid of their first process if it is known."""

    def __init__(
        self,
        store: Store,
        roots: Roots,
        configs: Configs,
        lifecycle: Lifecycle,
        list_running: Callable[[], Sequence[tuple[str, int | None]]],
        settings: DiskSettings,
    ) -> None:
        self._store = store
        self._configs = configs
        self._lifecycle = lifecycle
        self._list_running = list_running
        self._settings = settings
        self._room = DiskRoom(roots.data, settings.reserve_bytes)
        self._folders = DiskFolders(roots)
        self._allowed: dict[str, tuple[int, datetime]] = {}
        self._warned: set[str] = set()
        self._calm_free_bytes: int | None = None
        self._round_free_bytes = 0
        self._early = asyncio.Event()
        self._urgent_at_s = 0.0

    async def load(self) -> None:
        """At the daemon's start: what the operator allowed."""
        for row in await self._store.read(lambda view: view.list("list_allowances")):
            self._allowed[row["name"]] = (row["allowed_bytes"], from_millis(row["allowed_until"]))

    async def close(self) -> None:
        """Ends the walk that is under way."""
        await self._folders.close()

    async def watch_forever(self) -> None:
        """Looks at the disk all the time, and at folders in turn."""
        loop = asyncio.get_running_loop()
        round_ = asyncio.create_task(self._measure_forever())
        try:
            looked_at_s = loop.time()
            while not round_.done():
                await asyncio.sleep(self._settings.look_every_s)
                at_s = loop.time()
                await self._look(at_s - looked_at_s)
                looked_at_s = at_s
            await round_
        finally:
            round_.cancel()
            await asyncio.wait({round_})

    def on_event(self, event: Event) -> None:
        """The feed's listener."""
        if event.agent is None:
            return
        if event.name in {EventName.AGENT_DESTROYED, EventName.AGENT_PURGED}:
            self._folders.forget(event.agent)
            self._allowed.pop(event.agent, None)
            self._warned.discard(event.agent)

    # -- for others ----------------------------------------------------------------------------------------

    def check_room(self) -> None:
        """To be asked before something is stored because an agent wants it. Raises StorageError."""
        rest_bytes = self._room.find_rest_bytes()
        if rest_bytes is not None:
            raise StorageError(
                f"the hive's disk is nearly full ({render_bytes(rest_bytes)} free): nothing more is stored",
                "free some space: remove what you do not need from your folders, and try again later",
            )

    async def check_start(self, name: str) -> None:
        """Lets an agent that was stopped for what its folders hold start again, if they hold no more than they may.

        Raises ConflictError if they do, or the disk is as full as it was.
        """
        record = await self._get(name)
        if not record.over_quota:
            return
        use = await self._folders.measure(name)
        excess = find_excess(use, self.find_limit_bytes(name))
        if excess:
            raise ConflictError(f"{name} is stopped: {excess}", _HINT.format(name=name))
        room = self._room.observe()
        if room.free_bytes < self._room.reserve_bytes and self._find_allowance(name) is None:
            raise ConflictError(f"{name} is stopped: {self._room.render(room)}", _HINT.format(name=name))
        await self._store.write(lambda tx: clear_over_quota(tx, name))

    async def allow(self, name: str, size_bytes: int, for_s: float) -> None:
        """Lets the folders of an agent hold so much for a while, and starts it again if it was stopped for them.

        Raises InvalidInputError, NotFoundError, and ConflictError if even that is less than they hold.
        """
        if not timedelta(0) < timedelta(seconds=for_s) <= ALLOWED_LIMIT:
            raise InvalidInputError(f"for at most {ALLOWED_LIMIT.days} days", "raise limits.disk in its config instead")
        until = now() + timedelta(seconds=for_s)
        record = await self._get(name)

        def save(tx: Transaction) -> None:
            tx.list("allow_disk", name=name, bytes=size_bytes, until=to_millis(until))
            tx.emit(EventName.QUOTA_ALLOWED, name, {"limit_bytes": size_bytes, "until": until.isoformat()})

        await self._store.write(save)
        self._allowed[name] = (size_bytes, until)
        if record.over_quota:
            await self.check_start(name)
            self._lifecycle.converge_soon(name)

    async def view(self, name: str) -> DiskView:
        """What is known of an agent; measured now if it never was. Raises NotFoundError."""
        await self._get(name)
        use = self._folders.find_use(name) or await self._folders.measure(name)
        allowance = self._find_allowance(name)
        return DiskView(use, self.find_limit_bytes(name), None if allowance is None else allowance[1])

    def find_used_bytes(self, name: str) -> int | None:
        """What its folders held when they were last measured."""
        use = self._folders.find_use(name)
        return None if use is None else use.size_bytes

    def find_limit_bytes(self, name: str) -> int | None:
        """What its folders may hold now; None: anything."""
        allowance = self._find_allowance(name)
        version = self._configs.find_cached(name)
        disk = None if version is None else version.config.limits.disk
        limit_bytes = self._settings.limit_bytes if disk is None else parse_memory_bytes(disk)
        if allowance is None or limit_bytes is None:
            return limit_bytes
        return max(limit_bytes, allowance[0])

    # -- the disk ------------------------------------------------------------------------------------------

    async def _look(self, passed_s: float) -> None:
        room = self._room.look(passed_s)
        if self._round_free_bytes - room.free_bytes >= EARLY_BYTES:
            self._early.set()
        await self._tell_low(room)
        is_urgent = self._room.is_urgent(room)
        self._folders.hurry(is_urgent)
        if not is_urgent:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._urgent_at_s:
            return
        began_s = loop.time()
        await self._look_urgently()
        self._urgent_at_s = loop.time() + URGENT_REST_FACTOR * (loop.time() - began_s)
        self._room.note_searched()

    async def _tell_low(self, room: Room) -> None:
        if not self._room.note_low(room):
            return
        is_low = self._room.is_low
        body = {"free_bytes": room.free_bytes, "reserve_bytes": self._room.reserve_bytes}
        name = EventName.DISK_LOW if is_low else EventName.DISK_FREED
        log.warning("disk.low" if is_low else "disk.freed", **body)
        try:
            await self._store.write(lambda tx: tx.emit(name, None, body))
        except StorageError as error:
            log.warning("disk.not_told", message=error.message)

    def list_needs(self) -> list[Need]:
        """For the operator's queue: that the disk is at its reserve."""
        return [view_full_disk(self._room.low_since)] if self._room.is_low else []

    async def _look_urgently(self) -> None:
        """Measures whoever runs, the one that grew most first; stops who is over, or else who filled the disk."""
        uses: dict[str, DiskUse] = {}
        stopped = False
        for name, pid in sorted(self._list_running(), key=lambda one: -self._folders.find_growth(one[0])):
            use = await self._folders.measure(name, pid)
            stopped = await self._judge(name, pid, use) or stopped
            uses[name] = use
        room = self._room.observe()
        if stopped or room.free_bytes >= self._room.reserve_bytes:
            return
        fall_bytes = max(0, (self._calm_free_bytes or room.free_bytes) - room.free_bytes)
        growths = {name: self._folders.find_growth(name) for name in uses}
        grower = find_grower(growths, fall_bytes)
        unmeasured = [name for name, use in uses.items() if not use.complete]
        if grower is not None:
            since = self._folders.get_calm_at(grower)
            grown = f"its folders grew most: by {render_bytes(growths[grower])} since {since:%H:%M} UTC"
            await self._stop(grower, f"{self._room.render(room)}, and {grown}", uses[grower])
        elif len(unmeasured) == 1 and fall_bytes:
            excess = f"{self._room.render(room)}, and its folders cannot be measured"
            await self._stop(unmeasured[0], excess, uses[unmeasured[0]])

    # -- the folders ---------------------------------------------------------------------------------------

    async def _measure_forever(self) -> None:
        await asyncio.sleep(min(FIRST_ROUND_AFTER_S, self._settings.round_every_s))
        while True:
            self._round_free_bytes = self._room.observe().free_bytes
            self._early.clear()
            for name, pid in self._list_running():
                try:
                    use = await self._folders.measure(name)
                    if not await self._judge(name, pid, use) and not self._room.is_low:
                        self._folders.note_calm(name, use)
                except HiveError as error:
                    log.warning("disk.not_measured", agent=name, message=error.message)
            if not self._room.is_low:
                self._calm_free_bytes = self._room.observe().free_bytes
            earliest_s = min(EARLIEST_S, self._settings.round_every_s)
            await asyncio.sleep(earliest_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.round_every_s - earliest_s):
                    await self._early.wait()

    async def _judge(self, name: str, pid: int | None, use: DiskUse) -> bool:
        """Stops an agent whose folders are over their limit, warns one that is near it. Whether it was stopped."""
        limit_bytes = self.find_limit_bytes(name)
        if find_excess(use, limit_bytes):
            # What is moved while it is counted may count twice.
            use = await self._folders.measure(name, pid)
            excess = find_excess(use, limit_bytes)
            if excess:
                await self._stop(name, excess, use)
                return True
        if is_near(use, limit_bytes) and name not in self._warned:
            self._warned.add(name)
            await self._store.write(lambda tx: tell_warned(tx, name, use, limit_bytes))
        elif not is_near(use, limit_bytes, CALM_AT):
            self._warned.discard(name)
        return False

    async def _stop(self, name: str, excess: str, use: DiskUse) -> None:
        reason = f"{excess}: free some, raise limits.disk, or `hive quota {name} --allow SIZE`"
        limit_bytes = self.find_limit_bytes(name)
        log.warning("disk.over_quota", agent=name, reason=excess)
        try:
            await self._lifecycle.hold(
                name, lambda tx: mark_over_quota(tx, name, Quota.DISK, reason, use.size_bytes, limit_bytes)
            )
        except HiveError as error:
            log.warning("disk.not_stopped", agent=name, message=error.message)

    def _find_allowance(self, name: str) -> tuple[int, datetime] | None:
        allowance = self._allowed.get(name)
        return None if allowance is None or allowance[1] <= now() else allowance

    async def _get(self, name: str) -> AgentRecord:
        parse_known_agent_name(name)
        return await self._store.read(lambda view: get_agent(view, name))


_HINT = (
    "remove what it does not need below data/agents/{name} (the pages show its files), propose a larger limits.disk, "
    "or `hive quota {name} --allow SIZE`"
)
