"""One agent of the first hive, made ready in a folder: what `Places` then moves to where an agent's folders are."""

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from hyperhive.core.errors import InvalidInputError, TooLargeError
from hyperhive.host.configs.repository import ConfigRepository
from hyperhive.host.configs.trees import FILES_LIMIT, TREE_LIMIT_BYTES
from hyperhive.host.drivers.nixos_names import NAME_LIMIT_CHARS
from hyperhive.host.first_hive.report import AgentReport
from hyperhive.host.first_hive.repositories import PROPOSED, History, open_repository, take_history
from hyperhive.host.first_hive.source import AGENTS, APPLIED, Origin, list_other_parts, open_part
from hyperhive.host.snapshots.archive import find_room
from hyperhive.host.snapshots.contents import CONTENT_LIMIT_BYTES, ENTRIES_LIMIT, LOGIN
from hyperhive.host.snapshots.places import APPLIED as READY_APPLIED
from hyperhive.system.files import folder_size_bytes, open_regular_beneath, walk_beneath
from hyperhive.system.tree_copies import Room, copy_tree
from hyperhive.wire.agent_config import CONFIG_FILE
from hyperhive.wire.agent_nix import NIX_FILE

# The first hive's harness keeps its own things where ours does.
_EVENTS = "hyperhive-events.sqlite"
_RENAMED = "first-hive-events.sqlite"
_LOGIN_LEFT = "a login: --with-credentials takes it"


@dataclass(frozen=True, slots=True)
class Prepared:
    """`folder` has `state`, `claude` and the applied repository."""

    name: str
    origin: str
    folder: Path
    history: History


async def prepare_agent(
    source: Path, origin: Origin, wanted: Collection[str], place: Path, report: AgentReport, *, with_credentials: bool
) -> Prepared | None:
    """Copies an agent below `place`, an empty folder; None if it is left, `report` says why.

    Raises OSError, StorageError and GitError for what is wrong here.
    """
    folder = place / "ready"
    folder.mkdir(mode=0o700)
    try:
        history = await _take_config(source, origin, wanted, place, folder / READY_APPLIED)
        files = await _check_config(folder / READY_APPLIED, history, report)
        _note_config(files, report)
        await _note_uncommitted(source, origin, folder / READY_APPLIED, history, report)
        room = Room(min(CONTENT_LIMIT_BYTES, find_room(place)), ENTRIES_LIMIT)
        for part in ("state", "claude"):
            _copy_part(source, origin, part, folder / part, room, report, with_credentials=with_credentials)
    except (InvalidInputError, TooLargeError) as error:
        report.left = error.message
        return None
    list_other_parts(source, origin, report.left_out)
    _rename_events(folder / "state", report)
    report.commit, report.tags = history.deployed, len(history.tags)
    report.size_bytes = folder_size_bytes(folder)
    report.notes += history.notes
    return Prepared(origin.name, origin.folder, folder, history)


async def _take_config(source: Path, origin: Origin, wanted: Collection[str], place: Path, target: Path) -> History:
    try:
        with (
            open_repository(source, APPLIED, origin.folder) as applied,
            open_repository(source, AGENTS, origin.folder, "config") as proposed,
        ):
            if applied is None:
                raise InvalidInputError("nothing was ever deployed: it has no applied repository")
            return await take_history(applied, proposed, wanted, place, target)
    except OSError as error:
        if error.filename is not None and os.fsencode(error.filename).startswith(os.fsencode(place)):
            raise
        raise InvalidInputError(f"its config cannot be read: {error.strerror}") from error


async def _check_config(applied: Path, history: History, report: AgentReport) -> Collection[str]:
    """The files of what is deployed. Raises InvalidInputError, TooLargeError for what no config here may hold."""
    try:
        return [file.path for file in await ConfigRepository(applied, applied.parent).list_files(history.deployed)]
    except (InvalidInputError, TooLargeError) as error:
        raise InvalidInputError(f"its deployed config is none that could be deployed here: {error.message}") from error


def _note_config(files: Collection[str], report: AgentReport) -> None:
    if NIX_FILE in files and CONFIG_FILE not in files:
        report.notes.append(
            f"its config is {NIX_FILE}: it starts with the driver nixos alone; others read {CONFIG_FILE}"
        )
    elif CONFIG_FILE not in files:
        report.notes.append(f"its config has neither {NIX_FILE} nor {CONFIG_FILE}: no driver starts it")
    if len(report.name) > NAME_LIMIT_CHARS and report.name != "manager":
        report.notes.append(f"its name is longer than {NAME_LIMIT_CHARS} characters: the driver nixos refuses it")


async def _note_uncommitted(source: Path, origin: Origin, applied: Path, history: History, report: AgentReport) -> None:
    """Tells of files of the proposed config that no commit has: they are left."""
    if history.proposed is None:
        return
    report.notes.append(f"what its manager had committed last is the tag {PROPOSED.removeprefix('refs/tags/')}")
    try:
        committed = await ConfigRepository(applied, applied.parent).read_files(history.proposed)
        with open_part(source, AGENTS, origin.folder, "config") as folder:
            lying = {} if folder is None else _read_working_files(folder)
    except (InvalidInputError, TooLargeError, OSError):
        report.notes.append("what was not committed of its proposed config is left, and was not looked at")
        return
    differing = [path for path in lying.keys() | committed.keys() if lying.get(path) != committed.get(path)]
    if differing:
        report.notes.append(f"{len(differing)} files of its proposed config were not committed and are left")


def _read_working_files(folder: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    left_bytes = TREE_LIMIT_BYTES
    for path, status in walk_beneath(folder, lambda path, error: None):
        if path.split(b"/")[0] == b".git" or stat.S_ISDIR(status.st_mode):
            continue
        left_bytes -= status.st_size
        if left_bytes < 0 or len(files) > FILES_LIMIT:
            raise TooLargeError("there is more than a config may hold")
        content = b""
        if stat.S_ISREG(status.st_mode):
            with os.fdopen(open_regular_beneath(folder, path), "rb") as file:
                content = file.read(TREE_LIMIT_BYTES)
        files[path.decode("utf-8", "backslashreplace")] = content
    return files


def _copy_part(
    source: Path,
    origin: Origin,
    part: str,
    target: Path,
    room: Room,
    report: AgentReport,
    *,
    with_credentials: bool,
) -> None:
    def refuse(path: bytes) -> str:
        return _LOGIN_LEFT if part == "claude" and path == LOGIN and not with_credentials else ""

    def leave(path: bytes, reason: str) -> None:
        report.left_out.add(part.encode() + b"/" + path, reason)

    try:
        with open_part(source, AGENTS, origin.folder, part) as folder:
            if folder is None:
                report.notes.append(f"it has no folder {part}: an empty one is made")
                target.mkdir(mode=0o700)
                return
            copy_tree(folder, target, room, refuse=refuse, left_out=leave)
    except OSError as error:
        if target.exists():
            raise
        report.left_out.add(part.encode(), f"cannot be read: {error.strerror}")
        target.mkdir(mode=0o700)


def _rename_events(state: Path, report: AgentReport) -> None:
    """Our harness keeps its transcript in a file of the same name, and cannot read that one."""
    for end in ("", "-wal", "-shm"):
        if os.path.lexists(state / (_EVENTS + end)):
            target, number = state / (_RENAMED + end), 0
            while os.path.lexists(target):
                number += 1
                target = state / f"{_RENAMED}{end}.{number}"
            (state / (_EVENTS + end)).rename(target)
            report.notes.append(f"state/{_EVENTS + end} is state/{target.name} now; a new conversation is begun")
