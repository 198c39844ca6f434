"""One round of the schedule, made to die of SIGKILL: `python crashing_schedule.py DATABASE AT CRASH_AT`.

AT is the time that it believes it is, RFC 3339. A step is the moment before each transaction of the database and the
one after it; it kills itself at step CRASH_AT (0: never).
"""

import asyncio
import os
import signal
import sys
from datetime import datetime
from pathlib import Path

from doors import watch_commits
from hyperhive.core.errors import UnavailableError
from hyperhive.host.configs.configs import Version
from hyperhive.host.schedule import Schedule
from hyperhive.host.store.store import Store

_crash_at = int(sys.argv[3])
_count = 0


def step(_kind: str, _what: str) -> None:
    global _count
    _count += 1
    if _count == _crash_at:
        os.kill(os.getpid(), signal.SIGKILL)


watch_commits(step)


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
