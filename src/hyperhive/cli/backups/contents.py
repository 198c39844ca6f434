"""What of a data folder is in a backup, and what the backup says of itself."""

import importlib.resources
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from hyperhive import __version__
from hyperhive.core.errors import ConflictError, RefusedError
from hyperhive.system.archives import DamagedArchiveError

PROGRAM = "hyperhive"
# Counts up when older versions could not restore what a newer one packs.
FORMAT = 1
# The first entry, and the last: an archive without it is not whole.
MANIFEST = b"manifest.json"
SUMMARY = b"summary.json"
CONTENT = b"data"
JSON_LIMIT_BYTES = 4 * 1024 * 1024

# Copied through SQLite: consistent while the daemon writes.
DATABASES = ("hive.sqlite", "telemetry.sqlite")
# Bare repositories of the daemon's: their refs are read with the database, their objects after it.
REPOSITORIES = ("applied", "notes")
# Agents write there.
TREES = ("agents", "proposed", "versions", "evaluations")
FILES = ("prices.toml",)
SECRET_FILES = ("credential", "notify.urls", "vapid.pem")
# Made again or worth nothing without the daemon that made it.
NOT_KEPT = (
    "search.sqlite",
    "hive.lock",
    "staging",
    "images",
    "helper",
    "run",
    "audit.head",
    "audit-notes",
    "snapshots",
)
_BESIDE_DATABASES = ("-wal", "-shm", "-journal")
# The login of a claude that has one of its own (see harness/own_login.py).
_LOGIN = re.compile(rb"agents/[^/]+/claude/\.credentials\.json", re.DOTALL)
# Where an agent or the manager makes what it likes: links, and owners that are not the daemon's.
_THEIRS = re.compile(rb"(agents/[^/]+/(state|claude)|proposed)/.+", re.DOTALL)
_OWNED = re.compile(rb"(agents|proposed)(/.+)?", re.DOTALL)

SECRETS_NOTE = "secrets: take the backup with --with-credentials to have them in it"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself before all else. `uid` is that of the user whose hive it is."""

    version: str
    schemas: dict[str, int]
    taken_at: str
    uid: int
    agents: Sequence[str]
    with_credentials: bool
    left_out: Sequence[str]

    def render(self) -> bytes:
        return json.dumps({"program": PROGRAM, "format": FORMAT, **asdict(self)}, indent=1).encode()


def parse_manifest(content: bytes) -> Manifest:
    """Raises DamagedArchiveError for what is no backup of a hive, ConflictError for one that is too new."""
    fields = parse_object(content)
    if fields.get("program") != PROGRAM:
        raise DamagedArchiveError("this is no backup of a hive", "`hive backup` takes one")
    version = str(fields.get("version", "unknown"))
    if not isinstance(fields.get("format"), int) or fields["format"] > FORMAT:
        raise _too_new(version)
    try:
        schemas = {str(name): int(number) for name, number in fields["schemas"].items()}
        return Manifest(
            version=version,
            schemas=schemas,
            taken_at=str(fields["taken_at"]),
            uid=int(fields["uid"]),
            agents=[str(name) for name in fields["agents"]],
            with_credentials=bool(fields["with_credentials"]),
            left_out=[str(name) for name in fields["left_out"]],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedArchiveError(f"the manifest of the backup is damaged: {error}", "take another backup") from error


def check_manifest(manifest: Manifest, *, uid: int) -> None:
    """Raises ConflictError for a backup of a newer hyperhive, RefusedError if this user cannot have its owners."""
    for name, number in manifest.schemas.items():
        if number > count_schemas(name):
            raise _too_new(manifest.version)
    if (manifest.uid == 0) != (uid == 0):
        whose = "root's" if manifest.uid == 0 else "of a hive without root"
        who = "as root" if manifest.uid == 0 else "as the user whose hive it is to be"
        raise RefusedError(f"the backup is {whose}: agents' files would not be theirs", f"run this {who}")


def _too_new(version: str) -> ConflictError:
    return ConflictError(
        f"the backup was taken by a newer hyperhive ({version}; this is {__version__})", "restore it with that version"
    )


def count_schemas(database: str) -> int:
    """How many steps of a database's schema this hyperhive knows; 0 for one that it does not know at all."""
    folder = importlib.resources.files(PROGRAM) / "host/store/migrations" / Path(database).stem
    return sum(1 for script in folder.iterdir() if script.name.endswith(".sql")) if folder.is_dir() else 0


def parse_object(content: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedArchiveError("the manifest of the backup is damaged", "take another backup") from error
    if not isinstance(parsed, dict):
        raise DamagedArchiveError("the manifest of the backup is damaged", "take another backup")
    return cast("dict[str, Any]", parsed)


def is_login(path: bytes) -> bool:
    """Whether a path below the data folder is nothing but the login of an agent."""
    return _LOGIN.fullmatch(path) is not None


def is_known(name: str) -> bool:
    """Whether something right in a data folder is of a hive."""
    known = (*DATABASES, *REPOSITORIES, *TREES, *FILES, *SECRET_FILES, *NOT_KEPT)
    beside = (f"{database}{end}" for database in (*DATABASES, "search.sqlite") for end in _BESIDE_DATABASES)
    return name in known or name in beside


def may_be_restored(path: bytes, *, is_folder: bool, is_file: bool) -> bool:
    """Whether an entry of that kind can be of a backup: links only where agents make them."""
    top = path.split(b"/")[0].decode("utf-8", "replace")
    if path == top.encode():
        return is_folder if top in (*REPOSITORIES, *TREES) else is_file and top in (*DATABASES, *FILES, *SECRET_FILES)
    return top in (*REPOSITORIES, *TREES) and (is_folder or is_file or is_theirs(path))


def is_theirs(path: bytes) -> bool:
    """Whether an agent or the manager may have made what is there."""
    return _THEIRS.fullmatch(path) is not None


def keeps_owner(path: bytes) -> bool:
    """Whether owner and mode of what is there may be others than the daemon's."""
    return _OWNED.fullmatch(path) is not None


def is_same_owner(one: bytes, other: bytes) -> bool:
    """Whether two paths are of one agent: a file of one has no name among those of another."""
    return is_theirs(one) and is_theirs(other) and one.split(b"/")[:2] == other.split(b"/")[:2]
