"""Commands about agents: ps, spawn, start, stop, restart, rebuild, cancel, destroy."""

from typing import Annotated, Any

import typer

from hyperhive.cli.client import Row, find_hive, parse_row
from hyperhive.cli.completion import complete_agents
from hyperhive.cli.console import JsonOption, YesOption, confirm_once, observe_screen, show, show_json
from hyperhive.cli.rendering import Column, Screen, field, render_age, render_size, render_table
from hyperhive.cli.turns import render_park
from hyperhive.core.errors import InvalidInputError, NotFoundError
from hyperhive.core.names import parse_agent_name, parse_known_agent_name
from hyperhive.core.text import cut_text, render_safe_line

# As git shortens it: enough to tell the commits of one agent apart.
COMMIT_COLUMNS = 8

commands = typer.Typer()

Name = Annotated[str, typer.Argument(metavar="NAME", help="The agent.", autocompletion=complete_agents)]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="The agents.", autocompletion=complete_agents)]


@commands.command()
def ps(
    kept: Annotated[bool, typer.Option("--kept", help="Show what is left of destroyed agents.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the agents and what each is doing."""
    rows = find_hive().get_rows("/api/kept" if kept else "/api/agents")
    if as_json:
        show_json(rows)
    elif kept:
        show(render_kept(rows, observe_screen()))
    else:
        show(render_agents(rows, observe_screen()))


def render_agents(rows: list[dict[str, Any]], screen: Screen) -> str:
    columns = [
        Column("NAME", lambda row: field(row, "name")),
        Column("STATE", lambda row: field(row, "state"), state=True),
        Column("SINCE", lambda row: render_age(field(row, "since"), screen.now)),
        Column("WAITING", lambda row: field(row, "waiting")),
        Column("TURNS", lambda row: field(row, "turns")),
        Column("MODEL", lambda row: field(row, "model") or "-"),
        Column("COMMIT", lambda row: field(row, "commit")[:COMMIT_COLUMNS] or "-"),
        Column("REASON", lambda row: render_park(row.get("park"), screen) or field(row, "reason")),
    ]
    if not rows:
        return "no agents yet: `hive spawn NAME` makes one"
    head, *lines = render_table(columns, rows, screen).split("\n")
    shown = [head]
    for row, line in zip(rows, lines, strict=True):
        shown.append(line)
        if row.get("config_error"):
            shown.append(screen.bad(_render_below(f"config: {row['config_error']}", screen)))
        elif row.get("needs_update"):
            shown.append(screen.dim(_render_below(render_update(row), screen)))
    return "\n".join(shown)


def render_update(row: Row) -> str:
    """Why an agent should be built anew, and whether it is going to be; nothing if neither is so."""
    reason = field(row, "needs_update")
    if row.get("updating"):
        return f"rebuilds after its turn: {reason}" if reason else "rebuilds after its turn"
    return f"needs update: {reason}" if reason else ""


def _render_below(text: str, screen: Screen) -> str:
    """A line under a row, as wide as the screen at most."""
    line = render_safe_line(f"  {text}")
    return line if screen.width is None else cut_text(line, screen.width)


def render_kept(rows: list[dict[str, Any]], screen: Screen) -> str:
    columns = [
        Column("NAME", lambda row: field(row, "name")),
        Column("DESTROYED", lambda row: render_age(field(row, "destroyed_at"), screen.now) + " ago"),
        Column("AGE", lambda row: render_age(field(row, "spawned_at"), screen.now)),
        Column("SIZE", lambda row: render_size(row.get("size_bytes", 0))),
        Column("LOGIN", lambda row: "yes" if row.get("credentials") else "no"),
    ]
    return render_table(columns, rows, screen) if rows else "nothing is kept of destroyed agents"


@commands.command()
def spawn(name: Name, as_json: JsonOption = False) -> None:
    """Make a new agent and start it."""
    agent = parse_agent_name(name)
    answer = find_hive().post("/api/agents", {"name": agent})
    if as_json:
        show_json(answer)
    else:
        show(f"spawned {agent}: `hive ps` shows how it starts")


def _act(names: list[str], action: str) -> None:
    """The hive answers once it has written down what is wanted: that it was done, only `ps` can tell."""
    # All names are looked at before anything is done.
    agents = [parse_known_agent_name(name) for name in names]
    hive = find_hive()
    for agent in agents:
        hive.post(f"/api/agents/{agent}/{action}")
        show(f"will {action} {agent}: `hive ps` shows how it goes")


@commands.command()
def start(names: Names) -> None:
    """Start stopped agents."""
    _act(names, "start")


@commands.command()
def stop(names: Names) -> None:
    """Stop agents. Their messages wait."""
    _act(names, "stop")


@commands.command()
def restart(names: Names) -> None:
    """Stop agents and start them again."""
    _act(names, "restart")


@commands.command()
def rebuild(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="The agents.", autocompletion=complete_agents)
    ] = None,
    stale: Annotated[bool, typer.Option("--stale", help="All that need an update, by their rows.")] = False,
) -> None:
    """Build agents' containers anew, each once its turn is over."""
    if stale == bool(names):
        raise InvalidInputError("name agents, or give --stale", "hive rebuild NAME..., or hive rebuild --stale")
    if names:
        _act(names, "rebuild")
        return
    found: Any = parse_row(find_hive().post("/api/update-all")).get("agents")
    agents = [parse_known_agent_name(str(name)) for name in found]
    for agent in agents:
        show(f"will rebuild {agent} after its turn: `hive ps` shows how it goes")
    if not agents:
        show("nothing is stale")


@commands.command()
def cancel(name: Name) -> None:
    """Interrupt an agent's running turn. The agent stays."""
    agent = parse_known_agent_name(name)
    answer = parse_row(find_hive().post(f"/api/agents/{agent}/cancel"))
    show(f"cancelled the turn of {agent}" if answer.get("cancelled") else f"{agent} has no running turn")


@commands.command()
def destroy(
    name: Name,
    purge: Annotated[bool, typer.Option("--purge", help="Remove its config, state and login too.")] = False,
    yes: YesOption = False,
) -> None:
    """Remove an agent's container. What it wrote is kept until it is purged."""
    agent = parse_known_agent_name(name)
    question = f"Destroy {agent} and remove everything it wrote?" if purge else f"Destroy {agent}?"
    confirm_once(question, yes=yes)
    hive = find_hive()
    try:
        hive.delete(f"/api/agents/{agent}", {"purge": str(purge).lower()})
    except NotFoundError:
        if not purge:
            raise
        # It was destroyed before: what is left of it is meant.
        hive.delete(f"/api/kept/{agent}")
    show(f"destroyed and purged {agent}" if purge else f"destroyed {agent}; its state is kept")
