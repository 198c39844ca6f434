"""When an idle agent's container is stopped, to be started again when something waits for it. Pure."""

from datetime import datetime

from hyperhive.core.turns import TurnState
from hyperhive.host.drivers.protocol import ContainerState
from hyperhive.host.roster import Live, Phase
from hyperhive.host.store.rows import AgentRecord, Desired

# What a harness is in that runs no turn.
_RESTING = frozenset({TurnState.IDLE, TurnState.NEEDS_LOGIN, TurnState.PARKED})


def decide_hibernate_s(own_s: float | None, default_s: float, warm_s: float) -> float | None:
    """After how long an idle container stops: never before claude is closed. None: never.

    `own_s` is what the agent's config says, if it says anything; a default of 0 means never.
    """
    hibernate_s = default_s if own_s is None else own_s
    return max(hibernate_s, warm_s) if hibernate_s > 0 else None


def is_idle(record: AgentRecord, live: Live, hibernate_s: float, at: datetime) -> bool:
    """Whether nothing was done in the container for so long, as far as memory tells."""
    if record.desired is not Desired.RUNNING or record.hibernated or record.trying or record.failure:
        return False
    if live.phase is not Phase.NONE or live.observation.state is not ContainerState.RUNNING:
        return False
    turn = live.turn
    if turn is None or turn.state not in _RESTING or live.warm:
        return False
    return (at - turn.since).total_seconds() >= hibernate_s
