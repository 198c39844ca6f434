"""The variables of a NixOS container: the file that its harness has them from, and those of other commands."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from hyperhive.host.drivers.protocol import DriverError
from hyperhive.system.files import write_atomically

# Where nix/harness-base.nix has the harness's unit read it.
ENVIRONMENT_FILE = Path("/run/hyperhive/environment")
# There are no programs in the usual places: these are for the system to say, by the unit of the harness.
_SYSTEM = {"PATH": "/run/current-system/sw/bin:/usr/bin:/bin", "SHELL": "/run/current-system/sw/bin/bash"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What a shell, and systemd like it, would read otherwise between double quotes.
_SPECIAL = re.compile(r'[\\"$`]')


def plan_inner_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What a command run beside the harness has."""
    return {**environment, **_SYSTEM}


def render_environment(environment: Mapping[str, str]) -> str:
    """The variables but for the system's, in the form of systemd's EnvironmentFile (see systemd.exec(5)).

    Raises DriverError for what cannot be written so: names that are none, and text that no program could be given.
    """
    lines: list[str] = []
    for name, value in sorted(environment.items()):
        if name in _SYSTEM:
            continue
        if not _NAME.fullmatch(name) or not _is_text(value):
            raise DriverError(f"the variable {name[:80]!r} cannot be set", "see `environment` in its config")
        escaped = _SPECIAL.sub(lambda found: "\\" + found.group(), value)
        lines.append(f'{name}="{escaped}"\n')
    return "".join(lines)


def write_environment(path: Path, environment: Mapping[str, str], uid: int) -> None:
    """Writes that file, for `uid` alone to read. Raises OSError, and DriverError like `render_environment`."""
    content = render_environment(environment).encode()
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, content, 0o400)
    os.chown(path, uid, uid)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value
