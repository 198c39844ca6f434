"""Takes a backup of a data folder, whether a daemon works on it or not."""

import contextlib
import json
import os
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from hyperhive import __version__
from hyperhive.cli.backups.contents import (
    CONTENT,
    DATABASES,
    FILES,
    MANIFEST,
    REPOSITORIES,
    SECRET_FILES,
    SECRETS_NOTE,
    SUMMARY,
    TREES,
    Manifest,
    is_known,
    is_login,
    is_same_owner,
    may_be_restored,
)
from hyperhive.core.errors import ConflictError, InvalidInputError, NotFoundError, RefusedError, StorageError
from hyperhive.core.names import parse_known_agent_name
from hyperhive.system.archives import Meta, Packer
from hyperhive.system.files import open_regular_beneath, sync_folder, walk_beneath
from hyperhive.system.left_out import LeftOut

# Refs that moved while the database was copied: it is copied again, that often.
_TRIES = 5
# Pages of a database between two looks at whether somebody wants this to end.
_PAGES = 4096
# Names of what was left out that are kept; how many there are is known of all.
_NAMES_LIMIT = 1000
_BUSY_TIMEOUT_S = 60.0

# What is in a repository but its objects, by path below the data folder: a file's content, None for a folder.
Refs = Mapping[bytes, tuple[Meta, bytes | None]]


@dataclass(frozen=True, slots=True)
class Backup:
    """What was taken, and what is not in it."""

    path: Path
    size_bytes: int
    entries: int
    manifest: Manifest
    left_out: LeftOut


def check_data_folder(data: Path, uid: int) -> None:
    """Raises NotFoundError if there is no hive in `data`, RefusedError if it is not this user's."""
    try:
        status = data.stat()
    except PermissionError as error:
        raise _not_ours(data) from error
    except OSError as error:
        raise NotFoundError(f"there is no hive in {data}", "name its data folder in HIVE_DATA or by --data") from error
    if status.st_uid != uid:
        raise _not_ours(data)
    if not (data / DATABASES[0]).is_file():
        raise NotFoundError(f"there is no hive in {data}", "name its data folder in HIVE_DATA or by --data")


def _not_ours(data: Path) -> RefusedError:
    return RefusedError(f"the hive in {data} belongs to another user", "run this as the user who started it")


def take_backup(data: Path, target: Path, *, with_credentials: bool, advance: Callable[[int], None]) -> Backup:
    """Writes a backup of `data` to the new file `target`; nothing is left of one that fails. Blocks for long.

    `advance` hears of the bytes that were read. Raises ConflictError if `target` is there, InvalidInputError for one in
    the data folder, and StorageError if it cannot be written or the database cannot be read.
    """
    check_data_folder(data, os.geteuid())
    _check_target(data, target)
    try:
        with (
            _new_file(target) as file,
            tempfile.TemporaryDirectory(prefix=".hive-backup-", dir=target.parent) as scratch,
        ):
            taking = _Taking(data, Path(scratch), file, with_credentials, advance)
            manifest = taking.run()
        return Backup(target, target.stat().st_size, taking.packer.entries, manifest, taking.left_out)
    except OSError as error:
        raise StorageError(
            f"{target} cannot be written: {error.strerror or error}", "is there room for it? nothing of it was left"
        ) from error


def _check_target(data: Path, target: Path) -> None:
    _check_free(target)
    if not target.parent.is_dir():
        raise NotFoundError(f"there is no folder {target.parent}", "make it, or name another file")
    if target.parent.resolve().is_relative_to(data.resolve()):
        raise InvalidInputError(
            "a backup in the data folder would be lost with it", "name a file elsewhere, best on another disk"
        )


def _check_free(target: Path) -> None:
    if os.path.lexists(target):
        raise ConflictError(f"{target} is there already", "name another file")


@contextlib.contextmanager
def _new_file(target: Path) -> Generator[BinaryIO]:
    """A file that is `target` once all went well, whole and on the disk."""
    handle, draft = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fchmod(handle, 0o600)
            os.fsync(handle)
        _check_free(target)
        Path(draft).rename(target)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


class _Taking:
    def __init__(
        self, data: Path, scratch: Path, file: BinaryIO, with_credentials: bool, advance: Callable[[int], None]
    ) -> None:
        self.left_out = LeftOut(_NAMES_LIMIT)
        self.packer = Packer(file, advance=advance, left_out=self._leave, may_link=_may_link)
        self._data = data
        self._scratch = scratch
        self._with_credentials = with_credentials

    def run(self) -> Manifest:
        refs = self._copy_databases()
        manifest = self._plan_manifest()
        self._add_text(MANIFEST, manifest.render())
        self.packer.add_folder(CONTENT, Meta.of(self._data.stat()))
        for database in self._list_copies():
            self.packer.add_file(self._scratch, database.encode(), _inside(database))
        self._add_repositories(refs)
        self._add_files()
        for name in TREES:
            self._add_tree(name)
        entries = self.packer.entries + 1
        left_out = {"count": self.left_out.count, "named": self.left_out.named}
        self._add_text(SUMMARY, json.dumps({"entries": entries, "left_out": left_out}).encode())
        self.packer.close()
        return manifest

    def _copy_databases(self) -> Refs:
        """Copies the databases and returns the refs as they were then.

        Should they change each time, those from before: the daemon writes a ref after the row that it is of, and makes
        what is missing when it starts.
        """
        refs = self._read_refs()
        for _ in range(_TRIES):
            for name in DATABASES:
                if (self._data / name).exists():
                    copy_database(self._data / name, self._scratch / name)
            after = self._read_refs()
            if _contents(after) == _contents(refs):
                break
            refs = after
        return refs

    def _read_refs(self) -> Refs:
        refs: dict[bytes, tuple[Meta, bytes | None]] = {}
        for top in REPOSITORIES:
            folder = self._data / top
            if not folder.is_dir():
                continue
            refs[top.encode()] = (Meta.of(folder.stat()), None)
            for relative, status in walk_beneath(folder, lambda path, error: None):
                path = b"%s/%s" % (top.encode(), relative)
                if _is_of_objects(relative):
                    continue
                # What goes away now was replaced: the next look shows that.
                with contextlib.suppress(FileNotFoundError):
                    if stat.S_ISDIR(status.st_mode):
                        refs[path] = (Meta.of(status), None)
                    elif stat.S_ISREG(status.st_mode) and not relative.endswith(b".lock"):
                        with os.fdopen(open_regular_beneath(folder, relative), "rb") as file:
                            refs[path] = (Meta.of(status), file.read())
        return refs

    def _plan_manifest(self) -> Manifest:
        left_out = [] if self._with_credentials else [*SECRET_FILES, "agents/*/claude/.credentials.json"]
        return Manifest(
            version=__version__,
            schemas={name: _read_schema(self._scratch / name) for name in self._list_copies()},
            taken_at=datetime.now(UTC).isoformat(timespec="seconds"),
            uid=self._data.stat().st_uid,
            agents=sorted(_list_agents(self._data / "agents")),
            with_credentials=self._with_credentials,
            left_out=left_out,
        )

    def _list_copies(self) -> list[str]:
        return [name for name in DATABASES if (self._scratch / name).exists()]

    def _add_repositories(self, refs: Refs) -> None:
        for path in sorted(refs):
            meta, content = refs[path]
            if content is None:
                self.packer.add_folder(b"%s/%s" % (CONTENT, path), meta)
            else:
                self.packer.add_content(b"%s/%s" % (CONTENT, path), content, meta)
        for top in REPOSITORIES:
            for path, (_, content) in refs.items():
                if content is None and path.count(b"/") == 1 and path.startswith(top.encode()):
                    self._add_objects(path)

    def _add_objects(self, repository: bytes) -> None:
        """All objects of a repository; one that is packed meanwhile is in a file that the first look did not see."""
        folder = self._data / os.fsdecode(repository)
        added: set[bytes] = set()
        for _ in range(_TRIES):
            before = len(added)
            with contextlib.suppress(FileNotFoundError):  # the agent is purged
                for relative, status in walk_beneath(folder, lambda path, error: None):
                    if _is_of_objects(b"x/" + relative) and relative not in added:
                        added.add(relative)
                        self.packer.add_entry(folder, relative, b"%s/%s/%s" % (CONTENT, repository, relative), status)
            if len(added) == before:
                return

    def _add_files(self) -> None:
        """The files right in the data folder."""
        wanted = (*FILES, *SECRET_FILES) if self._with_credentials else FILES
        for name in sorted(path.name for path in self._data.iterdir()):
            if name in wanted:
                self.packer.add_file(self._data, os.fsencode(name), _inside(name))
            elif name in SECRET_FILES:
                self.left_out.add(os.fsencode(name), SECRETS_NOTE)
            elif not is_known(name):
                self.left_out.add(os.fsencode(name), "not of a hive")

    def _add_tree(self, name: str) -> None:
        folder = self._data / name
        if not folder.is_dir():
            return
        self.packer.add_folder(_inside(name), Meta.of(folder.stat()))
        self.packer.add_tree(folder, _inside(name), self._refuse)

    def _leave(self, entry: bytes, reason: str) -> None:
        self.left_out.add(entry.removeprefix(CONTENT + b"/"), reason)

    def _refuse(self, entry: bytes, status: os.stat_result) -> str:
        path = entry.removeprefix(CONTENT + b"/")
        is_folder, is_file = stat.S_ISDIR(status.st_mode), stat.S_ISREG(status.st_mode)
        if not self._with_credentials and is_login(path):
            return SECRETS_NOTE
        # What a restore would stumble over.
        return "" if may_be_restored(path, is_folder=is_folder, is_file=is_file) else "no file or folder of the hive's"

    def _add_text(self, name: bytes, content: bytes) -> None:
        now_s = int(datetime.now(UTC).timestamp())
        self.packer.add_content(name, content, Meta(0o600, os.geteuid(), os.getegid(), now_s))


def copy_database(source: Path, copy: Path) -> None:
    """A copy as of one moment, while others write. Raises StorageError."""
    copy.unlink(missing_ok=True)
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with (
            contextlib.closing(_open_read_only(source)) as reader,
            contextlib.closing(sqlite3.connect(copy)) as writer,
        ):
            # A transaction of its own: without it, each commit of the daemon's would begin the copy anew.
            reader.execute("begin")
            reader.execute("select count(*) from sqlite_master").fetchone()
            writer.execute("pragma synchronous = off")
            # Called between pieces: there a signal can end this.
            reader.backup(writer, pages=_PAGES, progress=_go_on)
    except sqlite3.Error as error:
        raise StorageError(
            f"the database {source} cannot be copied: {error}", "is the disk full, or the file damaged?"
        ) from error


def _go_on(status: int, remaining: int, total: int) -> None:
    pass


def _open_read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None)


def _read_schema(copy: Path) -> int:
    with contextlib.closing(_open_read_only(copy)) as reader:
        return int(reader.execute("pragma user_version").fetchone()[0])


def _contents(refs: Refs) -> dict[bytes, bytes | None]:
    return {path: content for path, (_, content) in refs.items()}


def _list_agents(folder: Path) -> Generator[str]:
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(InvalidInputError):
            yield parse_known_agent_name(path.name)


def _is_of_objects(relative: bytes) -> bool:
    """Whether a path below a folder of repositories is the objects of one, or in them."""
    parts = relative.split(b"/")
    return len(parts) > 1 and parts[1] == b"objects"


def _may_link(one: bytes, other: bytes) -> bool:
    return is_same_owner(one.removeprefix(CONTENT + b"/"), other.removeprefix(CONTENT + b"/"))


def _inside(name: str) -> bytes:
    return b"%s/%s" % (CONTENT, os.fsencode(name))
