"""The files in an agent's /state as the operator reads them: what is there, a text, and a whole file.

The agent may change all of it at any moment. Nothing is followed out of the folder, nothing that is no plain file is
opened, and each answer is bounded.
"""

import asyncio
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

from hyperhive.core.errors import (
    ConflictError,
    HiveError,
    InvalidInputError,
    NotFoundError,
    RefusedError,
    TooLargeError,
    UnavailableError,
)
from hyperhive.core.file_paths import parse_file_path, render_file_name
from hyperhive.core.names import parse_known_agent_name
from hyperhive.core.paths import Roots
from hyperhive.core.text import cut_text
from hyperhive.host.agent_records import get_any_agent
from hyperhive.host.store.store import Store
from hyperhive.system.files import list_beneath, open_beneath, stat_beneath
from hyperhive.wire.operator.records import StateEntry, StateFile, StateFolder

ENTRIES_LIMIT = 1000
TEXT_LIMIT_BYTES = 1024 * 1024
DOWNLOAD_LIMIT_BYTES = 64 * 1024 * 1024

# Of a path in an error.
_SHOWN_LIMIT_CHARS = 200
# A text may have so many characters in a hundred that cannot be read, such as those of another encoding.
_DAMAGE_LIMIT_PERCENT = 5
# Line feeds, tabs, and what programs write to terminals: bell, backspace, form feed, carriage return, escape.
_TEXT_CONTROLS = frozenset("\n\t\a\b\f\r\x1b")

EntryKind = Literal["file", "folder", "link", "other"]
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Opened:
    """A file for a download: whoever has it closes `handle`. No more than `size_bytes` of it are to be sent."""

    handle: int
    name: bytes
    size_bytes: int


class StateFiles:
    """Also of a destroyed agent, until it is purged.

    Every method raises NotFoundError for an agent that never was or a path where nothing is, InvalidInputError for
    what is no path below the folder, RefusedError for what is neither a plain file nor a folder and for what leads
    through a link, and UnavailableError while somebody keeps the file to itself.
    """

    def __init__(self, store: Store, roots: Roots) -> None:
        self._store = store
        self._roots = roots

    async def list_folder(self, name: str, path: str) -> StateFolder:
        """The first ENTRIES_LIMIT entries of a folder by name. Raises ConflictError for a file."""
        return await self._look(name, path, _list_folder)

    async def read_text(self, name: str, path: str) -> StateFile:
        """The beginning of a file, up to TEXT_LIMIT_BYTES. Raises ConflictError for a folder."""
        return await self._look(name, path, _read_text)

    async def open_file(self, name: str, path: str) -> Opened:
        """A file to be sent as it is. Raises ConflictError for a folder, TooLargeError over DOWNLOAD_LIMIT_BYTES."""
        return await self._look(name, path, _open_file)

    async def _look(self, name: str, path: str, look: Callable[[Path, bytes], Answer]) -> Answer:
        parse_known_agent_name(name)
        relative = parse_file_path(path)
        await self._store.read(lambda view: get_any_agent(view, name))
        return await asyncio.to_thread(_explained, look, self._roots.state_folder(name), relative)


def _explained(look: Callable[[Path, bytes], Answer], folder: Path, relative: bytes) -> Answer:
    try:
        return look(folder, relative)
    except OSError as error:
        raise _explain(error, folder, relative) from error


def _list_folder(folder: Path, relative: bytes) -> StateFolder:
    path = render_file_name(relative)
    if not relative and not folder.exists():
        # An agent that never started has none yet.
        return StateFolder(path=path, entries=[], more=False)
    listing = list_beneath(folder, os.fsdecode(relative or b"."), ENTRIES_LIMIT)
    return StateFolder(path=path, entries=[_show_entry(*entry) for entry in listing.entries], more=listing.more)


def _show_entry(name: bytes, status: os.stat_result) -> StateEntry:
    return StateEntry(
        name=render_file_name(name),
        kind=find_kind(status.st_mode),
        size_bytes=status.st_size,
        changed_at=_find_instant(status.st_mtime),
    )


def find_kind(mode: int) -> EntryKind:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"


def _find_instant(at_s: float) -> datetime | None:
    """None for a time that no calendar has: a file can say that it is of any."""
    try:
        return datetime.fromtimestamp(at_s, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _read_text(folder: Path, relative: bytes) -> StateFile:
    with os.fdopen(open_beneath(folder, os.fsdecode(relative or b".")), "rb") as file:
        # One more than is shown: whether there is more, the size of a growing file does not tell.
        content = file.read(TEXT_LIMIT_BYTES + 1)
        size_bytes = max(os.fstat(file.fileno()).st_size, len(content))
    cut = len(content) > TEXT_LIMIT_BYTES
    text = decode_text(content[:TEXT_LIMIT_BYTES], cut=cut)
    return StateFile(
        path=render_file_name(relative), size_bytes=size_bytes, text=text or "", cut=cut, binary=text is None
    )


def decode_text(content: bytes, *, cut: bool) -> str | None:
    """`content` as a text, a few bytes that are none of it as U+FFFD; None if it is no text.

    With `cut`, a character that its end cuts is left out.
    """
    if b"\0" in content:
        return None
    text = content.decode("utf-8", "replace")
    if cut and text.endswith("\ufffd"):
        text = text[:-1]
    damaged = sum(char == "\ufffd" or _is_control(char) for char in text)
    return text if damaged * 100 <= len(text) * _DAMAGE_LIMIT_PERCENT else None


def _is_control(char: str) -> bool:
    return (char < " " or char == "\x7f") and char not in _TEXT_CONTROLS


def _open_file(folder: Path, relative: bytes) -> Opened:
    handle = open_beneath(folder, os.fsdecode(relative or b"."))
    size_bytes = os.fstat(handle).st_size
    if size_bytes > DOWNLOAD_LIMIT_BYTES:
        os.close(handle)
        raise TooLargeError(
            f"{_render_shown(relative)} has {size_bytes:,} bytes: over {DOWNLOAD_LIMIT_BYTES:,} are not sent",
            "copy it from the agent's folder on this machine",
        )
    return Opened(handle, relative.rpartition(b"/")[2], size_bytes)


def _explain(error: OSError, folder: Path, relative: bytes) -> HiveError:
    """What a person is told. `relative` is looked at once more for it, and may be something else by now."""
    shown = _render_shown(relative)
    match error.errno:
        case errno.ENOENT:
            return NotFoundError(f"there is no {shown}", "the agent may have moved it: list the folder again")
        case errno.ELOOP:
            return RefusedError(f"{shown} is a link, or leads through one", "links are shown, never followed")
        case errno.EAGAIN:
            return UnavailableError(f"{shown} is kept by a program of the agent's", "try again")
        case errno.ENOTDIR | errno.EINVAL | errno.EISDIR | errno.ENXIO:
            return _explain_kind(shown, folder, relative, is_listed=error.errno == errno.ENOTDIR)
        case errno.EACCES | errno.EPERM:
            return RefusedError(f"the hive may not read {shown}", "have the agent change its permissions")
        case errno.EXDEV:
            return RefusedError(f"{shown} is not in the agent's own folder", "what is mounted there is not shown")
        case errno.ENAMETOOLONG:
            return InvalidInputError(f"{shown} has a name that is too long for a file", "list the folder again")
        case _:
            return UnavailableError(f"{shown} cannot be read: {error.strerror}", "try again")


def _render_shown(relative: bytes) -> str:
    return cut_text(render_file_name(relative), _SHOWN_LIMIT_CHARS) or "/state"


def _explain_kind(shown: str, folder: Path, relative: bytes, *, is_listed: bool) -> HiveError:
    """Why a name cannot be read, or listed, though it is there."""
    try:
        status = stat_beneath(folder, os.fsdecode(relative or b"."))
    except OSError:
        return NotFoundError(f"there is no {shown}", "the agent may have moved it: list the folder again")
    kind = find_kind(status.st_mode)
    if kind == "folder":
        return ConflictError(f"{shown} is a folder", "list it")
    if kind == "link":
        return RefusedError(f"{shown} is a link, or leads through one", "links are shown, never followed")
    if kind == "other":
        return RefusedError(f"{shown} is no plain file", "pipes, sockets and devices are shown, never opened")
    if is_listed:
        return ConflictError(f"{shown} is a file", "read it")
    return RefusedError(
        f"{shown} has several names, or another owner", "what could be another's file is never opened: copy it first"
    )
