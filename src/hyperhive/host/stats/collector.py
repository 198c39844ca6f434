"""What was counted in the half hour that is not over, in memory. Not a thread's: the event loop's."""

from collections.abc import Iterable, Mapping

from hyperhive.core.stats import HIVE, Slot, fold_slot, pick_for_hive
from hyperhive.host.stats.blocks import MINUTES
from hyperhive.host.stats.records import Minute

KEPT_IN_MIND = frozenset({"last_turn_at", "notes_bytes", "context_tokens"})
"""Levels that only a turn tells: they are counted again each minute that the agent is there."""

# What is kept when the disk takes nothing: after two hours the oldest is given up.
MINUTES_LIMIT = 120


class Collector:
    def __init__(self) -> None:
        self._minutes: dict[int, Minute] = {}
        self._unsaved: set[int] = set()
        self._known: dict[str, Slot] = {}

    def load(self, minutes: Mapping[int, Minute], known: Mapping[str, Slot]) -> None:
        """Goes on from what another daemon left."""
        self._minutes.update(minutes)
        self._known.update(known)

    def add(self, agent: str, at_s: int, slot: Mapping[str, int | dict[str, int]]) -> None:
        """Counts `slot` for the agent in the minute of `at_s`, and for the hive what counts for that, too."""
        minute_s = at_s - at_s % MINUTES.step_s
        minute = self._minutes.setdefault(minute_s, {})
        self._unsaved.add(minute_s)
        shares = [(agent, slot)] if agent == HIVE else [(agent, slot), (HIVE, pick_for_hive(slot))]
        for name, share in shares:
            fold_slot(minute.setdefault(name, {}), share)
            for atom in KEPT_IN_MIND & share.keys():
                self._known.setdefault(name, {})[atom] = share[atom]

    def recall(self, agent: str) -> Slot:
        """The levels that were last told of the agent."""
        return dict(self._known.get(agent, {}))

    def list_slots(self, agent: str) -> list[tuple[int, Slot]]:
        """The agent's minutes in order. What is returned does not change any more."""
        return [(at_s, dict(minute[agent])) for at_s, minute in sorted(self._minutes.items()) if agent in minute]

    def take_unsaved(self) -> dict[int, Minute]:
        """Copies of the minutes that changed since they were last taken: a thread writes them meanwhile."""
        taken = {
            at_s: {agent: dict(slot) for agent, slot in self._minutes[at_s].items()}
            for at_s in self._unsaved
            if at_s in self._minutes
        }
        self._unsaved.clear()
        return taken

    def put_unsaved(self, minutes: Iterable[int]) -> None:
        """They could not be saved: they are to be taken again."""
        self._unsaved.update(minutes)
        for at_s in sorted(self._minutes)[:-MINUTES_LIMIT]:
            del self._minutes[at_s]

    def take_finished(self, now_s: int) -> tuple[int, dict[int, Minute]] | None:
        """The minutes of one half hour that it is not now, and its start; they are not here any more then."""
        for at_s in self._minutes:
            start = MINUTES.block_at(at_s)
            if start != MINUTES.block_at(now_s):
                taken = {other: self._minutes[other] for other in self._minutes if MINUTES.block_at(other) == start}
                for other in taken:
                    del self._minutes[other]
                return start, taken
        return None

    def put_back(self, minutes: Mapping[int, Minute]) -> None:
        """What was taken could not be stored."""
        for at_s, minute in minutes.items():
            here = self._minutes.setdefault(at_s, {})
            for agent, slot in minute.items():
                later = here.get(agent, {})
                here[agent] = slot
                fold_slot(slot, later)
        self.put_unsaved(minutes)

    def forget(self, agent: str) -> None:
        self._known.pop(agent, None)
        for at_s, minute in self._minutes.items():
            if minute.pop(agent, None) is not None:
                self._unsaved.add(at_s)
