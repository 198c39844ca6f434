"""The archive of one snapshot: made of a copied agent, and taken apart again whoever made the file.

Everything here blocks. What is unpacked goes into a folder that nobody else reaches, and is bounded before it is
written; the files of the config are never written at all, only read and checked.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from hyperhive.core.errors import NotFoundError, StorageError, TooLargeError
from hyperhive.host.configs.trees import FILE_LIMIT_BYTES, FILES_LIMIT, TREE_LIMIT_BYTES, check_path
from hyperhive.host.snapshots.contents import (
    CLAUDE,
    CONFIG,
    CONTENT_LIMIT_BYTES,
    ENTRIES_LIMIT,
    JSON_LIMIT_BYTES,
    LOGIN,
    MANIFEST,
    STATE,
    SUMMARY,
    Manifest,
    parse_manifest,
    parse_object,
)
from hyperhive.system.archives import DamagedArchiveError, Meta, Packer, Unpacked, Unpacker, read_archive
from hyperhive.system.files import sync_folder, walk_beneath
from hyperhive.system.left_out import LeftOut
from hyperhive.system.tree_copies import Copied, Room, copy_tree

# What is left free for all else on the disk.
KEPT_FREE_BYTES = 512 * 1024**2
_PIECE_BYTES = 1024 * 1024
_FOREIGN = "the archive has something that no snapshot has: "
_NOT_WHOLE = DamagedArchiveError("the snapshot is not whole", "take or export another one")
_TREES = (STATE, CLAUDE)

# Content, and whether it may be executed, by path.
ConfigFiles = Mapping[str, tuple[bytes, bool]]


@dataclass(slots=True)
class Staged:
    """The copied folders of an agent below `folder`, and its config. `left_out`: what is not in them."""

    folder: Path
    config: ConfigFiles
    trees: dict[bytes, Copied] = field(default_factory=dict[bytes, Copied])
    left_out: LeftOut = field(default_factory=LeftOut)


@dataclass(frozen=True, slots=True)
class Packed:
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Opened:
    """What was unpacked: the folders `state` and `claude` are below `folder`."""

    folder: Path
    manifest: Manifest
    config: ConfigFiles


def stage_agent(staged: Staged, sources: Mapping[bytes, Path], *, with_credentials: bool) -> None:
    """Copies an agent's folders while nobody works in them. Raises TooLargeError, OSError."""
    room = Room(min(CONTENT_LIMIT_BYTES, find_room(staged.folder)), ENTRIES_LIMIT)
    for name in _TREES:
        source, target = sources[name], staged.folder / os.fsdecode(name)
        if not source.is_dir():
            # It never ran.
            target.mkdir(mode=0o700)
            staged.trees[name] = Copied()
            continue
        staged.trees[name] = copy_tree(
            source,
            target,
            room,
            refuse=lambda path, name=name: _refuse(name, path, with_credentials=with_credentials),
            left_out=lambda path, reason, name=name: staged.left_out.add(name + b"/" + path, reason),
        )


def _refuse(tree: bytes, path: bytes, *, with_credentials: bool) -> str:
    is_login = tree == CLAUDE and path == LOGIN and not with_credentials
    return "a login: take the snapshot with --with-credentials to have it in it" if is_login else ""


def find_room(folder: Path) -> int:
    """Bytes that may be written where `folder` is. Raises StorageError if there are none."""
    room = shutil.disk_usage(folder).free - KEPT_FREE_BYTES
    if room <= 0:
        raise StorageError("there is no room on the disk for it", "make some: `hive snapshots` tells what they take")
    return room


# -- packing -----------------------------------------------------------------------------------------------------------


def pack(staged: Staged, manifest: Manifest, target: Path) -> Packed:
    """Writes the archive to the new file `target`, mode 0600 and on the disk: whole, or not at all. Raises OSError."""
    draft = target.with_name(f".{target.name}.draft")
    draft.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w+b") as file:
            _Packing(staged, file).run(manifest)
            file.flush()
            os.fsync(file.fileno())
            packed = Packed(file.tell(), digest(file))
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)
    return packed


def digest(file: BinaryIO) -> str:
    """The SHA-256 of an open file, from its beginning."""
    file.seek(0)
    found = hashlib.sha256()
    while piece := file.read(_PIECE_BYTES):
        found.update(piece)
    return found.hexdigest()


class _Packing:
    def __init__(self, staged: Staged, file: BinaryIO) -> None:
        self._staged = staged
        self._packer = Packer(file, advance=lambda _: None, left_out=staged.left_out.add, may_link=_may_link)
        now_s = int(datetime.now(UTC).timestamp())
        self._folder_meta = Meta(0o700, 0, 0, now_s)
        self._file_meta = Meta(0o600, 0, 0, now_s)

    def run(self, manifest: Manifest) -> None:
        self._packer.add_content(MANIFEST, manifest.render(), self._file_meta)
        self._add_config()
        for name in _TREES:
            self._add_tree(name)
        left_out = self._staged.left_out
        summary = {"entries": self._packer.entries + 1, "left_out": {"count": left_out.count, "named": left_out.named}}
        self._packer.add_content(SUMMARY, json.dumps(summary).encode(), self._file_meta)
        self._packer.close()

    def _add_config(self) -> None:
        self._packer.add_folder(CONFIG, self._folder_meta)
        for path, (content, executable) in sorted(self._staged.config.items()):
            mode = 0o755 if executable else 0o644
            meta = Meta(mode, 0, 0, self._file_meta.changed_at_s)
            self._packer.add_content(b"%s/%s" % (CONFIG, path.encode()), content, meta)

    def _add_tree(self, name: bytes) -> None:
        folder, metas = self._staged.folder / os.fsdecode(name), self._staged.trees[name].folders
        self._packer.add_folder(name, self._folder_meta)
        for path, status in walk_beneath(folder, _raise):
            entry = b"%s/%s" % (name, path)
            if path in metas:
                self._packer.add_folder(entry, metas[path])
            else:
                self._packer.add_entry(folder, path, entry, status)


def _raise(path: bytes, error: OSError) -> None:
    raise error


def _may_link(one: bytes, other: bytes) -> bool:
    return _top(one) == _top(other)


def _top(path: bytes) -> bytes:
    return path.split(b"/", 1)[0]


# -- unpacking ---------------------------------------------------------------------------------------------------------


def open_archive(path: Path, sha256: str = "") -> BinaryIO:
    """An archive of the hive's own; with `sha256` only if it is still that. The caller closes it.

    Raises NotFoundError if it is gone, DamagedArchiveError if it has changed, OSError.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise NotFoundError("the snapshot's file is gone", "hive snapshot rm removes its entry") from error
    if sha256 and digest(file) != sha256:
        file.close()
        raise DamagedArchiveError("the snapshot's file is not what was written then", "take or export another one")
    file.seek(0)
    return file


def read_manifest(file: BinaryIO) -> Manifest:
    """What an archive says of itself. Raises DamagedArchiveError, ConflictError, OSError."""
    return _take_manifest(read_archive(file))


def unpack(file: BinaryIO, folder: Path, *, with_credentials: bool) -> Opened:
    """Unpacks an archive into the new folder `folder`, without the login unless asked for.

    Raises DamagedArchiveError for what is no whole snapshot, TooLargeError, ConflictError for one of a newer
    hyperhive, StorageError without room, OSError. What was unpacked until then is left.
    """
    folder.mkdir(mode=0o700)
    unpacking = _Unpacking(folder, with_credentials=with_credentials)
    entries = read_archive(file)
    manifest = _take_manifest(entries)
    summary: bytes | None = None
    count = 1
    for entry in entries:
        count += 1
        if summary is not None:
            raise DamagedArchiveError(f"{_FOREIGN}{entry.name!r} after its end")
        if entry.name == SUMMARY:
            summary = entry.read(JSON_LIMIT_BYTES)
        else:
            unpacking.take(entry)
    if summary is None or parse_object(summary).get("entries") != count:
        raise _NOT_WHOLE
    unpacking.finish()
    return Opened(folder, manifest, unpacking.config)


def _take_manifest(entries: Generator[Unpacked]) -> Manifest:
    first = next(entries, None)
    if first is None or first.name != MANIFEST:
        raise DamagedArchiveError("this is no snapshot of an agent", "`hive snapshot export` makes one")
    return parse_manifest(first.read(JSON_LIMIT_BYTES))


class _Unpacking:
    def __init__(self, folder: Path, *, with_credentials: bool) -> None:
        self.config: dict[str, tuple[bytes, bool]] = {}
        self._folder = folder
        self._with_credentials = with_credentials
        self._room = Room(min(CONTENT_LIMIT_BYTES, find_room(folder)), ENTRIES_LIMIT)
        self._config_bytes = 0
        self._unpacker = Unpacker(folder, lambda _: None)
        self._put_by_top: dict[bytes, Callable[[Unpacked], None]] = {
            CONFIG: self._take_config,
            STATE: self._put,
            CLAUDE: self._put,
        }

    def take(self, entry: Unpacked) -> None:
        put = self._put_by_top.get(_top(entry.name))
        if put is None:
            raise DamagedArchiveError(f"{_FOREIGN}{entry.name!r}")
        self._room.take(entry.member.size if entry.member.isreg() else 0)
        put(entry)

    def finish(self) -> None:
        if not all((self._folder / os.fsdecode(name)).is_dir() for name in _TREES):
            raise _NOT_WHOLE
        self._unpacker.finish()

    def _take_config(self, entry: Unpacked) -> None:
        member = entry.member
        if member.isdir() and entry.name == CONFIG:
            return
        if not member.isreg() or entry.name == CONFIG:
            raise DamagedArchiveError(f"{_FOREIGN}{entry.name!r}")
        path = _decode_path(entry.name.partition(b"/")[2])
        if path in self.config:
            raise DamagedArchiveError(f"the archive has an entry twice: {entry.name!r}")
        self._config_bytes += member.size
        if member.size > FILE_LIMIT_BYTES or self._config_bytes > TREE_LIMIT_BYTES or len(self.config) >= FILES_LIMIT:
            raise TooLargeError("the config in the snapshot is larger than a config may be", "it is of no agent")
        self.config[path] = (entry.read(FILE_LIMIT_BYTES), bool(member.mode & 0o100))

    def _put(self, entry: Unpacked) -> None:
        member = entry.member
        if b"/" not in entry.name:
            if not member.isdir():
                raise DamagedArchiveError(f"{_FOREIGN}{entry.name!r}")
            self._unpacker.put(entry, mode=0o700, owner=None)
            return
        if entry.name == CLAUDE + b"/" + LOGIN and not self._with_credentials:
            return
        if member.islnk() and _top(member.linkname.encode("utf-8", "surrogateescape")) != _top(entry.name):
            raise DamagedArchiveError(f"{_FOREIGN}{entry.name!r}")
        self._unpacker.put(entry, mode=member.mode & 0o777, owner=None)


def _decode_path(path: bytes) -> str:
    try:
        text = path.decode()
    except UnicodeDecodeError as error:
        raise DamagedArchiveError(f"{_FOREIGN}{path!r}") from error
    check_path(text)
    return text
