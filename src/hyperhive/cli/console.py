"""Standard output and error as the commands use them."""

import os
import shutil
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from hyperhive.cli.rendering import Screen, render_json
from hyperhive.core.errors import HiveError
from hyperhive.core.text import render_safe_text

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def observe_screen() -> Screen:
    """What standard output can take now. NO_COLOR, if not empty, turns colours off (no-color.org)."""
    terminal = sys.stdout.isatty()
    return Screen(
        now=datetime.now(UTC),
        width=shutil.get_terminal_size().columns if terminal else None,
        colour=terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
    )


def show(text: str) -> None:
    print(text, flush=True)


def show_json(value: Any) -> None:
    show(render_json(value))


def confirm_once(question: str, *, yes: bool) -> None:
    """Asks a person at a terminal, once; a script has said what it wants. Ends with status 1 on a no."""
    if not yes and sys.stdin.isatty() and not typer.confirm(question):
        show("nothing was changed")
        raise typer.Exit(1)


def show_error(error: HiveError) -> None:
    """Message and hint on standard error. Either may quote what an agent or a file said."""
    print(f"hive: {render_safe_text(error.message)}", file=sys.stderr)
    if error.hint:
        print(f"hint: {render_safe_text(error.hint)}", file=sys.stderr)
