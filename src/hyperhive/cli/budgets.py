"""Commands about what may be spent: budget, grant."""

from typing import Annotated, Any

import typer

from hyperhive.cli.client import Row, find_hive, parse_row
from hyperhive.cli.completion import complete_agents
from hyperhive.cli.console import JsonOption, observe_screen, show, show_json
from hyperhive.cli.rendering import Column, Screen, field, render_safe_line, render_table
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.names import parse_known_agent_name

HIVE = "*"
NONE = "none"

commands = typer.Typer()


@commands.command()
def budget(
    tokens: Annotated[
        str | None,
        typer.Option("--tokens", metavar="N", help="Let the hive take N tokens in 24 hours; none: no limit."),
    ] = None,
    usd: Annotated[
        str | None, typer.Option("--usd", metavar="X", help="Let the hive spend X dollars in 24 hours; none: no limit.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was spent within 24 hours and what may be, or set the hive's budget."""
    chosen = {
        key: parse(text)
        for key, parse, text in (
            ("tokens_per_day", parse_tokens, tokens),
            ("usd_per_day", parse_usd, usd),
        )
        if text is not None
    }
    hive = find_hive()
    if chosen:
        # What is not named stays what it is.
        [present] = [row for row in hive.get_rows("/api/budget") if row.get("agent") == HIVE]
        kept = {key: present.get(key) for key in ("tokens_per_day", "usd_per_day")}
        hive.put("/api/budget", {**kept, **chosen})
    rows = hive.get_rows("/api/budget")
    if as_json:
        show_json(rows)
    else:
        show(render_budgets(rows, observe_screen()))


@commands.command()
def grant(
    name: Annotated[
        str | None,
        typer.Argument(metavar="AGENT", help="The agent; left out: the hive.", autocompletion=complete_agents),
    ] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", metavar="N", min=1, help="So many tokens more.")] = None,
    usd: Annotated[float | None, typer.Option("--usd", metavar="X", help="So many dollars more.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Let an agent, or the hive, spend more for 24 hours: half of its budget if nothing is named."""
    path = "/api/budget/grant" if name is None else f"/api/agents/{parse_known_agent_name(name)}/grant"
    amounts = {"tokens": tokens, "usd": usd}
    row = parse_row(find_hive().post(path, {key: value for key, value in amounts.items() if value is not None}))
    if as_json:
        show_json(row)
    else:
        show(f"granted to {name or 'the hive'}; {render_left(row)}")


def parse_tokens(text: str) -> int | None:
    """A number of tokens, None for `none`. Raises InvalidInputError."""
    if text == NONE:
        return None
    plain = text.replace(",", "").replace("_", "")
    if not (plain.isascii() and plain.isdigit()):
        raise InvalidInputError(f"{text[:40]!r} is not a number of tokens", "--tokens 2000000, or --tokens none")
    return int(plain)


def parse_usd(text: str) -> float | None:
    """An amount in dollars, None for `none`. Raises InvalidInputError."""
    if text == NONE:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise InvalidInputError(f"{text[:40]!r} is not an amount of dollars", "--usd 5, or --usd none") from error


def render_budgets(rows: list[dict[str, Any]], screen: Screen) -> str:
    columns = [
        Column("BUDGET", lambda row: "hive" if row.get("agent") == HIVE else field(row, "agent")),
        Column("TOKENS", lambda row: _render_number(row.get("day_tokens"))),
        Column("OF", lambda row: _render_limit(row, "tokens")),
        Column("SPENT", _render_spent),
        Column("OF", lambda row: _render_limit(row, "usd")),
        Column("GRANTED", _render_granted),
    ]
    problems = [render_safe_line(str(row["problem"])) for row in rows if row.get("problem")]
    return "\n".join([render_table(columns, rows, screen), *(screen.bad(problem) for problem in problems)])


def render_limits(row: Row) -> str:
    """What may be spent of a budget, in words."""
    limits = [(_render_limit(row, "tokens"), " tokens"), (_render_limit(row, "usd"), "")]
    return " and ".join(text + unit for text, unit in limits if text != "-") or "anything"


def render_left(row: Row) -> str:
    """What may be spent now, or that it is still not enough."""
    limits = render_limits(row)
    for kind, spent in (("tokens", row.get("day_tokens")), ("usd", row.get("day_usd"))):
        base = row.get(f"{kind}_per_day")
        if base is not None and (spent or 0) >= base + (row.get(f"granted_{kind}") or 0):
            shown = _render_number(spent) if kind == "tokens" else _render_usd(spent)
            return f"it has taken {shown} of {limits}: still parked, grant more"
    return f"within 24 hours it may now take {limits}"


def _render_limit(row: Row, kind: str) -> str:
    base, granted = row.get(f"{kind}_per_day"), row.get(f"granted_{kind}")
    if base is None:
        return "-"
    total = base + (granted or 0)
    return _render_number(total) if kind == "tokens" else _render_usd(total)


def _render_spent(row: Row) -> str:
    return _render_usd(row.get("day_usd")) + (" and unknown" if row.get("day_unpriced") else "")


def _render_granted(row: Row) -> str:
    tokens, usd = row.get("granted_tokens"), row.get("granted_usd")
    parts = [f"{_render_number(tokens)} tokens" if tokens else "", _render_usd(usd) if usd else ""]
    return ", ".join(part for part in parts if part)


def _render_number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "?"


def _render_usd(value: Any) -> str:
    return f"${value:,.2f}" if isinstance(value, int | float) else "?"
