"""How many terminals what runs in a container may have open at once.

The machine has some thousand for all containers together, and no control group counts them: one container that opens
all it can would leave no other one a terminal. The kernel bounds them for each mount of `devpts` on its own.
"""

import ctypes
import os
from pathlib import Path

# Those of a person at work, of a multiplexer, and of programs that want one; fifty containers may have as many.
TERMINALS_LIMIT = 64
_PLACE = "/dev/pts"

# include/uapi/linux/mount.h; the same numbers on every architecture.
_SYS_FSCONFIG, _SYS_FSPICK = 431, 433
_FSPICK_CLOEXEC = 1
_SET_STRING, _RECONFIGURE = 1, 7

_libc = ctypes.CDLL(None, use_errno=True)


def limit_terminals(pid: int, most: int = TERMINALS_LIMIT) -> None:
    """Bounds the terminals of the mount that a process of this machine sees at /dev/pts.

    Takes the privileges of root. Raises OSError: for want of them, without a mount of its own there, or if the process
    has ended.
    """
    path = Path(f"/proc/{pid}/root{_PLACE}")
    device = path.stat().st_dev
    if device == Path(_PLACE).stat().st_dev:
        raise FileNotFoundError(f"process {pid} has only this machine's terminals")
    options = _find_options(pid, device)
    mount = _check(_libc.syscall(_SYS_FSPICK, -100, os.fsencode(path), _FSPICK_CLOEXEC))
    try:
        # What is not said again would be as it is by default.
        for key, value in {**options, "max": str(most)}.items():
            _check(_libc.syscall(_SYS_FSCONFIG, mount, _SET_STRING, key.encode(), value.encode(), 0))
        _check(_libc.syscall(_SYS_FSCONFIG, mount, _RECONFIGURE, None, None, 0))
    finally:
        os.close(mount)


def _find_options(pid: int, device: int) -> dict[str, str]:
    """Those that the mount of that device has; their numbers are this machine's. Raises OSError."""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        mounted, _, made = line.partition(" - ")
        kind, _, options = made.split(" ")
        if mounted.split(" ")[2] == number and kind == "devpts":
            return dict(pair.split("=", 1) for pair in options.split(",") if "=" in pair)
    raise FileNotFoundError(f"process {pid} has no terminals of its own")


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), _PLACE)
    return result
