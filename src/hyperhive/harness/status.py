"""The turn state: kept by its transition table, recorded in the transcript, told to the daemon."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NoReturn

from hyperhive.core.claude_events import ClaudeView
from hyperhive.core.errors import HiveError
from hyperhive.core.turns import TRANSITIONS, TurnState, TurnStatus
from hyperhive.harness.feed import Feed
from hyperhive.harness.link import Link
from hyperhive.wire.agent_link import TURN_STATE, LoginFields, TurnStateParams

log = logging.getLogger("hive.status")

_DEADLINE_S = 30.0
_RETRY_S = 5.0


class StatusBoard:
    """What the harness is doing. The daemon is told the newest only, however fast it changes, and at each connect.

    `observe_chosen_model` and `observe_login` look at what the agent's files say, each time the daemon is told.
    """

    def __init__(
        self, feed: Feed, observe_chosen_model: Callable[[], str], observe_login: Callable[[], LoginFields]
    ) -> None:
        self._feed = feed
        self._observe_chosen_model = observe_chosen_model
        self._observe_login = observe_login
        self._status = TurnStatus(TurnState.OFFLINE, datetime.now(UTC))
        self._view = ClaudeView()
        self._warm = False
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

    def report_claude(self, view: ClaudeView, warm: bool) -> None:
        """What claude's events tell now, and whether a claude is open."""
        if (view, warm) != (self._view, self._warm):
            self._view, self._warm = view, warm
            self._news.set()

    def refresh(self) -> None:
        """Tells the daemon again: it has just come, or something changed in the agent's files."""
        self._news.set()

    async def run(self, link: Link) -> NoReturn:
        while True:
            await self._news.wait()
            self._news.clear()
            if self._status.state is TurnState.OFFLINE:
                continue
            try:
                await link.request(TURN_STATE, self._render(), deadline_s=_DEADLINE_S)
            except HiveError as error:
                log.warning("the daemon did not take the turn state: %r", error.message)
                # What it was told last may be wrong by now: it is told again.
                await asyncio.sleep(_RETRY_S)
                self._news.set()

    def _render(self) -> TurnStateParams:
        return TurnStateParams(
            state=str(self._status.state),
            since=self._status.since.isoformat(),
            reason=self._status.reason,
            model=self._view.model,
            chosen_model=self._observe_chosen_model(),
            context_tokens=self._view.context_tokens,
            context_limit=self._view.context_limit,
            session_usd=self._view.session_usd,
            warm=self._warm,
            login=self._observe_login(),
        )
