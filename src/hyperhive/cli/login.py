"""`hive login`: lets an agent's claude into the operator's account."""

import getpass
import sys
from typing import Annotated, Any

import typer

from hyperhive.cli.client import Client, find_hive, parse_row
from hyperhive.cli.completion import complete_agents
from hyperhive.cli.console import JsonOption, show, show_json
from hyperhive.cli.rendering import line_field
from hyperhive.core.errors import HiveError, InvalidInputError, UnavailableError
from hyperhive.core.login import CODE_LIMIT_CHARS, parse_login_code, parse_login_url
from hyperhive.core.names import parse_known_agent_name
from hyperhive.core.text import render_safe_line

_STDIN = "-"

commands = typer.Typer()


@commands.command()
def login(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The agent.", autocompletion=complete_agents)],
    code: Annotated[
        str | None,
        typer.Option(
            "--code", metavar="-", help="End a login that was begun, with the code from standard input; '-' only."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Log an agent's claude in: prints a link, and reads the code that its page shows."""
    agent = parse_known_agent_name(name)
    if code not in {None, _STDIN}:
        raise typer.BadParameter("only '-': others could read a code among the arguments", param_hint="--code")
    hive = find_hive()
    place = f"/api/agents/{agent}/login"
    if code is None:
        _show_link(parse_row(hive.post(place)), agent)
    given = _read_code(hive, place, asked=code is None)
    answer = parse_row(hive.post(f"{place}/code", {"code": given}))
    if as_json:
        show_json(answer)
    else:
        show(_render_login(agent, answer))


def _show_link(answer: dict[str, Any], agent: str) -> None:
    """On standard error: what is printed for programs is the result."""
    try:
        url = parse_login_url(str(answer.get("url")))
    except ValueError as error:
        raise UnavailableError(f"the link for {agent} {error}", "do not follow it") from error
    print(f"open this, allow it, and copy the code that the page shows:\n\n{url}\n", file=sys.stderr, flush=True)


def _read_code(hive: Client, place: str, *, asked: bool) -> str:
    """The code, from the terminal without an echo, or from standard input. A login given up is ended."""
    try:
        text = getpass.getpass("code: ") if sys.stdin.isatty() else sys.stdin.readline(2 * CODE_LIMIT_CHARS)
        return parse_login_code(text)
    except (KeyboardInterrupt, EOFError) as error:
        if asked:
            _give_up(hive, place)
        raise typer.Exit(1) from error
    except ValueError as error:
        raise InvalidInputError(
            f"that {error}", "the link stays good for a while: run this again, or pipe the code to --code -"
        ) from error


def _give_up(hive: Client, place: str) -> None:
    print("\nthe login is given up", file=sys.stderr)
    try:
        hive.delete(place)
    except HiveError as error:
        print(f"hive: it ends by itself: {render_safe_line(error.message)}", file=sys.stderr)


def _render_login(agent: str, answer: dict[str, Any]) -> str:
    account = line_field(answer, "account")
    expires = line_field(answer, "expires_at")[:10]
    return f"{agent} is logged in" + (f" as {account}" if account else "") + (f", until {expires}" if expires else "")
