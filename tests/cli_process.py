"""The `hive` command as a program of its own, and what it asked of a fake hive."""

import os
import sys
from pathlib import Path

from fake_hive import FakeHive
from hyperhive.cli.own_hand import CLAUDE_VARIABLE
from hyperhive.system.process import Completed, run


async def call(data: Path, *args: str, stdin: bytes = b"", **environment: str) -> Completed:
    """The real entry point, without a terminal, for the hive on `data`."""
    return await run(
        [sys.executable, "-m", "hyperhive.cli.main", *args],
        timeout_s=60,
        stdin=stdin,
        env=make_environment(data) | environment,
    )


async def call_on_nixos(data: Path, *args: str, **environment: str) -> Completed:
    """The same on a machine that says of itself that it is a NixOS. Needs root."""
    (data / "etc").mkdir(exist_ok=True)
    (data / "etc/NIXOS").touch()
    # In a mount namespace of its own.
    laid = f'mount -t overlay -o "lowerdir={data}/etc:/etc" overlay /etc && exec "$@"'
    return await run(
        ["unshare", "--mount", "sh", "-ec", laid, "sh", sys.executable, "-m", "hyperhive.cli.main", *args],
        timeout_s=60,
        env=make_environment(data) | environment,
    )


def make_environment(data: Path) -> dict[str, str]:
    """The command's environment, for the hive on `data`."""
    return _own_environment() | {"HIVE_DATA": str(data)}


def _own_environment() -> dict[str, str]:
    """This process's own, as if no claude ran the tests: under one the command refuses to decide anything."""
    return {name: value for name, value in os.environ.items() if name != CLAUDE_VARIABLE}


def asked(hive: FakeHive) -> list[str]:
    return [f"{received.method} {received.path}" for received in hive.received]
