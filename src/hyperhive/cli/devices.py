"""`hive devices`: the browsers that are told what needs you. A browser itself adds one: only it can subscribe."""

from typing import Annotated

import typer

from hyperhive.cli.client import Row, find_hive
from hyperhive.cli.console import JsonOption, observe_screen, show, show_json
from hyperhive.cli.rendering import Column, Screen, field, render_age, render_table

commands = typer.Typer()


@commands.command()
def devices(
    remove: Annotated[int | None, typer.Option("--remove", metavar="ID", min=1, help="Remove this one.")] = None,
    mute: Annotated[int | None, typer.Option("--mute", metavar="ID", min=1, help="Tell this one nothing new.")] = None,
    unmute: Annotated[int | None, typer.Option("--unmute", metavar="ID", min=1, help="Tell it again.")] = None,
    try_out: Annotated[
        int | None, typer.Option("--test", metavar="ID", min=1, help="Send it a notification to be seen.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the browsers that are told by web push what needs you, or change one of them."""
    if len([wish for wish in (remove, mute, unmute, try_out) if wish is not None]) > 1:
        raise typer.BadParameter("give one of --remove, --mute, --unmute and --test")
    hive = find_hive()
    if remove is not None:
        hive.delete(f"/api/devices/{remove}")
        show(f"removed device {remove}: it is told nothing more")
    elif mute is not None:
        hive.put(f"/api/devices/{mute}", {"muted": True})
        show(f"muted device {mute}")
    elif unmute is not None:
        hive.put(f"/api/devices/{unmute}", {"muted": False})
        show(f"device {unmute} is told again what needs you")
    elif try_out is not None:
        hive.post(f"/api/devices/{try_out}/test")
        show(f"a notification is on its way to device {try_out}; `hive devices` tells whether it was taken")
    else:
        rows = hive.get_rows("/api/devices")
        if as_json:
            show_json(rows)
        else:
            show(render_devices(rows, observe_screen()))


def render_devices(rows: list[Row], screen: Screen) -> str:
    columns = [
        Column("ID", lambda row: field(row, "id")),
        Column("NAME", lambda row: field(row, "name")),
        Column("SERVICE", lambda row: field(row, "service")),
        Column("ADDED", lambda row: f"{render_age(field(row, 'added_at'), screen.now)} ago"),
        Column("TOLD", lambda row: _render_told(row, screen)),
        Column("STATE", _render_state),
    ]
    return render_table(columns, rows, screen) if rows else "no browser is told: enable notifications in the page"


def _render_told(row: Row, screen: Screen) -> str:
    return f"{render_age(field(row, 'sent_at'), screen.now)} ago" if row.get("sent_at") else "never"


def _render_state(row: Row) -> str:
    muted = "muted" if row.get("muted") is True else "on"
    return f"{muted}: {field(row, 'error')}" if row.get("error") else muted
