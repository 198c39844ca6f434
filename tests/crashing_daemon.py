"""The daemon, made to die of SIGKILL at its k-th effect: `python crashing_daemon.py STEPS_FILE CRASH_AT [FLAGS]`.

An effect is a call through one of the doors: a process that is run (git, bubblewrap, rm), one that is started
detached, a transaction of the database. A git that only reads is none: who dies before it leaves what he would have
left at the step before. A step is the moment before each of them, and for a transaction, which
answers whoever waits, also the moment after it. Steps are counted as long as the file STEPS_FILE is there, and the
daemon kills itself at step CRASH_AT (0: never). They are written to the file, a line each, to see where it died.
See `doors.py`.
"""

import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from doors import PROGRAM, render_step, replace_function, watch_commits
from hyperhive.system import process

# Of git's commands, those that change nothing.
_READERS = {"cat-file", "diff-tree", "for-each-ref", "log", "ls-tree", "merge-base", "rev-list"}

_steps_file = Path(sys.argv[1])
_crash_at = int(sys.argv[2])
_count = 0
_lock = threading.Lock()


def step(kind: str, what: str) -> None:
    global _count
    with _lock:
        try:
            # Not made here: without the file nothing is counted.
            handle = os.open(_steps_file, os.O_WRONLY | os.O_APPEND)
        except FileNotFoundError:
            return
        _count += 1
        os.write(handle, render_step(_count, kind, what).encode())
        os.close(handle)
        if _count == _crash_at:
            os.kill(os.getpid(), signal.SIGKILL)


def watched(function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(argv: Any, **options: Any) -> Any:
        words = [str(part) for part in argv]
        if "git" not in words or _READERS.isdisjoint(words):
            # A line each, whatever is said in it.
            step(PROGRAM, " ".join(" ".join(words).split())[-160:])
        return await function(argv, **options)

    return call


for door in (process.run, process.start_detached):
    replace_function(door, watched(door))
watch_commits(step)

if __name__ == "__main__":
    sys.argv = ["hived", *sys.argv[3:]]
    runpy.run_module("hyperhive.host.main", run_name="__main__", alter_sys=True)
