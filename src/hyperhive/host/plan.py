"""What to do about a container, from what is wanted and what was seen. Pure, so that every case can be read."""

from enum import StrEnum

from hyperhive.host.drivers.protocol import ContainerState
from hyperhive.host.store.rows import AgentRecord, Desired


class Action(StrEnum):
    NONE = "none"
    START = "start"
    STOP = "stop"
    # It runs as it should, maybe since before this daemon: keep it and wait for its harness.
    ADOPT = "adopt"


def plan_action(record: AgentRecord, state: ContainerState) -> Action:
    """What brings one agent's container to what the operator wants."""
    if state is ContainerState.UNKNOWN:
        return Action.NONE
    if record.desired is Desired.RUNNING:
        return Action.ADOPT if state is ContainerState.RUNNING else Action.START
    return Action.STOP if state is ContainerState.RUNNING else Action.NONE
