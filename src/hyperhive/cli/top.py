"""`hive top`: the hive on a terminal, live."""

import os
import sys

import typer

from hyperhive.cli.client import find_hive
from hyperhive.core.errors import InvalidInputError

commands = typer.Typer()


@commands.command()
def top() -> None:
    """Watch the agents, what needs you and what is said, live; pause, resume, start and stop from there."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidInputError("this needs a terminal", "`hive ps --json` and `hive needs --json` are for programs")
    # Without a hive there is nothing to watch: that is said before the screen is taken.
    find_hive().get("/api/hive")
    # A program of its own: what draws it takes twice as long to load as all other commands.
    # -P: a Python file in the folder this was called from is not a module of ours.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "hyperhive.cli.top_view.main"])  # noqa: S606
