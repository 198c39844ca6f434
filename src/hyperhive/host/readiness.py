"""Whether this hive can do its work now: for what watches over it from outside, which has no session."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from hyperhive.core.errors import HiveError
from hyperhive.core.names import MANAGER, container_name
from hyperhive.host.drivers.protocol import Driver
from hyperhive.host.store.store import Store

# Below this little can be stored, and soon nothing.
ROOM_LEAST_BYTES = 64 * 1024 * 1024
CHECK_TIMEOUT_S = 5.0
# Anybody on this machine may ask: however many do, the hive looks no oftener than this.
KEEP_S = 1.0


class Readiness:
    def __init__(
        self, store: Store, driver: Driver, data: Path, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._driver = driver
        self._data = data
        self._monotonic_s = monotonic_s
        self._looking = asyncio.Lock()
        self._looked_at_s = float("-inf")
        self._faults: tuple[str, ...] = ()

    async def find_faults(self) -> tuple[str, ...]:
        """Why the hive is not ready, none if it is; of a second ago at most. They name no path and quote nothing."""
        async with self._looking:
            if self._monotonic_s() - self._looked_at_s >= KEEP_S:
                found = [await self._check_database(), self._check_room(), await self._check_driver()]
                self._faults = tuple(fault for fault in found if fault)
                self._looked_at_s = self._monotonic_s()
            return self._faults

    async def _check_database(self) -> str:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await self._store.write(lambda _: None)
        except (HiveError, TimeoutError):
            return "the database takes no change"
        return ""

    def _check_room(self) -> str:
        try:
            disk = os.statvfs(self._data)
        except OSError:
            return "the data folder is not there"
        return "" if disk.f_bavail * disk.f_frsize >= ROOM_LEAST_BYTES else "the disk is full"

    async def _check_driver(self) -> str:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await self._driver.observe(container_name(MANAGER))
        except (HiveError, TimeoutError):
            return f"the driver {self._driver.name} does not answer"
        return ""
