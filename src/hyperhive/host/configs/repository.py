"""The applied repo of one agent: what was proposed, approved and deployed of its config. Only the daemon writes it.

The database says what is true; refs and tags are made after it and can be made again. Every method may be repeated
after a crash. None runs git anywhere but in the applied repo and below `staging`.

All raise GitError (an UnavailableError) when git or the disk fails. Commits are full object names; anything else is an
InvalidInputError.
"""

import asyncio
import contextlib
import re
import secrets
import shutil
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from hyperhive.core.errors import ConflictError, InvalidInputError, NotFoundError
from hyperhive.host.configs.bundles import (
    MAIN,
    Bundle,
    Imported,
    check_refs,
    look_in,
    move_in,
    parse_bundle,
    prepare_quarantine,
)
from hyperhive.host.configs.diffs import parse_patch, plan_changes, plan_patches, render_diffs
from hyperhive.host.configs.trees import PlainFile, TreeFile, check_path, check_sizes, read_trees
from hyperhive.system.files import move_beneath, set_owner, sync_folder, write_folder
from hyperhive.system.git import (
    IDENTITY,
    Git,
    GitError,
    Limits,
    clone,
    make_repository,
    parse_object_name,
    render_date,
)
from hyperhive.wire.operator.configs import FileDiff

FIRST_TAG = "deployed/0"
MESSAGE_LIMIT_CHARS = 4000
# For what comes from an agent: many times what a bundle of the largest size needs.
IMPORT_LIMITS = Limits(time_s=30.0, cpu_s=5, memory_bytes=256 * 1024 * 1024, file_bytes=16 * 1024 * 1024)

_INCOMING = "refs/incoming"
_PROPOSALS = "refs/proposals"
_NOTES = "refs/proposal-notes"
_TAGS = "refs/tags"
_TAG_STATUSES = frozenset({"proposal", "approved", "building", "deployed", "failed", "denied"})
_REMOTE_PATH = re.compile(r"/[A-Za-z0-9_./-]{1,200}")


class ConfigRepository:
    """The applied repo at `path`. `staging` is a folder on the same file system that is emptied at each start."""

    def __init__(self, path: Path, staging: Path, *, program: str = "git") -> None:
        self._path = path
        self._staging = staging
        self._program = program
        self._git = Git(path, program=program)

    async def exists(self) -> bool:
        return await asyncio.to_thread(self._path.joinpath("HEAD").is_file)

    async def ensure(self, files: Mapping[str, bytes], at: datetime, executables: Collection[str] = ()) -> str:
        """Makes the repository with a first commit of `files`, deployed, unless there is one.

        Returns the commit of the tag deployed/0. The same files and instant make the same commit.
        """
        if not await self.exists():
            async with self._stage() as folder:
                git = await make_repository(folder / "repo", program=self._program)
                made = await git.run("fast-import", "--quiet", stdin=_render_first(files, at, executables))
                if await asyncio.to_thread(_put_in_place, folder / "repo", self._path):
                    return _parse_made(made)
        tags = await self.list_tags()
        if FIRST_TAG not in tags:
            raise GitError("for-each-ref", None, f"the applied repo {self._path.name} has no tag {FIRST_TAG}")
        return tags[FIRST_TAG]

    async def import_bundle(
        self,
        bundle: bytes,
        commit: str,
        notes: str = "",
        *,
        base: str | None = None,
        check: Callable[[Mapping[str, bytes]], Awaitable[None]] | None = None,
    ) -> Imported:
        """Takes `commit`, and the staged `notes` if named, out of a bundle of an agent. refs/incoming keeps them.

        Raises InvalidInputError and TooLargeError if the bundle is not what it is to be, holds what a config may not
        hold, or if `commit` does not follow from `base`; and what `check` raises, which is called with the files of
        `commit`. Nothing of the bundle remains then.
        """

        async def check_commit(quarantine: Git) -> None:
            await _check_descent(quarantine, base, commit)
            if check is not None:
                await check(await _read_contents(quarantine, commit))

        async with self._quarantine(bundle, commit, notes) as (quarantine, parsed):
            imported = await move_in(self._git, quarantine, parsed, commit, notes, check_commit)
        # Before anything that outlives a power cut names the commit.
        await asyncio.to_thread(sync_folder, self._path / "objects/pack")
        wanted = [commit, *([notes] if notes else [])]
        await self._git.update_refs([f"update {_INCOMING}/{name} {name}" for name in wanted])
        return imported

    async def read_bundle(
        self, bundle: bytes, commit: str, notes: str = "", *, base: str | None = None
    ) -> dict[str, bytes]:
        """The files of `commit`, which `import_bundle` would take. Nothing is kept. Raises like that."""
        files: dict[str, bytes] = {}

        async def read_commit(quarantine: Git) -> None:
            await _check_descent(quarantine, base, commit)
            files.update(await _read_contents(quarantine, commit))

        async with self._quarantine(bundle, commit, notes) as (quarantine, parsed):
            await look_in(self._git, quarantine, parsed, commit, notes, read_commit)
        return files

    async def pin(self, number: int, commit: str, notes: str | None, tags: Mapping[str, str], at: datetime) -> None:
        """Keeps a commit and its notes for good, as those of one approval, with annotated tags on the commit.

        `tags` are statuses and their messages: 'deployed' makes the tag deployed/<number>. All is made in one step, or
        nothing; what is there is kept. Raises ConflictError if something of it is on another commit.
        """
        wanted = {f"{_PROPOSALS}/{number:d}": parse_object_name(commit)}
        if notes:
            wanted[f"{_NOTES}/{number:d}"] = parse_object_name(notes)
        incoming = [f"{_INCOMING}/{name}" for name in wanted.values()]
        messages = {f"{_TAGS}/{_check_status(status)}/{number:d}": message for status, message in tags.items()}
        wanted |= dict.fromkeys(messages, commit)
        found = await self._git.find_refs(*wanted, *incoming)
        for ref, name in wanted.items():
            if found.get(ref, name) != name:
                raise ConflictError(f"approval {number} already has another commit", "it is never given a new one")
        commands: list[str] = []
        for ref, name in wanted.items():
            if ref not in found:
                made = await self._make_tag(ref, commit, messages[ref], at) if ref in messages else name
                commands.append(f"create {ref} {made}")
        commands += [f"delete {ref}" for ref in incoming if ref in found]
        await self._git.update_refs(commands)

    async def drop_incoming(self, *commits: str) -> None:
        """Forgets submissions that did not become approvals: of `commits`, or, without any, all of them."""
        refs = [f"{_INCOMING}/{parse_object_name(commit)}" for commit in commits] or [f"{_INCOMING}/"]
        found = await self._git.find_refs(*refs)
        await self._git.update_refs([f"delete {ref}" for ref in found])

    async def list_tags(self) -> dict[str, str]:
        """The commit of each tag, such as 'deployed/3'."""
        found = await self._git.find_refs(f"{_TAGS}/")
        return {ref.removeprefix(f"{_TAGS}/"): commit for ref, commit in found.items()}

    async def find_main(self) -> str | None:
        return (await self._git.find_refs(MAIN)).get(MAIN)

    async def advance_main(self, commit: str) -> None:
        """Lets main be `commit`, which must follow from it. Where main is further already, it stays there.

        Raises ConflictError if neither follows from the other, NotFoundError if there is no such commit.
        """
        parse_object_name(commit)
        main = await self.find_main()
        if main == commit:
            return
        if main is None or not await self.is_ancestor(main, commit):
            if main is not None and await self.is_ancestor(commit, main):
                return
            raise ConflictError(f"commit {commit} does not follow from main", "fetch and rebase on applied/main")
        # Only from where it was looked at: another change in between makes this fail.
        await self._git.update_refs([f"update {MAIN} {commit} {main}"])

    async def is_ancestor(self, ancestor: str, commit: str) -> bool:
        """Whether `commit` has `ancestor` in its history, or is it. Raises NotFoundError if one is not there."""
        names = [parse_object_name(ancestor), parse_object_name(commit)]
        try:
            return await self._git.ask("merge-base", "--is-ancestor", *names)
        except GitError:
            await self._check_commits(names)
            raise

    async def list_files(self, commit: str) -> list[TreeFile]:
        """The files of a commit by path. Raises NotFoundError if it is not there."""
        [files] = await self._read_trees([commit])
        oids = list(dict.fromkeys(file.oid for file in files))
        infos = await self._git.read_infos(oids)
        return check_sizes(files, {info.oid: info for info in infos if info is not None})

    async def read_files(self, commit: str) -> dict[str, bytes]:
        """The content of each file of a commit. Raises NotFoundError if it is not there."""
        return {path: content for path, (content, _) in (await self.read_folder(commit)).items()}

    async def read_folder(self, commit: str) -> dict[str, tuple[bytes, bool]]:
        """Each file of a commit: its content, and whether it may be executed. Raises NotFoundError."""
        [files] = await self._read_trees([commit])
        contents = await _read_blobs(self._git, files)
        return {file.path: (contents[file.oid], file.executable) for file in files}

    async def diff(self, base: str | None, commit: str) -> list[FileDiff]:
        """What `commit` changes against `base`; without one everything is added. Raises NotFoundError.

        See `diffs` for what is folded, left out and never left out.
        """
        trees = await self._read_trees([commit] if base is None else [base, commit])
        changes = plan_changes(trees[0] if base else [], trees[-1])
        contents = await _read_blobs(
            self._git, [side for change in changes for side in (change.old, change.new) if side]
        )
        patches: dict[str, bytes] = {}
        if base is not None:
            for paths in plan_patches(changes, contents):
                patches |= parse_patch(await self._compare(base, commit, paths), paths)
        return render_diffs(changes, contents, patches)

    async def make_revert(self, main: str, to: str, message: str, at: datetime) -> str:
        """A commit that follows from `main` and has the files of `to`. refs/incoming keeps it. Raises NotFoundError."""
        await self._check_commits([main, to])
        tree, text = f"{to}^{{tree}}", _clean_message(message)
        made = await self._git.run("commit-tree", tree, "-p", main, "-F", "-", stdin=text, at=at)
        commit = _parse_made(made)
        await self._git.update_refs([f"update {_INCOMING}/{commit} {commit}"])
        return commit

    async def make_edit(self, base: str, name: str, content: bytes, message: str, at: datetime) -> str:
        """A commit that follows from `base` and differs by its file `name`, in no folder. refs/incoming keeps it.

        Raises NotFoundError without such a commit or such a file in it.
        """
        await self._check_commits([base])
        lines = (await self._git.run("ls-tree", "-z", base)).split(b"\0")
        ending = b"\t" + name.encode()
        if not any(line.endswith(ending) for line in lines):
            raise NotFoundError(f"there is no {name} in {base[:12]}")
        blob = _parse_made(await self._git.run("hash-object", "-w", "--stdin", stdin=content))
        changed = [f"100644 blob {blob}".encode() + ending if line.endswith(ending) else line for line in lines]
        tree = _parse_made(await self._git.run("mktree", "-z", stdin=b"\0".join(changed)))
        text = _clean_message(message)
        commit = _parse_made(await self._git.run("commit-tree", tree, "-p", base, "-F", "-", stdin=text, at=at))
        await self._git.update_refs([f"update {_INCOMING}/{commit} {commit}"])
        return commit

    async def make_commit(
        self, parent: str, files: Mapping[str, bytes], executables: Collection[str], message: str, at: datetime
    ) -> str:
        """A commit that follows from `parent` and has exactly `files`. refs/incoming keeps it. Raises NotFoundError."""
        await self._check_commits([parent])
        ref = f"{_INCOMING}/new-{secrets.token_hex(8)}"
        text = _clean_message(message)
        head = f"commit {ref}\ncommitter {IDENTITY} {render_date(at)}\ndata {len(text)}\n".encode()
        tree = b"".join(_render_files(files, executables))
        stream = head + text + f"\nfrom {parent}\ndeleteall\n".encode() + tree
        await self._git.run("fast-import", "--quiet", stdin=stream)
        commit = (await self._git.find_refs(ref))[ref]
        await self._git.update_refs([f"update {_INCOMING}/{commit} {commit}", f"delete {ref}"])
        return commit

    async def write_files(self, commit: str, folder: Path) -> None:
        """Writes the files of a commit as the new folder `folder`: whole or not at all, readable for everybody.

        A folder that is there is left as it is. Raises NotFoundError, and OSError if the disk refuses.
        """
        if not await asyncio.to_thread(folder.exists):
            await self.put_files(await self.read_folder(commit), folder)

    async def put_files(self, files: Mapping[str, tuple[bytes, bool]], folder: Path) -> None:
        """As `write_files`, with what `read_folder` gave."""
        async with self._stage() as stage:
            await asyncio.to_thread(write_folder, stage / "files", files)
            await asyncio.to_thread(_put_in_place, stage / "files", folder)

    async def make_working_copy(self, folder: Path, remote: str, uid: int | None = None) -> bool:
        """A clone for the manager, which is `uid`, with the remote "applied" at `remote`; False if `folder` is in use.

        `folder` may be missing or empty; anything else there is left as it is. Its parent must exist. Neither of the
        two is followed if the manager made it a link: that is an OSError. Only the folder above them must be safe.
        """
        if not _REMOTE_PATH.fullmatch(remote):
            raise InvalidInputError("the remote is a plain absolute path")
        if await asyncio.to_thread(_is_in_use, folder):
            return False
        async with self._stage() as stage:
            copy = stage / "copy"
            await clone(self._path, copy, remote="applied", program=self._program)
            return await asyncio.to_thread(_hand_over, copy, folder, remote, uid)

    async def _make_tag(self, ref: str, commit: str, message: str, at: datetime) -> str:
        """The object of an annotated tag, which the ref is yet to name."""
        tag = _render_tag(ref.removeprefix(f"{_TAGS}/"), commit, message, at)
        return _parse_made(await self._git.run("mktag", stdin=tag))

    async def _check_commits(self, commits: Sequence[str]) -> None:
        names = [parse_object_name(commit) for commit in commits]
        for name, info in zip(names, await self._git.read_infos(names), strict=True):
            if info is None or info.kind != "commit":
                raise NotFoundError(f"there is no commit {name}", "it was never submitted, or its agent was purged")

    async def _read_trees(self, commits: Sequence[str]) -> list[list[PlainFile]]:
        try:
            return await read_trees(self._git, [f"{parse_object_name(commit)}^{{tree}}" for commit in commits])
        except InvalidInputError:
            await self._check_commits(commits)
            raise

    async def _compare(self, base: str, commit: str, paths: Sequence[str]) -> bytes:
        return await self._git.run(
            *("diff-tree", "-r", "-p", "--text", "--unified=3", "--no-renames", "--no-color"),
            *("--no-ext-diff", "--no-textconv", "--ignore-submodules=all", "--full-index"),
            *(base, commit, "--", *paths),
        )

    @contextlib.asynccontextmanager
    async def _quarantine(self, bundle: bytes, commit: str, notes: str) -> AsyncGenerator[tuple[Git, Bundle]]:
        """Where a bundle that names these commits can be unpacked; gone at the end. Raises what is wrong with it."""
        for name in (commit, notes) if notes else (commit,):
            parse_object_name(name)
        parsed = parse_bundle(bundle)
        check_refs(parsed, commit, notes)
        async with self._stage() as folder:
            objects = folder / "objects"
            await asyncio.to_thread(prepare_quarantine, objects, self._path / "objects")
            yield Git(self._path, objects, IMPORT_LIMITS, self._program), parsed

    @contextlib.asynccontextmanager
    async def _stage(self) -> AsyncGenerator[Path]:
        """An empty folder that nobody else knows; gone at the end."""
        folder = await asyncio.to_thread(_make_stage, self._staging)
        try:
            yield folder
        finally:
            # To its end even if this task is cancelled: a few dozen files.
            shutil.rmtree(folder, ignore_errors=True)


async def _check_descent(quarantine: Git, base: str | None, commit: str) -> None:
    if base is not None and not await quarantine.ask("merge-base", "--is-ancestor", base, commit):
        raise InvalidInputError(
            f"{commit[:12]} does not descend from what is deployed, {base[:12]}",
            "git fetch applied && git rebase applied/main, then propose it again",
        )


async def _read_contents(git: Git, commit: str) -> dict[str, bytes]:
    """The files of a commit that is there and whole."""
    [files] = await read_trees(git, [f"{commit}^{{tree}}"])
    contents = await _read_blobs(git, files)
    return {file.path: contents[file.oid] for file in files}


async def _read_blobs(git: Git, files: Sequence[PlainFile]) -> dict[str, bytes]:
    names = list(dict.fromkeys(file.oid for file in files))
    contents: dict[str, bytes] = {}
    for name, found in zip(names, await git.read_objects(names), strict=True):
        if found is None:
            raise GitError("cat-file", None, f"object {name} is missing: the repository is damaged")
        contents[name] = found.content
    return contents


def _make_stage(staging: Path) -> Path:
    staging.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=staging))


def _put_in_place(source: Path, target: Path) -> bool:
    """Moves a finished folder to where it belongs. False if somebody else was faster: what is there stays."""
    if not target.parent.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        # Whatever the umask is: containers read it as other users.
        target.parent.chmod(0o755)
    moved = move_beneath(source, target.parent, [target.name])
    sync_folder(target.parent)
    return moved


def _is_in_use(folder: Path) -> bool:
    """Only to save work: what counts is whether it can be replaced."""
    try:
        return any(folder.iterdir())
    except OSError:
        return False


def _hand_over(copy: Path, folder: Path, remote: str, uid: int | None) -> bool:
    copy.joinpath(".git/config").write_text(_render_config(remote))
    set_owner(copy, uid, mode=0o700)
    return move_beneath(copy, folder.parents[1], folder.parts[-2:])


def _render_config(remote: str) -> str:
    """The config of the manager's working copy.

    The applied repo is root's, and git refuses to read what is another user's: the option says that this one is meant.
    It must stand there, as git keeps its own environment from the program that it fetches from. Denied and failed
    commits are in no branch: their tags bring them.
    """
    return f"""\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
\tlogallrefupdates = true
[user]
\tname = manager
\temail = manager@localhost
[remote "applied"]
\turl = {remote}
\tfetch = +refs/heads/*:refs/remotes/applied/*
\ttagOpt = --tags
\tuploadpack = git -c safe.directory={remote} upload-pack
[branch "main"]
\tremote = applied
\tmerge = refs/heads/main
"""


def _render_first(files: Mapping[str, bytes], at: datetime, executables: Collection[str]) -> bytes:
    """The first commit and its tag, for `git fast-import`, which then says the commit's name."""
    who = f"{IDENTITY} {render_date(at)}"
    parts = [f"commit {MAIN}\nmark :1\ncommitter {who}\ndata 17\nthe first config\n\n".encode()]
    parts += _render_files(files, executables)
    parts.append(f"tag {FIRST_TAG}\nfrom :1\ntagger {who}\ndata 17\nthe first config\nget-mark :1\n".encode())
    return b"".join(parts)


def _render_files(files: Mapping[str, bytes], executables: Collection[str]) -> list[bytes]:
    """A tree's files for `git fast-import`."""
    parts: list[bytes] = []
    for path, content in sorted(files.items()):
        check_path(path)
        quoted = path.replace('"', '\\"')
        mode = "100755" if path in executables else "100644"
        parts.append(f'M {mode} inline "{quoted}"\ndata {len(content)}\n'.encode() + content + b"\n")
    return parts


def _render_tag(name: str, commit: str, message: str, at: datetime) -> bytes:
    head = f"object {commit}\ntype commit\ntag {name}\ntagger {IDENTITY} {render_date(at)}\n\n"
    return head.encode() + _clean_message(message)


def _check_status(status: str) -> str:
    if status not in _TAG_STATUSES:
        raise InvalidInputError("a tag is a status and a number, such as deployed/3")
    return status


def _clean_message(message: str) -> bytes:
    """A message as it was given, but bounded, and without what git or UTF-8 cannot keep."""
    text = message[:MESSAGE_LIMIT_CHARS].replace("\0", "\ufffd")
    return text.encode("utf-8", "replace") + b"\n"


def _parse_made(output: bytes) -> str:
    return parse_object_name(output.decode().strip())
