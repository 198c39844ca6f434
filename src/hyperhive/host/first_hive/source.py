"""The data folder of a first hive as it lies there: which agents it has, and what else. It is only read."""

import contextlib
import errno
import os
import stat
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from hyperhive.core.errors import InvalidInputError, NotFoundError, RefusedError
from hyperhive.core.names import MANAGER, MANAGER_CONTAINER, parse_known_agent_name
from hyperhive.core.paths import Roots
from hyperhive.host.first_hive.database import DATABASE
from hyperhive.system.files import list_beneath, open_folder_beneath, open_regular_beneath, stat_beneath
from hyperhive.system.left_out import LeftOut

AGENTS, APPLIED = "agents", "applied"
_PARTS = frozenset({b"config", b"state", b"claude"})
_BESIDE_DATABASE = frozenset({DATABASE, DATABASE + b"-wal", DATABASE + b"-shm", DATABASE + b"-journal"})
# Far more agents than a hive has.
_NAMES_LIMIT = 5_000
_OURS = "hive.sqlite"


@dataclass(frozen=True, slots=True)
class Origin:
    """An agent there. `name` is what it is called here; `problem` says why it can have no name."""

    folder: str
    name: str = ""
    problem: str = ""


def check_source(source: Path, roots: Roots) -> Path:
    """The folder itself. Raises NotFoundError, RefusedError, InvalidInputError if it is none of a first hive."""
    try:
        folder = source.resolve(strict=True)
        names = {entry.name for entry in folder.iterdir()}
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"there is no folder {source}", "name the data folder of the first hive") from error
    except OSError as error:
        raise RefusedError(f"{source} cannot be read: {error.strerror}", "run this as root") from error
    data = roots.data.resolve()
    if folder == data or folder in data.parents or data in folder.parents:
        raise InvalidInputError(
            f"{data} is to become this hive's, and the first hive's is {folder}: neither may be in the other",
            "move the first hive's folder away, or name another folder for this one with --data",
        )
    if _OURS in names:
        raise InvalidInputError(f"{folder} is the data folder of a hive of this kind", "see `hive backup`")
    if not {AGENTS, APPLIED, os.fsdecode(DATABASE)} & names:
        raise InvalidInputError(
            f"{folder} is no data folder of a first hive", "one has agents/, applied/ and broker.sqlite"
        )
    return folder


def list_origins(source: Path, left: LeftOut) -> list[Origin]:
    """All agents that have a folder; `left` hears of what is none, and of all else that nothing is taken of."""
    names = sorted(_list_folders(source, AGENTS, left) | _list_folders(source, APPLIED, left))
    for name, _ in list_beneath(source, ".", _NAMES_LIMIT).entries:
        if name not in _BESIDE_DATABASE | {AGENTS.encode(), APPLIED.encode()}:
            left.add(name, "not known here")
    origins: dict[str, Origin] = {}
    for name in names:
        origin = _plan_origin(name)
        other = origins.get(origin.name) if origin.name else None
        if other is not None:
            origin = Origin(origin.folder, "", f"{other.folder} is {origin.name} as well")
        origins[origin.name or f"/{origin.folder}"] = origin
    return list(origins.values())


def _plan_origin(name: str) -> Origin:
    if name in {MANAGER, MANAGER_CONTAINER}:
        return Origin(name, MANAGER)
    try:
        return Origin(name, parse_known_agent_name(name))
    except InvalidInputError as error:
        return Origin(name, "", error.message)


def _list_folders(source: Path, folder: str, left: LeftOut) -> set[str]:
    try:
        listing = list_beneath(source, folder, _NAMES_LIMIT)
    except OSError as error:
        if error.errno != errno.ENOENT:
            left.add(folder.encode(), f"cannot be read: {error.strerror}")
        return set()
    if listing.more:
        left.add(folder.encode(), f"it has more than {_NAMES_LIMIT} names")
    found: set[str] = set()
    for name, status in listing.entries:
        if stat.S_ISDIR(status.st_mode):
            found.add(name.decode("utf-8", "backslashreplace"))
        else:
            left.add(folder.encode() + b"/" + name, "no folder")
    return found


def list_other_parts(source: Path, origin: Origin, left: LeftOut) -> None:
    """What an agent's folder has beside config, state and claude."""
    with contextlib.suppress(OSError):
        for name, _ in list_beneath(source, f"{AGENTS}/{origin.folder}", _NAMES_LIMIT).entries:
            if name not in _PARTS:
                left.add(name, "not known here")


@contextlib.contextmanager
def open_part(source: Path, *names: str) -> Generator[Path | None]:
    """The folder `names` of `source` as a path that stays it, whoever moves what is above; None if there is none.

    No link is followed on the way. Raises OSError for what is there and is no folder.
    """
    try:
        if not stat.S_ISDIR(stat_beneath(source, "/".join(names)).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "it is no folder", "/".join(names))
        above = open_folder_beneath(source, "/".join(names[:-1] or ".").encode())
    except FileNotFoundError:
        yield None
        return
    try:
        yield Path(f"/proc/self/fd/{above}") / names[-1]
    finally:
        os.close(above)


def read_small(folder: Path, relative: bytes, limit_bytes: int) -> bytes | None:
    """A plain file of any owner, whole; None if there is none. Raises OSError, EFBIG for one that is larger."""
    try:
        handle = open_regular_beneath(folder, relative)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        content = file.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise OSError(errno.EFBIG, "it is too large", os.fsdecode(relative))
    return content
