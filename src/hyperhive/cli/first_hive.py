"""The command `import-first-hive`: a data folder of the first hive, taken over without a daemon."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from hyperhive.cli.console import JsonOption
from hyperhive.cli.hive import Data
from hyperhive.cli.own_hand import check_own_hand

commands = typer.Typer()


@commands.command(name="import-first-hive")
def import_first_hive(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The data folder of the first hive.")],
    data: Data = None,
    with_credentials: Annotated[bool, typer.Option("--with-credentials", help="With agents' logins.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be taken over.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take agents, messages, approvals and questions over from a first hive; nothing is changed in DIR."""
    if not dry_run:
        check_own_hand(f"hive import-first-hive {folder}")
    given = {"--with-credentials": with_credentials, "--dry-run": dry_run, "--json": as_json}
    flags = [flag for flag, is_given in given.items() if is_given] + ([] if data is None else [f"--data={data}"])
    sys.stdout.flush()
    # -P: a Python file in the folder this was called from is not a module of ours.
    program = [sys.executable, "-P", "-m", "hyperhive.host.first_hive.main", *flags, "--", str(folder)]
    os.execv(sys.executable, program)  # noqa: S606
