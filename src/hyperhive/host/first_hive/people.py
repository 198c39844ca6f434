"""Who is who: the names that rows of the first hive have, and what they are called here. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from hyperhive.core.names import MANAGER, MANAGER_CONTAINER, OPERATOR, SYSTEM

# What both hives have, whatever else is taken over: there is one operator, and one manager.
_ROLES = {OPERATOR: OPERATOR, SYSTEM: SYSTEM, MANAGER: MANAGER, MANAGER_CONTAINER: MANAGER}


@dataclass(frozen=True, slots=True)
class People:
    """`agents` are those taken over now or before: their names there and here."""

    agents: Mapping[str, str]

    def find(self, name: str | None) -> str | None:
        """What somebody is called here; None for whoever is not."""
        return None if name is None else _ROLES.get(name) or self.agents.get(name)

    def find_agent(self, name: str | None) -> str | None:
        """The same for an agent, as which the manager counts only if it was taken over itself."""
        return None if name is None else self.agents.get(name) or self._find_manager(name)

    def _find_manager(self, name: str) -> str | None:
        return MANAGER if _ROLES.get(name) == MANAGER and MANAGER in self.agents.values() else None
