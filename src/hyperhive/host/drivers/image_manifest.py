"""What an image is made of, and how one tells that nobody changed it since.

Beside its tree (`root`) an image has `manifest.json` and `tree`: a line for each entry, whose digest is in the
manifest, as is the manifest's own. That shows accidents and slips; whoever is root on the host can rewrite all three.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from hyperhive.host.drivers.protocol import DriverError
from hyperhive.system.files import write_atomically

MANIFEST = "manifest.json"
TREE = "tree"
ROOT = "root"

# Shown of what was changed.
_SHOWN_PATHS = 3
IN_LIST = "in its list of files"
_OPAQUE = b"trusted.overlay.opaque"


@dataclass(frozen=True, slots=True)
class Manifest:
    """`made_from` is what was asked for and gives the image its id; the rest is what came of it.

    `versions` are the exact ones of all packages that a container with this image has, `tree` is the digest of the
    file of that name, `built_at` an instant in ISO 8601.
    """

    id: str
    kind: str
    made_from: Mapping[str, Any]
    versions: Mapping[str, str]
    tree: str
    size_bytes: int
    built_at: str

    @property
    def digest(self) -> str:
        return digest_value(asdict(self))


class ChangeKind(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of a tree that is not as it was when the image was built. Of `path` all is ASCII."""

    path: str
    kind: ChangeKind


def digest_value(value: object) -> str:
    """The digest of anything that JSON can say; of equal values it is equal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def save_manifest(folder: Path, manifest: Manifest, lines: list[str]) -> None:
    """Writes both files of the image in `folder`. Raises OSError."""
    write_atomically(folder / TREE, _join(lines), 0o600)
    content = {**asdict(manifest), "digest": manifest.digest}
    write_atomically(folder / MANIFEST, json.dumps(content, indent=1, sort_keys=True).encode(), 0o600)


def find_manifest(folder: Path) -> Manifest | None:
    """The manifest of the image in `folder`, which was compared with its own digest; None if there is no image.

    Raises DriverError if it was changed or cannot be read.
    """
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
        digest = content.pop("digest")
        manifest = Manifest(**content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DriverError(f"the manifest of the image {folder.name} cannot be read", render_hint(folder)) from error
    if manifest.digest != digest or manifest.id != folder.name:
        raise DriverError(f"the manifest of the image {folder.name} was changed", render_hint(folder))
    return manifest


def check_tree(folder: Path, manifest: Manifest) -> None:
    """Reads the whole tree. Raises DriverError that names what was changed since the image was built."""
    changes = find_changes(folder, manifest)
    if changes is None:
        return
    shown = ", ".join(change.path for change in changes[:_SHOWN_PATHS]) + (", …" if len(changes) > _SHOWN_PATHS else "")
    raise DriverError(f"the image {folder.name} was changed: {shown or IN_LIST}", render_hint(folder))


def find_changes(folder: Path, manifest: Manifest) -> list[Change] | None:
    """What differs in the whole tree, by path; None if nothing does, and an empty list if that is not known.

    It is not when the list of files was changed, too. Raises DriverError if the tree cannot be read.
    """
    try:
        lines, _ = scan_tree(folder / ROOT)
    except OSError as error:
        raise DriverError(f"the image {folder.name} cannot be read: {error}", render_hint(folder)) from error
    if digest_lines(lines) == manifest.tree:
        return None
    try:
        before = (folder / TREE).read_text().splitlines()
    except (OSError, ValueError):
        before = []
    if digest_lines(before) != manifest.tree:
        return []
    was, there = set(before), set(lines)
    gone = {_path_of(line) for line in was - there}
    new = {_path_of(line) for line in there - was}
    return [Change(path, _name_change(path in gone, path in new)) for path in sorted(gone | new)]


def _name_change(was: bool, there: bool) -> ChangeKind:
    if was and there:
        return ChangeKind.CHANGED
    return ChangeKind.REMOVED if was else ChangeKind.ADDED


def render_hint(folder: Path) -> str:
    """What to do about an image that cannot be trusted any more."""
    return f"rm -r {folder}: it is built anew when it is needed"


def digest_lines(lines: list[str]) -> str:
    return hashlib.sha256(_join(lines)).hexdigest()


def scan_tree(root: Path) -> tuple[list[str], int]:
    """A line for each entry of the tree, its root first, and the bytes that they take on the disk. Raises OSError.

    A line has type, mode, owner, group, what it holds (a digest, a link's target, whether a folder hides the one
    below it) and the path. Whiteouts of a layer are entries, too.
    """
    lines: list[str] = []
    size_bytes = 0
    seen: set[int] = set()
    top = len(os.fsencode(root)) + 1
    for path, status in _walk(os.fsencode(root)):
        owner = f"{stat.S_IMODE(status.st_mode):o} {status.st_uid} {status.st_gid}"
        lines.append(f"{_render_content(path, status)} {owner} {_render_name(path[top:] or b'.')}")
        if status.st_ino not in seen:
            size_bytes += status.st_blocks * 512
        if status.st_nlink > 1:
            seen.add(status.st_ino)
    return lines, size_bytes


def is_whiteout(status: os.stat_result) -> bool:
    """Whether an entry of a layer says that what is below it is not there."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def parse_versions(status: str) -> dict[str, str]:
    """The version of each package that is installed, from the text of dpkg's status file."""
    versions: dict[str, str] = {}
    for stanza in status.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in stanza.splitlines() if line[:1] not in {"", " ", "\t"} and ": " in line
        )
        if fields.get("Status", "").endswith(" installed") and "Package" in fields:
            versions[fields["Package"]] = fields.get("Version", "")
    return versions


def _walk(root: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    yield root, os.lstat(root)
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            yield entry.path, status
            if stat.S_ISDIR(status.st_mode):
                pending.append(entry.path)


def _render_content(path: bytes, status: os.stat_result) -> str:
    mode = status.st_mode
    if stat.S_ISREG(mode):
        return f"file {_digest_file(path)}"
    if stat.S_ISLNK(mode):
        return f"link {_render_name(os.readlink(path))}"  # noqa: PTH115 - of bytes
    if stat.S_ISDIR(mode):
        return f"folder {'hides' if _is_opaque(path) else '-'}"
    return "gone -" if is_whiteout(status) else f"other {stat.S_IFMT(mode):o}-{status.st_rdev}"


def _render_name(name: bytes) -> str:
    """Any bytes as one word of ASCII: what stands there is shown to people."""
    return json.dumps(name.decode("latin-1")).replace(" ", "\\u0020")


def _digest_file(path: bytes) -> str:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - half the time of a pathlib.Path, for thousands
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_opaque(path: bytes) -> bool:
    try:
        return os.getxattr(path, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def _path_of(line: str) -> str:
    return line.rsplit(" ", 1)[1][1:-1].replace("\\u0020", " ")


def _join(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
