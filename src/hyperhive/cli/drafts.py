"""Commands about agents that are not there yet, or no more: drafts, discard, kept, revive, purge."""

from typing import Annotated

import typer

from hyperhive.cli.agents import render_kept
from hyperhive.cli.client import Row, find_hive
from hyperhive.cli.completion import complete_drafts, complete_kept
from hyperhive.cli.console import JsonOption, YesOption, confirm_once, observe_screen, show, show_json
from hyperhive.cli.rendering import Column, Screen, field, render_age, render_size, render_table
from hyperhive.core.errors import NotFoundError
from hyperhive.core.names import parse_agent_name

commands = typer.Typer()

DraftName = Annotated[str, typer.Argument(metavar="NAME", help="The draft.", autocompletion=complete_drafts)]
KeptName = Annotated[str, typer.Argument(metavar="NAME", help="The agent that was.", autocompletion=complete_kept)]


@commands.command()
def drafts(as_json: JsonOption = False) -> None:
    """List the agents that are being drafted: a config and notes, no container."""
    rows = find_hive().get_rows("/api/drafts")
    if as_json:
        show_json(rows)
    else:
        show(render_drafts(rows, observe_screen()))


def render_drafts(rows: list[Row], screen: Screen) -> str:
    columns = [
        Column("NAME", lambda row: field(row, "name")),
        Column("AGE", lambda row: render_age(field(row, "created_at"), screen.now)),
        Column("SIZE", lambda row: render_size(row.get("size_bytes", 0))),
        Column("ASKED FOR BY", lambda row: field(row, "requested_by")),
    ]
    return render_table(columns, rows, screen) if rows else "no drafts"


@commands.command()
def discard(name: DraftName, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Remove a draft and all that was written for it."""
    agent = parse_agent_name(name)
    confirm_once(f"Discard the draft of {agent} and what was written for it?", yes=yes)
    try:
        find_hive().delete(f"/api/drafts/{agent}")
    except NotFoundError as error:
        raise NotFoundError(error.message, "`hive drafts` lists those there are") from error
    if as_json:
        show_json({"discarded": agent})
    else:
        show(f"discarded the draft of {agent}")


@commands.command()
def kept(as_json: JsonOption = False) -> None:
    """Show what is left of destroyed agents: how much, how old, and whether a login is among it."""
    rows = find_hive().get_rows("/api/kept")
    if as_json:
        show_json(rows)
    else:
        show(render_kept(rows, observe_screen()))


@commands.command()
def revive(name: KeptName, as_json: JsonOption = False) -> None:
    """Make a destroyed agent again, with all that was kept of it."""
    agent = parse_agent_name(name)
    try:
        row = find_hive().post(f"/api/kept/{agent}/revive")
    except NotFoundError as error:
        raise NotFoundError(error.message, "`hive kept` lists what is left of whom") from error
    if as_json:
        show_json(row)
    else:
        show(f"revived {agent}: `hive ps` shows how it starts")


@commands.command()
def purge(name: KeptName, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Remove for good what was kept of a destroyed agent."""
    agent = parse_agent_name(name)
    confirm_once(f"Remove everything that {agent} wrote, for good?", yes=yes)
    try:
        find_hive().delete(f"/api/kept/{agent}")
    except NotFoundError as error:
        hint = f"`hive kept` lists what is left; `hive destroy --purge {agent}` ends one that lives"
        raise NotFoundError(error.message, hint) from error
    if as_json:
        show_json({"purged": agent})
    else:
        show(f"purged {agent}")
