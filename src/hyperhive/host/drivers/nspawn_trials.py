"""Which base images were found to run the harness that a daemon brings: a container's start is spared each time."""

import json
import sys
from pathlib import Path
from typing import cast

import hyperhive
from hyperhive.system.files import write_atomically


class Trials:
    """Kept in `file`, which ends with the machine's run folder. Drivers of one process may share one."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def is_passed(self, base: Path) -> bool:
        return _name(base) in self._load()

    def note_passed(self, base: Path) -> None:
        """Raises OSError."""
        write_atomically(self._file, json.dumps([*self._load(), _name(base)]).encode(), 0o600)

    def _load(self) -> list[str]:
        try:
            found = json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            # Then it is tried again.
            return []
        return [str(name) for name in cast("list[object]", found)] if isinstance(found, list) else []


def _name(base: Path) -> str:
    """The image, and what runs in it."""
    return f"{base} {sys.executable} {sys.version} {Path(hyperhive.__file__).parent} {hyperhive.__version__}"
