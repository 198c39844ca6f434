"""Whether a container that ended by SIGKILL was ended by the kernel because memory ran out."""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from hyperhive.system.memory_kills import Kills, find_hierarchies, is_killed_since, observe_kills

# A kill is counted some milliseconds before the container is seen to have ended. What is compared with is therefore
# what stood there at least that long ago, and at most twice as long before the last look.
SHIFT_S = 1.0


@dataclass(slots=True)
class _Watched:
    older: Kills
    latest: Kills
    latest_at_s: float
    verdict: bool | None = None


class KillWatch:
    """Compares the kernel's counters before and after the end of a container. In memory: a new daemon's watch says
    False of what ended before its first look."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._hierarchies = find_hierarchies()
        self._watched: dict[str, _Watched] = {}

    def look(self, name: str, pid: int) -> None:
        """To be called when the container is started, and each time that it is seen to run."""
        watched, at_s = self._watched.get(name), self._clock()
        if watched is not None and watched.verdict is None and at_s - watched.latest_at_s < SHIFT_S:
            return
        seen = observe_kills(pid, self._hierarchies)
        older = seen if watched is None or watched.verdict is not None else watched.latest
        self._watched[name] = _Watched(older if older.file == seen.file else seen, seen, at_s)

    def is_killed(self, name: str) -> bool:
        """Whether the kernel killed for memory about when the container ended. The first answer stays the answer."""
        watched = self._watched.get(name)
        if watched is None:
            return False
        if watched.verdict is None:
            watched.verdict = is_killed_since(watched.older)
        return watched.verdict

    def find_baseline(self, name: str) -> Kills | None:
        """What the counters at the end would be compared with."""
        watched = self._watched.get(name)
        return None if watched is None else watched.older

    def forget(self, name: str) -> None:
        """To be called before another start of the container, and when it is destroyed."""
        self._watched.pop(name, None)
