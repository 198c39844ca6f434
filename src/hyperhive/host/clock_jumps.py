"""When the machine's clock is set: what was to last an hour lasts an hour, and nothing expires that was not due.

The daemon's own clock keeps on until the deadlines of messages and questions are moved by as much as the clock was. It
is set in the transaction that moves them: what was committed before has the old time, what comes after has the new one.
While the daemon does not run nobody can tell a jump from time that went by.
"""

import asyncio
import time

import structlog

from hyperhive.core.errors import StorageError
from hyperhive.host.store.store import Store, Transaction
from hyperhive.system.clock import SteadyClock, read_time_from

log = structlog.get_logger(__name__)

CHECK_S = 1.0


class ClockJumps:
    def __init__(self, store: Store, clock: SteadyClock | None = None) -> None:
        self._store = store
        self._clock = clock or SteadyClock()

    async def watch_forever(self) -> None:
        """For as long as the daemon runs: its time is that of this clock."""
        read_time_from(self._clock.read_s)
        try:
            while True:
                await self.look()
                await asyncio.sleep(CHECK_S)
        finally:
            read_time_from(time.time)

    async def look(self) -> None:
        """Follows a jump if there was one, unless the disk refuses: then the old time goes on."""
        jump_s = self._clock.find_jump_s()
        if not jump_s:
            return

        def move(tx: Transaction) -> None:
            by_ms = round(jump_s * 1000)
            tx.list("move_message_deadlines", by_ms=by_ms)
            tx.list("move_question_deadlines", by_ms=by_ms)
            tx.list("move_egress_grants", by_ms=by_ms)
            self._clock.move(jump_s)

        try:
            await self._store.write(move)
        except StorageError as error:
            self._undo(jump_s)
            log.warning("clock.not_followed", by_s=round(jump_s, 1), message=error.message)
        else:
            log.warning("clock.jumped", by_s=round(jump_s, 1))

    def _undo(self, jump_s: float) -> None:
        # Only if the move itself was made: it is the last that is done before the commit.
        if not self._clock.find_jump_s():
            self._clock.move(-jump_s)
