"""The unit of a NixOS container, `container@NAME.service`, as the hive wants it: by a drop-in.

It is below /run: nothing of it is left after the machine's start, and it has to be written before the container's.
"""

import contextlib
import re
from pathlib import Path

from hyperhive.core.limits import Limits
from hyperhive.host.drivers.protocol import DriverError
from hyperhive.system.cgroup_scopes import SYSTEMD_RUNS, render_properties
from hyperhive.system.files import write_atomically
from hyperhive.system.process import DETACHED_OOM_SCORE

_FILE = "50-hyperhive.conf"
# As nixos-container has them.
_MACHINE = re.compile(r"[a-zA-Z0-9_-]{1,11}")
# Why, line by line:
# - How often it is started, and whether again, is the hive's to say: also when the system inside asks for a reboot,
#   which is the status that the unit would start it again for, whatever Restart= says.
# - NixOS' unit does without a conf that cannot be read, and the container would be in the host's network with the
#   host's uids: it is not to start then.
# - What the kernel kills for memory inside is the affair of the system inside. When the machine itself is short of
#   memory, agents go before what serves them.
# - No calls of another processor's kind, and no sockets that know no network namespace, see `seccomp.py`.
_SETTINGS = f"""\
[Unit]
StartLimitIntervalSec=0

[Service]
EnvironmentFile=
EnvironmentFile=/etc/nixos-containers/%i.conf
Restart=no
RestartForceExitStatus=
OOMPolicy=continue
OOMScoreAdjust={DETACHED_OOM_SCORE}
SystemCallArchitectures=native
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
"""


def find_unit(machine: str) -> str:
    """The name of a NixOS container's unit. Raises DriverError for what cannot be the name of one."""
    if not _MACHINE.fullmatch(machine):
        raise DriverError(f"{machine[:80]!r} is not the name of a NixOS container")
    return f"container@{machine}.service"


def render_drop_in(limits: Limits) -> str:
    """The content of the drop-in. A limit that is not set is the unit's own."""
    return _SETTINGS + "".join(f"{setting}\n" for setting in render_properties(limits))


def write_drop_in(machine: str, limits: Limits, units: Path = SYSTEMD_RUNS) -> bool:
    """Puts the drop-in in place below the folder `units`; says whether that changed it: systemd has to be told then.

    Raises DriverError; what was there is then as it was.
    """
    path, content = _find_drop_in(machine, units), render_drop_in(limits).encode()
    try:
        path.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if path.read_bytes() == content:
                return False
        write_atomically(path, content, 0o644)
    except OSError as error:
        raise DriverError(
            f"{path} cannot be written: {error.strerror}", "does systemd run here, and is it root?"
        ) from error
    return True


def remove_drop_in(machine: str, units: Path = SYSTEMD_RUNS) -> bool:
    """Removes the drop-in, and its folder if it was alone there; says whether it was there. Raises DriverError."""
    path = _find_drop_in(machine, units)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DriverError(f"{path} cannot be removed: {error.strerror}", "is it root?") from error
    # Somebody else's drop-ins stay.
    with contextlib.suppress(OSError):
        path.parent.rmdir()
    return True


def _find_drop_in(machine: str, units: Path) -> Path:
    return units / f"{find_unit(machine)}.d" / _FILE
