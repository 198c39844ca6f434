"""Commands about agents' turns: pause, resume, model, compact."""

from typing import Annotated, Any, cast

import typer

from hyperhive.cli.client import Row, find_hive, parse_row
from hyperhive.cli.completion import complete_agents
from hyperhive.cli.console import JsonOption, show, show_json
from hyperhive.cli.rendering import Screen, line_field, render_wait
from hyperhive.core.errors import InvalidInputError, NotFoundError
from hyperhive.core.names import parse_known_agent_name

commands = typer.Typer()

Name = Annotated[str, typer.Argument(metavar="NAME", help="The agent.", autocompletion=complete_agents)]
MaybeName = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="The agent; without one, all.", autocompletion=complete_agents)
]

_KINDS = {
    "paused": "paused",
    "budget": "budget spent",
    "login": "needs login",
    "limit": "usage limit",
    "failing": "too many failed turns",
}


def render_park(value: Any, screen: Screen) -> str:
    """Why no turns are run, on one line, with how long it is until that ends by itself; empty if they are run."""
    if not isinstance(value, dict):
        return ""
    park = cast("dict[str, Any]", value)
    kind = line_field(park, "kind")
    shown = _KINDS.get(kind, kind)
    if park.get("hive"):
        shown += ", the whole hive"
    if park.get("until"):
        shown += f", {render_wait(str(park['until']), screen.now)} left"
    return f"{shown}: {line_field(park, 'reason')}"


@commands.command()
def pause(
    name: MaybeName = None,
    reason: Annotated[str, typer.Option("--reason", "-r", metavar="TEXT", help="For whoever asks why.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Keep an agent, or all, from running turns. Running turns go on; messages wait."""
    agent = None if name is None else parse_known_agent_name(name)
    park = find_hive().post("/api/pause" if agent is None else f"/api/agents/{agent}/pause", {"reason": reason})
    if as_json:
        show_json(park)
    else:
        show(f"paused {agent or 'the hive'}: `hive resume{f' {agent}' if agent else ''}` lets it go on")


@commands.command()
def resume(name: MaybeName = None) -> None:
    """Let an agent, or the hive, run turns again: after a pause, a limit, a login, failures."""
    agent = None if name is None else parse_known_agent_name(name)
    find_hive().post("/api/resume" if agent is None else f"/api/agents/{agent}/resume")
    show(f"resumed {agent or 'the hive'}")


@commands.command()
def model(
    name: Name,
    chosen: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="From the next turn on.")] = None,
    default: Annotated[bool, typer.Option("--default", help="Back to the model of its config.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show an agent's model, or choose it."""
    agent = parse_known_agent_name(name)
    if default and chosen is not None:
        raise typer.BadParameter("give a MODEL or --default, not both")
    if chosen is not None and not chosen.strip():
        raise InvalidInputError("the model is empty", "--default goes back to the model of its config")
    if default or chosen is not None:
        find_hive().post(f"/api/model/{agent}", {"model": chosen or ""})
    row = next((row for row in find_hive().get_rows("/api/agents") if row.get("name") == agent), None)
    if row is None:
        raise NotFoundError(f"there is no agent {agent!r}", "see `hive ps`")
    if as_json:
        show_json({key: row.get(key) for key in ("name", "model", "chosen_model")})
    else:
        show(render_model(row))


def render_model(row: Row) -> str:
    """What was chosen, and what claude last ran with."""
    chosen, last = line_field(row, "chosen_model"), line_field(row, "model")
    return f"model: {chosen or 'that of its config'}; last ran with: {last or 'none yet'}"


@commands.command()
def compact(name: Name) -> None:
    """Have an agent compact its conversation, once no turn runs."""
    agent = parse_known_agent_name(name)
    answer = parse_row(find_hive().post(f"/api/agents/{agent}/compact"))
    show(f"{agent} will compact its conversation" if answer.get("accepted") else f"{agent} has none to compact")
