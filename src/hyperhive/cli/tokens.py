"""Commands about API tokens: token create, list, revoke. A program shows one instead of a session."""

from typing import Annotated

import typer

from hyperhive.cli.client import Row, find_hive, parse_row
from hyperhive.cli.console import JsonOption, observe_screen, show, show_json
from hyperhive.cli.own_hand import check_own_hand
from hyperhive.cli.rendering import Column, Screen, field, line_field, render_age, render_table, render_wait
from hyperhive.core.tokens import TokenScope, parse_lifetime, parse_scopes, parse_token_name

commands = typer.Typer()
token = typer.Typer(no_args_is_help=True, help="Let programs use the API.")
commands.add_typer(token, name="token")

# Whoever has one of these makes decisions.
_DECIDING = frozenset({TokenScope.DECIDE, TokenScope.ADMIN})

TokenName = Annotated[str, typer.Argument(metavar="NAME", help="By what you know it.")]


@token.command()
def create(
    name: TokenName,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="SCOPE", help="read, send, decide or admin (all); more than once for several."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="SPAN", help="Such as 12h or 30d; without: when you revoke it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token and print its secret, once."""
    scopes = parse_scopes(scope or [])
    if scopes & _DECIDING:
        check_own_hand(f"hive token create {name} --scope …")
    body: Row = {"name": parse_token_name(name), "scopes": sorted(scopes)}
    if expires is not None:
        body["expires_s"] = int(parse_lifetime(expires).total_seconds())
    answer = parse_row(find_hive().post("/api/tokens", body))
    if as_json:
        show_json(answer)
    else:
        show(line_field(answer, "secret"))


@token.command(name="list")
def list_tokens(as_json: JsonOption = False) -> None:
    """List the tokens that there are."""
    rows = find_hive().get_rows("/api/tokens")
    if as_json:
        show_json(rows)
    else:
        show(render_tokens(rows, observe_screen()))


@token.command()
def revoke(name: TokenName) -> None:
    """End a token, at once."""
    find_hive().delete(f"/api/tokens/{parse_token_name(name)}")
    show(f"revoked {name}: whoever has it is refused from now on")


def render_tokens(rows: list[Row], screen: Screen) -> str:
    columns = [
        Column("NAME", lambda row: field(row, "name")),
        Column("SCOPES", lambda row: " ".join(str(scope) for scope in row.get("scopes", []))),
        Column("MADE", lambda row: f"{render_age(field(row, 'created_at'), screen.now)} ago"),
        Column("EXPIRES", lambda row: _render_end(row, screen)),
        Column("USED", lambda row: _render_use(row, screen)),
    ]
    return render_table(columns, rows, screen) if rows else "there is no token: hive token create NAME --scope read"


def _render_end(row: Row, screen: Screen) -> str:
    if not row.get("expires_at"):
        return "never"
    wait = render_wait(field(row, "expires_at"), screen.now)
    return "expired" if wait == "0 s" else f"in {wait}"


def _render_use(row: Row, screen: Screen) -> str:
    """To the hour: what is stored is no finer."""
    return f"about {render_age(field(row, 'last_used_at'), screen.now)} ago" if row.get("last_used_at") else "never"
