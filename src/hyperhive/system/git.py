"""The one door for git: nothing of the machine's or the user's git settings, bounded in time, memory and output.

Only for repositories that this program owns. In one that somebody else can write, git runs whatever that somebody
has put into its config, its hooks or its attributes.
"""

import asyncio
import re
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from hyperhive.core.errors import InvalidInputError, UnavailableError
from hyperhive.core.text import render_safe_line
from hyperhive.system.process import OUTPUT_LIMIT_BYTES, Completed, ProcessError, run

IDENTITY = "hyperhive <hyperhive@localhost>"

_NAME, _ADDRESS = IDENTITY.removesuffix(">").split(" <")
_PATH = "/run/current-system/sw/bin:/usr/local/bin:/usr/bin:/bin"
# Objects are found by their hash; what a ref or a replacement says must not change what a hash means.
_ENVIRONMENT = {
    "PATH": _PATH,
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_AUTHOR_NAME": _NAME,
    "GIT_AUTHOR_EMAIL": _ADDRESS,
    "GIT_COMMITTER_NAME": _NAME,
    "GIT_COMMITTER_EMAIL": _ADDRESS,
}
# The repositories are the caller's own and hold none of what these switch off: should one ever, it stays without
# effect. What is written is on the disk before git says so, and readable for everybody whatever the umask is.
_CONFIG = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.logAllRefUpdates=false",
    "core.sharedRepository=0644",
    "core.fsync=all",
    "core.bigFileThreshold=1m",
    "core.packedGitLimit=64m",
    "core.packedGitWindowSize=1m",
    "core.deltaBaseCacheLimit=16m",
    "gc.auto=0",
    "maintenance.auto=false",
    "pack.threads=1",
    "protocol.allow=never",
    "transfer.fsckObjects=true",
)
# One writer of refs at a time for each repository, so that a lock found there is one that nobody holds.
_writers: "weakref.WeakValueDictionary[Path, asyncio.Lock]" = weakref.WeakValueDictionary()
_OBJECT_NAME = re.compile(r"[0-9a-f]{40}")


class GitError(UnavailableError):
    """git could not be run, failed, or was ended at a limit. `output` is what it said, made safe to show."""

    def __init__(self, action: str, status: int | None, output: str) -> None:
        super().__init__(f"git {action} failed: {output or f'status {status}'}")
        self.status = status
        self.output = output


@dataclass(frozen=True, slots=True)
class Limits:
    """What one git process may take. The kernel holds it to them, apart from the wall time."""

    time_s: float = 60.0
    cpu_s: int = 20
    memory_bytes: int = 512 * 1024 * 1024
    file_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class GitObject:
    oid: str
    kind: str
    content: bytes


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    oid: str
    kind: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One line of a tree object; `mode` as git writes it, such as '100644'."""

    mode: str
    name: bytes
    oid: str


def parse_object_name(text: str) -> str:
    """A full object name. Raises InvalidInputError for anything else: an abbreviation, a ref, an option."""
    if not _OBJECT_NAME.fullmatch(text):
        shown = render_safe_line(text[:60])
        raise InvalidInputError(f"{shown!r} is not a commit's full name", "40 hexadecimal digits, lower case")
    return text


def parse_tree(content: bytes) -> list[TreeEntry]:
    """The entries of a tree object. Raises InvalidInputError if it is not one."""
    entries: list[TreeEntry] = []
    start = 0
    while start < len(content):
        space = content.find(b" ", start, start + 8)
        end = content.find(b"\0", start)
        if space < 0 or end < space or end + 21 > len(content):
            raise InvalidInputError("a tree of the commit is damaged")
        mode = content[start:space].decode("ascii", "replace")
        entries.append(TreeEntry(mode, content[space + 1 : end], content[end + 1 : end + 21].hex()))
        start = end + 21
    return entries


@dataclass(frozen=True, slots=True)
class Git:
    """git on one bare repository. With `objects`, what is written goes into that object folder, and is read there, too.

    Every method raises GitError if git fails or goes over `limits`. Arguments must not come from outside: only object
    names that were checked, refs made here, and paths after `--`.
    """

    folder: Path
    objects: Path | None = None
    limits: Limits = field(default_factory=Limits)
    program: str = "git"

    async def run(self, *arguments: str, stdin: bytes = b"", at: datetime | None = None) -> bytes:
        """What git says on its standard output. Commits are dated `at`."""
        done = await self._start(arguments, stdin, at)
        if not done.ok:
            raise _failure(arguments[0], done)
        return done.stdout

    async def ask(self, *arguments: str) -> bool:
        """The answer of a command that says yes by status 0 and no by status 1."""
        done = await self._start(arguments, b"", None)
        if done.status not in {0, 1}:
            raise _failure(arguments[0], done)
        return done.ok

    async def read_objects(self, names: Sequence[str]) -> list[GitObject | None]:
        """The objects in the order of their names; None for one that is not there. Together less than 4 MiB."""
        if not names:
            return []
        output = await self.run("cat-file", "--batch", "--buffer", stdin=_lines(names))
        return _parse_batch(output, len(names))

    async def read_infos(self, names: Sequence[str]) -> list[ObjectInfo | None]:
        """Kinds and sizes of objects, without reading them; None for one that is not there."""
        if not names:
            return []
        output = await self.run("cat-file", "--batch-check", "--buffer", stdin=_lines(names))
        return [_parse_info(line) for line in output.decode("utf-8", "replace").splitlines()]

    async def find_refs(self, *prefixes: str) -> dict[str, str]:
        """Refs with the commits they lead to, a tag with the commit it is on. A prefix is a folder, or a whole name."""
        output = await self.run("for-each-ref", "--format=%(refname) %(objectname) %(*objectname)", *prefixes)
        rows = [line.split(" ") for line in output.decode("utf-8", "replace").splitlines()]
        return {name: peeled or oid for name, oid, peeled in rows}

    async def update_refs(self, commands: Sequence[str]) -> None:
        """Carries out lines of `git update-ref --stdin`, such as 'create REF OID', all of them or none.

        Locks that a killed git left are removed before: no other program writes this repository.
        """
        if not commands:
            return
        writer = _writers.setdefault(self.folder, asyncio.Lock())
        async with writer:
            for name in ("HEAD", "packed-refs", *(command.split(" ")[1] for command in commands)):
                self.folder.joinpath(f"{name}.lock").unlink(missing_ok=True)
            self.folder.joinpath("packed-refs.new").unlink(missing_ok=True)
            await self.run("update-ref", "--stdin", stdin=_lines(commands))

    async def _start(self, arguments: Sequence[str], stdin: bytes, at: datetime | None) -> Completed:
        environment = dict(_ENVIRONMENT)
        if self.objects is not None:
            environment["GIT_OBJECT_DIRECTORY"] = str(self.objects)
        if at is not None:
            environment["GIT_AUTHOR_DATE"] = environment["GIT_COMMITTER_DATE"] = render_date(at)
        return await _run((f"--git-dir={self.folder}", *arguments), stdin, environment, self.limits, self.program)


async def make_repository(folder: Path, *, program: str = "git") -> Git:
    """A new bare repository that everybody can read; `folder` must not exist yet. Raises GitError."""
    arguments = (
        "init",
        "--quiet",
        "--bare",
        "--template=",
        "--shared=0644",
        "--initial-branch=main",
        "--",
        str(folder),
    )
    done = await _run(arguments, b"", _ENVIRONMENT, Limits(), program)
    if not done.ok:
        raise _failure("init", done)
    return Git(folder, program=program)


async def clone(source: Path, folder: Path, *, remote: str, program: str = "git") -> None:
    """A working copy of main of `source`, both the caller's own, with all tags. Raises GitError."""
    arguments = (
        *("-c", "protocol.file.allow=always", "clone", "--quiet", "--template=", "--no-hardlinks"),
        *(f"--origin={remote}", "--branch=main", "--", str(source), str(folder)),
    )
    done = await _run(arguments, b"", _ENVIRONMENT, Limits(), program)
    if not done.ok:
        raise _failure("clone", done)


def render_date(at: datetime) -> str:
    """An instant as git writes it, in whole seconds and in UTC."""
    return f"{int(at.timestamp())} +0000"


async def _run(
    arguments: Sequence[str], stdin: bytes, environment: Mapping[str, str], limits: Limits, program: str
) -> Completed:
    limited = (
        *("prlimit", "--core=0", f"--cpu={limits.cpu_s}", f"--as={limits.memory_bytes}"),
        *(f"--fsize={limits.file_bytes}", "--", program),
    )
    settings = [part for setting in _CONFIG for part in ("-c", setting)]
    try:
        done = await run(
            (*limited, *settings, *arguments),
            timeout_s=limits.time_s,
            stdin=stdin,
            env=environment,
            cwd=Path("/"),
        )
    except ProcessError as error:
        raise GitError(arguments[0], None, str(error)) from error
    if len(done.stdout) >= OUTPUT_LIMIT_BYTES:
        raise GitError(arguments[0], None, f"more than {OUTPUT_LIMIT_BYTES} bytes of output")
    return done


def _failure(action: str, done: Completed) -> GitError:
    return GitError(action, done.status, render_safe_line(done.error_text))


def _lines(items: Sequence[str]) -> bytes:
    return "".join(f"{item}\n" for item in items).encode()


def _parse_info(line: str) -> ObjectInfo | None:
    words = line.split(" ")
    if len(words) != 3:
        # "NAME missing"; a name that could mean several things is none either.
        return None
    return ObjectInfo(words[0], words[1], int(words[2]))


def _parse_batch(output: bytes, count: int) -> list[GitObject | None]:
    objects: list[GitObject | None] = []
    start = 0
    for _ in range(count):
        end = output.index(b"\n", start)
        info = _parse_info(output[start:end].decode("utf-8", "replace"))
        start = end + 1
        if info is None:
            objects.append(None)
            continue
        objects.append(GitObject(info.oid, info.kind, output[start : start + info.size_bytes]))
        start += info.size_bytes + 1
    return objects
