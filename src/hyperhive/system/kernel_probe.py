"""What this kernel lets root do for containers: `python -I -S kernel_probe.py FOLDER` prints it as JSON.

By each feature's name why it cannot be used, empty if it can: user namespaces, overlayfs, id-mapped mounts of what is
at FOLDER. Each is tried, and nothing is left of it: what is mounted is attached nowhere and ends with this process.

A process of its own, as one with threads cannot make a user namespace. Stdlib only, without the package.
"""

import json
import os
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hyperhive.system import mount_calls as calls
else:
    # By its path: the package is not on that of this program, nor is this folder, where files are named as they like.
    calls = ModuleType("mount_calls")
    SourceFileLoader(calls.__name__, str(Path(__file__).with_name("mount_calls.py"))).exec_module(calls)

# include/uapi/linux/mount.h; the system call has the same number on every architecture.
_SYS_FSOPEN = 430
_FSOPEN_CLOEXEC = 1
# The first of a range of ids that no agent is given.
_FIRST_UID = 1887436800


def observe(folder: str) -> dict[str, str]:
    """Why each feature cannot be used, empty if it can."""
    reasons = {"user namespaces": "", "overlayfs": "", "id-mapped mounts": ""}
    try:
        opened = calls.libc.syscall(_SYS_FSOPEN, b"overlay", _FSOPEN_CLOEXEC)
        calls.check(opened, "overlay")
        os.close(opened)
    except OSError as error:
        reasons["overlayfs"] = _explain(error)
    try:
        namespace = calls.make_user_namespace(_FIRST_UID)
    except OSError as error:
        reasons["user namespaces"] = _explain(error)
        reasons["id-mapped mounts"] = "they take a user namespace"
        return reasons
    try:
        os.close(calls.copy_tree(folder, 0, namespace))
    except OSError as error:
        reasons["id-mapped mounts"] = _explain(error)
    return reasons


def _explain(error: OSError) -> str:
    return error.strerror or str(error)


if __name__ == "__main__":
    print(json.dumps(observe(sys.argv[1])))
