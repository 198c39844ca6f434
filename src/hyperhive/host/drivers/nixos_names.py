"""What containers, machines and agents of one another are called on NixOS. Pure."""

import re

from hyperhive.core.names import MANAGER, MANAGER_CONTAINER
from hyperhive.host.drivers.protocol import DriverError

# nixos-container refuses longer ones: a network interface is called after them.
_MACHINE_LIMIT_CHARS = 11
# Containers of agents, beside those that a person has made.
_PREFIX = "h-"
# What is left for the name of an agent.
NAME_LIMIT_CHARS = _MACHINE_LIMIT_CHARS - len(_PREFIX)
# Letter for letter what `core.names` allows: it becomes an argument, a file and a unit.
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")


def find_agent(container: str) -> str:
    """Whose a container is."""
    return MANAGER if container == MANAGER_CONTAINER else container


def find_machine(container: str) -> str | None:
    """What NixOS calls the machine of a container; None if the name is too long for one.

    Raises DriverError for what is no name.
    """
    if not _NAME.fullmatch(container):
        raise DriverError(f"{container[:80]!r} is not a container's name")
    machine = container if container == MANAGER_CONTAINER else f"{_PREFIX}{container}"
    return machine if len(machine) <= _MACHINE_LIMIT_CHARS else None


def plan_machine(container: str) -> str:
    """The same, for who needs one. Raises DriverError for a name that is too long, too."""
    machine = find_machine(container)
    if machine is None:
        raise DriverError(
            f"{container} has {len(container)} characters: a container of NixOS has at most {NAME_LIMIT_CHARS} and an "
            f"{_PREFIX} before them",
            "choose a shorter name",
        )
    return machine
