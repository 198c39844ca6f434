"""Containers that write their log without end: shortened at once, and stopped if they go on.

A log is bounded whenever somebody looks at it, which the watch does every few seconds; a program at full speed writes
gigabytes meanwhile. So the room where logs are is looked at twice a second, and the logs once it falls.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from hyperhive.core.errors import HiveError
from hyperhive.core.names import container_name
from hyperhive.core.quotas import MIB, Quota, Unit, Use, render_bytes
from hyperhive.host.disk_records import mark_over_quota
from hyperhive.host.drivers.container_log import LIMIT_BYTES
from hyperhive.host.drivers.protocol import Driver
from hyperhive.host.lifecycle import Lifecycle
from hyperhive.host.throttles import Throttles
from hyperhive.system.disk_usage import observe_room

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.5
# What may go of the room between two looks before logs are looked at, and what one log may grow meanwhile.
FALL_BYTES = 16 * MIB
GROWTH_BYTES = 16 * MIB
# After so many looks in a row at which it had grown by that, or with so little room left, an agent is stopped.
LOOKS = 10
_ROOM_LEAST_PART = 0.1


class LogWatch:
    """`list_running` names the agents whose containers run. `folder` is where logs are."""

    def __init__(
        self,
        driver: Driver,
        folder: Path,
        lifecycle: Lifecycle,
        throttles: Throttles,
        list_running: Callable[[], Sequence[tuple[str, int | None]]],
    ) -> None:
        self._driver = driver
        self._folder = folder
        self._lifecycle = lifecycle
        self._throttles = throttles
        self._list_running = list_running
        self._free_bytes: int | None = None
        self._ends: dict[str, int] = {}
        self._floods: dict[str, int] = {}

    async def watch_forever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            room = observe_room(self._folder)
            before, self._free_bytes = self._free_bytes, room.free_bytes
            # While one floods it is looked at all the time: that its log was shortened gives room, too.
            if self._floods or (before is not None and before - room.free_bytes >= FALL_BYTES):
                await self._look(is_tight=room.free_bytes < room.total_bytes * _ROOM_LEAST_PART)

    async def find_use(self, agent: str) -> Use:
        """How much is kept of its log."""
        try:
            first, last = await self._driver.log_range(container_name(agent))
        except HiveError:
            return Use(Quota.LOG, Unit.BYTES, None, LIMIT_BYTES)
        return Use(Quota.LOG, Unit.BYTES, last - first, LIMIT_BYTES)

    async def _look(self, is_tight: bool) -> None:
        ends: dict[str, int] = {}
        for name, _ in self._list_running():
            try:
                first, ends[name] = await self._driver.log_range(container_name(name))
                # Before the first look, what is kept and not what was ever written.
                growth_bytes = ends[name] - max(self._ends.get(name, first), first)
                await self._judge(name, growth_bytes, is_tight)
            except HiveError as error:
                log.warning("log.not_looked_at", agent=name, message=error.message)
        self._ends = ends
        self._floods = {name: count for name, count in self._floods.items() if name in ends}

    async def _judge(self, name: str, growth_bytes: int, is_tight: bool) -> None:
        if growth_bytes < GROWTH_BYTES:
            self._floods.pop(name, None)
            return
        self._floods[name] = self._floods.get(name, 0) + 1
        # That shortens it.
        await self._driver.logs(container_name(name), 0, 0)
        rate = f"{render_bytes(growth_bytes / LOOK_EVERY_S)} a second"
        self._throttles.note(name, Quota.LOG, f"its log grows by {rate}")
        if self._floods[name] >= LOOKS or is_tight:
            log.warning("log.flood", agent=name, rate=rate)
            del self._floods[name]
            reason = f"it floods its log: {rate} (see hive logs {name}; start it when that is mended)"
            await self._lifecycle.hold(name, lambda tx: mark_over_quota(tx, name, Quota.LOG, reason))
