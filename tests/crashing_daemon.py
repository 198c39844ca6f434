"""The daemon, made to die of SIGKILL at its k-th effect: `python crashing_daemon.py STEPS_FILE CRASH_AT [FLAGS]`.

An effect is a call through one of the doors: a process that is run (git, bubblewrap, rm), one that is started
detached, a transaction of the database. A step is the moment before each of them, and for a transaction, which
answers whoever waits, also the moment after it. Steps are counted as long as the file STEPS_FILE is there, and the
daemon kills itself at step CRASH_AT (0: never). They are written to the file, a line each, to see where it died.
"""

import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hyperhive.system import process, sqlite

_steps_file = Path(sys.argv[1])
_crash_at = int(sys.argv[2])
_count = 0
_lock = threading.Lock()


def step(what: str) -> None:
    global _count
    with _lock:
        try:
            # Not made here: without the file nothing is counted.
            handle = os.open(_steps_file, os.O_WRONLY | os.O_APPEND)
        except FileNotFoundError:
            return
        _count += 1
        os.write(handle, f"{_count} {what}\n".encode())
        os.close(handle)
        if _count == _crash_at:
            os.kill(os.getpid(), signal.SIGKILL)


def watched(function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(argv: Any, **options: Any) -> Any:
        step(" ".join(str(part) for part in argv)[-160:])
        return await function(argv, **options)

    return call


def watched_commit(commit: Callable[..., None]) -> Callable[..., None]:
    def call(writer: sqlite.Writer, batch: Any) -> None:
        step("before commit")
        commit(writer, batch)
        step("after commit")

    return call


process.run = watched(process.run)
process.start_detached = watched(process.start_detached)
sqlite.Writer._commit = watched_commit(sqlite.Writer._commit)  # pyright: ignore[reportPrivateUsage]

if __name__ == "__main__":
    sys.argv = ["hived", *sys.argv[3:]]
    runpy.run_module("hyperhive.host.main", run_name="__main__", alter_sys=True)
