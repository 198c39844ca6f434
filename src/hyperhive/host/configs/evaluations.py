"""What configs written in Nix were evaluated to, kept in a folder of the daemon's.

It is what the operator saw and approved. The text of a config can come to something else once the flake that it is
evaluated with has moved, so what was kept counts, for as long as the agent is there.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import structlog

from hyperhive.system.files import make_folders_beneath, sync_folder, write_atomically

log = structlog.get_logger(__name__)


def make_key(name: str, files: Mapping[str, bytes]) -> str:
    """The digest of a container's name and the files of its config, each with its length: no two of them share one."""
    digest = hashlib.sha256()
    for part in (name.encode(), *(part for path in sorted(files) for part in (path, files[path]))):
        content = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:" % len(content))
        digest.update(content)
    return digest.hexdigest()


class Evaluations:
    """A folder for each agent, in it one for each key, in it files named by a digest of key and content."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self) -> None:
        """Makes the folder, and removes from it what a crash left half-written. Raises OSError."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for draft in self._folder.glob("*/*/.*"):
            draft.unlink()

    def find(self, agent: str, key: str) -> list[bytes]:
        """All that was kept under `key`. What cannot be read, or is not what was written, is not there."""
        try:
            found = [_read_whole(path) for path in sorted((self._folder / agent / key).iterdir())]
        except FileNotFoundError:
            return []
        except OSError as error:
            log.warning("evaluations.not_read", agent=agent, key=key, error=str(error))
            return []
        return [content for content in found if content is not None]

    def save(self, agent: str, key: str, content: bytes) -> None:
        """Keeps `content`, beside what was kept under `key` before. Again is no error."""
        folder = self._folder / agent / key
        path = folder / _make_digest(key, content)
        try:
            if path.exists():
                return
            make_folders_beneath(self._folder, [agent, key], mode=0o700, uid=None)
            write_atomically(path, content, 0o600)
            for above in (folder.parent, self._folder):
                sync_folder(above)
        except OSError as error:
            log.warning("evaluations.not_kept", path=str(path), error=str(error))


def _read_whole(path: Path) -> bytes | None:
    """None for what is not named by its digest: with the key in that, one file in the place of another is noticed."""
    content = path.read_bytes() if path.is_file() else None
    if content is None or path.name != _make_digest(path.parent.name, content):
        log.warning("evaluations.damaged", path=str(path))
        return None
    return content


def _make_digest(key: str, content: bytes) -> str:
    return hashlib.sha256(key.encode() + content).hexdigest()
