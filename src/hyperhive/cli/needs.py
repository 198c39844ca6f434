"""Commands about what waits for the operator: needs, release, requeue, dismiss."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from hyperhive.cli.client import find_hive
from hyperhive.cli.completion import complete_agents
from hyperhive.cli.console import JsonOption, observe_screen, show, show_json
from hyperhive.cli.rendering import Screen, line_field, render_age, render_block, render_wait
from hyperhive.core.names import parse_known_agent_name

commands = typer.Typer()

Ids = Annotated[list[int], typer.Argument(metavar="ID...", min=1, help="Messages: see `hive needs`.")]

# What does each act, by the number or the name that a need is about; without a name it is the whole hive.
_COMMANDS: dict[str, Callable[[str, str], str]] = {
    "approve": lambda ref, _: f"hive show {ref} · hive approve {ref}",
    "deny": lambda ref, _: f"hive deny {ref} --reason TEXT",
    "answer": lambda ref, _: f"hive questions · hive answer {ref} TEXT, or --option OPTION",
    "login": lambda _, agent: f"hive login {agent}",
    "grant": lambda _, agent: f"hive grant {agent}",
    "resume": lambda _, agent: f"hive resume {agent}",
    "start": lambda _, agent: f"hive start {agent}",
    "release": lambda ref, _: f"hive release {ref.replace('.', ' ')}",
    "requeue": lambda ref, _: f"hive requeue {ref}",
    "dismiss": lambda ref, _: f"hive dismiss {ref}",
}


@commands.command()
def needs(as_json: JsonOption = False) -> None:
    """Show all that waits for you, the most urgent first, and what deals with it."""
    rows = find_hive().get_rows("/api/needs")
    if as_json:
        show_json(rows)
    else:
        show(render_needs(rows, observe_screen()))


def render_needs(rows: list[dict[str, Any]], screen: Screen) -> str:
    return "\n\n".join(_render_need(row, screen) for row in rows) if rows else "nothing needs you"


def _render_need(row: dict[str, Any], screen: Screen) -> str:
    age = render_age(str(row.get("since")), screen.now)
    title = screen.title(f"{line_field(row, 'key')}: {line_field(row, 'title')}")
    deadline = row.get("deadline")
    when = f"in {render_wait(str(deadline), screen.now)}" if deadline else "meanwhile"
    head = [f"{title}, for {age}", f"{when}: {line_field(row, 'by_default')}"]
    acts = render_acts(row)
    if acts:
        head.append(screen.dim(acts))
    # What an agent wrote comes last and indented: it cannot pass for a command of ours.
    detail = str(row.get("detail") or "")
    return render_block("\n".join(head), detail, screen) if detail else "\n".join(head)


def render_acts(row: dict[str, Any]) -> str:
    """The commands that deal with a need."""
    agent = "" if row.get("agent") is None else line_field(row, "agent")
    acts: list[Any] = row.get("acts") or []
    known = [_COMMANDS[act](line_field(row, "ref"), agent).rstrip() for act in map(str, acts) if act in _COMMANDS]
    return " · ".join(known)


@commands.command()
def release(
    one: Annotated[str, typer.Argument(metavar="ONE", autocompletion=complete_agents)],
    other: Annotated[str, typer.Argument(metavar="OTHER", autocompletion=complete_agents)],
) -> None:
    """Let two agents that answered each other without end write to each other again."""
    pair = (parse_known_agent_name(one), parse_known_agent_name(other))
    find_hive().post(f"/api/runaways/{pair[0]}/{pair[1]}/release")
    show(f"{pair[0]} and {pair[1]} may go on")


@commands.command()
def requeue(ids: Ids) -> None:
    """Have messages that were given up delivered after all."""
    hive = find_hive()
    for message in ids:
        hive.post(f"/api/messages/{message}/requeue")
        show(f"queued {message} again")


@commands.command()
def dismiss(ids: Ids) -> None:
    """Leave messages that were given up undelivered: they need you no more, and stay in the flow."""
    hive = find_hive()
    for message in ids:
        hive.post(f"/api/messages/{message}/dismiss")
        show(f"dismissed {message}")
