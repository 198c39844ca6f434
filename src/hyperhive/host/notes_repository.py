"""The versions of one agent's notes, as a bare repository that only the daemon reads and writes.

Every commit of its `main` holds one file and follows from the one before. Old ones are cut off: a `shallow` file, as
git's own shallow clones have one, so that those that stay keep their names.

All raise GitError (an UnavailableError) when git or the disk fails.
"""

import asyncio
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from hyperhive.core.errors import InvalidInputError, NotFoundError
from hyperhive.core.notes import NOTES_FILE, NotesKind
from hyperhive.host.configs.repository import ConfigRepository
from hyperhive.system.files import sync_folder, write_atomically
from hyperhive.system.git import Git, GitError, Limits, make_repository, parse_object_name
from hyperhive.wire.operator.configs import FileDiff

log = structlog.get_logger(__name__)

VERSIONS_KEPT = 200
# How many more there may be before the oldest are cut off and the rest is packed.
PRUNE_STEP = 50
# 200 of the longest texts that nothing compresses are 80 MB.
_PACK_LIMITS = Limits(time_s=120.0, cpu_s=60, file_bytes=128 * 1024 * 1024)

_MAIN = "refs/heads/main"
_FACTS = "Hive-Notes"
_FORMAT = f"--format=%H %ct %(trailers:key={_FACTS},valueonly,separator=%x20) %P"


@dataclass(frozen=True, slots=True)
class Version:
    """One commit. `parent` is empty for the first one, and for the oldest one that is left."""

    commit: str
    parent: str
    at: datetime
    kind: NotesKind
    size_before: int
    size_after: int


class NotesRepository:
    """The repository at `path`, made with the first version. `staging` is a folder on the same file system."""

    def __init__(self, path: Path, staging: Path, *, program: str = "git", kept: int = VERSIONS_KEPT) -> None:
        self._path = path
        self._staging = staging
        self._program = program
        self._kept = kept
        self._git = Git(path, program=program)
        # Reading and comparing commits is the same for configs and for notes.
        self._reader = ConfigRepository(path, staging, program=program)

    async def list_versions(self, limit: int) -> list[Version]:
        """The newest first; none if there is no repository yet."""
        if await self._find_main() is None:
            return []
        return await self._log(_MAIN, limit)

    async def get_version(self, commit: str) -> Version:
        """Raises NotFoundError for a commit that is none of the versions, InvalidInputError for what names none."""
        name = parse_object_name(commit)
        main = await self._find_main()
        [info] = await self._git.read_infos([name]) if main else [None]
        if main is None or info is None or info.kind != "commit" or not await self._reader.is_ancestor(name, main):
            raise NotFoundError(f"there is no version {name[:12]} of these notes", "old ones are not kept for ever")
        [version] = await self._log(name, 1)
        return version

    async def read(self, version: Version) -> bytes:
        return (await self._reader.read_files(version.commit))[NOTES_FILE]

    async def diff(self, version: Version) -> list[FileDiff]:
        """What it changed against the version before; without one all of it is added."""
        return await self._reader.diff(version.parent or None, version.commit)

    async def add(self, kind: NotesKind, content: bytes, at: datetime) -> Version:
        """A version on top of the others. One at a time for each repository."""
        await self._ensure()
        tip = next(iter(await self.list_versions(1)), None)
        size_before = tip.size_after if tip else 0
        blob = _parse_made(await self._git.run("hash-object", "-w", "--stdin", stdin=content))
        tree = _parse_made(await self._git.run("mktree", stdin=f"100644 blob {blob}\t{NOTES_FILE}\n".encode()))
        message = f"{kind}\n\n{_FACTS}: {kind} {size_before} {len(content)}\n".encode()
        parents = ("-p", tip.commit) if tip else ()
        made = await self._git.run("commit-tree", tree, *parents, "-F", "-", stdin=message, at=at)
        commit = _parse_made(made)
        await self._git.update_refs([f"update {_MAIN} {commit} {tip.commit}" if tip else f"create {_MAIN} {commit}"])
        await self._prune()
        return await self.get_version(commit)

    async def _find_main(self) -> str | None:
        if not await self._reader.exists():
            return None
        return (await self._git.find_refs(_MAIN)).get(_MAIN)

    async def _log(self, start: str, limit: int) -> list[Version]:
        output = await self._git.run("log", "--first-parent", f"--max-count={limit:d}", _FORMAT, start)
        return [_parse_version(line) for line in output.decode("utf-8", "replace").splitlines()]

    async def _ensure(self) -> None:
        if await self._reader.exists():
            return
        stage = await asyncio.to_thread(_make_stage, self._staging)
        try:
            await make_repository(stage / "repo", program=self._program)
            await asyncio.to_thread(_put_in_place, stage / "repo", self._path)
        except OSError as error:
            raise GitError("init", None, str(error)) from error
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    async def _prune(self) -> None:
        """Cuts off the oldest versions once there are too many. What fails here is done the next time."""
        try:
            count = int(await self._git.run("rev-list", "--count", "--first-parent", _MAIN))
            if count < self._kept + PRUNE_STEP:
                return
            names = await self._git.run("rev-list", "--first-parent", f"--max-count={self._kept:d}", _MAIN)
            oldest = parse_object_name(names.decode().split()[-1])
            await asyncio.to_thread(write_atomically, self._path / "shallow", f"{oldest}\n".encode(), 0o644)
            packer = Git(self._path, limits=_PACK_LIMITS, program=self._program)
            # A version is like its neighbours: to look further takes a minute for texts that nothing compresses.
            await packer.run("repack", "-a", "-d", "-q", "--window=2")
            await packer.run("prune", "--expire=now")
        except (GitError, OSError) as error:
            log.warning("notes.not_pruned", agent=self._path.name, message=str(error))


def _parse_version(line: str) -> Version:
    """A line of `git log` with our format. Raises GitError if it is none: somebody else wrote the repository."""
    try:
        commit, at, kind, before, after, *parents = line.split()
        return Version(
            commit,
            parents[0] if parents else "",
            datetime.fromtimestamp(int(at), UTC),
            NotesKind(kind),
            int(before),
            int(after),
        )
    except ValueError as error:
        raise GitError("log", None, "the repository of the notes is damaged") from error


def _parse_made(output: bytes) -> str:
    try:
        return parse_object_name(output.decode("utf-8", "replace").strip())
    except InvalidInputError as error:
        raise GitError("commit-tree", None, "git named no object") from error


def _make_stage(staging: Path) -> Path:
    staging.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=staging))


def _put_in_place(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, exist_ok=True)
    source.rename(target)
    sync_folder(target.parent)
