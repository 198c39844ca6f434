"""Commands about webhooks: webhook add, list, test, remove. They tell a program of the operator's of events."""

from typing import Annotated

import typer

from hyperhive.cli.client import Row, find_hive, parse_row
from hyperhive.cli.console import JsonOption, observe_screen, show, show_json
from hyperhive.cli.rendering import Column, Screen, field, line_field, render_age, render_table
from hyperhive.core.errors import UnavailableError

commands = typer.Typer()
webhook = typer.Typer(no_args_is_help=True, help="Tell programs of events.")
commands.add_typer(webhook, name="webhook")

WebhookId = Annotated[int, typer.Argument(metavar="ID", min=1, help="Of `hive webhook list`.")]


@webhook.command()
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where to: https.")],
    events: Annotated[
        str, typer.Option("--events", metavar="NAMES", help="Of which, such as approval.*,agent.crashed; without: all.")
    ] = "",
    bodies: Annotated[bool, typer.Option("--bodies", help="With what agents said in them.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Add a webhook, and print the secret of its signatures, once."""
    names = [name.strip() for name in events.split(",") if name.strip()]
    answer = parse_row(find_hive().post("/api/webhooks", {"url": url, "events": names, "bodies": bodies}))
    if as_json:
        show_json(answer)
    else:
        show(line_field(answer, "secret"))


@webhook.command(name="list")
def list_webhooks(as_json: JsonOption = False) -> None:
    """List the webhooks, and what became of the last attempt."""
    rows = find_hive().get_rows("/api/webhooks")
    if as_json:
        show_json(rows)
    else:
        show(render_webhooks(rows, observe_screen()))


@webhook.command()
def test(identity: WebhookId) -> None:
    """Send something that is no event, to be seen."""
    answer = parse_row(find_hive().post(f"/api/webhooks/{identity}/test"))
    if answer.get("fault"):
        raise UnavailableError(f"it was not taken: {line_field(answer, 'fault')}", "`hive webhook list` shows where to")
    show("it was taken")


@webhook.command()
def remove(identity: WebhookId) -> None:
    """Remove a webhook: it is told nothing more."""
    find_hive().delete(f"/api/webhooks/{identity}")
    show(f"removed webhook {identity}")


def render_webhooks(rows: list[Row], screen: Screen) -> str:
    columns = [
        Column("ID", lambda row: field(row, "id")),
        Column("PLACE", lambda row: field(row, "place")),
        Column("EVENTS", lambda row: ",".join(str(name) for name in row.get("events", [])) or "all"),
        Column("BODIES", lambda row: "yes" if row.get("bodies") is True else "no"),
        Column("TAKEN", lambda row: _render_taken(row, screen)),
        Column("GIVEN UP", lambda row: field(row, "dead")),
        Column("LAST", lambda row: field(row, "error") or "ok"),
    ]
    return render_table(columns, rows, screen) if rows else "there is no webhook: hive webhook add URL"


def _render_taken(row: Row, screen: Screen) -> str:
    return f"{render_age(field(row, 'ok_at'), screen.now)} ago" if row.get("ok_at") else "never"
