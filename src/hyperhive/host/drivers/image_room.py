"""Runs one step of building an image: `python -I -S image_room.py MODE ARGUMENTS… -- COMMAND…`.

It is the first process of a pid namespace and alone in a mount namespace, both made by `unshare` before: whatever is
mounted here nobody else sees, and however this ends, all that it started ends with it. The modes:

- `run`: the command, nothing else.
- `fetch STATE CACHE DPKG`: the host's apt with these folders in the place of its own, where the user that apt fetches
  as can reach them, and so that nothing of the host's own state is read or changed.
- `install LOWER UPPER WORK LOW ROOT UID`: at ROOT stands what LOWER and UPPER are together, seen by the user
  namespace whose uid 0 is UID; LOWER itself is read-only, and its files belong to uid 0.

Stdlib only, without the package.
"""

import os
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hyperhive.system import mount_calls as calls
else:
    # By its path: the package is not on that of this program, nor is its folder, where files are named as they like.
    calls = ModuleType("mount_calls")
    SourceFileLoader(calls.__name__, str(Path(__file__).parents[2] / "system/mount_calls.py")).exec_module(calls)

_CONTAINERS = "/run/systemd/nspawn"
# What becomes a layer must be readable under any mount: without the features that tie it to this one.
_OVERLAY_OPTIONS = "redirect_dir=off,metacopy=off,index=off"

# Said on standard error with CANNOT_MAKE, so that it is not taken for the command's own status.
COMPLAINT = "image_room: the folders cannot be mounted"
CANNOT_MAKE = 125


def main(arguments: list[str]) -> int:
    """The exit status of the command; 128 + N if signal N ended it."""
    separator = arguments.index("--")
    mode, *places = arguments[:separator]
    command = arguments[separator + 1 :]
    try:
        if mode == "fetch":
            _mount_state(*places)
        elif mode == "install":
            lower, upper, work, low, root, uid = places
            _mount_root(lower, upper, work, low, root, int(uid))
            _hide_containers()
    except OSError as error:
        print(f"{COMPLAINT}: {error}", file=sys.stderr)
        return CANNOT_MAKE
    # Not by exec: programs behave otherwise as the first process.
    status = subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode
    return status if status >= 0 else 128 - status


def _mount_state(state: str, cache: str, dpkg: str) -> None:
    for source, target in ((state, "/var/lib/apt"), (cache, "/var/cache/apt"), (dpkg, "/var/lib/dpkg")):
        calls.mount(source, target, None, calls.MS_BIND)


def _mount_root(lower: str, upper: str, work: str, low: str, root: str, uid: int) -> None:
    namespace = calls.make_user_namespace(uid)
    try:
        calls.bind(lower, low, calls.ATTR_RDONLY | calls.ATTR_NOSUID | calls.ATTR_NODEV, namespace)
    finally:
        os.close(namespace)
    options = f"lowerdir={low},upperdir={upper},workdir={work},{_OVERLAY_OPTIONS}"
    calls.mount("overlay", root, "overlay", calls.MS_NOSUID | calls.MS_NODEV, options)


def _hide_containers() -> None:
    """What systemd-nspawn notes of its containers is not the host's: so nothing of it is left there."""
    Path(_CONTAINERS).mkdir(parents=True, exist_ok=True)
    calls.mount("tmpfs", _CONTAINERS, "tmpfs", calls.MS_NOSUID | calls.MS_NODEV, "mode=0755,size=1m")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
