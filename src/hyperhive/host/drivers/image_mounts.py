"""Which images are mounted somewhere on this machine: what a container runs on must not go away below it."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from hyperhive.host.drivers.image_manifest import ROOT

_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class _Mount:
    """A line of mountinfo: `inner` is the folder that is mounted as its own file system names it, `point` where."""

    device: str
    inner: Path
    point: Path


def find_mounted(folder: Path, image_ids: Collection[str], proc: Path = Path("/proc")) -> set[str]:
    """Those of the images in `folder` whose trees are mounted for any process, whichever hive's.

    By what the kernel says, not by what some daemon remembers: a container outlives those. Looks as root. Raises
    OSError if this process cannot see its own mounts.
    """
    device, inner = _locate(folder.resolve(), (proc / "self/mountinfo").read_text("utf-8", "replace"))
    wanted = {inner / image_id / ROOT: image_id for image_id in image_ids}
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    for process in proc.glob("[0-9]*"):
        try:
            # What lies outside of a process's root it is not told.
            view = str((process / "ns/mnt").readlink()), str((process / "root").readlink())
            if view in seen:
                continue
            text = (process / "mountinfo").read_text("utf-8", "replace")
        except OSError:
            # It has ended.
            continue
        seen.add(view)
        found |= {wanted[mount.inner] for mount in _parse(text) if mount.device == device and mount.inner in wanted}
    return found


def _locate(folder: Path, mounts: str) -> tuple[str, Path]:
    """The file system that a folder is on, and its name there: images of one id may be in several folders."""
    around = [mount for mount in _parse(mounts) if folder.is_relative_to(mount.point)]
    if not around:
        raise FileNotFoundError(f"nothing is mounted where {folder} is")
    # Of several at one place the last one is seen.
    deepest = max(enumerate(around), key=lambda one: (len(one[1].point.parts), one[0]))[1]
    return deepest.device, deepest.inner / folder.relative_to(deepest.point)


def _parse(mounts: str) -> Iterator[_Mount]:
    for line in mounts.splitlines():
        fields = line.split(" ", 5)
        if len(fields) > 5:
            yield _Mount(fields[2], Path(_unescape(fields[3])), Path(_unescape(fields[4])))


def _unescape(text: str) -> str:
    """Of spaces and the like the kernel writes the number."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)
