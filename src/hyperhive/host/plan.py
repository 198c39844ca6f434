"""What to do about a container, from what is wanted and what was seen. Pure, so that every case can be read."""

from enum import StrEnum

from hyperhive.host.drivers.protocol import ContainerState
from hyperhive.host.store.rows import AgentRecord, Desired


class Action(StrEnum):
    NONE = "none"
    START = "start"
    STOP = "stop"
    # It runs with a config that was tried and never deployed.
    RESTART = "restart"
    # It runs as it should, maybe since before this daemon: keep it and wait for its harness.
    ADOPT = "adopt"


def plan_action(record: AgentRecord, state: ContainerState) -> Action:
    """What brings one agent's container to what the operator wants."""
    if state is ContainerState.UNKNOWN:
        return Action.NONE
    if record.desired is Desired.RUNNING:
        if state is not ContainerState.RUNNING:
            return Action.START
        return Action.RESTART if record.trying else Action.ADOPT
    return Action.STOP if state is ContainerState.RUNNING else Action.NONE
