"""The units as files: what is to stand in them, and what became of those that were written before.

A file says in its head what it was like when it was written: so it can be told whether somebody edited it since.
"""

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path

from hyperhive.cli.units.place import SERVICE, SLICE, Place
from hyperhive.cli.units.program import Program, observe_program
from hyperhive.core.errors import InvalidInputError

_HEAD = "# Written by `hive install`, which writes it anew: put changes into a drop-in, `systemctl edit {unit}`.\n"
_SEAL = re.compile(r"^# As written: sha256:([0-9a-f]{64})\n", re.MULTILINE)
# Nothing that systemd takes for a quote, a specifier, a variable or a separator.
_PLAIN_PATH = re.compile(r"/[\w ./@+,=~-]*")
_TEMPLATES = resources.files("hyperhive.cli.units")


class FileState(StrEnum):
    ABSENT = "absent"
    # As it would be written now.
    CURRENT = "current"
    # As an earlier install wrote it.
    OLD = "old"
    # Written by an install, and changed since.
    EDITED = "edited"
    # Not written by an install.
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class UnitFile:
    path: Path
    text: str


def plan_files(place: Place, program: Program) -> list[UnitFile]:
    """The files of the service. Raises InvalidInputError for a path that cannot stand in a unit."""
    _check(Path(program.argv[0]))
    values = {
        "exec": " ".join(_quote(word) for word in (*program.argv, f"--data={_check(place.roots.data)}")),
        "settings": str(_check(place.settings)),
        "data": _quote(_check(place.roots.data)),
        "home": _render_home(program),
    }
    template = "hyperhive-user.service" if place.user else SERVICE
    return [
        UnitFile(place.units / SERVICE, seal(_fill(template, values), "hyperhive")),
        UnitFile(place.units / SLICE, seal(_fill(SLICE, {}), SLICE)),
    ]


def seal(text: str, unit: str) -> str:
    """`text` with a head that tells who wrote it, and what."""
    return f"{_HEAD.format(unit=unit)}# As written: sha256:{_digest(text)}\n{text}"


def observe_state(file: UnitFile) -> FileState:
    """What is there now, in place of `file`. Raises OSError."""
    try:
        text = file.path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return FileState.ABSENT
    if text == file.text:
        return FileState.CURRENT
    found = _SEAL.search(text)
    if found is None:
        return FileState.FOREIGN
    return FileState.OLD if _digest(text[found.end() :]) == found[1] else FileState.EDITED


def observe_stale_units(place: Place) -> list[str]:
    """The names of units that are there and are not as this program would write them."""
    files = plan_files(place, observe_program())
    return [file.path.name for file in files if observe_state(file) not in {FileState.CURRENT, FileState.ABSENT}]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _fill(template: str, values: dict[str, str]) -> str:
    text = (_TEMPLATES / template).read_text("utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def _render_home(program: Program) -> str:
    """What the service sees of people's homes and of /tmp: nothing, or of them the folders that the program is in."""
    if not program.hidden:
        return "ProtectHome=yes"
    shown = " ".join(_quote(_check(folder)) for folder in program.hidden)
    why = "# Of people's homes and of /tmp only this program, which is installed there."
    return f"{why}\nProtectHome={'tmpfs' if program.in_homes else 'yes'}\nBindReadOnlyPaths={shown}"


def _quote(word: str | Path) -> str:
    text = str(word)
    return f'"{text}"' if " " in text else text


def _check(path: Path) -> Path:
    if not _PLAIN_PATH.fullmatch(str(path)):
        raise InvalidInputError(
            f"{str(path)!r} cannot stand in a unit",
            "install hyperhive where the path has letters, digits and ./@+,=~_-",
        )
    return path
