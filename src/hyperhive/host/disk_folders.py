"""What agents' folders hold: walked one at a time in a thread of its own, and remembered."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from hyperhive.core.errors import StorageError
from hyperhive.core.names import MANAGER
from hyperhive.core.paths import Roots
from hyperhive.core.quotas import ENTRIES_LIMIT, DiskUse
from hyperhive.system.clock import now
from hyperhive.system.disk_usage import EndedError, Pace, list_container, measure_folders, measure_unlinked

# How much of a core a walk takes when there is time, and when there is none.
CALM_DUTY = 0.05
URGENT_DUTY = 0.5


@dataclass(slots=True)
class _Known:
    """Of one agent. `calm`: what its folders held when the disk was last far from full."""

    use: DiskUse
    calm: DiskUse
    calm_at: datetime = field(default_factory=now)


class DiskFolders:
    """The folders of all agents, as they were last seen. `hurry` says whether there is no time for rests."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._known: dict[str, _Known] = {}
        self._pace = Pace(CALM_DUTY)
        self._walker = ThreadPoolExecutor(1, "disk-quotas")

    async def close(self) -> None:
        """Ends the walk that is under way."""
        self._pace.end()
        await asyncio.to_thread(self._walker.shutdown)

    def hurry(self, is_urgent: bool) -> None:
        """Of the walk that is under way, too."""
        self._pace.duty = URGENT_DUTY if is_urgent else CALM_DUTY

    async def measure(self, name: str, pid: int | None = None) -> DiskUse:
        """What an agent's folders hold now; with `pid` also what its processes hold open without a name.

        Raises StorageError once this was closed.
        """
        folders = self._list_folders(name)
        loop = asyncio.get_running_loop()
        try:
            use = await loop.run_in_executor(self._walker, _measure, folders, pid, self._pace)
        except EndedError as error:
            raise StorageError("the daemon is ending", "") from error
        known = self._known.setdefault(name, _Known(use, use))
        known.use = use
        return use

    def find_use(self, name: str) -> DiskUse | None:
        """What was last measured."""
        known = self._known.get(name)
        return None if known is None else known.use

    def note_calm(self, name: str, use: DiskUse) -> None:
        """From what it holds now, growth is counted."""
        known = self._known.get(name)
        if known is not None:
            known.calm, known.calm_at = use, now()

    def find_growth(self, name: str) -> int:
        """By how many bytes its folders grew since then; 0 of what was never measured."""
        known = self._known.get(name)
        return 0 if known is None else known.use.size_bytes - known.calm.size_bytes

    def get_calm_at(self, name: str) -> datetime:
        """Since when growth is counted, of folders that were measured."""
        return self._known[name].calm_at

    def forget(self, name: str) -> None:
        self._known.pop(name, None)

    def _list_folders(self, name: str) -> list[Path]:
        folders = [self._roots.state_folder(name), self._roots.claude_folder(name)]
        return [*folders, self._roots.proposed_folder] if name == MANAGER else folders


def _measure(folders: Sequence[Path], pid: int | None, pace: Pace) -> DiskUse:
    pace.begin()
    found = measure_folders(folders, ENTRIES_LIMIT, pace.rest)
    size_bytes = found.size_bytes
    if pid is not None:
        size_bytes += measure_unlinked(list_container(pid), _find_device(folders[0]))
    return DiskUse(size_bytes, found.entries, found.complete)


def _find_device(folder: Path) -> int:
    try:
        return folder.stat(follow_symlinks=False).st_dev
    except OSError:
        return -1
