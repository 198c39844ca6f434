"""Commands about the audit, who did what: audit list, verify, export, head. All but list work without a daemon, too."""

import json
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from hyperhive.cli.audit_files import Verified, find_head, list_lines, verify_database, verify_export, write_export
from hyperhive.cli.client import Client, Row, decide_own_roots, find_hive, parse_rows
from hyperhive.cli.completion import complete_agents
from hyperhive.cli.console import JsonOption, observe_screen, show, show_json
from hyperhive.cli.hive import Data
from hyperhive.cli.rendering import Column, Screen, field, line_field, render_age, render_table
from hyperhive.core.audit import BrokenChainError, parse_anchor
from hyperhive.core.stats import parse_since

commands = typer.Typer()
audit = typer.Typer(help="Who did what, and whether that was changed since.")
commands.add_typer(audit, name="audit")

_PAGE = 1000
_BODY_CHARS = 300
# What the row says by itself.
_QUIET = frozenset({"program"})


@audit.callback(invoke_without_command=True)
def show_last(context: typer.Context) -> None:
    """Who did what, and whether that was changed since."""
    if context.invoked_subcommand is None:
        list_audit()


@audit.command(name="list")
def list_audit(
    agent: Annotated[
        str,
        typer.Option("--agent", metavar="NAME", help="Only about this one, or by it.", autocompletion=complete_agents),
    ] = "",
    actor: Annotated[
        str, typer.Option("--actor", metavar="WHO", help="Only by: hive, agent, operator, 'operator token ci', …")
    ] = "",
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Only these, such as 'approval.*'.")] = "",
    since: Annotated[str, typer.Option("--since", metavar="SPAN", help="Such as 90m, 24h, 7d, or an instant.")] = "",
    grep: Annotated[str, typer.Option("--grep", metavar="WORDS", help="Only with this in it.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="The last N.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show the last rows of the audit. The newest is the last."""
    query: dict[str, str | int] = {"agent": agent, "actor": actor, "name": name, "grep": grep}
    if since:
        query["since"] = parse_since(since, datetime.now(UTC)).isoformat()
    rows = list_rows(find_hive(), {key: value for key, value in query.items() if value}, limit)[::-1]
    if as_json:
        show_json(rows)
    else:
        show(render_audit(rows, observe_screen()))


@audit.command()
def verify(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="An export; without it, the hive's own database.")
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(
            "--head", metavar="SEQ:HASH", help="What `hive audit head` said once; more than once for several."
        ),
    ] = None,
    data: Data = None,
    as_json: JsonOption = False,
) -> None:
    """Find out whether anything in the audit was changed. Status 1 if it was; the first such row is named."""
    heads = [parse_anchor(text) for text in head or []]
    try:
        found = (
            verify_database(decide_own_roots(data), heads) if file is None else verify_export(Path.cwd() / file, heads)
        )
    except BrokenChainError as error:
        if as_json:
            show_json({"sound": False, "row": error.seq, "message": error.message})
            raise typer.Exit(1) from error
        raise
    if as_json:
        show_json({"sound": True, "rows": found.rows, "hash": found.hash, "noted": found.noted})
    else:
        show(render_verified(found))


@audit.command()
def export(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A new file; without it, standard output.")
    ] = None,
    data: Data = None,
) -> None:
    """Write the whole audit as lines of JSON, to be verified anywhere."""
    lines = list_lines(decide_own_roots(data))
    if file is None:
        while piece := list(islice(lines, _PAGE)):
            show("\n".join(piece))
    else:
        count = write_export(Path.cwd() / file, lines)
        show(f"{file}: {count} rows; `hive audit verify {file}` verifies them")


@audit.command()
def head(data: Data = None, as_json: JsonOption = False) -> None:
    """Print the number and hash of the newest row, to be noted where nobody on this machine can change it."""
    newest = find_head(decide_own_roots(data))
    if as_json:
        show_json({"seq": newest.seq, "hash": newest.hash})
    else:
        show(f"{newest.seq}:{newest.hash}")


def list_rows(hive: Client, query: dict[str, str | int], limit: int) -> list[Row]:
    """The last `limit` rows, the newest first, from as many pages as it takes."""
    rows: list[Row] = []
    before: int | None = None
    while len(rows) < limit:
        asked = query | {"limit": min(limit - len(rows), _PAGE)} | ({} if before is None else {"before": before})
        page = hive.get_row("/api/audit", asked)
        rows += parse_rows(page.get("entries"))
        before = page.get("before")
        if before is None:
            break
    return rows


def render_audit(rows: list[Row], screen: Screen) -> str:
    columns = [
        Column("ROW", lambda row: field(row, "seq")),
        Column("AGO", lambda row: render_age(field(row, "at"), screen.now)),
        Column("WHO", lambda row: line_field(row, "actor")),
        Column("WHAT", lambda row: field(row, "name")),
        Column("AGENT", lambda row: line_field(row, "agent")),
        Column("", _render_body),
    ]
    return render_table(columns, rows, screen) if rows else "nothing of that is in the audit"


def render_verified(found: Verified) -> str:
    lines = [f"{found.rows} rows are as they were recorded, up to {found.rows}:{found.hash}"]
    if not found.heads:
        lines.append("nothing was noted elsewhere: rows cut off at the end, and a chain written anew, would not show")
    else:
        lines.append(f"what was noted elsewhere agrees, up to row {found.noted}")
    return "\n".join(lines)


def _render_body(row: Row) -> str:
    body = row.get("body")
    if not isinstance(body, dict):
        return ""
    parts = [
        f"{key}={value if isinstance(value, str | int) else json.dumps(value)}"  # pyright: ignore[reportUnknownArgumentType]
        for key, value in body.items()  # pyright: ignore[reportUnknownVariableType]
        if value not in (None, "") and key not in _QUIET and not str(key).endswith("_sha256")  # pyright: ignore[reportUnknownArgumentType]
    ]
    return line_field({"body": " ".join(parts)}, "body")[:_BODY_CHARS]
