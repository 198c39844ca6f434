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


def plan_action(record: AgentRecord, state: ContainerState, needed: bool = True) -> Action:
    """What brings one agent's container to what the operator wants.

    `needed`: whether there is something to do for it. Of an agent that hibernates nothing runs without that, and of one
    that was stopped for what it takes of the disk nothing whatever is wanted.
    """
    if state is ContainerState.UNKNOWN:
        return Action.NONE
    if record.desired is not Desired.RUNNING or record.over_quota or (record.hibernated and not needed):
        return Action.STOP if state is ContainerState.RUNNING else Action.NONE
    if state is not ContainerState.RUNNING:
        return Action.START
    return Action.RESTART if record.trying else Action.ADOPT


class Look(StrEnum):
    """What the watch does about what it sees."""

    NOTHING = "nothing"
    # What was wished could not be acted on before, or was not.
    CONVERGE = "converge"
    CRASHED = "crashed"


def plan_look(record: AgentRecord, before: ContainerState, seen: ContainerState, ran: bool) -> Look:
    """What follows from another look. `ran`: this daemon saw it run, and has not stopped it since.

    What had ended before the first look is no crash: nobody knows when that was, and it is started in any case.
    """
    if seen is ContainerState.UNKNOWN:
        return Look.NOTHING
    if record.hibernated or record.over_quota:
        return Look.CONVERGE if seen is ContainerState.RUNNING else Look.NOTHING
    if record.desired is Desired.RUNNING and record.failure:
        return Look.NOTHING
    if record.desired is Desired.RUNNING and ran and seen is ContainerState.EXITED:
        return Look.CRASHED
    return Look.CONVERGE if before is ContainerState.UNKNOWN else Look.NOTHING
