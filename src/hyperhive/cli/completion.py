"""Completion in shells: the command that prints the script for one, and what is offered for names.

While a name is completed nothing is printed but names: a hive that is down, slow or another's offers none.
"""

import re
from enum import StrEnum
from typing import Annotated, Any

import typer
from typer.completion import get_completion_inspect_parameters, shell_complete

from hyperhive.cli.client import Client, decide_own_roots
from hyperhive.core.errors import HiveError

# The one at the keyboard waits for this.
COMPLETION_TIMEOUT_S = 0.5
PROGRAM = "hive"
# Set by the script in the shell, to what it wants to know.
VARIABLE = "_HIVE_COMPLETE"
# A name that is offered is typed into a command line.
_PLAIN = re.compile(r"[a-z0-9-]{1,63}", re.ASCII)

commands = typer.Typer()


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@commands.command()
def completion(
    context: typer.Context, shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]
) -> None:
    """Print what makes a shell complete commands, options and agents' names."""
    prepare()
    raise typer.Exit(shell_complete(context.find_root().command, {}, PROGRAM, VARIABLE, f"source_{shell}"))


def prepare() -> None:
    """Has typer know the shells: it does that by itself only for commands with its own options for it."""
    get_completion_inspect_parameters()


def complete_agents(incomplete: str) -> list[str]:
    """Names of agents that begin with `incomplete`."""
    return _list_names("/api/agents", incomplete)


def complete_kept(incomplete: str) -> list[str]:
    """Names of destroyed agents that begin with `incomplete`."""
    return _list_names("/api/kept", incomplete)


def complete_drafts(incomplete: str) -> list[str]:
    """Names of drafts that begin with `incomplete`."""
    return _list_names("/api/drafts", incomplete)


def _list_names(path: str, incomplete: str) -> list[str]:
    try:
        rows: list[dict[str, Any]] = Client(decide_own_roots(None), timeout_s=COMPLETION_TIMEOUT_S).get_rows(path)
    except (HiveError, OSError):
        return []
    names = [str(row.get("name")) for row in rows]
    return [name for name in names if name.startswith(incomplete) and _PLAIN.fullmatch(name)]
