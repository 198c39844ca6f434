"""What tests of configs give to git: objects, packs and bundles made byte by byte, honest and hostile ones."""

import hashlib
import os
import subprocess
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hyperhive.host.configs.repository import ConfigRepository
from hyperhive.wire.agent_link import COMMIT_REF

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FILES = {"agent.toml": b'model = "haiku"\n', "prompt.md": b"You answer.\n"}
KINDS = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}
OFS_DELTA, REF_DELTA = 6, 7

FILE, SCRIPT, LINK, MODULE, FOLDER = "100644", "100755", "120000", "160000", "40000"


@dataclass(frozen=True)
class Object:
    kind: str
    content: bytes

    @property
    def oid(self) -> str:
        return hashlib.sha1(f"{self.kind} {len(self.content)}\0".encode() + self.content).hexdigest()


def blob(content: bytes = b"content\n") -> Object:
    return Object("blob", content)


def tree(entries: Sequence[tuple[str, bytes, Object | str]]) -> Object:
    """A tree of (mode, name, object or its name), sorted as git does."""
    ordered = sorted(entries, key=lambda entry: entry[1] + (b"/" if entry[0] == FOLDER else b""))
    parts = [
        f"{mode} ".encode() + name + b"\0" + bytes.fromhex(oid if isinstance(oid, str) else oid.oid)
        for mode, name, oid in ordered
    ]
    return Object("tree", b"".join(parts))


def commit(root: Object | str, parents: Sequence[str] = (), message: str = "change") -> Object:
    who = f"M Anager <m@a> {int(AT.timestamp())} +0000"
    lines = [
        f"tree {root if isinstance(root, str) else root.oid}",
        *(f"parent {parent}" for parent in parents),
        f"author {who}",
        f"committer {who}",
        "",
        message,
        "",
    ]
    return Object("commit", "\n".join(lines).encode())


def plain_tree(files: Mapping[str, bytes]) -> list[Object]:
    """A tree without folders, and its blobs behind it."""
    blobs = {name: blob(content) for name, content in files.items()}
    return [tree([(FILE, name.encode(), item) for name, item in blobs.items()]), *blobs.values()]


def make_head(number: int, size_bytes: int) -> bytes:
    """What an entry of a pack begins with: the number of its kind, and its size."""
    first, size_bytes = (number << 4) | (size_bytes & 15), size_bytes >> 4
    head = bytearray()
    while size_bytes:
        head.append(first | 0x80)
        first, size_bytes = size_bytes & 0x7F, size_bytes >> 7
    return bytes([*head, first])


def make_entry(number: int, size_bytes: int, content: bytes, base: bytes = b"") -> bytes:
    """One entry of a pack: `content` is compressed; `base` is what a delta refers to."""
    return make_head(number, size_bytes) + base + zlib.compress(content)


def make_pack(entries: Sequence[bytes], count: int | None = None) -> bytes:
    head = b"PACK" + (2).to_bytes(4, "big") + (len(entries) if count is None else count).to_bytes(4, "big")
    body = head + b"".join(entries)
    return body + hashlib.sha1(body).digest()


def pack(objects: Sequence[Object]) -> bytes:
    unique = list(dict.fromkeys(objects))
    return make_pack([make_entry(KINDS[item.kind], len(item.content), item.content) for item in unique])


def bundle(refs: Mapping[str, str], content: bytes, prerequisites: Sequence[str] = ()) -> bytes:
    lines = [
        "# v2 git bundle",
        *(f"-{name} remark" for name in prerequisites),
        *(f"{name} {ref}" for ref, name in refs.items()),
        "",
        "",
    ]
    return "\n".join(lines).encode() + content


def bundle_of(tip: Object, objects: Sequence[Object], prerequisites: Sequence[str] = ()) -> bytes:
    """An honest bundle of `tip` with the other objects it needs."""
    return bundle({COMMIT_REF: tip.oid}, pack([tip, *objects]), prerequisites)


def varint(number: int) -> bytes:
    """A size as deltas have it: seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def copy_delta(base_bytes: int, copies: int, length: int) -> bytes:
    """A delta that copies the first `length` bytes of its base, `copies` times over."""
    step = bytes([0x80 | 0x10 | 0x20 | 0x40, length & 255, length >> 8 & 255, length >> 16])
    return varint(base_bytes) + varint(copies * length) + step * copies


async def make_repository(folder: Path, *, program: str = "git") -> tuple[ConfigRepository, str]:
    """An applied repo with its first config, and the commit of that."""
    repository = ConfigRepository(folder / "applied/worker", folder / "staging", program=program)
    return repository, await repository.ensure(FILES, AT)


def read_folder(folder: Path) -> dict[str, bytes]:
    """All files below a folder with their content; folders without files do not count."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_git(folder: Path, *arguments: str, stdin: bytes = b"", uid: int | None = None) -> str:
    """git as a manager's harness or shell runs it: as its uid, with nothing of this machine's settings."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_{what}": "manager" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    argv = [*as_user(uid), "git", *arguments]
    done = subprocess.run(argv, cwd=folder, env=environment, input=stdin, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("utf-8", "replace").strip()


def as_user(uid: int | None) -> list[str]:
    drop = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs", "--"]
    return [] if uid is None else drop
