"""The doors of the daemon, watched: a function replaced wherever it is bound, and a file with each step through one.

A module that took a function by `from … import` has it for itself. Where the daemon is forked from a nursery, all of
them have been imported before: to replace it where it is defined would change nothing.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hyperhive.system import sqlite

# Kinds of steps: a program that is run, a transaction of the database, a folder that is moved.
PROGRAM, COMMIT, MOVE = "program", "commit", "move"


def replace_function(function: Callable[..., Any], by: Callable[..., Any]) -> None:
    """Puts `by` into the place of `function` in every module of the program, imported already or later."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "hyperhive":
            for key in [key for key, value in vars(module).items() if value is function]:
                setattr(module, key, by)


def watch_commits(step: Callable[[str, str], None]) -> None:
    """Has `step` told of each transaction of a database, before it and after it; by the thread that writes."""
    commit = sqlite.Writer._commit  # pyright: ignore[reportPrivateUsage]

    def watched(self: sqlite.Writer, batch: Any) -> None:
        step(COMMIT, "before")
        commit(self, batch)
        step(COMMIT, "after")

    sqlite.Writer._commit = watched  # pyright: ignore[reportPrivateUsage]


def render_step(number: int, kind: str, what: str) -> str:
    return f"{number} {kind} {what}\n"


def read_kinds(steps_file: Path) -> list[str]:
    """The kind of each step that was written to a file, in order."""
    return [line.split(" ", 2)[1] for line in steps_file.read_text(errors="replace").splitlines()]
