"""What configs written in Nix were evaluated to, kept in a folder of the daemon's: a daemon that starts with a hundred
agents evaluates none of them again.

All of it can be made anew. So nothing here fails: what cannot be read, or is not what was written, is not there.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

import structlog

from hyperhive.system.files import read_beneath, write_atomically
from hyperhive.wire.agent_nix import OPTIONS_LIMIT_BYTES

log = structlog.get_logger(__name__)

# Several for each agent of a large hive: a few MiB.
KEPT_LIMIT = 500

_KEY = re.compile(r"[0-9a-f]{64}")
_DIGEST_CHARS = 64


def make_key(name: str, files: Mapping[str, bytes], revision: str) -> str:
    """The digest of all that an evaluation depends on, each with its length: no two of them share one."""
    digest = hashlib.sha256()
    for part in (name.encode(), revision.encode(), *(part for path in sorted(files) for part in (path, files[path]))):
        content = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:" % len(content))
        digest.update(content)
    return digest.hexdigest()


class Evaluations:
    """Files named by their keys: a digest of key and content, then the content."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self) -> None:
        """Makes the folder, and removes from it what a crash left half-written. Raises OSError."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for entry in list(os.scandir(self._folder)):
            if entry.name.startswith(".") and entry.is_file(follow_symlinks=False):
                Path(entry.path).unlink(missing_ok=True)

    def find(self, key: str) -> bytes | None:
        """What was kept under `key`, which is the newest then. None also for a file that is damaged or another's."""
        try:
            found = read_beneath(self._folder, key, _DIGEST_CHARS + 1 + OPTIONS_LIMIT_BYTES + 1)
            os.utime(self._folder / key, follow_symlinks=False)
        except OSError:
            return None
        content = found[_DIGEST_CHARS + 1 :]
        return content if found == _render(key, content) else None

    def save(self, key: str, content: bytes) -> None:
        """Keeps `content`. Of too many, those that were not asked for the longest are forgotten."""
        try:
            write_atomically(self._folder / key, _render(key, content), 0o600)
            self._forget_oldest()
        except OSError as error:
            log.warning("evaluations.not_kept", folder=str(self._folder), error=str(error))

    def _forget_oldest(self) -> None:
        entries = [entry for entry in os.scandir(self._folder) if _KEY.fullmatch(entry.name)]
        if len(entries) <= KEPT_LIMIT:
            return
        entries.sort(key=lambda entry: entry.stat(follow_symlinks=False).st_mtime_ns)
        for entry in entries[:-KEPT_LIMIT]:
            Path(entry.path).unlink(missing_ok=True)


def _render(key: str, content: bytes) -> bytes:
    """With the key in its digest, so that one file in the place of another is noticed."""
    return hashlib.sha256(key.encode() + content).hexdigest().encode() + b"\n" + content
