"""`hive egress`: which hosts agents asked for and what became of it, and what the operator lets them reach."""

import re
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from hyperhive.cli.client import Row, find_hive, parse_row
from hyperhive.cli.completion import complete_agents
from hyperhive.cli.console import JsonOption, observe_screen, show, show_json
from hyperhive.cli.rendering import (
    Column,
    Screen,
    field,
    line_field,
    render_age,
    render_size,
    render_table,
    render_wait,
)
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.names import parse_known_agent_name

SHOW = "show"
MINUTES = 30
_MINUTES_LIMIT = 24 * 60
_SPAN = re.compile(r"([1-9][0-9]{0,3})(m|min|h)?")


class _EgressGroup(TyperGroup):
    """`hive egress` and `hive egress AGENT` are `hive egress show`, as they were before there was anything else."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = args[0] if args else ""
        if named not in self.commands and named != "--help" and not ctx.resilient_parsing:
            args = [SHOW, *args]
        return super().parse_args(ctx, args)


commands = typer.Typer()
egress = typer.Typer(cls=_EgressGroup, help="Show what agents reach, and let them reach more.")
commands.add_typer(egress, name="egress")

Agent = Annotated[str, typer.Argument(metavar="AGENT", autocompletion=complete_agents)]


@egress.command(name=SHOW)
def show_requests(
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


@egress.command()
def allow(
    agent: Agent,
    target: Annotated[str, typer.Argument(metavar="HOST[:PORT]", help="Or with --for-good any entry.")],
    time: Annotated[str, typer.Option("--for", metavar="TIME", help="For so long: 90 (minutes), 30m or 2h.")] = "",
    for_good: Annotated[bool, typer.Option("--for-good", help="Propose it for the agent's config instead.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Let an agent reach a host for 30 minutes, or propose that for good."""
    if for_good and time:
        raise typer.BadParameter("take one of --for and --for-good")
    name = parse_known_agent_name(agent)
    if for_good:
        answer = parse_row(find_hive().post("/api/egress/proposals", {"agent": name, "entry": target}))
        said = (
            f"proposed as approval {line_field(answer, 'id')}: look at it with `hive show {line_field(answer, 'id')}`"
        )
    else:
        host, port = parse_host_port(target)
        minutes = parse_minutes(time) if time else MINUTES
        body: Row = {"agent": name, "host": host, "port": port, "minutes": minutes}
        answer = parse_row(find_hive().post("/api/egress/grants", body))
        said = f"{name} may reach {_render_host(answer)} for {minutes} minutes: grant {line_field(answer, 'id')}"
    if as_json:
        show_json(answer)
    else:
        show(said)


@egress.command()
def grants(
    agent: Annotated[
        str,
        typer.Argument(metavar="[AGENT]", help="One agent; without it, all of them.", autocompletion=complete_agents),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Show what agents may reach for a while, beside their configs."""
    rows = find_hive().get_rows("/api/egress/grants", {"agent": parse_known_agent_name(agent)} if agent else None)
    if as_json:
        show_json(rows)
    else:
        show(render_grants(rows, observe_screen()))


@egress.command()
def revoke(grant: Annotated[int, typer.Argument(metavar="ID", min=1, help="Of `hive egress grants`.")]) -> None:
    """End a grant before its time, and the connections that go on by it."""
    find_hive().delete(f"/api/egress/grants/{grant}")
    show(f"grant {grant} is revoked")


def parse_host_port(text: str) -> tuple[str, int]:
    """`HOST` or `HOST:PORT`; without a port that of https. What is a host the hive says. Raises InvalidInputError."""
    hint = "HOST or HOST:PORT, such as example.org:8443"
    found = re.fullmatch(r"(\[[^]]+\]|[^:/ ]+)(?::([0-9]{1,5}))?", text)
    if found is None:
        raise InvalidInputError(f"{text[:80]!r} is no host and port", hint)
    return found[1], int(found[2] or 443)


def parse_minutes(text: str) -> int:
    """The minutes of `90`, `30m` or `2h`: a day at most. Raises InvalidInputError."""
    found = _SPAN.fullmatch(text)
    minutes = 0 if found is None else int(found[1]) * (60 if found[2] == "h" else 1)
    if not 0 < minutes <= _MINUTES_LIMIT:
        raise InvalidInputError(f"{text[:40]!r} is no time of up to a day", "--for 30m, --for 2h")
    return minutes


def render_egress(rows: list[Row], screen: Screen) -> str:
    columns = [
        Column("AGO", lambda row: render_age(field(row, "at"), screen.now)),
        Column("AGENT", lambda row: field(row, "agent")),
        Column("HOST", _render_asked),
        Column("VERDICT", lambda row: field(row, "verdict"), state=True),
        Column("UP", lambda row: render_size(row.get("bytes_up", 0))),
        Column("DOWN", lambda row: render_size(row.get("bytes_down", 0))),
        Column("RULE", lambda row: field(row, "rule")),
    ]
    return render_table(columns, rows, screen) if rows else "no host was asked for yet"


def render_grants(rows: list[Row], screen: Screen) -> str:
    columns = [
        Column("ID", lambda row: field(row, "id")),
        Column("AGENT", lambda row: field(row, "agent")),
        Column("HOST", _render_host),
        Column("ENDS IN", lambda row: render_wait(field(row, "until"), screen.now)),
    ]
    return render_table(columns, rows, screen) if rows else "no agent may reach more than its config says"


def _render_asked(row: Row) -> str:
    """Of a plain http request also what was asked for."""
    method = row.get("method") or ""
    return f"{method} http://{_render_host(row)}{field(row, 'path')}" if method else _render_host(row)


def _render_host(row: Row) -> str:
    host, port = field(row, "host"), field(row, "port")
    return f"{host}:{port}" if host and port not in {"", "0"} else host or "-"
