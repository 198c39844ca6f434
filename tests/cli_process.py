"""The `hive` command as a program of its own, and what it asked of a fake hive."""

import os
import sys
from pathlib import Path

from fake_hive import FakeHive
from hyperhive.system.process import Completed, run


async def call(data: Path, *args: str, stdin: bytes = b"", **environment: str) -> Completed:
    """The real entry point, without a terminal, for the hive on `data`."""
    return await run(
        [sys.executable, "-m", "hyperhive.cli.main", *args],
        timeout_s=60,
        stdin=stdin,
        env=os.environ | {"HIVE_DATA": str(data)} | environment,
    )


def asked(hive: FakeHive) -> list[str]:
    return [f"{received.method} {received.path}" for received in hive.received]
