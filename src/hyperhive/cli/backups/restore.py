"""Makes a data folder of a backup: whole, or not at all."""

import asyncio
import errno
import os
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hyperhive.cli.audit_files import leave_note
from hyperhive.cli.backups.contents import (
    CONTENT,
    DATABASES,
    JSON_LIMIT_BYTES,
    MANIFEST,
    SUMMARY,
    Manifest,
    check_manifest,
    is_same_owner,
    keeps_owner,
    may_be_restored,
    parse_manifest,
    parse_object,
)
from hyperhive.core.audit import AuditName
from hyperhive.core.errors import ConflictError, NotFoundError, RefusedError, StorageError
from hyperhive.core.paths import Roots
from hyperhive.system.archives import DamagedArchiveError, Unpacked, Unpacker, read_archive
from hyperhive.system.files import sync_folder
from hyperhive.system.lock import hold_lock
from hyperhive.system.process import run

_FOREIGN = "the archive has something that no backup of a hive has: "
_REMOVE_TIMEOUT_S = 900.0
_NOT_WHOLE = "the backup is not whole"


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored."""

    data: Path
    manifest: Manifest
    entries: int


def restore_backup(archive: Path, roots: Roots, advance: Callable[[int], None]) -> Restored:
    """Makes `roots.data` of the backup in `archive`. Blocks for long; a failure leaves the folder as it was.

    Raises ConflictError if a daemon works on the folder, it is not empty, or the backup is of a newer hyperhive;
    RefusedError if the folder is another user's; DamagedArchiveError for what is no whole backup; StorageError.
    """
    _check_folder(roots)
    try:
        file = archive.open("rb")
    except OSError as error:
        raise NotFoundError(f"{archive} cannot be read: {error.strerror}", "name a file of `hive backup`") from error
    with file:
        try:
            return _restore(file, roots.data, advance)
        except OSError as error:
            raise StorageError(
                f"the backup cannot be restored: {error.strerror or error}", "nothing of it was left"
            ) from error


def _check_folder(roots: Roots) -> None:
    data = roots.data
    try:
        status = data.stat()
        names = [path.name for path in data.iterdir()]
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise ConflictError(f"{data} is no folder", "name another with --data") from error
    except PermissionError as error:
        raise RefusedError(f"{data} belongs to another user", "run this as that user") from error
    if status.st_uid != os.geteuid():
        raise RefusedError(f"{data} belongs to another user", "run this as that user")
    if roots.lock.name in names:
        with hold_lock(roots.lock, f"a hive runs on {data}"):
            pass
    if names:
        raise _not_empty(data)


def _not_empty(data: Path) -> ConflictError:
    return ConflictError(
        f"{data} is not empty", "move away what is there, or name another folder with --data; nothing is replaced"
    )


def _restore(file: BinaryIO, data: Path, advance: Callable[[int], None]) -> Restored:
    data.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{data.name}.restoring-", dir=data.parent))
    try:
        restored = _unpack(read_archive(file), draft, data, advance)
        manifest = restored.manifest
        body = {"taken_at": manifest.taken_at, "version": manifest.version, "file": file.name}
        leave_note(draft / os.fsdecode(CONTENT), AuditName.HIVE_RESTORED, body)
        try:
            # Only an empty folder is replaced: a hive that was started meanwhile is not.
            (draft / os.fsdecode(CONTENT)).rename(data)
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                raise _not_empty(data) from error
            if error.errno == errno.EBUSY:
                raise ConflictError(f"{data} is a mount: it cannot be replaced", "name a folder in it") from error
            raise
        sync_folder(data.parent)
        return restored
    finally:
        # By `rm`: folders may be nested deeper than Python's recursion goes.
        asyncio.run(run(["rm", "-rf", "--", str(draft)], timeout_s=_REMOVE_TIMEOUT_S))


def _unpack(entries: Generator[Unpacked], draft: Path, data: Path, advance: Callable[[int], None]) -> Restored:
    manifest = _read_manifest(entries)
    unpacker = Unpacker(draft, advance)
    count = 1
    summary: bytes | None = None
    for entry in entries:
        count += 1
        if summary is not None:
            raise DamagedArchiveError(f"{_FOREIGN}{entry.name!r} after its end")
        if entry.name == SUMMARY:
            summary = entry.read(JSON_LIMIT_BYTES)
        else:
            _put(unpacker, entry, keep_owners=os.geteuid() == 0)
    if summary is None or parse_object(summary).get("entries") != count:
        raise DamagedArchiveError(_NOT_WHOLE, "take another backup")
    if not (draft / os.fsdecode(CONTENT) / DATABASES[0]).is_file():
        raise DamagedArchiveError(_NOT_WHOLE, "take another backup")
    unpacker.finish()
    return Restored(data, manifest, count)


def _read_manifest(entries: Generator[Unpacked]) -> Manifest:
    first = next(entries, None)
    if first is None or first.name != MANIFEST:
        raise DamagedArchiveError("this is no backup of a hive", "`hive backup` takes one")
    manifest = parse_manifest(first.read(JSON_LIMIT_BYTES))
    check_manifest(manifest, uid=os.geteuid())
    return manifest


def _put(unpacker: Unpacker, entry: Unpacked, *, keep_owners: bool) -> None:
    path = entry.name.removeprefix(CONTENT + b"/")
    member = entry.member
    if entry.name == CONTENT and member.isdir():
        unpacker.put(entry, mode=0o700, owner=None)
        return
    if path == entry.name or not may_be_restored(path, is_folder=member.isdir(), is_file=member.isreg()):
        raise DamagedArchiveError(f"{_FOREIGN}{entry.name!r}")
    if member.islnk():
        target = member.linkname.encode("utf-8", "surrogateescape").removeprefix(CONTENT + b"/")
        if not is_same_owner(path, target):
            raise DamagedArchiveError(f"{_FOREIGN}{entry.name!r}")
    if keeps_owner(path):
        owner = (member.uid, member.gid) if keep_owners else None
        unpacker.put(entry, mode=member.mode & 0o777, owner=owner)
    else:
        unpacker.put(entry, mode=member.mode & 0o755, owner=None)
