"""What anyone may make happen as often as they like is told once in a while, with how often it was."""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)


@dataclass(slots=True)
class _Told:
    at_s: float
    untold: int = 0


class Throttle(Generic[KeyT]):
    """Of each key the first is told at once, and those that follow within `every_s` together, by their number."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._told: dict[KeyT, _Told] = {}

    def __contains__(self, key: KeyT) -> bool:
        return key in self._told

    def count(self, is_counted: Callable[[KeyT], bool]) -> int:
        """How many of the keys that were noted of late are such ones."""
        return sum(map(is_counted, self._told))

    def note(self, key: KeyT, at_s: float) -> bool:
        """Whether this one is to be told now; else it is counted."""
        told = self._told.get(key)
        if told is None:
            self._told[key] = _Told(at_s)
            return True
        told.untold += 1
        return False

    def take_due(self, at_s: float, *, is_last: bool = False) -> Iterator[tuple[KeyT, int]]:
        """What was counted and is to be told now, with the number; with `is_last` all of it. Forgets what was quiet."""
        for key, told in list(self._told.items()):
            if at_s - told.at_s < self._every_s and not is_last:
                continue
            if told.untold:
                yield key, told.untold
                self._told[key] = _Told(at_s)
            else:
                del self._told[key]
