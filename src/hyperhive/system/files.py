"""The one door for files that others may write: nothing is followed out of a folder, nothing blocks, all is bounded."""

import contextlib
import ctypes
import errno
import heapq
import itertools
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# include/uapi/linux/openat2.h; the system call has this number on every architecture.
_SYS_OPENAT2 = 437
_RESOLVE_NO_XDEV = 0x01
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_BENEATH = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_XDEV

# include/uapi/linux/falloc.h
_FALLOC_FL_KEEP_SIZE = 0x01
_FALLOC_FL_PUNCH_HOLE = 0x02

# A walk over more than this would take seconds: what is beyond is not counted.
_ENTRIES_LIMIT = 1_000_000
# Names of one folder that are looked at to show some of them.
_NAMES_LIMIT = 100_000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(folder: Path, relative: str) -> int:
    """A read-only handle of the regular file `relative` in `folder`, with no link followed on the way.

    Raises OSError: ELOOP for a link, EXDEV for a way out, ENOENT, EAGAIN for a file that somebody has a lease on,
    and EINVAL for what cannot be a path and for anything but a plain file of the folder's owner with one name (a
    hard link may be somebody else's file; where owners do not tell them apart, only mounts keep it out for certain:
    there are no links from one to another).
    """
    with _opened(folder) as root, _closing(_openat2(root, _encode(relative), os.O_PATH)) as found:
        status = os.fstat(found)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise OSError(errno.EINVAL, "not a plain file", relative)
        # The number of names is only true for this moment: one that was a hard link may just have been removed.
        if status.st_uid != os.fstat(root).st_uid:
            raise OSError(errno.EINVAL, "not the file of the folder's owner", relative)
        # Only now, as opening a device or a FIFO has effects; and not to wait for whoever has a lease on the file.
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


def read_beneath(folder: Path, relative: str, limit_bytes: int) -> bytes:
    """At most `limit_bytes` of such a file. Raises like `open_beneath`."""
    with os.fdopen(open_beneath(folder, relative), "rb") as file:
        return file.read(limit_bytes)


@dataclass(frozen=True, slots=True)
class Listing:
    """Names in a folder with what stands there, sorted; `more` if there are others that are not among them."""

    entries: Sequence[tuple[bytes, os.stat_result]]
    more: bool


def list_beneath(folder: Path, relative: str, limit: int) -> Listing:
    """The first `limit` names in the folder `relative` of `folder` (`.` is itself), with no link followed on the way.

    Of a folder with over `_NAMES_LIMIT` names, the first of those that were looked at. Raises OSError as
    `open_beneath`; ENOTDIR for what is no folder, EACCES for one that may not be read.
    """
    with (
        _opened(folder) as root,
        _closing(_openat2(root, _encode(relative), os.O_RDONLY | os.O_DIRECTORY)) as handle,
        os.scandir(handle) as found,
    ):
        names = [os.fsencode(entry.name) for entry in itertools.islice(found, _NAMES_LIMIT + 1)]
        entries: list[tuple[bytes, os.stat_result]] = []
        for name in heapq.nsmallest(limit, names):
            # What is gone by now is not there.
            with contextlib.suppress(FileNotFoundError):
                entries.append((name, os.stat(name, dir_fd=handle, follow_symlinks=False)))
    return Listing(entries, more=len(names) > limit)


def stat_beneath(folder: Path, relative: str) -> os.stat_result:
    """What stands at `relative`, a link itself if it is one; it is not opened. Raises OSError as `open_beneath`."""
    flags = os.O_PATH | os.O_NOFOLLOW
    with _opened(folder) as root, _closing(_openat2(root, _encode(relative), flags)) as found:
        return os.fstat(found)


def walk_beneath(folder: Path, refused: Callable[[bytes, OSError], None]) -> Iterator[tuple[bytes, os.stat_result]]:
    """All below `folder`, each folder before what is in it: no link followed, no other file system entered.

    What goes away meanwhile is not there; `refused` hears of each folder that cannot be listed, such as one with a path
    of over 4 KiB. Raises OSError if `folder` itself cannot be opened.
    """
    pending = [b"."]
    with _opened(folder) as root:
        while pending:
            below = pending.pop()
            try:
                entries = _read_folder(root, below)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    refused(below.removeprefix(b"./"), error)
                continue
            for name, status in entries:
                path = b"%s/%s" % (below, name)
                yield path.removeprefix(b"./"), status
                if stat.S_ISDIR(status.st_mode):
                    pending.append(path)


def open_regular_beneath(folder: Path, relative: bytes) -> int:
    """A read-only handle of a regular file, with no link followed on the way: as `open_beneath`, whoever owns it.

    For those who only copy what is there and give it back to its owner: a file of several names is taken, too.
    """
    with _opened(folder) as root, _closing(_openat2(root, relative, os.O_PATH)) as found:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise OSError(errno.EINVAL, "not a plain file", os.fsdecode(relative))
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


def read_link_beneath(folder: Path, relative: bytes) -> bytes:
    """Where a link points to; it and those on the way are not followed. Raises OSError, ENOENT for what is no link."""
    with _opened(folder) as root, _closing(_openat2(root, relative, os.O_PATH | os.O_NOFOLLOW)) as found:
        return os.readlink(b"", dir_fd=found)


def open_folder_beneath(folder: Path, relative: bytes) -> int:
    """A handle of a folder in `folder`, with no link followed on the way. Raises OSError as `open_beneath`."""
    with _opened(folder) as root:
        return _openat2(root, relative, os.O_RDONLY | os.O_DIRECTORY)


def open_entry(folder: int, name: bytes) -> int:
    """A handle of what stands at `name` in an open folder, a link itself if it is one; only for what asks what it is.

    Nothing is opened by that, as a device would be. Raises OSError, with EXDEV for what is mounted there.
    """
    return _openat2(folder, name, os.O_PATH | os.O_NOFOLLOW)


def write_atomically(path: Path, content: bytes, mode: int) -> None:
    """Puts a file in place whole, or not at all, and on the disk. Only for folders that no agent can write.

    Raises OSError; the file is then as it was.
    """
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(handle, mode)
            os.fsync(handle)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    # The name is on the disk only when the folder is.
    sync_folder(path.parent)


def replace_beneath(folder: Path, name: str, content: bytes, *, mode: int, uid: int | None) -> None:
    """Puts a small file `name` in place whole in a folder that an agent can write, for `uid` if one is given.

    `folder` itself must be where the agent cannot replace it. Neither it nor what has the name before is followed: a
    link is replaced. Raises OSError, EISDIR for a folder of that name; what was there is then as it was.
    """
    draft = f".{name}.{secrets.token_hex(8)}"
    with _opened(folder, os.O_RDONLY) as root:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=root)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(handle, mode)
                if uid is not None:
                    os.fchown(handle, uid, uid)
                os.fsync(handle)
            os.rename(draft, name, src_dir_fd=root, dst_dir_fd=root)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft, dir_fd=root)
            raise
        os.fsync(root)


def make_folders_beneath(root: Path, names: Sequence[str], *, mode: int, uid: int | None) -> None:
    """Makes `root/name/name…`, each where it is missing, for `uid` if one is given. What is there is left as it is.

    A folder that is there and still our own was made by a process that died before it handed it over: that is done now.
    Raises OSError: ENOTDIR or ELOOP if something else has such a name, a link to a folder, too: none is followed.
    """
    folder = os.open(root, os.O_DIRECTORY | os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        for name in names:
            made = False
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, mode, dir_fd=folder)
                made = True
            inner = os.open(name, os.O_DIRECTORY | os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
            if made or (uid is not None and os.fstat(folder).st_uid == os.geteuid()):
                os.fchmod(folder, mode)
                if uid is not None:
                    os.fchown(folder, uid, uid)
    finally:
        os.close(folder)


def move_beneath(source: Path, root: Path, names: Sequence[str]) -> bool:
    """Moves the folder `source` to `root/name/name…` in one step; with no link followed on the way.

    An empty folder there is replaced; anything else stays as it is, and the answer is False. The folders above must
    exist. `source` must be where no agent can write, on the same file system. Raises OSError: ENOENT, and ENOTDIR or
    ELOOP if one of the folders above is something else, a link to a folder, too.
    """
    folder = os.open(root, os.O_DIRECTORY | os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        for name in names[:-1]:
            inner = os.open(name, os.O_DIRECTORY | os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        try:
            # Neither follows a link at its end; a folder replaces nothing but an empty folder.
            os.rename(source, names[-1], dst_dir_fd=folder)
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                return False
            raise
        return True
    finally:
        os.close(folder)


def write_folder(folder: Path, files: Mapping[str, tuple[bytes, bool]]) -> None:
    """Writes a new folder with files (content, and whether it may be executed) to the disk, readable for everybody.

    The names are relative paths that were checked. Only for folders that no agent can write. Raises OSError; what
    was written until then is left.
    """
    folder.mkdir()
    folders = {folder}
    for name, (content, executable) in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        folders.update(above for above in path.parents if above.is_relative_to(folder))
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o755 if executable else 0o644)
            os.fsync(file.fileno())
    for made in folders:
        made.chmod(0o755)
        sync_folder(made)


def set_owner(folder: Path, uid: int | None, *, mode: int) -> None:
    """Makes all below `folder` writable for its owner and readable for everybody, and `uid` that owner if one is given.

    `folder` itself gets `mode`. Only for folders that no agent can write yet, without links. Raises OSError.
    """
    for path in [*folder.rglob("*"), folder]:
        status = path.lstat()
        if path == folder:
            path.chmod(mode)
        else:
            path.chmod(0o755 if stat.S_ISDIR(status.st_mode) or status.st_mode & stat.S_IXUSR else 0o644)
        if uid is not None:
            os.chown(path, uid, uid, follow_symlinks=False)


def sync_folder(folder: Path) -> None:
    """Has the names in `folder` on the disk. Raises OSError."""
    with _opened(folder, os.O_RDONLY) as handle:
        os.fsync(handle)


def folder_size_bytes(folder: Path) -> int:
    """Bytes on the disk of all below `folder`: links count as themselves, a file of several names once.

    It is what could be seen: what goes away meanwhile, cannot be read, is another file system, has a path
    of over 4 KiB or comes after the first million entries is not counted. Raises OSError if `folder` is not there.
    """
    total = 0
    entries_left = _ENTRIES_LIMIT
    seen: set[int] = set()
    pending = [b"."]
    with _opened(folder) as root:
        while pending and entries_left > 0:
            below = pending.pop()
            for name, status in _list_folder(root, below):
                entries_left -= 1
                if status.st_nlink == 1 or status.st_ino not in seen:
                    total += status.st_blocks * 512
                if stat.S_ISDIR(status.st_mode):
                    pending.append(b"%s/%s" % (below, name))
                elif status.st_nlink > 1:
                    seen.add(status.st_ino)
    return total


def free_beginning(handle: int, keep_bytes: int) -> None:
    """Gives back the disk space of an open file but for its last `keep_bytes`; every offset in it stays what it is.

    What was there is then a hole (see SEEK_DATA). On a file system without holes the file is emptied.
    Safe while another program appends. Raises OSError.
    """
    status = os.fstat(handle)
    # Only whole blocks become a hole; the rest of a block would become zeros that look like content.
    length = (status.st_size - keep_bytes) // status.st_blksize * status.st_blksize
    if length <= 0:
        return
    if _libc.fallocate(handle, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, 0, length) != 0:
        if ctypes.get_errno() not in {errno.EOPNOTSUPP, errno.ENOSYS}:
            raise _error("fallocate")
        os.ftruncate(handle, 0)


def _opened(folder: Path, flags: int = os.O_PATH) -> contextlib.AbstractContextManager[int]:
    return _closing(os.open(folder, flags | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW))


@contextlib.contextmanager
def _closing(handle: int) -> Generator[int]:
    try:
        yield handle
    finally:
        os.close(handle)


def _encode(relative: str) -> bytes:
    try:
        encoded = os.fsencode(relative)
    except ValueError:
        encoded = b"\0"
    if b"\0" in encoded:
        # The kernel would take what is before it for the whole path.
        raise OSError(errno.EINVAL, "not a path", relative)
    return encoded


def _openat2(root: int, relative: bytes, flags: int) -> int:
    how = _OpenHow(flags | os.O_CLOEXEC, 0, _BENEATH)
    handle = _libc.syscall(_SYS_OPENAT2, root, relative, ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how)))
    if handle < 0:
        raise _error(os.fsdecode(relative))
    return handle


def _read_folder(root: int, relative: bytes) -> list[tuple[bytes, os.stat_result]]:
    # By name: one that is renamed meanwhile may come twice.
    found: dict[bytes, os.stat_result] = {}
    with _closing(_openat2(root, relative, os.O_RDONLY | os.O_DIRECTORY)) as handle, os.scandir(handle) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                found[os.fsencode(entry.name)] = entry.stat(follow_symlinks=False)
    return list(found.items())


def _list_folder(root: int, relative: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    try:
        handle = _openat2(root, relative, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        with os.scandir(handle) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    yield os.fsencode(entry.name), entry.stat(follow_symlinks=False)
    finally:
        os.close(handle)


def _error(name: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), name)
