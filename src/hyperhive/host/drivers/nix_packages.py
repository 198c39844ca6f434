"""The packages of an agent's system as its evaluation tells them, and what nix says of store paths. Pure.

What an evaluation says is text of whoever wrote the config: names may be anything, and a path may be of something else.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from hyperhive.core.errors import InvalidInputError
from hyperhive.host.drivers.protocol import Package
from hyperhive.wire.agent_nix import NIX_FILE

STORE: Final = "/nix/store"
# Some dozens are in every NixOS. Twice as many of the longest paths fit into one command.
PACKAGES_LIMIT: Final = 2048
# What nix allows a name in the store to have, with what names it has.
_TEXT_LIMIT_CHARS = 211
_STORE_PATH = re.compile(r"/nix/store/[0-9a-df-np-sv-z]{32}-[0-9A-Za-z+?=_-][0-9A-Za-z+?=._-]{0,210}")
_HINT = "see environment.systemPackages and hyperhive.packages"

# What `--dry-run` says on standard error: such lines, each with the paths below it.
_FETCHED = re.compile(
    r"th(?:is path|ese \d+ paths) will be fetched \((?P<download>[^,()]+) download, (?P<unpacked>[^,()]+) unpacked\):"
)
_UNKNOWN = "don't know how to build these paths:"
# Of a cache that is away, which then counts as one that has nothing. A try that is followed by another is none.
_AWAY = re.compile(r"^.*(unable to download '(?!.*; retrying in ).*)$", re.MULTILINE)
_SIZE = re.compile(r" *(\d{1,12}(?:\.\d{1,6})?) (B|[KMGTPE]iB)")
_UNITS = {unit: 1024**power for power, unit in enumerate(("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))}
_INFO = re.compile(r"(\S+)[ \t]+(\d{1,18})")


class _Told(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=_TEXT_LIMIT_CHARS)]
    version: Annotated[str, Field(max_length=_TEXT_LIMIT_CHARS)]
    path: str


_ALL_TOLD: Final = TypeAdapter(list[_Told])


@dataclass(frozen=True, slots=True)
class Fetch:
    """What nix would fetch: store paths, and their sizes in bytes. `unknown` are those that no cache has.

    `away` is what nix said of a cache that did not answer, and may have had them; empty if all did.
    """

    paths: frozenset[str] = frozenset()
    download: int = 0
    unpacked: int = 0
    unknown: frozenset[str] = frozenset()
    away: str = ""


def is_store_path(text: str) -> bool:
    """Whether `text` has the form of a package's place in the store; what is there is not looked at."""
    # To nix that is what builds a package.
    return _STORE_PATH.fullmatch(text) is not None and not text.endswith(".drv")


def check_store_paths(paths: Iterable[str]) -> list[str]:
    """The paths, each once and in order. Raises InvalidInputError if one has not the form, or there are too many."""
    checked = sorted(set(paths))
    for path in checked:
        if not is_store_path(path):
            raise InvalidInputError(f"{path[:300]!r} is no package's place in the store", _HINT)
    if len(checked) > PACKAGES_LIMIT:
        raise InvalidInputError(f"these are more than {PACKAGES_LIMIT:,} packages", _HINT)
    return checked


def parse_packages(content: bytes) -> list[Package]:
    """The packages that an evaluation named, as JSON: by name, version and path, each once.

    Raises InvalidInputError for what no system has.
    """
    try:
        told = _ALL_TOLD.validate_json(content)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_context=False, include_url=False)[0]
        raise InvalidInputError(f"{NIX_FILE}: a package of its system: {problem['msg']}", _HINT) from error
    found = {Package(one.name, one.version, one.path) for one in told}
    if len(found) > PACKAGES_LIMIT:
        raise InvalidInputError(f"{NIX_FILE}: its system has more than {PACKAGES_LIMIT:,} packages", _HINT)
    for package in found:
        if not is_store_path(package.path):
            what = f"the package {package.name!r} of its system has no place in the store"
            raise InvalidInputError(f"{NIX_FILE}: {what}", _HINT)
    return sorted(found, key=lambda package: (package.name, package.version, package.path))


def parse_paths(text: str) -> set[str]:
    """The store paths of a list, one on each line. Raises ValueError for any other line."""
    found = set(text.splitlines())
    for line in found:
        if not line.startswith(f"{STORE}/"):
            raise ValueError(f"{line[:200]!r} is no store path")
    return found


def parse_sizes(text: str) -> dict[str, int]:
    """The bytes of each path that `nix path-info --size` printed. Raises ValueError for any other line."""
    sizes: dict[str, int] = {}
    for line in text.splitlines():
        found = _INFO.fullmatch(line)
        if found is None or not found[1].startswith(f"{STORE}/"):
            raise ValueError(f"{line[:200]!r} is no store path with its size")
        sizes[found[1]] = int(found[2])
    return sizes


def parse_fetch(text: str) -> Fetch:
    """What `nix-store --realise --dry-run` said.

    Raises ValueError for sizes that cannot be read.
    """
    paths: set[str] = set()
    unknown: set[str] = set()
    other: set[str] = set()
    below, download, unpacked = other, 0, 0
    for line in text.splitlines():
        if line.startswith(f"  {STORE}/"):
            below.add(line.strip())
            continue
        below = unknown if line == _UNKNOWN else other
        if line.startswith(("this path will be fetched", "these ")) and "will be fetched" in line:
            found = _FETCHED.fullmatch(line)
            if found is None:
                raise ValueError(f"{line[:200]!r} says no sizes")
            below, download, unpacked = paths, _parse_size(found["download"]), _parse_size(found["unpacked"])
    away = _AWAY.search(text)
    return Fetch(frozenset(paths), download, unpacked, frozenset(unknown), away[1][:300] if away else "")


def _parse_size(text: str) -> int:
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:80]!r} is no size")
    return round(float(found[1]) * _UNITS[found[2]])
