"""The daemon, made to wait: `python held_daemon.py HOLD_FILE FLAGS`. While HOLD_FILE is there, it starts no container.

What it is at work on stays where it is so long, for a test to interfere.
"""

import asyncio
import runpy
import sys
from pathlib import Path
from typing import Any

from doors import replace_function
from hyperhive.system import process

_hold_file = Path(sys.argv[1])
_start_detached = process.start_detached


async def start_when_let(argv: Any, **options: Any) -> None:
    while _hold_file.exists():
        await asyncio.sleep(0.02)
    await _start_detached(argv, **options)


replace_function(_start_detached, start_when_let)

if __name__ == "__main__":
    sys.argv = ["hived", *sys.argv[2:]]
    runpy.run_module("hyperhive.host.main", run_name="__main__", alter_sys=True)
