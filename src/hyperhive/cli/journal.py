"""The command `logs`: what an agent's container wrote, its end, its future, or the lines that something is in."""

import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated

import typer

from hyperhive.cli.client import Client, NoHiveError, Row, find_hive
from hyperhive.cli.completion import complete_agents
from hyperhive.cli.console import JsonOption, show_json
from hyperhive.core.errors import UnavailableError
from hyperhive.core.names import parse_known_agent_name
from hyperhive.core.stats import parse_since
from hyperhive.core.text import render_safe_line, render_safe_text

# What the hive waits for before it answers that nothing was written; and the pause if it did not wait.
WAIT_S = 20
FOLLOW_INTERVAL_S = 0.5
# How often a hive that went away is looked for.
LOOK_INTERVAL_S = 1.0
LINES_LIMIT = 5000

commands = typer.Typer()

Query = dict[str, str | int]
Ask = Callable[[Client, str, Query], Row]


@commands.command()
def logs(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The agent.", autocompletion=complete_agents)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written next.")] = False,
    lines: Annotated[int | None, typer.Option("--lines", "-n", metavar="N", min=0, help="Only the last N.")] = None,
    grep: Annotated[str, typer.Option("--grep", metavar="TEXT", help="Only lines with this, whatever the case.")] = "",
    since: Annotated[str, typer.Option("--since", metavar="SPAN", help="Such as 90m, 24h, 7d, or an instant.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Show the log of an agent's container, also of one that was destroyed until it is purged."""
    agent = parse_known_agent_name(name)
    start = parse_since(since, datetime.now(UTC)) if since else None
    hive = find_hive()
    query: Query = {"filter": grep} if grep else {}
    ask = Client.get_row
    try:
        if follow:
            # A hive that is not there at first is not looked for.
            hive.get_row("/api/hive")
            ask = _ask_until_answered
        if start is not None or lines is not None:
            pieces = _read_end(hive, agent, lines, grep, start, ask)
        else:
            pieces = _read_on(hive, agent, query | {"offset": 0}, ask, follow=False)
        end = _show_pieces(pieces, as_json=as_json)
        if follow:
            _show_pieces(_read_on(hive, agent, query | {"offset": end}, ask, follow=True), as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _show_pieces(pieces: Iterator[Row], *, as_json: bool) -> int:
    """Prints each as it comes. Returns where the journal goes on."""
    end = 0
    for piece in pieces:
        end = int(piece.get("next_offset", 0))
        text = str(piece.get("text", ""))
        if text and as_json:
            show_json({"text": text, "next_offset": end})
        elif text:
            print(render_safe_text(text), end="", flush=True)
    return end


def _read_on(hive: Client, agent: str, query: Query, ask: Ask, *, follow: bool) -> Iterator[Row]:
    """From an offset on to the end; with `follow` whatever comes then, too."""
    offset = int(query["offset"])
    waits: Query = {"wait_s": WAIT_S} if follow else {}
    while True:
        asked_at = time.monotonic()
        piece = ask(hive, f"/api/journal/{agent}", query | waits | {"offset": offset})
        yield piece
        moved = int(piece.get("next_offset", offset)) != offset
        offset = int(piece.get("next_offset", offset))
        if not moved and not follow:
            return
        if not moved and time.monotonic() - asked_at < FOLLOW_INTERVAL_S:
            time.sleep(FOLLOW_INTERVAL_S)


def _ask_until_answered(hive: Client, path: str, query: Query) -> Row:
    """As `get_row`, of a hive that may go away and come back. What else is wrong is raised."""
    is_away = False
    while True:
        try:
            answer = hive.get_row(path, query)
        except (NoHiveError, UnavailableError) as error:
            if not is_away:
                print(f"hive: {render_safe_line(error.message)}; looking for it until it is back", file=sys.stderr)
            is_away = True
            time.sleep(LOOK_INTERVAL_S)
            continue
        if is_away:
            print("hive: it is back", file=sys.stderr)
        return answer


def _read_end(
    hive: Client, agent: str, lines: int | None, grep: str, since: datetime | None, ask: Ask
) -> Iterator[Row]:
    """One piece: the last lines, read back as far as is asked for."""
    kept: list[str] = []
    end: int | None = None
    query: Query = {"lines": LINES_LIMIT}
    # Which lines are of a time, only those around them tell: with `since` all of them are needed.
    if grep and since is None:
        query["filter"] = grep
    while True:
        page = ask(hive, f"/api/journal/{agent}", query)
        end = int(page.get("next_offset", 0)) if end is None else end
        found = str(page.get("text", "")).split("\n")
        found = [line + "\n" for line in found[:-1]] + [line for line in found[-1:] if line]
        begin = 0 if since is None else find_since(found, since)
        kept = [line for line in found[begin:] if grep.casefold() in line.casefold()] + kept
        if begin or not page.get("more") or (lines is not None and len(kept) >= lines):
            break
        query["before"] = int(page.get("offset", 0))
    if lines is not None:
        kept = kept[len(kept) - lines :] if 0 < lines < len(kept) else kept if lines else []
    yield {"text": "".join(kept), "next_offset": end}


def find_since(lines: list[str], since: datetime) -> int:
    """The first of `lines` after the last one that says it is older than `since`; 0 if none does.

    A line without a time of its own is as old as the one with a time above it.
    """
    older = False
    begin = 0
    for index, line in enumerate(lines):
        at = _find_time(line)
        older = older if at is None else at < since
        begin = index + 1 if older else begin
    return begin


def _find_time(line: str) -> datetime | None:
    """When a line says that it was written: an RFC 3339 instant at its beginning."""
    try:
        at = datetime.fromisoformat(line.partition(" ")[0])
    except ValueError:
        return None
    return at if at.tzinfo is not None else None
