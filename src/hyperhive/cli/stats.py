"""The command `stats`: what an agent, or the hive, did and what it cost, as a table with small charts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

import typer

from hyperhive.cli.client import AnswerError, Row, find_hive, parse_row
from hyperhive.cli.completion import complete_agents
from hyperhive.cli.console import JsonOption, observe_screen, show, show_json
from hyperhive.cli.rendering import Column, Screen, field, line_field, render_size, render_table
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.names import parse_known_agent_name
from hyperhive.core.stats import HIVE

# A chart of at most so many characters has a place beside its figures on 80 columns.
CHART_COLUMNS = 30
_BARS = "▁▂▃▄▅▆▇█"
_UNKNOWN_BAR = " "
_TOOLS_SHOWN = 8
_COMPARED = ("turns", "turn_p95_s", "tool_calls", "handled", "inbox", "work_tokens", "cost_usd")

commands = typer.Typer()


@dataclass(frozen=True, slots=True)
class _Line:
    key: str
    unit: str
    total: float | None
    values: Sequence[float | None]


@commands.command()
def stats(
    agent: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="The agent; without it, the hive.", autocompletion=complete_agents),
    ] = None,
    since: Annotated[str, typer.Option("--since", metavar="SPAN", help="Such as 90m, 24h, 7d, or an instant.")] = "24h",
    by_agent: Annotated[bool, typer.Option("--by-agent", help="A line for each agent.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what was done, how long it took, and what it cost."""
    if by_agent and agent is not None:
        raise InvalidInputError("--by-agent shows all agents", "leave NAME out, or the option")
    name = HIVE if agent is None else parse_known_agent_name(agent)
    query: dict[str, str | int] = {"since": since}
    if by_agent:
        answer = find_hive().get_row("/api/stats/agents", query | {"keys": ",".join(_COMPARED)})
    else:
        answer = find_hive().get_row("/api/stats", query | {"agent": name, "points": CHART_COLUMNS})
    if as_json:
        show_json(answer)
    else:
        show(render_agents(answer, observe_screen()) if by_agent else render_stats(answer, observe_screen()))


def render_stats(answer: Row, screen: Screen) -> str:
    """Series in which nothing happened are left out."""
    who = line_field(answer, "agent")
    head = screen.title(f"{'the hive' if who == HIVE else who}, since {line_field(answer, 'from')}")
    lines = [line for line in _parse_lines(answer) if line.total or any(line.values)]
    if not lines:
        return f"{head}\nnothing happened"
    columns = [
        Column("SERIES", lambda line: line.key),
        Column("ALL", lambda line: render_figure(line.total, line.unit)),
        Column("", lambda line: render_chart(line.values)),
    ]
    parts = [head, render_table(columns, lines, screen)]
    tools = list(parse_row(answer.get("tools")).items())
    if tools:
        most = ", ".join(f"{name} {count}" for name, count in tools[:_TOOLS_SHOWN])
        more = f", and {len(tools) - _TOOLS_SHOWN} more" if len(tools) > _TOOLS_SHOWN else ""
        parts.append(line_field({"tools": f"tools: {most}{more}"}, "tools"))
    return "\n".join(parts)


def render_agents(answer: Row, screen: Screen) -> str:
    agents = parse_row(answer.get("agents"))
    units = parse_row(answer.get("units"))
    rows = [{"name": name, **parse_row(totals)} for name, totals in agents.items()]

    def make_column(key: str) -> Column:
        title = key.removesuffix("_s").removesuffix("_usd").replace("_", " ").upper()
        return Column(title, lambda row: render_figure(row.get(key), field(units, key)))

    columns = [Column("NAME", lambda row: field(row, "name")), *(make_column(key) for key in _COMPARED)]
    head = screen.title(f"since {line_field(answer, 'from')}")
    return "\n".join([head, render_table(columns, rows, screen) if rows else "no agents yet"])


def render_figure(value: Any, unit: str) -> str:
    """A figure as a person reads it; `-` for what is not known."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-"
    if unit == "bytes":
        return render_size(value)
    if unit == "s":
        return _render_duration(value)
    if unit == "USD":
        return f"${value:,.2f}"
    if value >= 1_000_000:
        return f"{value / 1_000_000:.1f}M"
    if value >= 10_000:
        return f"{value / 1000:.1f}k"
    return f"{value:g}" if value == round(value) else f"{value:.1f}"


def _render_duration(seconds: float) -> str:
    for unit, unit_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= unit_s:
            return f"{seconds / unit_s:.1f} {unit}"
    return f"{seconds:.1f} s"


def render_chart(values: Sequence[float | None]) -> str:
    """A bar for each value, from 0 to the highest; a blank where it is not known."""
    highest = max((value for value in values if value is not None), default=0)
    if highest <= 0:
        return "".join(_UNKNOWN_BAR if value is None else _BARS[0] for value in values)
    top = len(_BARS) - 1
    return "".join(
        # What is not nothing is never drawn as nothing.
        _UNKNOWN_BAR if value is None else _BARS[max(round(value / highest * top), int(value > 0))]
        for value in values
    )


def _parse_lines(answer: Row) -> list[_Line]:
    series, totals, units = (parse_row(answer.get(name)) for name in ("series", "totals", "units"))
    return [
        _Line(key, field(units, key), _parse_figure(totals.get(key)), _parse_figures(values))
        for key, values in series.items()
    ]


def _parse_figures(values: Any) -> list[float | None]:
    if not isinstance(values, list):
        raise AnswerError("the hive answered with a series that is no list", "is it of another version?")
    return [_parse_figure(value) for value in cast("list[Any]", values)]


def _parse_figure(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
