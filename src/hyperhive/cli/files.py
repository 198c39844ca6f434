"""The command `files`: what is in an agent's /state, as `ls` and `cat` would show it."""

import sys
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from hyperhive.cli.agents import Name
from hyperhive.cli.client import Client, Row, find_hive, parse_rows
from hyperhive.cli.console import JsonOption, observe_screen, show, show_json
from hyperhive.cli.rendering import Column, Screen, field, render_age, render_full_table, render_size
from hyperhive.core.errors import ConflictError, HiveError, InvalidInputError, RefusedError, StorageError
from hyperhive.core.names import parse_known_agent_name
from hyperhive.core.text import render_safe_text

commands = typer.Typer()


@commands.command()
def files(
    name: Name,
    path: Annotated[str, typer.Argument(metavar="PATH", help="Below /state; a folder or a file.")] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Save the file, as it is, as FILE.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List a folder of an agent's /state, or show a file in it; also of a destroyed agent."""
    agent = parse_known_agent_name(name)
    if output is not None and as_json:
        raise typer.BadParameter("give --output or --json, not both")
    hive = find_hive()
    if output is not None:
        _save(hive, agent, path, output)
        return
    try:
        folder = hive.get_row(f"/api/agents/{agent}/state", {"path": path})
    except ConflictError:
        _show_file(hive.get_row(f"/api/agents/{agent}/state/file", {"path": path}), as_json=as_json)
        return
    if as_json:
        show_json(folder)
    else:
        show(render_folder(folder, observe_screen()))


def _save(hive: Client, agent: str, path: str, output: Path) -> None:
    pieces = hive.read_pieces(f"/api/agents/{agent}/state/download", {"path": path})
    # What the hive refuses leaves the file that is there alone.
    first = next(pieces, b"")
    try:
        with output.open("wb") as file:
            for piece in chain([first], pieces):
                file.write(piece)
    except OSError as error:
        raise StorageError(f"{output} cannot be written: {error.strerror or error}", "is there room for it?") from error
    except HiveError as error:
        raise StorageError(f"{output} is not whole: {error.message}", "save it again") from error


def _show_file(file: Row, *, as_json: bool) -> None:
    if as_json:
        show_json(file)
        return
    if file.get("binary"):
        raise RefusedError(f"{field(file, 'path')} is no text", "`hive files … -o FILE` saves it as it is")
    text = field(file, "text")
    if sys.stdout.isatty():
        print(render_safe_text(text), end="" if text.endswith("\n") else "\n", flush=True)
    else:
        sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
        sys.stdout.flush()
    if file.get("cut"):
        size = file.get("size_bytes", 0)
        raise InvalidInputError(
            f"that is only the beginning: the file has {render_size(size)}", "`hive files … -o FILE` saves all of it"
        )


def render_folder(folder: Row, screen: Screen) -> str:
    """A row for each entry. A name is spelled as it is asked for."""
    entries = parse_rows(folder.get("entries"))
    if not entries:
        return "nothing is there"
    columns = [
        Column("KIND", lambda row: field(row, "kind")),
        Column("SIZE", lambda row: render_size(row.get("size_bytes", 0)) if row.get("kind") == "file" else "-"),
        Column("AGE", lambda row: render_age(field(row, "changed_at"), screen.now)),
        Column("NAME", lambda row: field(row, "name")),
    ]
    table = render_full_table(columns, entries, screen)
    note = f"there are others: these are the first {len(entries):,} by name"
    return f"{table}\n\n{screen.dim(note)}" if folder.get("more") else table
