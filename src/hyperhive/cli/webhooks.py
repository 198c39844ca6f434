"""Commands about webhooks, which tell a program of events: webhook add, list, test, retry, drop, remove."""

from typing import Annotated, Any, cast

import typer

from hyperhive.cli.client import Row, find_hive, parse_row
from hyperhive.cli.console import JsonOption, observe_screen, show, show_json
from hyperhive.cli.rendering import Column, Screen, field, line_field, render_age, render_table
from hyperhive.core.errors import ConflictError, NotFoundError, UnavailableError

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
def retry(identity: WebhookId) -> None:
    """Send the event that waits, now."""
    answer = parse_row(find_hive().post(f"/api/webhooks/{identity}/retry"))
    if answer.get("fault"):
        hint = f"it is tried again; `hive webhook drop {identity}` gives it up"
        raise UnavailableError(f"it was not taken: {line_field(answer, 'fault')}", hint)
    show("it was taken: what waits for it is sent now")


@webhook.command()
def drop(
    identity: WebhookId,
    event: Annotated[
        int | None, typer.Option("--event", metavar="ID", min=1, help="Only if this one waits; without: whatever does.")
    ] = None,
) -> None:
    """Give up the event that waits, so that those behind it are sent."""
    hive = find_hive()
    if event is None:
        event = _find_waiting(hive.get_rows("/api/webhooks"), identity)
    hive.post(f"/api/webhooks/{identity}/drop", {"event": event})
    show(f"dropped event {event}: what waits for it is sent now")


def _find_waiting(rows: list[Row], identity: int) -> int:
    """The id of the event that a webhook was sent in vain. Raises NotFoundError, ConflictError."""
    row = next((row for row in rows if row.get("id") == identity), None)
    if row is None:
        raise NotFoundError(f"there is no webhook {identity}", "`hive webhook list` shows all")
    waiting: Any = row.get("waiting")
    number: Any = cast("Row", waiting).get("id") if isinstance(waiting, dict) else None
    if not isinstance(number, int):
        raise ConflictError("nothing waits to be taken", "`hive webhook list` shows what became of the last attempt")
    return number


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
        Column("WAITS", _render_waiting),
        Column("GIVEN UP", lambda row: field(row, "dead")),
        Column("LAST", lambda row: line_field(row, "error") or "ok"),
    ]
    if not rows:
        return "there is no webhook: hive webhook add URL"
    faults = [
        f"{field(row, 'id')}: gave up last {render_age(field(row, 'dead_at'), screen.now)} ago: "
        f"{line_field(row, 'dead_reason')}"
        for row in rows
        if row.get("dead_at")
    ]
    return "\n".join([render_table(columns, rows, screen), *faults])


def _render_waiting(row: Row) -> str:
    """Which event is in the way of how many others."""
    waiting: Any = row.get("waiting")
    if not isinstance(waiting, dict):
        return "-"
    event = cast("Row", waiting)
    count = event.get("count")
    more = f" +{count - 1}" if isinstance(count, int) and count > 1 else ""
    return f"{field(event, 'id')} {line_field(event, 'name')}{more}"


def _render_taken(row: Row, screen: Screen) -> str:
    return f"{render_age(field(row, 'ok_at'), screen.now)} ago" if row.get("ok_at") else "never"
