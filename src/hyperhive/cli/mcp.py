"""`hive mcp`: the hive's tools for the operator's own Claude Code."""

import os
import sys

import typer

from hyperhive.core.errors import InvalidInputError

commands = typer.Typer()


@commands.command()
def mcp() -> None:
    """Serve the hive's tools to your own Claude Code, on standard input and output.

    Claude starts it by itself once it was told: claude mcp add hive -- hive mcp
    """
    if sys.stdin.isatty():
        raise InvalidInputError("this speaks to a program, not to a person", "claude mcp add hive -- hive mcp")
    # A program of its own: what it needs takes several times as long to load as all other commands.
    # -P: a Python file in the folder this was called from is not a module of ours.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "hyperhive.cli.mcp_server.main"])  # noqa: S606
