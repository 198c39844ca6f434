"""The `hive` command. Exit status: 0 done, 1 refused or failed, 2 wrong use, 3 no hive is running.

`hive policy check` has one more, see `cli.policy`.
"""

import io
import os
import sys

import typer

from hyperhive.cli import (
    agents,
    approvals,
    audit,
    backup,
    budgets,
    completion,
    configs,
    devices,
    drafts,
    egress,
    files,
    first_hive,
    flow,
    hive,
    images,
    install,
    journal,
    login,
    mcp,
    messages,
    needs,
    notes,
    notifier,
    policy,
    quotas,
    reminders,
    shell,
    snapshots,
    stats,
    tokens,
    top,
    turns,
    uninstall,
    webhooks,
)
from hyperhive.cli.client import NoHiveError
from hyperhive.cli.console import show_error
from hyperhive.core.errors import HiveError

REFUSED = 1
NO_HIVE = 3

app = typer.Typer(
    name="hive",
    help="Runs and steers a swarm of Claude Code agents. HIVE_DATA names the data folder.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for group in (
    *(hive, agents, login, messages, approvals, configs, policy, stats, drafts, turns, budgets, egress, notes),
    *(quotas, images),
    *(journal, files, shell, completion, snapshots),
    *(reminders, needs, devices, notifier, mcp, flow, tokens, top, webhooks, backup, audit),
    *(install, uninstall, first_hive),
):
    app.add_typer(group.commands)


def main() -> None:
    # A character that the locale cannot write is shown by its number; it is no reason to fail.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if completion.VARIABLE in os.environ:
        completion.prepare()
    try:
        app(prog_name=completion.PROGRAM)
    except NoHiveError as error:
        show_error(error)
        sys.exit(NO_HIVE)
    except HiveError as error:
        show_error(error)
        sys.exit(REFUSED)


if __name__ == "__main__":
    main()
