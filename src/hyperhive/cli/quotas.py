"""`hive quota`: what agents may take of the hive, what they take, and more room on the disk for one of them."""

from typing import Annotated, Any, cast

import typer

from hyperhive.cli.client import Row, find_hive, parse_row
from hyperhive.cli.completion import complete_agents
from hyperhive.cli.console import JsonOption, observe_screen, show, show_json
from hyperhive.cli.rendering import Column, Screen, field, render_safe_line, render_size, render_table
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.limits import parse_memory_bytes
from hyperhive.core.names import parse_known_agent_name
from hyperhive.core.tokens import parse_lifetime

# Above this part of a limit it is marked.
_NEAR = 0.8

commands = typer.Typer()


@commands.command()
def quota(
    agent: Annotated[
        str,
        typer.Argument(metavar="[AGENT]", help="One agent; without it, all of them.", autocompletion=complete_agents),
    ] = "",
    allow: Annotated[
        str, typer.Option("--allow", metavar="SIZE", help="Let its folders hold SIZE for a while, such as 20G.")
    ] = "",
    for_: Annotated[str, typer.Option("--for", metavar="SPAN", help="How long that is allowed, such as 1h.")] = "1h",
    as_json: JsonOption = False,
) -> None:
    """Show how much of each quota an agent uses, or of all agents what is used most; let one have more of the disk."""
    hive = find_hive()
    if allow and not agent:
        raise InvalidInputError("--allow needs the name of an agent", "hive quota NAME --allow 20G")
    if not agent:
        rows = hive.get_rows("/api/quotas")
        if as_json:
            show_json(rows)
        else:
            show(render_quotas(rows, observe_screen()))
        return
    path = f"/api/quotas/{parse_known_agent_name(agent)}"
    if allow:
        request = {"size_bytes": _parse_size(allow), "for_s": parse_lifetime(for_).total_seconds()}
        row = parse_row(hive.post(f"{path}/allow", request))
    else:
        row = parse_row(hive.get(path))
    if as_json:
        show_json(row)
    else:
        show(render_quota(row, observe_screen()))


def render_quotas(rows: list[Row], screen: Screen) -> str:
    """A line an agent: what it has on the disk, and the quota that it is nearest to."""
    columns = [
        Column("AGENT", lambda row: field(row, "agent")),
        Column("DISK", lambda row: _render_use(_find(row, "disk"))),
        Column("NEAREST", _render_nearest),
        Column("STOPPED", lambda row: render_safe_line(field(row, "over"))),
    ]
    return render_table(columns, rows, screen)


def render_quota(row: Row, screen: Screen) -> str:
    """A line a quota of one agent."""
    columns = [
        Column("QUOTA", lambda use: field(use, "quota").replace("_", " ")),
        Column("USED", lambda use: _render_amount(use.get("used"), use)),
        Column("OF", _render_limit),
        Column("", lambda use: "nearly all" if (_find_part(use) or 0) >= _NEAR else "", state=True),
    ]
    lines = [render_table(columns, _list_uses(row), screen)]
    if field(row, "allowed_until"):
        lines.append(f"more of the disk is allowed until {render_safe_line(field(row, 'allowed_until'))}")
    if field(row, "over"):
        lines.append(screen.bad(f"stopped: {render_safe_line(field(row, 'over'))}"))
    return "\n".join(lines)


def _parse_size(text: str) -> int:
    try:
        return parse_memory_bytes(text)
    except ValueError as error:
        raise InvalidInputError(f"{text[:40]!r} is no size", "--allow 20G: a number and one of K, M, G, T") from error


def _list_uses(row: Row) -> list[Row]:
    found = row.get("quotas")
    return cast("list[Row]", found) if isinstance(found, list) else []


def _find(row: Row, quota: str) -> Row:
    nothing: Row = {}
    return next((use for use in _list_uses(row) if use.get("quota") == quota), nothing)


def _find_part(use: Row) -> float | None:
    """How much of a quota is used; of what comes by the minute nobody is near to the end for long."""
    used, limit = use.get("used"), use.get("limit")
    if use.get("unit") not in {"count", "bytes"}:
        return None
    return used / limit if isinstance(used, int | float) and isinstance(limit, int | float) and limit else None


def _render_nearest(row: Row) -> str:
    parts = [(part, use) for use in _list_uses(row) if (part := _find_part(use)) is not None]
    if not parts:
        return "-"
    part, use = max(parts, key=lambda one: one[0])
    return f"{field(use, 'quota').replace('_', ' ')} {part:.0%}"


def _render_use(use: Row) -> str:
    return f"{_render_amount(use.get('used'), use)} of {_render_limit(use)}"


def _render_limit(use: Row) -> str:
    limit = use.get("limit")
    by_minute = str(use.get("unit")).endswith("per_minute")
    return "any" if limit is None else _render_amount(limit, use) + (" a minute" if by_minute else "")


def _render_amount(value: Any, use: Row) -> str:
    if not isinstance(value, int | float):
        return "?"
    return render_size(value) if str(use.get("unit")).startswith("bytes") else f"{value:,.0f}"
