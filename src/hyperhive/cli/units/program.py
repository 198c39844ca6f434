"""The program that the service runs: where it is installed, and who else could change it."""

import os
import pwd
import shutil
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import hyperhive

# What ProtectHome= and PrivateTmp= hide from a service.
HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - nothing is written there


@dataclass(frozen=True, slots=True)
class Program:
    """`folders` is all that it is made of beside /usr; none of them is in another."""

    argv: tuple[str, ...]
    folders: tuple[Path, ...]

    @property
    def hidden(self) -> tuple[Path, ...]:
        """Those of its folders that a service does not see by itself."""
        return self._list_below((*HOMES, *_TEMPORARY))

    @property
    def in_homes(self) -> tuple[Path, ...]:
        """Those of its folders that are in somebody's home."""
        return self._list_below(HOMES)

    def _list_below(self, places: Iterable[Path]) -> tuple[Path, ...]:
        return tuple(folder for folder in self.folders if any(folder.is_relative_to(place) for place in places))


def observe_program() -> Program:
    """The program that runs now, as the service is to run it."""
    python = Path(sys.base_prefix)
    places = (python, python.resolve(), Path(sys.prefix), Path(sys.executable).resolve(), _find_sources())
    # -P: a Python file in the folder that a service happens to be in is no module of ours.
    return Program((sys.executable, "-P", "-m", "hyperhive.host.main"), plan_folders(places))


def plan_folders(places: Iterable[Path]) -> tuple[Path, ...]:
    """`places` without those that /usr or another of them has already."""
    folders: list[Path] = []
    for place in sorted(set(places), key=lambda path: (len(path.parts), path)):
        if not any(place.is_relative_to(other) for other in (Path("/usr"), *folders)):
            folders.append(place)
    return tuple(folders)


def find_strangers(folders: Iterable[Path]) -> list[str]:
    """Who but root can change what root is to run, a sentence for each folder of theirs. Empty if nobody can."""
    told: list[str] = []
    for folder in sorted({parent for place in folders for parent in (place, *place.parents)}):
        status = folder.stat()
        if status.st_uid != 0:
            told.append(f"{folder} belongs to {_find_user_name(status.st_uid)}")
        elif status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
            told.append(f"{folder} can be written by others")
    return told


def find_command_name() -> str:
    """How the `hive` command of this installation is called from a shell."""
    own = Path(sys.prefix) / "bin/hive"
    found = shutil.which("hive")
    return "hive" if found is not None and Path(found).resolve() == own.resolve() else str(own)


def _find_sources() -> Path:
    """The package, or in a checkout the folder that it is in."""
    package = Path(hyperhive.__file__).parent
    return package if package.parent.name == "site-packages" else package.parent


def _find_user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"the user {uid}"


def is_root() -> bool:
    return os.geteuid() == 0
