"""Parks, as the harness sees them: what it tells the daemon of a failure, and its state while one holds. Pure."""

from typing import cast

from hyperhive.core.claude_events import ClaudeView
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.parking import ParkKind
from hyperhive.core.turns import Failures, TurnOutcome, TurnState
from hyperhive.harness.turn import TurnEnd
from hyperhive.wire.agent_link import ParkFields, ParkParams


def plan_park(end: TurnEnd, failures: Failures, view: ClaudeView) -> ParkParams | None:
    """What the daemon should be told of a failed turn; None for a failure that is simply tried again."""
    if end.outcome is TurnOutcome.LIMIT:
        ends_at = view.limit_ends_at if view.limit_status == "rejected" else None
        return ParkParams(kind=ParkKind.LIMIT.value, until=ends_at.isoformat() if ends_at else "", reason=end.reason)
    if end.outcome is TurnOutcome.LOGIN:
        return ParkParams(kind=ParkKind.LOGIN.value, until="", reason=end.reason)
    if failures.are_enough:
        tries = failures.own + failures.outages
        reason = f"{tries} turns failed in a row, the last: {end.outcome}: {end.reason}"
        return ParkParams(kind=ParkKind.FAILING.value, until="", reason=reason)
    return None


def parse_park(value: object) -> ParkFields | None:
    """What the daemon sent as a park; None for none. Raises InvalidInputError for anything else."""
    match value:
        case None:
            return None
        case {"kind": str(), "since": str(), "until": str(), "reason": str()}:
            return cast("ParkFields", value)
        case _:
            raise InvalidInputError("the park that the daemon sent is not one", "the daemon and the harness differ")


def find_resting_state(park: ParkFields | None) -> tuple[TurnState, str]:
    """The state between turns, and its reason."""
    if park is None:
        return TurnState.IDLE, ""
    reason = f"{park['reason']}; until {park['until']}" if park["until"] else park["reason"]
    return (TurnState.NEEDS_LOGIN if park["kind"] == ParkKind.LOGIN else TurnState.PARKED), reason
