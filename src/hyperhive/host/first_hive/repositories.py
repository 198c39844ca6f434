"""The history of an agent's config, out of git repositories that are not ours.

git never runs in them: what it obeys there (config, hooks, alternates, attributes) stays behind. Their objects alone
are copied, as plain files, into an empty repository of our own. What the wanted commits need is packed there, and
checked object by object when a second one takes it in.
"""

import contextlib
import os
import re
import stat
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hyperhive.core.errors import HiveError, InvalidInputError, TooLargeError
from hyperhive.host.configs.repository import FIRST_TAG
from hyperhive.host.first_hive.source import open_part, read_small
from hyperhive.system.files import open_folder_beneath, open_regular_beneath, walk_beneath
from hyperhive.system.git import Git, GitError, Limits, make_repository, parse_object_name

MAIN = "refs/heads/main"
# Tags keep the names that they had, and those that the hive makes of the approvals taken over stand beside them.
TAGS = "refs/tags/first-hive"
PROPOSED = f"{TAGS}/proposed"

FILES_LIMIT = 50_000
FILES_LIMIT_BYTES = 64 * 1024 * 1024
LOOSE_LIMIT_BYTES = 4 * 1024 * 1024
OBJECTS_LIMIT = 40_000
OBJECT_LIMIT_BYTES = 4 * 1024 * 1024
UNPACKED_LIMIT_BYTES = 256 * 1024 * 1024
_REFS_LIMIT = 10_000
_REF_LIMIT_BYTES = 1024
_PACKED_REFS_LIMIT_BYTES = 4 * 1024 * 1024
_LIMITS = Limits(time_s=120.0, cpu_s=60)

_LOOSE = re.compile(rb"([0-9a-f]{2})/([0-9a-f]{38})")
_PACK = re.compile(rb"pack/pack-[0-9a-f]{40}\.pack")
_OID = re.compile(r"[0-9a-f]{40}")
_TAG = re.compile(r"refs/tags/((?:proposal|approved|building|deployed|failed|denied)/(?:0|[1-9][0-9]{0,8}))")
_DEPLOYED = re.compile(r"deployed/([0-9]+)")
_SYMBOLIC = "ref: "


@dataclass(slots=True)
class Refs:
    """What a repository says that its refs are: names of objects, which need not be there."""

    head: str | None = None
    by_name: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def main(self) -> str | None:
        return self.by_name.get(MAIN) or self.head


@dataclass(frozen=True, slots=True)
class History:
    """What was taken. `commits` are all that are there, `deployed` is main, `past` what led to it and itself.

    `tags` has commits by names such as 'deployed/3', `notes` what was left of it and why.
    """

    deployed: str
    past: frozenset[str]
    commits: frozenset[str]
    tags: Mapping[str, str]
    proposed: str | None
    notes: Sequence[str]


@contextlib.contextmanager
def open_repository(source: Path, *names: str) -> Generator[Path | None]:
    """The folder that git keeps its own things in, of the working copy or bare repository `names` of `source`.

    None if there is none. No link is followed. Raises OSError for what cannot be read.
    """
    with contextlib.ExitStack() as stack:
        for folder in ((*names, ".git"), names):
            with contextlib.suppress(NotADirectoryError):
                found = stack.enter_context(open_part(source, *folder))
                if found is not None and read_small(found, b"HEAD", _REF_LIMIT_BYTES):
                    yield found
                    return
        yield None


def read_refs(repository: Path) -> Refs:
    """The refs of a repository, by its files. Raises OSError for what cannot be read, TooLargeError."""
    refs = Refs()
    for line in (read_small(repository, b"packed-refs", _PACKED_REFS_LIMIT_BYTES) or b"").splitlines():
        oid, _, name = line.decode("utf-8", "replace").partition(" ")
        if _OID.fullmatch(oid) and name:
            refs.by_name[name] = oid
    for count, path in enumerate(_list_files(repository, "refs")):
        if count > _REFS_LIMIT:
            raise TooLargeError(f"it has more than {_REFS_LIMIT} refs", "remove some")
        oid = (read_small(repository, b"refs/" + path, _REF_LIMIT_BYTES) or b"").decode("utf-8", "replace").strip()
        if _OID.fullmatch(oid):
            refs.by_name[f"refs/{path.decode('utf-8', 'replace')}"] = oid
    head = (read_small(repository, b"HEAD", _REF_LIMIT_BYTES) or b"").decode("utf-8", "replace").strip()
    refs.head = refs.by_name.get(head.removeprefix(_SYMBOLIC)) if head.startswith(_SYMBOLIC) else head
    if refs.head is not None and not _OID.fullmatch(refs.head):
        refs.head = None
    return refs


async def take_history(
    applied: Path, proposed: Path | None, wanted: Collection[str], place: Path, target: Path
) -> History:
    """Makes the bare repository `target` of what `applied` has deployed, with its tags, and of what was proposed.

    `wanted` are names of commits, whole or their beginnings, that are taken too if either repository has them. `place`
    is an empty folder for the work. Raises InvalidInputError and TooLargeError that say what is wrong with `applied`,
    OSError and GitError for what is wrong here; what is wrong with the rest is only noted.
    """
    notes: list[str] = []
    refs = read_refs(applied)
    quarantine = await make_repository(place / "quarantine")
    quarantine = Git(quarantine.folder, limits=_LIMITS)
    await _bring_objects(applied, quarantine, place)
    if refs.main is None or await _find_commit(quarantine, refs.main) is None:
        raise InvalidInputError("nothing is deployed: its applied repository has no commit on main")
    proposed_head = None if proposed is None else await _bring_proposed(proposed, quarantine, place, notes)
    tags = {found[1]: oid for name, oid in refs.by_name.items() if (found := _TAG.fullmatch(name))}
    others = sum(1 for name in refs.by_name if name.startswith("refs/") and name != MAIN and not _TAG.fullmatch(name))
    if others:
        notes.append(f"{others} other branches, tags and refs of its applied repository are left")
    roots = [refs.main, *tags.values(), *([proposed_head] if proposed_head else [])]
    roots += await _find_wanted(quarantine, wanted)
    kept = await _keep_whole(quarantine, refs.main, list(dict.fromkeys(roots)), notes)
    git = await _move(quarantine, kept, place, target)
    return await _name(git, refs.main, tags, proposed_head, kept, notes)


async def _bring_proposed(proposed: Path, quarantine: Git, place: Path, notes: list[str]) -> str | None:
    try:
        head = read_refs(proposed).head
        await _bring_objects(proposed, quarantine, place)
    except (OSError, HiveError) as error:
        why = error.message if isinstance(error, HiveError) else error.strerror
        notes.append(f"its proposed repository is left: {why}")
        return None
    return None if head is None else await _find_commit(quarantine, head)


async def _bring_objects(repository: Path, quarantine: Git, place: Path) -> None:
    """Copies objects and nothing else. Raises InvalidInputError for a pack that git cannot read."""
    left_bytes, packs = FILES_LIMIT_BYTES, list[Path]()
    for count, path in enumerate(_list_files(repository, "objects")):
        loose, is_pack = _LOOSE.fullmatch(path), _PACK.fullmatch(path)
        if count > FILES_LIMIT:
            raise TooLargeError(f"a repository of it has more than {FILES_LIMIT:,} files", "`git gc` packs them")
        if path == b"info/alternates":
            raise InvalidInputError(
                "a repository of it borrows objects of another one", "`git repack -a -d` has it own all"
            )
        if not loose and not is_pack:
            continue
        target = quarantine.folder / "objects" / os.fsdecode(path) if loose else place / f"{len(packs)}.pack"
        if target.exists():
            continue
        target.parent.mkdir(exist_ok=True)
        left_bytes -= _copy(repository, b"objects/" + path, target, LOOSE_LIMIT_BYTES if loose else left_bytes)
        if left_bytes < 0:
            raise TooLargeError(f"a repository of it has more than {FILES_LIMIT_BYTES:,} bytes", "`git gc` may help")
        if is_pack:
            packs.append(target)
    for pack in packs:
        try:
            await quarantine.run("index-pack", "--stdin", "--threads=1", stdin=pack.read_bytes())
        except GitError as error:
            raise InvalidInputError(f"a pack of its repository is damaged: {error.output}") from error
        finally:
            pack.unlink()


def _copy(repository: Path, path: bytes, target: Path, limit_bytes: int) -> int:
    with os.fdopen(open_regular_beneath(repository, path), "rb") as source, target.open("xb") as copy:
        size = os.fstat(source.fileno()).st_size
        if size > limit_bytes:
            raise TooLargeError(f"an object file of its repository has {size:,} bytes", f"at most {limit_bytes:,} fit")
        return copy.write(source.read(limit_bytes))


def _list_files(repository: Path, folder: str) -> Iterator[bytes]:
    """The plain files below one of its folders: what else is there is none of git's."""
    handle = open_folder_beneath(repository, b".")
    try:
        for path, status in walk_beneath(Path(f"/proc/self/fd/{handle}") / folder, lambda path, error: None):
            if stat.S_ISREG(status.st_mode):
                yield path
    except (FileNotFoundError, NotADirectoryError):
        return
    finally:
        os.close(handle)


async def _find_commit(git: Git, oid: str) -> str | None:
    [found] = await git.read_infos([oid])
    return found.oid if found is not None and found.kind == "commit" else None


async def _find_wanted(quarantine: Git, wanted: Collection[str]) -> list[str]:
    """Names, whole or abbreviated, of commits that are there. git itself says what an ambiguous one is: none."""
    names = [name for name in dict.fromkeys(wanted) if re.fullmatch(r"[0-9a-f]{7,40}", name)]
    found = await quarantine.read_infos([f"{name}^{{commit}}" for name in names])
    return [info.oid for info in found if info is not None and info.kind == "commit"]


async def _keep_whole(quarantine: Git, main: str, roots: Sequence[str], notes: list[str]) -> list[str]:
    """The roots whose history is there and within bounds. Raises InvalidInputError, TooLargeError if main's is not."""
    problem = await _find_problem(quarantine, roots)
    if problem is None:
        return list(roots)
    problem = await _find_problem(quarantine, [main])
    if problem is not None:
        raise problem
    kept = [main]
    for root in roots[1:]:
        if await _find_problem(quarantine, [*kept, root]) is None:
            kept.append(root)
        else:
            notes.append(f"{root[:12]} is left: what leads to it is not whole, or too large")
    return kept


async def _find_problem(quarantine: Git, roots: Sequence[str]) -> HiveError | None:
    try:
        names = await _list_objects(quarantine, roots)
        if len(names) > OBJECTS_LIMIT:
            return TooLargeError(f"its history has {len(names):,} objects", f"at most {OBJECTS_LIMIT:,} are taken")
        infos = [info for info in await quarantine.read_infos(names) if info is not None]
    except GitError as error:
        return InvalidInputError(f"its repository is not whole: {error.output[:300]}", "`git fsck` tells more")
    if any(info.size_bytes > OBJECT_LIMIT_BYTES for info in infos):
        return TooLargeError("its history has a file that is too large", f"at most {OBJECT_LIMIT_BYTES:,} bytes")
    if sum(info.size_bytes for info in infos) > UNPACKED_LIMIT_BYTES:
        return TooLargeError("its history is too large unpacked", f"at most {UNPACKED_LIMIT_BYTES:,} bytes")
    return None


async def _list_objects(git: Git, roots: Sequence[str]) -> list[str]:
    stdin = "".join(f"{root}\n" for root in roots).encode()
    return (await git.run("rev-list", "--objects", "--no-object-names", "--stdin", stdin=stdin)).decode().split()


async def _move(quarantine: Git, roots: Sequence[str], place: Path, target: Path) -> Git:
    names = "".join(f"{name}\n" for name in await _list_objects(quarantine, roots)).encode()
    git = Git((await make_repository(target)).folder, limits=_LIMITS)
    try:
        made = await quarantine.run("pack-objects", "--quiet", str(place / "moved"), stdin=names)
        pack = place / f"moved-{parse_object_name(made.decode().strip())}.pack"
        # --strict: every object is what its name says and well formed, and all that they name is there.
        await git.run("index-pack", "--stdin", "--strict", "--threads=1", stdin=pack.read_bytes())
    except GitError as error:
        raise InvalidInputError(
            f"git refuses what is in its repository: {error.output[:300]}", "`git fsck` tells more"
        ) from error
    return git


async def _name(
    git: Git, main: str, tags: Mapping[str, str], proposed: str | None, kept: Collection[str], notes: list[str]
) -> History:
    """Gives what was taken its refs. Only these keep it, and say what is what."""
    there = {tag: oid for tag, oid in tags.items() if oid in kept}
    if len(there) < len(tags):
        notes.append(f"{len(tags) - len(there)} of its tags are left: what they name is not there")
    peeled = await git.read_infos([f"{oid}^{{commit}}" for oid in there.values()])
    commits = {tag: info.oid for tag, info in zip(there, peeled, strict=True) if info is not None}
    first = min((tag for tag in commits if tag.startswith("deployed/")), key=_number, default=None)
    names = {MAIN: main, **{f"{TAGS}/{tag}": there[tag] for tag in commits}}
    names[f"refs/tags/{FIRST_TAG}"] = there[first] if first else main
    if proposed is not None and proposed in kept:
        names[PROPOSED] = proposed
    else:
        proposed = None
    await git.update_refs([f"create {name} {oid}" for name, oid in names.items()])
    past = (await git.run("rev-list", main)).decode().split()
    infos = await git.read_infos(list(kept))
    found = {info.oid for info in infos if info is not None and info.kind == "commit"} | set(commits.values())
    # Commits that no ref names: the approvals that they are of will.
    return History(main, frozenset(past), frozenset(found | set(past)), commits, proposed, notes)


def _number(tag: str) -> int:
    found = _DEPLOYED.fullmatch(tag)
    return int(found[1]) if found else -1
