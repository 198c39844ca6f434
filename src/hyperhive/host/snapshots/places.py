"""Where the folders of a restored agent lie ready, and how they get into the place of those it has.

Only moves within one file system. Each may be repeated, whatever came in between: what is no longer ready is in place.
"""

import os
from pathlib import Path

from hyperhive.core.paths import Roots
from hyperhive.host.snapshots.contents import CLAUDE, STATE
from hyperhive.system.files import sync_folder
from hyperhive.system.tree_copies import hand_over_tree

APPLIED = "applied"

_READY = "ready"
_OLD = "old"


class Places:
    """Every method blocks, and raises OSError."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots

    def ready(self, name: str) -> Path:
        return self._roots.snapshots_folder_of(name) / _READY

    def old(self, name: str) -> Path:
        return self._roots.snapshots_folder_of(name) / _OLD

    def list_leftovers(self) -> list[Path]:
        """What was ready, and never decided; and what was replaced."""
        return [path for name in (_READY, _OLD) for path in self._roots.snapshots_folder.glob(f"*/{name}")]

    def put_ready(self, name: str, unpacked: Path) -> None:
        """Has the folder `unpacked` lie ready, on the disk."""
        target = self.ready(name)
        self._roots.snapshots_folder.mkdir(mode=0o700, exist_ok=True)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        # A file that was changed after it was unpacked, and the repository.
        os.sync()
        unpacked.rename(target)
        sync_folder(target.parent)
        sync_folder(self._roots.snapshots_folder)

    def swap_in(self, name: str, uid: int | None) -> None:
        """Moves what is ready to where an agent's folders are; what is there is kept as old."""
        agent_folder = self._roots.agent_folder(name)
        targets = {
            STATE.decode(): self._roots.state_folder(name),
            CLAUDE.decode(): self._roots.claude_folder(name),
            APPLIED: self._roots.applied_repo(name),
        }
        for folder, mode in ((self._roots.agents_folder, 0o711), (agent_folder, 0o711)):
            if not folder.exists():
                folder.mkdir(mode=mode)
                folder.chmod(mode)
        for part, target in targets.items():
            source = self.ready(name) / part
            if source.exists():
                if part != APPLIED:
                    hand_over_tree(source, uid)
                self._move_away(name, part, target)
                source.rename(target)
                sync_folder(target.parent)

    def _move_away(self, name: str, part: str, target: Path) -> None:
        if not os.path.lexists(target):
            return
        old = self.old(name)
        old.mkdir(mode=0o700, exist_ok=True)
        number = sum(1 for _ in old.iterdir())
        target.rename(old / f"{number}-{part}")
