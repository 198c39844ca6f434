"""The files of an agent's config, as the driver finds them where they are mounted from; and which system they make."""

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hyperhive.host.configs.trees import DEPTH_LIMIT, FILE_LIMIT_BYTES, FILES_LIMIT, TREE_LIMIT_BYTES
from hyperhive.host.container_spec import CONFIG
from hyperhive.host.drivers.nixos_flake import Identity, NixInputs
from hyperhive.host.drivers.protocol import DriverError, Mount
from hyperhive.system.files import read_beneath, walk_beneath, write_atomically

_HINT = "the hive writes these files itself: see what changed them"


def read_config(mounts: Sequence[Mount]) -> dict[str, bytes]:
    """The files that a container sees below /config, by their paths.

    No link is followed and nothing but plain files is read. Raises DriverError for anything else that is there, for
    more than a config may hold, and without such a mount.
    """
    source = next((mount.source for mount in mounts if mount.target == CONFIG), None)
    if source is None:
        raise DriverError("nothing is mounted at /config", "a container of NixOS is made from the files there")
    try:
        return _read_folder(source)
    except OSError as error:
        raise DriverError(f"the config in {source} cannot be read: {error}", _HINT) from error


def _read_folder(folder: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    total, seen = 0, 0
    for path, status in walk_beneath(folder, _refuse):
        seen += 1
        if seen > FILES_LIMIT * DEPTH_LIMIT:
            raise DriverError(f"the config in {folder} has more than {FILES_LIMIT} files", _HINT)
        if stat.S_ISDIR(status.st_mode):
            continue
        name = os.fsdecode(path)
        if not stat.S_ISREG(status.st_mode):
            raise DriverError(f"{name!r} in the config is no plain file", _HINT)
        files[name] = read_beneath(folder, name, FILE_LIMIT_BYTES + 1)
        total += len(files[name])
        if len(files[name]) > FILE_LIMIT_BYTES or total > TREE_LIMIT_BYTES or len(files) > FILES_LIMIT:
            raise DriverError(f"the config in {folder} is larger than one may be", _HINT)
    return files


def _refuse(path: bytes, error: OSError) -> None:
    raise DriverError(f"{os.fsdecode(path)!r} in the config cannot be read: {error.strerror}", _HINT)


def plan_key(inputs: NixInputs, identity: Identity, files: Mapping[str, bytes]) -> str:
    """What a system is known by: another one if anything that it is built from is another."""
    content = {path: hashlib.sha256(text).hexdigest() for path, text in files.items()}
    text = json.dumps([inputs.revision, asdict(identity), content], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class SystemRecord:
    """Which system a container has, and the revision that it was built from; and which one was built last."""

    made: str = ""
    revision: str = ""
    built: str = ""


def load_system(place: Path) -> SystemRecord:
    """What is kept in a container's folder. What cannot be read is not known: the system is then made again."""
    try:
        return SystemRecord(**json.loads((place / "system.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return SystemRecord()


def save_system(place: Path, record: SystemRecord) -> None:
    """Raises DriverError."""
    try:
        write_atomically(place / "system.json", json.dumps(asdict(record)).encode(), 0o600)
    except OSError as error:
        raise DriverError(f"{place.name}'s system cannot be noted: {error}", "is the disk full?") from error
