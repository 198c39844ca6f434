"""The turn state: kept by its transition table, recorded in the transcript, told to the daemon."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import NoReturn

from hyperhive.core.errors import HiveError
from hyperhive.core.turns import TRANSITIONS, TurnState, TurnStatus
from hyperhive.harness.feed import Feed
from hyperhive.harness.link import Link
from hyperhive.wire.agent_link import TURN_STATE, TurnStateParams

log = logging.getLogger("hive.status")


class StatusBoard:
    """What the harness is doing. The daemon is told the newest only, however fast it changes, and at each connect."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._status = TurnStatus(TurnState.OFFLINE, datetime.now(UTC))
        self._model = ""
        self._news = asyncio.Event()

    @property
    def state(self) -> TurnState:
        return self._status.state

    def enter(self, state: TurnState, reason: str = "") -> None:
        """Changes the state. Entering the same one for the same reason again changes nothing."""
        if (state, reason) == (self._status.state, self._status.reason):
            return
        if state is not self._status.state and state not in TRANSITIONS[self._status.state]:
            raise AssertionError(f"{state} cannot follow {self._status.state}")
        self._status = TurnStatus(state, datetime.now(UTC), reason)
        self._feed.record("state", {"state": str(state), "reason": reason})
        self._news.set()

    def explain(self, reason: str) -> None:
        """Says why a turn that runs does not go on, or, with nothing, that it does."""
        if self._status.state is TurnState.THINKING:
            self.enter(TurnState.THINKING, reason)

    def report_model(self, model: str) -> None:
        """What claude says that it runs on."""
        if model != self._model:
            self._model = model
            self._news.set()

    def greeted(self) -> None:
        self._news.set()

    async def run(self, link: Link) -> NoReturn:
        while True:
            await self._news.wait()
            self._news.clear()
            if self._status.state is TurnState.OFFLINE:
                continue
            params = TurnStateParams(
                state=str(self._status.state),
                since=self._status.since.isoformat(),
                reason=self._status.reason,
                model=self._model,
            )
            try:
                await link.request(TURN_STATE, params)
            except HiveError as error:
                log.warning("the daemon did not take the turn state: %r", error.message)
