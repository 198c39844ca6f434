"""`hive shell`: a shell in an agent's container."""

import contextlib
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from hyperhive.cli.client import Client, Row, find_hive, parse_row
from hyperhive.cli.completion import complete_agents
from hyperhive.cli.console import JsonOption, observe_screen, show, show_json
from hyperhive.cli.own_hand import check_own_shell
from hyperhive.cli.prefixes import get_by_prefix
from hyperhive.cli.raw_tty import observe_size, raw_keyboard, signals_as_bytes
from hyperhive.cli.rendering import Column, Screen, field, render_age, render_table
from hyperhive.cli.shell_session import KeyboardSession, Outcome, PipeSession
from hyperhive.cli.terminal_link import Ended, TerminalLink, open_link
from hyperhive.core.errors import HiveError
from hyperhive.core.names import parse_known_agent_name

commands = typer.Typer()


@commands.command()
def shell(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The agent.", autocompletion=complete_agents)],
    attach: Annotated[
        str | None, typer.Option("--attach", "-a", metavar="ID", help="Look at this open one; a prefix is enough.")
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="With --attach: look, and type nothing.")] = False,
    listing: Annotated[bool, typer.Option("--list", "-l", help="List the open ones instead.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Open a shell in an agent's container. `~.` at a line's start leaves, and the shell stays.

    What is piped in is typed into the shell, which then ends. The exit status is the shell's own.
    """
    _check_options(attach, read_only=read_only, listing=listing, as_json=as_json)
    agent = parse_known_agent_name(name)
    if not listing:
        check_own_shell(f"hive shell {agent}")
    hive = find_hive()
    if listing:
        rows = [row for row in _list_terminals(hive, agent) if not row.get("ended_at")]
        if as_json:
            show_json(rows)
        else:
            show(render_terminals(rows, agent, observe_screen()))
        return
    terminal_id = _open(hive, agent) if attach is None else find_terminal(_list_terminals(hive, agent), attach)
    outcome = _run(hive, agent, terminal_id, is_new=attach is None, read_only=read_only)
    _leave(outcome, agent, terminal_id)


def find_terminal(rows: list[Row], prefix: str) -> str:
    """The id of the one open terminal that begins with `prefix`. Raises NotFoundError."""
    ids = [str(row.get("id")) for row in rows if not row.get("ended_at")]
    return get_by_prefix(ids, prefix, "open terminal", "`hive shell NAME --list` shows them")


def render_terminals(rows: list[Row], agent: str, screen: Screen) -> str:
    if not rows:
        return f"no terminal of {agent} is open"
    columns = [
        Column("ID", lambda row: field(row, "id")[:12]),
        Column("SIZE", lambda row: f"{field(row, 'columns')}x{field(row, 'rows')}"),
        Column("OPENED", lambda row: render_age(field(row, "opened_at"), screen.now)),
        Column("BY", lambda row: field(row, "opened_by")),
        Column("VIEWERS", lambda row: field(row, "viewers")),
    ]
    return "\n".join([render_table(columns, rows, screen), "", screen.dim(f"hive shell {agent} --attach ID")])


def _check_options(attach: str | None, *, read_only: bool, listing: bool, as_json: bool) -> None:
    if read_only and attach is None:
        raise typer.BadParameter("--read-only looks at an open one: give its --attach ID")
    if listing and attach is not None:
        raise typer.BadParameter("give --list or --attach, not both")
    if as_json and not listing:
        raise typer.BadParameter("--json is for --list")


def _list_terminals(hive: Client, agent: str) -> list[Row]:
    return hive.get_rows(f"/api/agents/{agent}/terminals")


def _open(hive: Client, agent: str) -> str:
    columns, rows = observe_size()
    opened = parse_row(hive.post(f"/api/agents/{agent}/terminals", {"columns": columns, "rows": rows}))
    return field(opened, "id")


def _run(hive: Client, agent: str, terminal_id: str, *, is_new: bool, read_only: bool) -> Outcome:
    """Until one of them ends. What this opened and nobody could get back to is closed."""
    mode = "read" if read_only else "write"

    def connect() -> TerminalLink:
        return open_link(hive, agent, terminal_id, mode)

    if sys.stdin.isatty():
        return _run_keyboard(connect, read_only=read_only)
    try:
        with contextlib.closing(connect()) as link:
            return PipeSession(link, reads_input=not read_only, ends_shell=is_new).run()
    except BaseException as error:
        if is_new:
            with contextlib.suppress(HiveError):
                hive.delete(f"/api/agents/{agent}/terminals/{terminal_id}")
        if isinstance(error, KeyboardInterrupt):
            raise typer.Exit(130) from None
        raise


def _run_keyboard(connect: Callable[[], TerminalLink], *, read_only: bool) -> Outcome:
    # Signals first: one that comes while the keyboard is raw has it set right, too.
    with signals_as_bytes() as signals, raw_keyboard():
        return KeyboardSession(connect, signals, read_only=read_only).run()


def _leave(outcome: Outcome, agent: str, terminal_id: str) -> None:
    """Ends with the shell's status; with 1 if nobody knows it."""
    if not isinstance(outcome, Ended):
        print(f"left: `hive shell {agent} --attach {terminal_id[:12]}` comes back", file=sys.stderr)
        return
    if outcome.status is None:
        print("hive: the terminal was ended", file=sys.stderr)
        raise typer.Exit(1)
    # Of what a signal ended, harnesses tell the signal as a negative number.
    raise typer.Exit(outcome.status if outcome.status >= 0 else 128 - outcome.status)
