"""The command about agents' notes: what became of them, how they changed, and how to get an earlier text back."""

import re
from typing import Annotated

import typer

from hyperhive.cli.agents import Name
from hyperhive.cli.client import Client, Row, find_hive, parse_row, parse_rows
from hyperhive.cli.console import JsonOption, YesOption, confirm_once, observe_screen, show, show_json
from hyperhive.cli.diffs import DiffStyle, render_files
from hyperhive.cli.prefixes import get_by_prefix
from hyperhive.cli.rendering import Column, Screen, field, line_field, render_age, render_full_table, render_size
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.names import parse_known_agent_name

# As many digits as tell one version from the others, for reading and for typing.
COMMIT_COLUMNS = 12
_COMMIT = re.compile(r"[0-9a-f]{7,40}", re.ASCII)

_KINDS = {
    "compacted": "rewritten shorter",
    "asked": "a rewrite that you were asked about",
    "restored": "brought back",
    "kept": "what stood there",
}

commands = typer.Typer()


@commands.command()
def notes(
    name: Name,
    show_: Annotated[str, typer.Option("--show", metavar="COMMIT", help="How this version changed them.")] = "",
    restore: Annotated[str, typer.Option("--restore", metavar="COMMIT", help="Bring this version back.")] = "",
    full: Annotated[bool, typer.Option("--full", help="With --show: a large change, too.")] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """List the versions of an agent's notes that the hive kept, show one, or bring one back."""
    agent = parse_known_agent_name(name)
    if show_ and restore:
        raise typer.BadParameter("give --show or --restore, not both")
    hive = find_hive()
    if restore:
        _restore(hive, agent, restore, yes=yes, as_json=as_json)
    elif show_:
        diff = hive.get_row(f"/api/notes/{agent}/{_find_commit(hive, agent, show_)}")
        if as_json:
            show_json(diff)
        else:
            show(render_notes_diff(diff, agent, observe_screen(), DiffStyle(full=full)))
    else:
        rows = hive.get_rows(f"/api/notes/{agent}")
        if as_json:
            show_json(rows)
        else:
            show(render_versions(rows, agent, observe_screen()))


def _restore(hive: Client, agent: str, text: str, *, yes: bool, as_json: bool) -> None:
    commit = _find_commit(hive, agent, text)
    confirm_once(f"Replace the notes of {agent} by version {commit[:COMMIT_COLUMNS]}?", yes=yes)
    version = parse_row(hive.post(f"/api/notes/{agent}/restore", {"commit": commit}))
    if as_json:
        show_json(version)
    else:
        show(f"restored the notes of {agent}; what stood there is kept: `hive notes {agent}` lists it")


def _find_commit(hive: Client, agent: str, text: str) -> str:
    """The full name of the version that `text`, the beginning of it, means.

    Raises InvalidInputError for what cannot be one, NotFoundError if it is none or could be several.
    """
    if not _COMMIT.fullmatch(text):
        raise InvalidInputError(f"{text[:80]!r} is not a version", f"`hive notes {agent}` lists them")
    if len(text) == 40:
        return text
    commits = [field(row, "commit") for row in hive.get_rows(f"/api/notes/{agent}", {"limit": 500})]
    return get_by_prefix(commits, text, "version", f"`hive notes {agent}` lists them")


def render_versions(rows: list[Row], agent: str, screen: Screen) -> str:
    """The versions, the newest first."""
    if not rows:
        return f"the hive has not changed the notes of {agent} yet"
    columns = [
        Column("VERSION", lambda row: field(row, "commit")[:COMMIT_COLUMNS]),
        Column("AGE", lambda row: render_age(field(row, "at"), screen.now)),
        Column("SIZE", lambda row: render_size(row.get("size_after", 0))),
        Column("WHAT", lambda row: _KINDS.get(field(row, "kind"), field(row, "kind"))),
    ]
    hint = screen.dim(f"hive notes {agent} --show VERSION · hive notes {agent} --restore VERSION")
    return "\n".join([render_full_table(columns, rows, screen), "", hint])


def render_notes_diff(diff: Row, agent: str, screen: Screen, style: DiffStyle) -> str:
    """What one version is, and how it differs from the one before it."""
    version, files = parse_row(diff.get("version")), parse_rows(diff.get("files"))
    kind = line_field(version, "kind")
    head = screen.title(f"notes of {agent}, version {line_field(version, 'commit')}")
    sizes = f"{render_size(version.get('size_before', 0))} → {render_size(version.get('size_after', 0))}"
    what = f"{_KINDS.get(kind, kind)}, {render_age(field(version, 'at'), screen.now)} ago, {sizes}"
    body = render_files(files, screen, style) if files else "it changes nothing"
    hint = screen.dim(f"hive notes {agent} --restore {line_field(version, 'commit')[:COMMIT_COLUMNS]}")
    return f"{head}\n{what}\n\n{body}\n\n{hint}"
