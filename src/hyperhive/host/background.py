"""What the daemon does in the background, while nobody waits for it."""

import asyncio
from collections.abc import Awaitable

import structlog

from hyperhive.core.errors import HiveError
from hyperhive.host.containers import HaltedError

log = structlog.get_logger(__name__)


class Background:
    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def soon(self, work: Awaitable[None]) -> None:
        """Does `work` in the background; what it fails with is logged."""
        task = asyncio.ensure_future(_guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def count(self) -> int:
        """How many things are under way."""
        return len(self._tasks)

    async def finish(self) -> None:
        """Ends what is under way, before the daemon ends. Containers are left as they are."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _guard(work: Awaitable[None]) -> None:
    try:
        await work
    except HaltedError:
        pass
    except HiveError as error:
        log.warning("background.failed", message=error.message, hint=error.hint)
    except Exception:
        log.exception("background.failed")
