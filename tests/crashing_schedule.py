"""One round of the schedule, made to die of SIGKILL: `python crashing_schedule.py DATABASE AT CRASH_AT`.

AT is the time that it believes it is, RFC 3339. A step is the moment before each transaction of the database and the
one after it; it kills itself at step CRASH_AT (0: never).
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from hyperhive.core.errors import UnavailableError
from hyperhive.host.configs.configs import Version
from hyperhive.host.schedule import Schedule
from hyperhive.host.store.store import Store
from hyperhive.system import sqlite

_crash_at = int(sys.argv[3])
_count = 0


def step() -> None:
    global _count
    _count += 1
    if _count == _crash_at:
        os.kill(os.getpid(), signal.SIGKILL)


def watch(commit: Callable[..., None]) -> Callable[..., None]:
    def call(writer: sqlite.Writer, batch: Any) -> None:
        step()
        commit(writer, batch)
        step()

    return call


sqlite.Writer._commit = watch(sqlite.Writer._commit)  # pyright: ignore[reportPrivateUsage]


async def get_deployed(name: str) -> Version:
    raise UnavailableError(f"the config of {name} was read before")


async def main() -> None:
    store = Store(Path(sys.argv[1]), "hive")
    try:
        await Schedule(store, get_deployed, lambda: datetime.fromisoformat(sys.argv[2])).send_due()
    finally:
        store.close()


if __name__ == "__main__":
    asyncio.run(main())
