"""The command about what agents will be sent later: their reminders, and the schedules of their configs."""

from typing import Annotated

import typer

from hyperhive.cli.client import Row, find_hive
from hyperhive.cli.completion import complete_agents
from hyperhive.cli.console import JsonOption, observe_screen, show, show_json
from hyperhive.cli.rendering import Column, Screen, field, render_table, render_wait
from hyperhive.core.names import parse_known_agent_name

commands = typer.Typer()


@commands.command()
def reminders(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[AGENT]", help="The agent; without one, all.", autocompletion=complete_agents),
    ] = None,
    cancel: Annotated[
        int | None, typer.Option("--cancel", metavar="ID", min=1, help="Drop this reminder instead.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List what agents will be sent later: reminders that they set, and the schedules of their configs."""
    if cancel is not None and name is not None:
        raise typer.BadParameter("give AGENT or --cancel, not both")
    hive = find_hive()
    if cancel is not None:
        hive.delete(f"/api/reminders/{cancel}")
        show(f"cancelled reminder {cancel}")
        return
    query = {} if name is None else {"agent": parse_known_agent_name(name)}
    waiting, scheduled = hive.get_rows("/api/reminders", query), hive.get_rows("/api/schedules", query)
    if as_json:
        show_json({"reminders": waiting, "schedules": scheduled})
    else:
        show(render_reminders(waiting, scheduled, observe_screen()))


def render_reminders(waiting: list[Row], scheduled: list[Row], screen: Screen) -> str:
    """Both as tables, reminders first."""
    parts = [_render_waiting(waiting, screen)] if waiting else []
    if scheduled:
        parts.append(_render_scheduled(scheduled, screen))
    return "\n\n".join(parts) if parts else "no reminders, and nothing is scheduled"


def _render_waiting(rows: list[Row], screen: Screen) -> str:
    columns = [
        Column("ID", lambda row: field(row, "id")),
        Column("AGENT", lambda row: field(row, "agent")),
        Column("IN", lambda row: render_wait(field(row, "due_at"), screen.now)),
        Column("NOTE", lambda row: field(row, "note")),
    ]
    return "\n".join([render_table(columns, rows, screen), "", screen.dim("hive reminders --cancel ID")])


def _render_scheduled(rows: list[Row], screen: Screen) -> str:
    columns = [
        Column("AGENT", lambda row: field(row, "agent")),
        Column("CRON", lambda row: field(row, "cron")),
        Column("NEXT", lambda row: render_wait(field(row, "next_at"), screen.now) if row.get("next_at") else "never"),
        Column("MESSAGE", lambda row: field(row, "message")),
    ]
    return render_table(columns, rows, screen)
