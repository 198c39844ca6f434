"""What harnesses report that keeps their agents from going on: decided here whom it parks, and for how long.

A report counts for the agent that makes it. All agents are parked only when they share the hive's credential and the
service's own answers say the same (`host.refusals`): one agent's word must not stop the hive.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

import structlog

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.parking import (
    EVERYONE,
    REASON_LIMIT_CHARS,
    REPORTED,
    Park,
    ParkKind,
    decide_park,
    is_same_limit,
    parse_reset,
    plan_limit_end,
)
from hyperhive.core.text import cut_text, render_safe_line
from hyperhive.core.turns import TurnOutcome
from hyperhive.host.link.params import AgentEvent
from hyperhive.host.park_records import park_in
from hyperhive.host.parking import Parking
from hyperhive.host.refusals import LIMIT_REACHED, LOGIN_REFUSED, Refusals
from hyperhive.host.store.rows import to_park
from hyperhive.host.store.store import Store, Transaction, View
from hyperhive.system.clock import now

log = structlog.get_logger(__name__)


class Troubles:
    def __init__(
        self,
        store: Store,
        parking: Parking,
        refusals: Refusals,
        *,
        shared: bool,
        resumes: Callable[[str], bool],
        rng: Random | None = None,
    ) -> None:
        """`shared`: the agents use the hive's credential. `resumes`: does an agent's deployed config let it go on by
        itself after a limit?"""
        self._store = store
        self._parking = parking
        self._refusals = refusals
        self._shared = shared
        self._resumes = resumes
        self._rng = rng or Random()  # noqa: S311 - spreads load, hides nothing
        # How often in a row a limit without a reset time was hit, by who was parked for it.
        self._in_a_row: Counter[str] = Counter()

    async def begin(self) -> None:
        """At the daemon's start: it may have been given another credential."""
        await self._parking.release(EVERYONE, ParkKind.LOGIN)

    async def report(self, agent: str, kind: str, until: str, reason: str) -> Park | None:
        """Parks who is concerned and returns what keeps `agent` now; None: nothing does.

        `until` is when the service said that a limit ends, as RFC 3339, `reason` what the harness tells of it. Raises
        InvalidInputError for a kind that is not a harness's to report, StorageError.
        """
        if kind not in REPORTED:
            raise InvalidInputError(f"a harness does not park for {kind[:40]!r}", "limit, login or failing")
        told = cut_text(render_safe_line(reason), REASON_LIMIT_CHARS)
        if kind == ParkKind.LIMIT:
            await self._report_limit(agent, until, told)
        elif kind == ParkKind.LOGIN and self._shared and self._refusals.find(agent, LOGIN_REFUSED) is not None:
            await self._park_once(EVERYONE, ParkKind.LOGIN, f"the hive's credential is refused, seen by {agent}")
        else:
            await self._park_once(agent, ParkKind(kind), told)
        return self._parking.find(agent)

    def note_events(self, agent: str, events: Sequence[AgentEvent]) -> None:
        """A turn that ended well ends a row of limits."""
        if any(event.kind == "turn.ended" and event.body.get("outcome") == TurnOutcome.OK for event in events):
            self.forget(agent)
            self.forget(EVERYONE)

    def forget(self, agent: str) -> None:
        """Begins to count anew, for an agent or for EVERYONE: the operator says that it can go on."""
        self._in_a_row.pop(agent, None)

    async def _park_once(self, agent: str, kind: ParkKind, reason: str) -> None:
        if self._parking.find_kind(agent, kind) is None:
            await self._parking.park(agent, kind, reason)

    async def _report_limit(self, agent: str, until: str, told: str) -> None:
        # A spent budget looks like a limit to claude, and its end is known to the daemon.
        if self._parking.find_kind(agent, ParkKind.BUDGET) is not None:
            return
        at = now()
        refusal = self._refusals.find(agent, LIMIT_REACHED) if self._shared else None
        who, reset_at, reason = agent, parse_reset(until, at), told
        if refusal is not None:
            who, reset_at, reason = EVERYONE, refusal.reset_at, f"the service's usage limit, seen by {agent}"
        end = plan_limit_end(reset_at, at, self._in_a_row[who] + 1, self._rng)

        waiting = await self._list_waiting(who)

        def park(tx: Transaction) -> bool:
            for name in waiting:
                if not any(held.agent == name and held.until is None for held in _list_limits(tx, name)):
                    park_in(tx, name, ParkKind.LIMIT, reason)
            if who in waiting:
                return False
            if any(reset_at is None or is_same_limit(held, end) for held in _list_limits(tx, who)):
                # It was reported before: by another agent, or of a turn that began before it was parked.
                return False
            park_in(tx, who, ParkKind.LIMIT, reason, end)
            return True

        if await self._store.write(park) and reset_at is None:
            self._in_a_row[who] += 1
            log.info("parking.no_reset_time", agent=agent, until=end.isoformat())

    async def _list_waiting(self, who: str) -> list[str]:
        """Those of `who` that do not go on by themselves."""
        rows = await self._store.read(lambda view: view.list("list_agents"))
        return [row["name"] for row in rows if who in {row["name"], EVERYONE} and not self._resumes(row["name"])]


def _list_limits(view: View, agent: str) -> list[Park]:
    """The limits that hold for an agent now, its own and the hive's."""
    at = now()
    parks = map(to_park, view.list("list_parks_over", agent=agent))
    return [park for park in parks if park.kind is ParkKind.LIMIT and decide_park([park], at) is not None]
