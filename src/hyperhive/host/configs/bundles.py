"""Bundles of proposals: bytes from an agent, looked through before anything of them gets into an applied repo.

Their objects are unpacked into an object folder of their own, which can borrow from the applied repo and which nothing
refers to. What passes is packed into the applied repo object by object; the folder goes away in any case.
"""

import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperhive.core.errors import HiveError, InvalidInputError, TooLargeError
from hyperhive.host.configs.trees import FILE_LIMIT_BYTES, check_sizes, read_trees
from hyperhive.system.git import Git, GitError, GitObject, ObjectInfo, parse_object_name
from hyperhive.wire.agent_link import BUNDLE_LIMIT_BYTES, COMMIT_REF, NOTES_REF

# Far more than a config with its history has.
OBJECTS_LIMIT = 5000
# What the objects of a bundle take unpacked, those of its whole history.
UNPACKED_LIMIT_BYTES = 16 * 1024 * 1024
# A commit with its message.
COMMIT_LIMIT_BYTES = 64 * 1024
# A full tree of long names, or a file.
OBJECT_LIMIT_BYTES = FILE_LIMIT_BYTES

MAIN = "refs/heads/main"

_SIGNATURE = b"# v2 git bundle\n"
_HEADER_LINES_LIMIT = 200
_HEADER_LINE_LIMIT_BYTES = 1000
_PACK_HEADER_BYTES = 12
_REMAKE = "make it with git bundle create, from a SHA-1 repository and without a filter"
_REBASE = "fetch and rebase on applied/main, then submit again"
_SQUASH = "take it out of the commits that are not applied yet: make one new commit on applied/main"
# How git says that the limits of its process were reached.
_EXHAUSTED = ("out of memory", "Cannot allocate memory", "mmap failed", "File too large", "exceeds maximum allowed")
_EXHAUSTED_STATUSES = {-signal.SIGXCPU, -signal.SIGXFSZ, -signal.SIGKILL}
# How the machine says that it is not the bundle's fault.
_OURS = (
    *("No space left", "quota exceeded", "Input/output error", "Read-only file system", "Permission denied"),
    *("Too many open files", "cannot be started", "failed to execute"),
)


@dataclass(frozen=True, slots=True)
class Bundle:
    """`prerequisites` are the commits it builds on without bringing them."""

    prerequisites: tuple[str, ...]
    refs: Mapping[str, str]
    pack: bytes
    objects: int


@dataclass(frozen=True, slots=True)
class Imported:
    """`notes` is the commit of the staged notes."""

    commit: str
    tree: str
    notes: str | None


def parse_bundle(content: bytes) -> Bundle:
    """The parts of a bundle (gitformat-bundle(5), version 2). Raises InvalidInputError and TooLargeError."""
    if len(content) > BUNDLE_LIMIT_BYTES:
        raise TooLargeError(
            f"the bundle is {len(content):,} bytes long", f"at most {BUNDLE_LIMIT_BYTES:,} fit; {_SQUASH}"
        )
    if not content.startswith(_SIGNATURE):
        raise InvalidInputError("this is not a git bundle of version 2", _REMAKE)
    prerequisites: list[str] = []
    refs: dict[str, str] = {}
    start = len(_SIGNATURE)
    for _ in range(_HEADER_LINES_LIMIT):
        end = content.find(b"\n", start, start + _HEADER_LINE_LIMIT_BYTES)
        if end < 0:
            raise InvalidInputError("the bundle's header is cut off", _REMAKE)
        line = content[start:end].decode("utf-8", "replace")
        start = end + 1
        if not line:
            break
        _add_line(line, prerequisites, refs)
    else:
        raise InvalidInputError("the bundle's header is too long", _REMAKE)
    pack = content[start:]
    return Bundle(tuple(prerequisites), refs, pack, _count_objects(pack))


def _add_line(line: str, prerequisites: list[str], refs: dict[str, str]) -> None:
    if line.startswith("-"):
        # What follows the name is a remark.
        prerequisites.append(parse_object_name(line[1:].split(" ")[0]))
        return
    oid, _, ref = line.partition(" ")
    if ref not in {COMMIT_REF, NOTES_REF} or ref in refs:
        raise InvalidInputError(
            "the bundle has other refs than it may have", f"it has {COMMIT_REF}, once, and {NOTES_REF} for staged notes"
        )
    refs[ref] = parse_object_name(oid)


def _count_objects(pack: bytes) -> int:
    if len(pack) < _PACK_HEADER_BYTES or pack[:8] not in {b"PACK\0\0\0\2", b"PACK\0\0\0\3"}:
        raise InvalidInputError("the bundle's pack is damaged or cut off", _REMAKE)
    count = int.from_bytes(pack[8:12], "big")
    if count > OBJECTS_LIMIT:
        raise TooLargeError(f"the bundle has {count:,} objects", f"at most {OBJECTS_LIMIT:,} are taken; {_SQUASH}")
    return count


def check_refs(bundle: Bundle, commit: str, notes: str) -> None:
    """Raises InvalidInputError unless the bundle carries exactly what the request names."""
    if bundle.refs.get(COMMIT_REF) != commit:
        raise InvalidInputError(
            f"the bundle does not carry commit {commit}",
            f"its {COMMIT_REF} is {bundle.refs.get(COMMIT_REF, 'missing')}: submit again",
        )
    if bundle.refs.get(NOTES_REF, "") != notes:
        raise InvalidInputError(
            f"the bundle does not carry the staged notes {notes or '(none)'}",
            f"its {NOTES_REF} is {bundle.refs.get(NOTES_REF, 'missing')}: submit again",
        )


def prepare_quarantine(folder: Path, objects: Path) -> None:
    """Makes `folder` an object folder that borrows from `objects`. Raises OSError."""
    folder.joinpath("info").mkdir(parents=True)
    folder.joinpath("pack").mkdir()
    folder.joinpath("info/alternates").write_text(f"{objects}\n")


async def move_in(
    git: Git, quarantine: Git, bundle: Bundle, commit: str, notes: str, check: Callable[[Git], Awaitable[None]]
) -> Imported:
    """Takes what `commit` and `notes` need out of the bundle, through `quarantine`, into the repository of `git`.

    Raises like `look_in`. No ref keeps the objects yet.
    """
    imported, objects = await look_in(git, quarantine, bundle, commit, notes, check)
    if objects:
        # Only what is needed, object by object: the rest of the bundle stays behind.
        names = "".join(f"{name}\n" for name in objects).encode()
        await quarantine.run("pack-objects", "--quiet", str(git.folder / "objects/pack/pack"), stdin=names)
    return imported


async def look_in(
    git: Git, quarantine: Git, bundle: Bundle, commit: str, notes: str, check: Callable[[Git], Awaitable[None]]
) -> tuple[Imported, list[str]]:
    """Unpacks the bundle into `quarantine`. Returns what it holds, and the objects of it that are needed.

    `check` looks at them there, and raises what is wrong. Nothing has reached the repository of `git`, also when this
    raises InvalidInputError or TooLargeError, which say what is wrong with the bundle, or GitError for what is wrong
    here.
    """
    # First, or what is wrong here would be blamed on the bundle.
    if MAIN not in await git.find_refs(MAIN):
        raise GitError("for-each-ref", None, f"there is no {MAIN}")
    await _check_prerequisites(git, bundle.prerequisites)
    try:
        await _unpack(quarantine, bundle)
        imported = await _check_commits(quarantine, commit, notes)
        await check(quarantine)
        objects = await _check_objects(quarantine, imported)
    except GitError as error:
        raise _blame(error) from error
    return imported, objects


async def _check_prerequisites(git: Git, commits: Sequence[str]) -> None:
    for commit, info in zip(commits, await git.read_infos(commits), strict=True):
        if info is None or info.kind != "commit":
            raise InvalidInputError(f"the bundle builds on commit {commit}, which is not in the applied repo", _REBASE)


async def _unpack(quarantine: Git, bundle: Bundle) -> None:
    if bundle.objects == 0:
        return
    # --strict: every object is well formed, and everything it names is there. What the applied repo has is whole, so
    # the history of the bundle is whole then, too.
    await quarantine.run("index-pack", "--stdin", "--fix-thin", "--strict", "--threads=1", stdin=bundle.pack)


async def _check_commits(quarantine: Git, commit: str, notes: str) -> Imported:
    names = [commit, notes] if notes else [commit]
    commits = await quarantine.read_objects(names)
    found = [_parse_commit(name, item) for name, item in zip(names, commits, strict=True)]
    if notes and found[1][1]:
        raise InvalidInputError("the commit of the staged notes has parents", "it is to be a commit of its own")
    trees = [tree for tree, _ in found]
    listed = await read_trees(quarantine, trees)
    blobs = list(dict.fromkeys(file.oid for files in listed for file in files))
    infos = {info.oid: info for info in await quarantine.read_infos(blobs) if info is not None}
    for files in listed:
        check_sizes(files, infos)
    return Imported(commit, trees[0], notes or None)


def _parse_commit(name: str, found: GitObject | None) -> tuple[str, int]:
    """The tree of a commit, and how many parents it has."""
    if found is None:
        raise InvalidInputError(f"commit {name} is not in the bundle", "submit again")
    if found.kind != "commit":
        raise InvalidInputError(f"{name} is a {found.kind} and not a commit", "name a commit, not what leads to it")
    if len(found.content) > COMMIT_LIMIT_BYTES:
        raise TooLargeError(f"the message of commit {name} is too long", f"at most {COMMIT_LIMIT_BYTES:,} bytes")
    lines = found.content.split(b"\n\n", 1)[0].decode("utf-8", "replace").split("\n")
    return parse_object_name(lines[0].removeprefix("tree ")), sum(line.startswith("parent ") for line in lines)


async def _check_objects(quarantine: Git, imported: Imported) -> list[str]:
    """The objects that are to be moved: all of the history that main does not have."""
    wanted = [imported.commit, *([imported.notes] if imported.notes else []), f"^{MAIN}"]
    listed = await quarantine.run(
        "rev-list", "--objects", "--no-object-names", "--stdin", stdin="".join(f"{name}\n" for name in wanted).encode()
    )
    names = listed.decode().split()
    if len(names) > OBJECTS_LIMIT:
        raise TooLargeError(f"the commit brings {len(names):,} objects", f"at most {OBJECTS_LIMIT:,}; {_SQUASH}")
    infos = [info for info in await quarantine.read_infos(names) if info is not None]
    _check_history(infos)
    return names


def _check_history(infos: Sequence[ObjectInfo]) -> None:
    for info in infos:
        if info.size_bytes > OBJECT_LIMIT_BYTES:
            raise TooLargeError(
                f"the history of the commit has a {info.kind} of {info.size_bytes:,} bytes ({info.oid})",
                f"at most {OBJECT_LIMIT_BYTES:,}; {_SQUASH}",
            )
    if sum(info.size_bytes for info in infos) > UNPACKED_LIMIT_BYTES:
        raise TooLargeError(
            f"the history of the commit takes more than {UNPACKED_LIMIT_BYTES:,} bytes unpacked", _SQUASH
        )


def _blame(error: GitError) -> HiveError:
    """What a failure in the quarantine means for whoever sent the bundle."""
    if any(sign in error.output for sign in _OURS):
        return error
    exhausted = error.status is None or error.status in _EXHAUSTED_STATUSES
    if exhausted or any(sign in error.output for sign in _EXHAUSTED):
        return TooLargeError("unpacking the bundle takes more time or memory than is allowed", _SQUASH)
    if "unresolved delta" in error.output or "did not receive expected object" in error.output:
        return InvalidInputError(f"the bundle is not whole: {error.output}", _REBASE)
    return InvalidInputError(f"git refuses what is in the bundle: {error.output}", f"git fsck tells more; {_REBASE}")
