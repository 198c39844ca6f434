"""`hive egress`: which hosts agents asked for, and what became of it."""

from typing import Annotated

import typer

from hyperhive.cli.client import Row, find_hive
from hyperhive.cli.completion import complete_agents
from hyperhive.cli.console import JsonOption, observe_screen, show, show_json
from hyperhive.cli.rendering import Column, Screen, field, render_age, render_size, render_table
from hyperhive.core.names import parse_known_agent_name

commands = typer.Typer()


@commands.command()
def egress(
    agent: Annotated[
        str,
        typer.Argument(metavar="[AGENT]", help="One agent; without it, all of them.", autocompletion=complete_agents),
    ] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=1000, help="The last N.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show which hosts agents asked for, and what became of it. The newest is the last."""
    query: dict[str, str | int] = {"limit": limit}
    if agent:
        query["agent"] = parse_known_agent_name(agent)
    rows = find_hive().get_rows("/api/egress", query)[::-1]
    if as_json:
        show_json(rows)
    else:
        show(render_egress(rows, observe_screen()))


def render_egress(rows: list[Row], screen: Screen) -> str:
    columns = [
        Column("AGO", lambda row: render_age(field(row, "at"), screen.now)),
        Column("AGENT", lambda row: field(row, "agent")),
        Column("HOST", _render_host),
        Column("VERDICT", lambda row: field(row, "verdict"), state=True),
        Column("UP", lambda row: render_size(row.get("bytes_up", 0))),
        Column("DOWN", lambda row: render_size(row.get("bytes_down", 0))),
        Column("RULE", lambda row: field(row, "rule")),
    ]
    return render_table(columns, rows, screen) if rows else "no host was asked for yet"


def _render_host(row: Row) -> str:
    host, port = field(row, "host"), field(row, "port")
    return f"{host}:{port}" if host and port not in {"", "0"} else host or "-"
