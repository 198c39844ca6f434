"""The one door for archives (tar, gzip): what others keep changing goes in, nothing comes out beside its folder.

What is packed may be changed or replaced at any moment by somebody hostile: sizes are those of the headers whatever
becomes of the file, links are kept as links. What is unpacked may be made by anybody: every entry is put where the
kernel finds no link on the way, and nothing replaces anything.
"""

import contextlib
import gzip
import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from hyperhive.core.errors import InvalidInputError
from hyperhive.system.files import open_folder_beneath, open_regular_beneath, read_link_beneath, walk_beneath

_PIECE_BYTES = 256 * 1024
# About three times as fast as the default, for a tenth more of size.
_GZIP_LEVEL = 3
# Holes of files are packed as zeros: a file of exabytes costs its maker nothing. That much of them in one archive.
HOLES_LIMIT_BYTES = 4 * 1024**3


# Of an owner; and of a time, until 2106.
_NUMBER_LIMIT = 2**32 - 1
# The kernel takes no path of 4 KiB: what is unpacked has to fit with some folder above it.
_NAME_LIMIT_BYTES = 4000
# Pieces of a file that are looked at to tell its holes.
_PIECES_LIMIT = 100_000


class DamagedArchiveError(InvalidInputError):
    """What was read is no archive, is cut off, or holds what this never packs."""


@dataclass(frozen=True, slots=True)
class Meta:
    """What is kept of an entry but for its name and content."""

    mode: int
    uid: int
    gid: int
    changed_at_s: int

    @staticmethod
    def of(status: os.stat_result) -> "Meta":
        return Meta(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, _clamp(int(status.st_mtime)))


class Packer:
    """Writes one archive to an open file. `advance` hears of the bytes that went in, `left_out` of what did not.

    Names are relative paths in any bytes. Every method raises OSError if the disk does not take it.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        advance: Callable[[int], None],
        left_out: Callable[[bytes, str], None],
        may_link: Callable[[bytes, bytes], bool],
    ) -> None:
        """`may_link` says whether two names may be of one file; if not, it is packed twice."""
        self.entries = 0
        self._zip = gzip.GzipFile(fileobj=file, mode="wb", compresslevel=_GZIP_LEVEL)
        self._advance = advance
        self._left_out = left_out
        self._may_link = may_link
        self._holes_left_bytes = HOLES_LIMIT_BYTES
        # Files of several names, by what tells them apart: a number that is given out again has another time or size.
        self._linked: dict[tuple[int, ...], bytes] = {}

    def add_folder(self, name: bytes, meta: Meta) -> None:
        self._begin(name, meta, tarfile.DIRTYPE)

    def add_content(self, name: bytes, content: bytes, meta: Meta) -> None:
        self._begin(name, meta, tarfile.REGTYPE, size=len(content))
        self._write(content)
        self._pad(len(content))

    def add_file(self, folder: Path, relative: bytes, name: bytes) -> bool:
        """Packs the regular file `relative` of `folder` as `name`; False, and told, if it cannot be had."""
        try:
            handle = open_regular_beneath(folder, relative)
        except OSError as error:
            return self._refuse(name, error)
        with os.fdopen(handle, "rb", buffering=0) as file:
            status = os.fstat(handle)
            key = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, status.st_uid)
            other = self._linked.get(key)
            if other is not None and self._may_link(other, name):
                self._begin(name, Meta.of(status), tarfile.LNKTYPE, target=other)
                return True
            holes_bytes = _count_holes(handle, status)
            if holes_bytes > self._holes_left_bytes:
                self._left_out(name, "almost all of it is holes")
                return False
            self._holes_left_bytes -= holes_bytes
            self._begin(name, Meta.of(status), tarfile.REGTYPE, size=status.st_size)
            if status.st_nlink > 1:
                self._linked[key] = name
            self._copy(file, status.st_size, name)
        return True

    def add_tree(self, folder: Path, name: bytes, refuse: Callable[[bytes, os.stat_result], str]) -> None:
        """Packs all below `folder` as `name/…`: files, folders and links. `refuse` says why not one of them, or ""."""
        for relative, status in walk_beneath(folder, lambda path, error: self._refuse_folder(name, path, error)):
            entry = b"%s/%s" % (name, relative)
            reason = "its path is too long" if len(entry) > _NAME_LIMIT_BYTES else refuse(entry, status)
            if reason:
                self._left_out(entry, reason)
            else:
                self.add_entry(folder, relative, entry, status)

    def add_entry(self, folder: Path, relative: bytes, name: bytes, status: os.stat_result) -> None:
        """Packs one file, folder or link that was seen at `relative` in `folder`."""
        if stat.S_ISDIR(status.st_mode):
            self.add_folder(name, Meta.of(status))
        elif stat.S_ISREG(status.st_mode):
            self.add_file(folder, relative, name)
        elif stat.S_ISLNK(status.st_mode):
            self._add_link(folder, relative, name, Meta.of(status))
        else:
            self._left_out(name, "no file, folder or link")

    def close(self) -> None:
        """Ends the archive; the file stays open."""
        self._zip.write(tarfile.NUL * tarfile.BLOCKSIZE * 2)
        self._zip.close()

    def _add_link(self, folder: Path, relative: bytes, name: bytes, meta: Meta) -> None:
        try:
            target = read_link_beneath(folder, relative)
        except OSError as error:
            self._refuse(name, error)
            return
        self._begin(name, meta, tarfile.SYMTYPE, target=target)

    def _refuse(self, name: bytes, error: OSError) -> bool:
        # What is gone by now is not there: nobody misses it.
        if not isinstance(error, FileNotFoundError):
            self._left_out(name, f"cannot be read: {error.strerror}")
        return False

    def _refuse_folder(self, name: bytes, relative: bytes, error: OSError) -> None:
        self._refuse(b"%s/%s" % (name, relative), error)

    def _begin(self, name: bytes, meta: Meta, kind: bytes, *, size: int = 0, target: bytes = b"") -> None:
        member = tarfile.TarInfo(_decode(name))
        member.type, member.size, member.linkname = kind, size, _decode(target)
        member.mode, member.uid, member.gid, member.mtime = meta.mode, meta.uid, meta.gid, meta.changed_at_s
        self._zip.write(member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        self.entries += 1

    def _copy(self, file: BinaryIO, size: int, name: bytes) -> None:
        """Exactly `size` bytes, whatever the file has by now."""
        left = size
        try:
            while left > 0 and (piece := file.read(min(_PIECE_BYTES, left))):
                self._write(piece)
                left -= len(piece)
        except OSError as error:
            # Only of the file that is read: what the archive's own disk says has no business here.
            if isinstance(error, _WriteError):
                raise
            self._left_out(name, f"the end of it cannot be read: {error.strerror}")
        while left > 0:
            filler = bytes(min(_PIECE_BYTES, left))
            self._write(filler)
            left -= len(filler)
        self._pad(size)

    def _write(self, content: bytes) -> None:
        try:
            self._zip.write(content)
        except OSError as error:
            raise _WriteError(error.errno, error.strerror) from error
        self._advance(len(content))

    def _pad(self, size: int) -> None:
        self._zip.write(bytes(-size % tarfile.BLOCKSIZE))


class _WriteError(OSError):
    """The archive's disk, not that of what is packed."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """One entry of an archive. `read` gives the content of a file, once, before the next entry is taken."""

    name: bytes
    member: tarfile.TarInfo
    stream: IO[bytes] | None

    def read(self, limit_bytes: int) -> bytes:
        if self.stream is None or self.member.size > limit_bytes:
            raise DamagedArchiveError(f"{self.name!r} is no small file")
        return _read_exactly(self.stream, self.member.size)


def read_archive(file: BinaryIO) -> Generator[Unpacked]:
    """The entries of an archive, in order; names are those of what is below the folder it is unpacked to.

    Raises DamagedArchiveError for what is no archive, is cut off, has a name that leaves the folder, or is anything but
    a file, a folder, or a link; OSError if `file` cannot be read.
    """
    with _translated(), gzip.GzipFile(fileobj=file, mode="rb") as unzipped:
        yield from _list_members(unzipped)
        # Only at its end does the stream tell whether it is whole.
        while unzipped.read(_PIECE_BYTES):
            pass


def _list_members(unzipped: gzip.GzipFile) -> Generator[Unpacked]:
    with tarfile.open(fileobj=unzipped, mode="r|", encoding="utf-8", errors="surrogateescape") as tar:
        while (member := tar.next()) is not None:
            # It would keep them all.
            cast("Any", tar).members.clear()
            name = _encode(member.name)
            _check_member(name, member)
            stream = tar.extractfile(member) if member.isreg() else None
            yield Unpacked(name, member, stream)


def _check_member(name: bytes, member: tarfile.TarInfo) -> None:
    # Of a file with several names the other one is a path in the archive, too; where a link points to is anything.
    paths = [name, _encode(member.linkname)] if member.islnk() else [name]
    if not all(_is_inside(path) for path in paths):
        raise DamagedArchiveError(f"the archive has an entry that is not in the folder: {name!r}")
    known = member.isreg() or member.isdir() or member.issym() or member.islnk()
    if not known or member.issparse() or member.size < 0 or "\0" in member.linkname:
        raise DamagedArchiveError(f"the archive has an entry that is no file, folder or link: {name!r}")
    numbers = (member.uid, member.gid, member.mtime)
    if not all(0 <= number < _NUMBER_LIMIT for number in numbers):
        raise DamagedArchiveError(f"the archive has an entry with an impossible owner or time: {name!r}")


def _is_inside(path: bytes) -> bool:
    return b"\0" not in path and not any(part in {b"", b".", b".."} for part in path.split(b"/"))


class Unpacker:
    """Puts entries below `root`, a new folder that is nobody else's: nothing is replaced and no link is followed.

    Raises OSError, and DamagedArchiveError for an entry that cannot be where it says.
    """

    def __init__(self, root: Path, advance: Callable[[int], None]) -> None:
        self._root = root
        self._advance = advance
        self._folders: list[tuple[bytes, int]] = []

    def put(self, entry: Unpacked, *, mode: int, owner: tuple[int, int] | None) -> None:
        """Puts one entry, for `owner` (uid and gid) if one is given. A folder has its mode only after `finish`."""
        above, _, base = entry.name.rpartition(b"/")
        try:
            parent = open_folder_beneath(self._root, above or b".")
        except OSError as error:
            raise DamagedArchiveError(f"the archive has an entry without its folder: {entry.name!r}") from error
        try:
            self._put(entry, parent, base, mode)
            if owner is not None and not entry.member.islnk():
                os.chown(base, *owner, dir_fd=parent, follow_symlinks=False)
            if entry.member.isdir():
                self._folders.append((entry.name, mode))
            elif entry.stream is not None:
                # A change of owner drops nothing here, but the mode is only the last thing to be given away.
                os.chmod(base, mode, dir_fd=parent)
                os.utime(base, (entry.member.mtime, entry.member.mtime), dir_fd=parent, follow_symlinks=False)
        except FileExistsError as error:
            raise DamagedArchiveError(f"the archive has an entry twice: {entry.name!r}") from error
        finally:
            os.close(parent)

    def finish(self) -> None:
        """Sets the modes of folders, the innermost first, and has all on the disk."""
        for name, mode in reversed(self._folders):
            handle = open_folder_beneath(self._root, name)
            try:
                os.fchmod(handle, mode)
            finally:
                os.close(handle)
        os.sync()

    def _put(self, entry: Unpacked, parent: int, base: bytes, mode: int) -> None:
        if entry.member.isdir():
            os.mkdir(base, 0o700, dir_fd=parent)
        elif entry.member.issym():
            os.symlink(_encode(entry.member.linkname), base, dir_fd=parent)
        elif entry.member.islnk():
            self._put_hard_link(entry, parent, base)
        else:
            self._put_file(entry, parent, base)

    def _put_hard_link(self, entry: Unpacked, parent: int, base: bytes) -> None:
        target = _encode(entry.member.linkname)
        try:
            handle = open_regular_beneath(self._root, target)
        except OSError as error:
            raise DamagedArchiveError(f"the archive has a name of a file that is not there: {entry.name!r}") from error
        try:
            os.link(f"/proc/self/fd/{handle}", base, dst_dir_fd=parent, follow_symlinks=True)
        finally:
            os.close(handle)

    def _put_file(self, entry: Unpacked, parent: int, base: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(base, flags, 0o600, dir_fd=parent), "wb") as file:
            left = entry.member.size
            while left > 0:
                assert entry.stream is not None
                piece = _read_exactly(entry.stream, min(_PIECE_BYTES, left))
                file.write(piece)
                left -= len(piece)
                self._advance(len(piece))


def _read_exactly(stream: IO[bytes], size: int) -> bytes:
    with _translated():
        content = stream.read(size)
    if len(content) != size:
        raise DamagedArchiveError("the archive is cut off")
    return content


@contextlib.contextmanager
def _translated() -> Generator[None]:
    """What the standard library raises for bytes that are no archive."""
    try:
        yield
    except EOFError as error:
        raise DamagedArchiveError("the archive is cut off", "take another backup") from error
    except (gzip.BadGzipFile, zlib.error, tarfile.TarError, ValueError, OverflowError) as error:
        raise DamagedArchiveError(f"this is no archive, or it is damaged: {error}", "take another backup") from error


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _encode(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _clamp(changed_at_s: int) -> int:
    return min(max(changed_at_s, 0), _NUMBER_LIMIT - 1)


def _count_holes(handle: int, status: os.stat_result) -> int:
    """Bytes of an open file that are nowhere. Blocks do not tell them: a file system may compress."""
    if status.st_blocks * 512 >= status.st_size:
        return 0
    holes_bytes, end = 0, 0
    with contextlib.suppress(OSError):
        for _ in range(_PIECES_LIMIT):
            try:
                begin = os.lseek(handle, end, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing is beyond
                holes_bytes += status.st_size - end
                break
            holes_bytes += begin - end
            end = os.lseek(handle, begin, os.SEEK_HOLE)
            if end >= status.st_size:
                break
    os.lseek(handle, 0, os.SEEK_SET)
    return holes_bytes
