"""Snapshots are taken: the agent's folders are copied while nothing of it runs, and packed once it goes on.

Also what others do with what was taken: list, remove, and carry it as a file to another hive and back.
"""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import structlog

from hyperhive.core.errors import (
    ConflictError,
    InvalidInputError,
    StorageError,
    TooLargeError,
)
from hyperhive.core.events import EventName
from hyperhive.core.names import parse_known_agent_name
from hyperhive.core.paths import Roots
from hyperhive.host.agent_records import get_any_agent
from hyperhive.host.configs.configs import Configs
from hyperhive.host.snapshots.archive import (
    ConfigFiles,
    Opened,
    Staged,
    digest,
    find_room,
    open_archive,
    pack,
    stage_agent,
    unpack,
)
from hyperhive.host.snapshots.contents import (
    CLAUDE,
    CONTENT_LIMIT_BYTES,
    STATE,
    WAITING_LIMIT,
    Manifest,
    clean_note,
    find_session,
)
from hyperhive.host.snapshots.records import (
    SnapshotRecord,
    begin_snapshot,
    finish_snapshot,
    get_ready,
    list_snapshots,
    load_inbox,
    remove_snapshot,
)
from hyperhive.host.snapshots.turn_ends import TurnEnds
from hyperhive.host.store.store import Store, View
from hyperhive.system.clock import now
from hyperhive.system.files import sync_folder
from hyperhive.system.left_out import LeftOut
from hyperhive.system.process import ProcessError, run
from hyperhive.system.tree_copies import Copied

log = structlog.get_logger(__name__)

REMOVE_TIMEOUT_S = 900.0


class Takes:
    """One act at a time for an agent: `claim`."""

    def __init__(self, store: Store, telemetry: Store, roots: Roots, configs: Configs, ends: TurnEnds) -> None:
        self._store = store
        self._telemetry = telemetry
        self._roots = roots
        self._configs = configs
        self._ends = ends
        self._claimed: set[str] = set()

    async def prepare(self) -> None:
        """At the daemon's start: forgets what an earlier one had not finished, and removes what nobody knows of."""
        await self._store.write(lambda tx: tx.list("delete_unfinished_snapshots"))
        rows = await self._store.read(lambda view: list_snapshots(view, None))
        known = {find_archive(self._roots, row) for row in rows}
        await asyncio.to_thread(_remove_unknown, self._roots.snapshots_folder, known)

    @contextlib.contextmanager
    def claim(self, name: str) -> Generator[None]:
        """Keeps others from taking or restoring snapshots of an agent. Raises ConflictError if somebody does."""
        if name in self._claimed:
            raise ConflictError(f"a snapshot of {name} is being taken or restored", "wait for its end")
        self._claimed.add(name)
        try:
            yield
        finally:
            self._claimed.discard(name)

    async def list_snapshots(self, agent: str | None) -> list[SnapshotRecord]:
        """The newest first, of one agent or of all. Raises InvalidInputError for what is no name."""
        if agent is not None:
            parse_known_agent_name(agent)
        return await self._store.read(lambda view: list_snapshots(view, agent))

    async def remove(self, snapshot_id: int) -> None:
        """Raises NotFoundError, ConflictError for one that is being taken or restored."""
        snapshot = await self.get_ready(snapshot_id)
        with self.claim(snapshot.agent):
            await self._store.write(lambda tx: remove_snapshot(tx, snapshot))
            await asyncio.to_thread(find_archive(self._roots, snapshot).unlink, missing_ok=True)

    async def get_ready(self, snapshot_id: int) -> SnapshotRecord:
        return await self._store.read(lambda view: get_ready(view, snapshot_id))

    # -- taking --------------------------------------------------------------------------------------------

    async def take(self, name: str, note: str, *, with_credentials: bool, wait_s: float) -> SnapshotRecord:
        """A snapshot of an agent as it is between two turns; also of a destroyed one. Returns once it is on the disk.

        Raises NotFoundError, ConflictError if its turn does not end in time or a snapshot is being made or restored,
        TooLargeError if there are too many or too much is in its folders, StorageError, UnavailableError, DriverError.
        """
        parse_known_agent_name(name)
        await self._store.read(lambda view: get_any_agent(view, name))
        with self.claim(name):
            async with self._making(name, with_credentials=with_credentials) as (row, folder):
                async with self._ends.wait(name, wait_s):
                    staged, manifest = await self._copy(name, note, folder, with_credentials=with_credentials)
                return await self._pack(row, staged, manifest)

    async def take_stopped(self, name: str, note: str) -> SnapshotRecord:
        """The same of an agent that the caller holds stopped, made by the hive itself."""
        async with self._making(name, with_credentials=False, automatic=True) as (row, folder):
            staged, manifest = await self._copy(name, note, folder, with_credentials=False)
            return await self._pack(row, staged, manifest)

    @contextlib.asynccontextmanager
    async def _making(
        self, name: str, *, with_credentials: bool = False, automatic: bool = False, imported: bool = False
    ) -> AsyncGenerator[tuple[SnapshotRecord, Path]]:
        """The row of a snapshot to be made, and a folder for it; of what fails nothing is left."""
        row, gone = await self._store.write(
            lambda tx: begin_snapshot(
                tx, name, with_credentials=with_credentials, automatic=automatic, imported=imported
            )
        )
        for old in gone:
            await asyncio.to_thread(find_archive(self._roots, old).unlink, missing_ok=True)
        try:
            with _translated():
                await asyncio.to_thread(_make_folder, find_archive(self._roots, row).parent)
            async with self.scratch() as folder:
                yield row, folder
        except BaseException:
            await asyncio.shield(self._forget(row))
            raise

    async def _forget(self, row: SnapshotRecord) -> None:
        await self._store.write(lambda tx: remove_snapshot(tx, row))
        await asyncio.to_thread(find_archive(self._roots, row).unlink, missing_ok=True)

    async def _copy(self, name: str, note: str, folder: Path, *, with_credentials: bool) -> tuple[Staged, Manifest]:
        record = await self._store.read(lambda view: get_any_agent(view, name))
        commit = record.deployed_commit or await self._configs.ensure(name)
        inbox = await self._store.read(lambda view: load_inbox(view, name, WAITING_LIMIT))
        turns, session = await self._telemetry.read(lambda view: _find_conversation(view, name))
        manifest = Manifest(
            agent=name,
            at=now().isoformat(timespec="milliseconds"),
            commit=commit,
            note=clean_note(note),
            with_credentials=with_credentials,
            session=session,
            turns=turns,
            inbox=inbox,
        )
        staged = Staged(folder, await self.read_config(name, commit))
        sources = {STATE: self._roots.state_folder(name), CLAUDE: self._roots.claude_folder(name)}
        with _translated():
            await asyncio.to_thread(stage_agent, staged, sources, with_credentials=with_credentials)
        return staged, manifest

    async def read_config(self, name: str, commit: str) -> ConfigFiles:
        return await self._configs.repository(name).read_folder(commit)

    async def _pack(self, row: SnapshotRecord, staged: Staged, manifest: Manifest) -> SnapshotRecord:
        target = find_archive(self._roots, row)
        with _translated():
            packed = await asyncio.to_thread(pack, staged, manifest, target)
        return await self._store.write(lambda tx: finish_snapshot(tx, row, manifest, packed, staged.left_out.count))

    # -- as folders, as files ------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def scratch(self) -> AsyncGenerator[Path]:
        """An empty folder that nobody else knows, on the disk of the agents' folders; gone at the end."""
        with _translated():
            folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._roots.staging_folder))
        try:
            yield folder
        finally:
            await asyncio.shield(discard(folder))

    async def open(self, snapshot: SnapshotRecord, name: str, folder: Path, *, with_credentials: bool) -> Opened:
        """Unpacks a snapshot that is to become the agent `name` below the folder, without the login unless asked for.

        Raises NotFoundError, DamagedArchiveError, TooLargeError, StorageError, and InvalidInputError for a config that
        would not be accepted now, DriverError if that cannot be told.
        """

        def open_it() -> Opened:
            with open_archive(find_archive(self._roots, snapshot), snapshot.sha256) as file:
                return unpack(file, folder / "unpacked", with_credentials=with_credentials)

        with _translated():
            opened = await asyncio.to_thread(open_it)
        await self._check_config(name, opened)
        return opened

    async def export(self, snapshot_id: int, *, with_credentials: bool) -> BinaryIO:
        """The archive of a snapshot, without the login unless asked for. The caller closes it.

        Raises NotFoundError, ConflictError, DamagedArchiveError, TooLargeError, StorageError.
        """
        snapshot = await self.get_ready(snapshot_id)
        body = {"snapshot": snapshot.id, "with_credentials": with_credentials and snapshot.with_credentials}
        await self._store.write(lambda tx: tx.emit(EventName.SNAPSHOT_EXPORTED, snapshot.agent, body))
        with _translated():
            file = await asyncio.to_thread(open_archive, find_archive(self._roots, snapshot), snapshot.sha256)
        if with_credentials or not snapshot.with_credentials:
            return file
        with file:
            return await self._export_without_login(file)

    async def _export_without_login(self, file: BinaryIO) -> BinaryIO:
        async with self.scratch() as folder:

            def repack() -> BinaryIO:
                opened = unpack(file, folder / "unpacked", with_credentials=False)
                staged = Staged(folder / "unpacked", opened.config, {STATE: Copied(), CLAUDE: Copied()}, LeftOut())
                pack(staged, replace(opened.manifest, with_credentials=False), folder / "archive")
                return (folder / "archive").open("rb")

            with _translated():
                return await asyncio.to_thread(repack)

    async def import_file(
        self, pieces: AsyncIterator[bytes], name: str, *, with_credentials: bool, sha256: str
    ) -> SnapshotRecord:
        """Takes over an archive of another hive as a snapshot of `name`, or of the agent that it names.

        It is looked through to its end before anything of it is kept, by the rules for what an agent proposes. Raises
        DamagedArchiveError, InvalidInputError for a config that would not be accepted or another digest than `sha256`,
        TooLargeError, ConflictError for one of a newer hyperhive, StorageError.
        """
        if name:
            parse_known_agent_name(name)
        async with self.scratch() as folder:
            with _translated():
                await _receive(pieces, folder / "received")

            def look() -> tuple[Opened, str]:
                with (folder / "received").open("rb") as file:
                    found = digest(file)
                    file.seek(0)
                    return unpack(file, folder / "unpacked", with_credentials=with_credentials), found

            with _translated():
                opened, found = await asyncio.to_thread(look)
            if sha256 and found != sha256.lower():
                raise InvalidInputError("the file has another digest than that", f"its SHA-256 is {found}")
            name = name or opened.manifest.agent
            await self._check_config(name, opened)
            return await self._keep(opened, name, with_credentials=with_credentials)

    async def _check_config(self, name: str, opened: Opened) -> None:
        await self._configs.check_files(name, {path: content for path, (content, _) in opened.config.items()})

    async def _keep(self, opened: Opened, name: str, *, with_credentials: bool) -> SnapshotRecord:
        """Packs anew what was looked through, under the name it has here: what is kept the hive itself has packed."""
        has_login = with_credentials and opened.manifest.with_credentials
        manifest = replace(opened.manifest, agent=name, with_credentials=has_login)
        with self.claim(name):
            async with self._making(name, with_credentials=has_login, imported=True) as (row, _):
                staged = Staged(opened.folder, opened.config, {STATE: Copied(), CLAUDE: Copied()})
                return await self._pack(row, staged, manifest)


def find_archive(roots: Roots, snapshot: SnapshotRecord) -> Path:
    return roots.snapshots_folder_of(snapshot.agent) / f"{snapshot.id:d}.tar.gz"


async def discard(folder: Path) -> None:
    """Removes a folder of what agents made. What cannot be is told, and gone with the next start of the daemon.

    By programs, which no depth of folders stops; and folders that their owner may not change are made so first.
    """
    try:
        await run(["chmod", "-R", "-f", "--", "u+rwX", str(folder)], timeout_s=REMOVE_TIMEOUT_S)
        done = await run(["rm", "-rf", "--", str(folder)], timeout_s=REMOVE_TIMEOUT_S)
        failure = "" if done.ok else done.error_text
    except ProcessError as error:
        failure = str(error)
    if failure:
        log.warning("snapshots.not_removed", folder=str(folder), error=failure)


@contextlib.contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"the snapshot cannot be read or written: {error.strerror or error}",
            "is the disk full? nothing was changed",
        ) from error


def _make_folder(folder: Path) -> None:
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def _remove_unknown(folder: Path, known: set[Path]) -> None:
    """Archives that no row is of. Only files: what is to replace an agent's folders is not ours."""
    for path in folder.glob("*/*"):
        if path not in known and path.is_file():
            path.unlink(missing_ok=True)


def _find_conversation(view: View, agent: str) -> tuple[int, str]:
    """How many turns have ended, and the conversation of the last one."""
    row = view.find("find_last_turn", agent=agent)
    return (0, "") if row is None else (int(row["turns"]), find_session(json.loads(row["body"])))


async def _receive(pieces: AsyncIterator[bytes], path: Path) -> None:
    room = min(CONTENT_LIMIT_BYTES, await asyncio.to_thread(find_room, path.parent))
    with path.open("xb") as file:
        async for piece in pieces:
            room -= len(piece)
            if room < 0:
                raise TooLargeError("the file is larger than a snapshot may be", "nothing of it was kept")
            await asyncio.to_thread(file.write, piece)
