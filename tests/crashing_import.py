"""`hive import-first-hive`, made to die of SIGKILL at its k-th effect: `crashing_import.py STEPS_FILE CRASH_AT FLAGS`.

An effect is a program that is run, a transaction of the database, or a folder that is moved into its place. A step is
the moment before each of them, and after a transaction. See `doors.py`.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from doors import MOVE, PROGRAM, render_step, replace_function, watch_commits
from hyperhive.host.first_hive import main
from hyperhive.system import process

_steps_file = Path(sys.argv[1])
_crash_at = int(sys.argv[2])
_count = 0


def step(kind: str, what: str) -> None:
    global _count
    _count += 1
    with _steps_file.open("a") as file:
        file.write(render_step(_count, kind, what))
    if _count == _crash_at:
        os.kill(os.getpid(), signal.SIGKILL)


def watched(function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(argv: Any, **options: Any) -> Any:
        step(PROGRAM, " ".join(" ".join(str(part) for part in argv).split())[-100:])
        return await function(argv, **options)

    return call


def watched_rename(rename: Callable[..., Path]) -> Callable[..., Path]:
    def call(path: Path, target: Path) -> Path:
        step(MOVE, f"{path.name} to {target}")
        return rename(path, target)

    return call


replace_function(process.run, watched(process.run))
watch_commits(step)
Path.rename = watched_rename(Path.rename)  # type: ignore[method-assign]  # pyright: ignore[reportAttributeAccessIssue]

sys.argv = ["hive", *sys.argv[3:]]
main.main()
