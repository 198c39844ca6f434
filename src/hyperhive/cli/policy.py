"""Commands about what an agent may do: policy check, policy show. The daemon decides; these only ask it."""

import json
from typing import Annotated, Any

import typer

from hyperhive.cli.agents import Name
from hyperhive.cli.client import Row, find_hive, parse_rows
from hyperhive.cli.completion import complete_agents
from hyperhive.cli.console import JsonOption, observe_screen, show, show_json
from hyperhive.cli.rendering import (
    Column,
    Screen,
    field,
    line_field,
    render_block,
    render_exact_line,
    render_full_table,
)
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.names import parse_known_agent_name

# By verdict. 1 is what any refusal exits with, so an unknown verdict and a failure count as a denial. 2 and 3 have
# their meaning for every command (see cli.main).
EXIT_STATUSES = {"allow": 0, "deny": 1, "ask": 4}

commands = typer.Typer()
policy = typer.Typer(no_args_is_help=True, help="Tell what an agent may do, and which rule says so.")
commands.add_typer(policy, name="policy")


@policy.command()
def check(
    name: Name,
    bash: Annotated[str | None, typer.Option("--bash", metavar="COMMAND", help="May it run this?")] = None,
    tool: Annotated[str | None, typer.Option("--tool", metavar="TOOL", help="May it call this tool?")] = None,
    arguments: Annotated[str | None, typer.Option("--arguments", metavar="JSON", help="Those of --tool.")] = None,
    send: Annotated[
        str | None,
        typer.Option("--send", metavar="NAME", help="May it send to this one?", autocompletion=complete_agents),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Would this be allowed, and which rule says so? Exit status: 0 allowed, 1 denied, 4 the operator is asked."""
    if sum(question is not None for question in (bash, tool, send)) != 1 or (arguments is not None and tool is None):
        raise typer.BadParameter("ask one thing: --bash COMMAND, --tool TOOL [--arguments JSON] or --send NAME")
    agent = parse_known_agent_name(name)
    request = {"bash": bash, "tool": tool, "recipient": send}
    body: Row = {key: value for key, value in request.items() if value is not None}
    if arguments is not None:
        body["arguments"] = parse_arguments(arguments)
    decision = find_hive().post(f"/api/agent-config/{agent}/check", body)
    if as_json:
        show_json(decision)
    else:
        show(render_decision(decision, observe_screen()))
    raise typer.Exit(EXIT_STATUSES.get(field(decision, "verdict"), 1))


def parse_arguments(text: str) -> Row:
    """The arguments of a tool. Raises InvalidInputError for anything but one JSON object."""
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"--arguments is no JSON: {error}", '--arguments \'{"file_path": "/x"}\'') from error
    if not isinstance(value, dict):
        raise InvalidInputError("--arguments is no JSON object", '--arguments \'{"file_path": "/x"}\'')
    return value  # pyright: ignore[reportUnknownVariableType]


def render_decision(decision: Row, screen: Screen) -> str:
    verdict = screen.state(line_field(decision, "verdict"))
    rule = render_exact_line(field(decision, "rule"))
    return render_block(f"{verdict}, by {rule}", field(decision, "reason"), screen)


@policy.command(name="show")
def show_policy(name: Name, as_json: JsonOption = False) -> None:
    """Show what an agent may run, reach, read, message and spend."""
    agent = parse_known_agent_name(name)
    view = find_hive().get_row(f"/api/agent-config/{agent}")
    if as_json:
        show_json(view.get("permissions"))
    else:
        show(render_permissions(view, observe_screen()))


def render_permissions(view: Row, screen: Screen) -> str:
    rows = parse_rows(view.get("permissions"))
    columns = [
        Column("MAY", lambda row: field(row, "area")),
        Column("WHAT", lambda row: field(row, "subject")),
        Column("VERDICT", lambda row: field(row, "verdict"), state=True),
        Column("RULE", lambda row: field(row, "rule")),
    ]
    table = render_full_table(columns, rows, screen) if rows else "nothing is known to be allowed"
    if view.get("problem"):
        head = screen.bad("this config cannot be used:")
        return "\n".join([render_block(head, str(view["problem"]), screen), "", table])
    return table
