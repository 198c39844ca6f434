"""Proposals: one commit of a config as a git bundle, made in the manager's container from what it has edited.

In the working copy git only resolves names, and what it resolves to is checked by the daemon anyway. All else is done
in a repository of our own that borrows the working copy's objects: nothing there is changed or locked, and no hook,
filter or setting of it has a part in what is proposed.
"""

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperhive.core.errors import (
    ConflictError,
    HiveError,
    InvalidInputError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
)
from hyperhive.core.names import parse_agent_name, parse_known_agent_name
from hyperhive.harness.staged_notes import load_staged, render_fast_import
from hyperhive.system.process import OUTPUT_LIMIT_BYTES, Completed, ProcessError, run
from hyperhive.wire.agent_link import BUNDLE_LIMIT_BYTES, COMMIT_REF, NOTES_REF

AGENTS = Path("/agents")
APPLIED = Path("/applied")
# Memory of the container.
_SCRATCH = Path("/tmp")  # noqa: S108 - a folder of our own is made in it
_TIMEOUT_S = 30.0
_REF_LIMIT_CHARS = 256
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAMES_SHOWN = 5

_OPTIONS = tuple(
    part
    for setting in (
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
        "core.bigFileThreshold=1m",
        "gc.auto=0",
        "maintenance.auto=false",
        "protocol.allow=never",
    )
    for part in ("-c", setting)
)
_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    # A repository that leaves objects elsewhere does not get them, by whatever program it names.
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "",
    # What is proposed is the commit itself, not what the working copy shows in its place.
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
}


@dataclass(frozen=True, slots=True)
class Proposal:
    """`bundle` has `commit` as COMMIT_REF and `notes`, if not empty, as NOTES_REF.

    `staged` counts the files of the notes; `warning` tells what is probably forgotten, empty for nothing.
    """

    commit: str
    notes: str
    bundle: bytes
    staged: int
    warning: str


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the objects of a proposal come from. `config` is the working copy, `main` the deployed commit if known."""

    config: Path
    git_folder: Path
    objects: Path
    applied: Path
    main: str | None


class Proposals:
    """`agents` and `applied` are the folders as the manager sees them; `timeout_s` bounds every single step.

    What is made meanwhile is in `scratch`, and gone afterwards.
    """

    def __init__(
        self,
        agents: Path = AGENTS,
        applied: Path = APPLIED,
        scratch: Path = _SCRATCH,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self._agents = agents
        self._applied = applied
        self._scratch = scratch
        self._timeout_s = timeout_s

    async def make_apply(self, agent: str, commit_ref: str) -> Proposal:
        """A commit of an agent's config. Raises HiveError that says what to do instead."""
        name = parse_known_agent_name(agent)
        source = await self._find_source(
            name, "is there such an agent? list_agents tells; a new one begins with request_spawn_draft"
        )
        commit = await self._get_commit(source, commit_ref)
        async with self._open_workshop(source) as workshop:
            if source.main is not None and await workshop.is_ancestor(commit, source.main):
                raise ConflictError(
                    f"there is nothing to propose: {commit[:12]} is what {name} has, or older",
                    f"commit your change in {source.config} first; the operator reverts to older versions",
                )
            warning = await self._describe_changes(workshop, source)
            return Proposal(commit, "", await workshop.make_bundle(commit, source.main), 0, warning)

    async def make_spawn(self, name: str, commit_ref: str) -> Proposal:
        """The config of a draft with its staged notes. Raises HiveError that says what to do instead."""
        name = parse_agent_name(name)
        source = await self._find_source(name, "call request_spawn_draft first")
        commit = await self._get_commit(source, commit_ref)
        files = await asyncio.to_thread(load_staged, self._agents / name / "state")
        async with self._open_workshop(source) as workshop:
            main = source.main
            if main is not None and await workshop.is_ancestor(commit, main):
                # A draft whose config is left as it was is a proposal, too.
                main = None
            notes = await workshop.import_notes(render_fast_import(NOTES_REF, files)) if files else ""
            warning = await self._describe_changes(workshop, source)
            bundle = await workshop.make_bundle(commit, main, with_notes=bool(notes))
            return Proposal(commit, notes, bundle, len(files), warning)

    async def _find_source(self, name: str, hint: str) -> _Source:
        config, applied = self._agents / name / "config", self._applied / name
        git_folder = config / ".git"
        if not config.is_dir():
            raise NotFoundError(f"{config} is not there", hint)
        if not git_folder.exists():
            raise NotFoundError(
                f"{config} is not a git repository", f"move it away, then git clone -o applied {applied} {config}"
            )
        objects = await self._git(
            [f"--git-dir={git_folder}", "rev-parse", "--path-format=absolute", "--git-path", "objects"]
        )
        if not objects.ok:
            raise _broken(config, objects)
        main = await self._find_commit(applied, "refs/heads/main")
        return _Source(config, git_folder, Path(os.fsdecode(objects.stdout.rstrip(b"\n"))), applied, main)

    async def _get_commit(self, source: _Source, ref: str) -> str:
        if not 0 < len(ref) <= _REF_LIMIT_CHARS or not ref.isprintable():
            raise InvalidInputError(
                "commit_ref is a branch, a tag or a commit", f"at most {_REF_LIMIT_CHARS} characters; HEAD if left out"
            )
        done = await self._resolve(source.git_folder, ref)
        if done.status not in {0, 1}:
            raise _broken(source.config, done)
        commit = done.stdout.decode("utf-8", "replace").strip()
        if _COMMIT.fullmatch(commit):
            return commit
        if ref == "HEAD":
            raise NotFoundError(f"nothing is committed in {source.config} yet", "git add and git commit first")
        raise NotFoundError(
            f"{ref!r} does not name one commit in {source.config}",
            f"git -C {source.config} log --oneline --all lists them",
        )

    async def _find_commit(self, git_folder: Path, ref: str) -> str | None:
        commit = (await self._resolve(git_folder, ref)).stdout.decode("utf-8", "replace").strip()
        return commit if _COMMIT.fullmatch(commit) else None

    async def _resolve(self, git_folder: Path, ref: str) -> Completed:
        return await self._git(
            [f"--git-dir={git_folder}", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"]
        )

    async def _describe_changes(self, workshop: "_Workshop", source: _Source) -> str:
        """What in the working copy is in no commit; that it is not known, where git cannot tell in time."""
        try:
            head = await self._find_commit(source.git_folder, "HEAD")
            names = await workshop.list_changes(source.config, head) if head is not None else []
        except HiveError as error:
            return f"it is not known whether all changes in {source.config} are committed: {error.message}"
        if not names:
            return ""
        files, they = ("1 file is", "it is") if len(names) == 1 else (f"{len(names)} files are", "they are")
        shown = ", ".join(names[:_NAMES_SHOWN]) + (", …" if len(names) > _NAMES_SHOWN else "")
        return f"{files} changed and not committed: {they} not part of this proposal ({shown})"

    @contextlib.asynccontextmanager
    async def _open_workshop(self, source: _Source) -> AsyncGenerator["_Workshop"]:
        """An empty repository that borrows objects from `source`; gone at the end."""
        folder = self._scratch / f"hive-proposal-{os.urandom(8).hex()}"
        folder.mkdir(mode=0o700)
        try:
            workshop = _Workshop(folder, source, self._timeout_s)
            await workshop.create()
            yield workshop
        finally:
            with contextlib.suppress(ProcessError):
                await run(["rm", "-rf", "--", str(folder)], timeout_s=self._timeout_s)

    async def _git(self, arguments: Sequence[str]) -> Completed:
        return await _run_git(arguments, self._timeout_s)


class _Workshop:
    """A bare repository in `folder`. Its methods raise HiveError."""

    def __init__(self, folder: Path, source: _Source, timeout_s: float) -> None:
        self._folder = folder
        self._source = source
        self._timeout_s = timeout_s

    async def create(self) -> None:
        # Without a template: it would be the machine's, and may have hooks.
        await self._git(["init", "--quiet", "--bare", "--template=", "--", str(self._folder)], new=True)

    async def is_ancestor(self, ancestor: str, commit: str) -> bool:
        done = await self._git(["merge-base", "--is-ancestor", ancestor, commit], statuses=(0, 1))
        return done.ok

    async def import_notes(self, stream: bytes) -> str:
        """The commit of `render_fast_import`, kept as NOTES_REF."""
        await self._git(["fast-import", "--quiet"], stdin=stream)
        return (await self._git(["rev-parse", "--verify", NOTES_REF])).stdout.decode().strip()

    async def make_bundle(self, commit: str, main: str | None, *, with_notes: bool = False) -> bytes:
        """All that `commit` has and `main` has not. Raises TooLargeError for more than fits."""
        await self._git(["update-ref", COMMIT_REF, commit])
        refs = [COMMIT_REF, *([NOTES_REF] if with_notes else []), *([f"^{main}"] if main else [])]
        # To its output and not into a file: what is over the limit is dropped and fills no memory.
        bundle = (await self._git(["bundle", "create", "--quiet", "-", *refs])).stdout
        if len(bundle) > BUNDLE_LIMIT_BYTES:
            more = "over " if len(bundle) >= OUTPUT_LIMIT_BYTES else ""
            raise TooLargeError(
                f"the proposal is too large: {more}{len(bundle) // 1024:,} KiB packed, "
                f"and at most {BUNDLE_LIMIT_BYTES // 1024:,} KiB fit",
                "take large files out of every commit that is not applied yet, not only out of the last one",
            )
        return bundle

    async def list_changes(self, config: Path, head: str) -> list[str]:
        """Files of the working copy that differ from `head` or are not in it, but for those it ignores."""
        await self._git(["update-ref", "--no-deref", "HEAD", head])
        await self._git(["read-tree", head])
        listed = await self._git(
            [
                f"--work-tree={config}",
                *("status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames", "--ignore-submodules=all"),
            ]
        )
        names = [entry[3:].decode("utf-8", "replace") for entry in listed.stdout.split(b"\0") if entry]
        return [name if name.isprintable() else repr(name) for name in names]

    async def _git(
        self, arguments: Sequence[str], *, stdin: bytes = b"", statuses: Sequence[int] = (0,), new: bool = False
    ) -> Completed:
        place = [] if new else [f"--git-dir={self._folder}"]
        borrowed = str(self._source.objects)
        if self._source.main is not None:
            borrowed += f":{self._source.applied / 'objects'}"
        done = await _run_git(
            [*place, *arguments], self._timeout_s, stdin, {"GIT_ALTERNATE_OBJECT_DIRECTORIES": borrowed}
        )
        if done.status not in statuses:
            raise _broken(self._source.config, done)
        return done


async def _run_git(
    arguments: Sequence[str], timeout_s: float, stdin: bytes = b"", more: dict[str, str] | None = None
) -> Completed:
    """Runs git with nothing of our own environment but the path. Raises UnavailableError."""
    environment = {**_ENVIRONMENT, "PATH": os.environ.get("PATH", os.defpath), **(more or {})}
    try:
        return await run(
            ["git", *_OPTIONS, *arguments], timeout_s=timeout_s, stdin=stdin, env=environment, cwd=Path("/")
        )
    except ProcessError as error:
        raise UnavailableError(str(error), "is the repository very large, or something in it no plain file?") from error


def _broken(config: Path, done: Completed) -> InvalidInputError:
    return InvalidInputError(
        f"git cannot read {config}: {done.error_text or f'status {done.status}'}",
        f"git -C {config} fsck tells more; what is applied can be cloned anew",
    )
