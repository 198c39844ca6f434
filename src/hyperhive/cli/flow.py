"""Commands about what all say to one another: tail, search, message."""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import typer

from hyperhive.cli.client import Client, NoHiveError, Row, find_hive, parse_id
from hyperhive.cli.completion import complete_agents
from hyperhive.cli.console import JsonOption, observe_screen, show, show_error, show_json
from hyperhive.cli.messages import PAGE, render_message
from hyperhive.cli.rendering import Column, Screen, field, line_field, render_age, render_block, render_table
from hyperhive.core.errors import InvalidInputError, UnavailableError
from hyperhive.core.messages import MessageState, SenderKind
from hyperhive.core.names import parse_recipient
from hyperhive.core.search import UNSEARCHED_HEADER, parse_search
from hyperhive.core.text import cut_text, render_safe_line

FOLLOW_INTERVAL_S = 0.5
# Ids that `--state` remembers to have shown.
SEEN_LIMIT = 100_000
# Lines of a message that are shown of what was found.
HIT_LINES = 3

commands = typer.Typer()

AgentOption = Annotated[
    str, typer.Option("--agent", metavar="NAME", help="Only from or to this one.", autocompletion=complete_agents)
]
StateOption = Annotated[MessageState | None, typer.Option("--state", help="Only what is in this state.")]
KindOption = Annotated[SenderKind | None, typer.Option("--kind", help="Only from such a sender.")]

Query = dict[str, str | int]


def _render_query(agent: str, state: MessageState | None, kind: SenderKind | None) -> Query:
    query: Query = {}
    if agent:
        query["agent"] = parse_recipient(agent)
    if state is not None:
        query["state"] = state.value
    if kind is not None:
        query["kind"] = kind.value
    return query


# -- tail ------------------------------------------------------------------------------------------------------


@commands.command()
def tail(
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=PAGE, help="How many earlier ones first.")] = 10,
    agent: AgentOption = "",
    state: StateOption = None,
    kind: KindOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what all say to one another, as it is said. It goes on when the hive was restarted."""
    hive = find_hive()
    query = _render_query(agent, state, kind)
    pieces = _follow_state(hive, query, lines) if state is not None else _follow(hive, query, lines)
    try:
        for rows in pieces:
            for row in rows:
                if as_json:
                    show_json(row)
                else:
                    show(render_line(row, observe_screen()))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _follow(hive: Client, query: Query, lines: int) -> Iterator[list[Row]]:
    """The last messages, then whatever is sent: by its id, so that nothing is missed and nothing comes twice."""
    newest = hive.get_rows("/api/messages", {"limit": 1})
    last = max((parse_id(row) for row in newest), default=0)
    if lines:
        first = hive.get_rows("/api/messages", query | {"limit": lines, "before": last + 1})
        yield list(reversed(first))
    while True:
        rows = _get_rows_in_time(hive, query | {"after": last, "limit": PAGE})
        if rows:
            last = max(parse_id(row) for row in rows)
            yield rows
        if len(rows) < PAGE:
            time.sleep(FOLLOW_INTERVAL_S)


def _follow_state(hive: Client, query: Query, lines: int) -> Iterator[list[Row]]:
    """The last messages in a state, then each that comes into it, once."""
    wanted = query | {"limit": PAGE}
    rows = hive.get_rows("/api/messages", wanted)
    yield list(reversed(rows[:lines]))
    seen = {parse_id(row) for row in rows}
    while True:
        time.sleep(FOLLOW_INTERVAL_S)
        rows = [row for row in _get_rows_in_time(hive, wanted) if parse_id(row) not in seen]
        seen.update(parse_id(row) for row in rows)
        if len(seen) > SEEN_LIMIT:
            seen = set(sorted(seen)[-SEEN_LIMIT // 2 :])
        yield list(reversed(rows))


def _get_rows_in_time(hive: Client, query: Query) -> list[Row]:
    """What the hive answers, be it after a restart."""
    told = False
    while True:
        try:
            return hive.get_rows("/api/messages", query)
        except (NoHiveError, UnavailableError) as error:
            if not told:
                show_error(type(error)(error.message, "waiting for it; end this with Ctrl-C"))
            told = True
            time.sleep(FOLLOW_INTERVAL_S)


def render_line(row: Row, screen: Screen) -> str:
    """A message on one line: when, which, from whom to whom, its state if it is no plain one, and how it begins."""
    head = (
        f"{_render_time(row)}  #{line_field(row, 'id')}  {line_field(row, 'sender')} → {line_field(row, 'recipient')}"
    )
    state = line_field(row, "state")
    if state in (MessageState.DEAD, MessageState.EXPIRED):
        head += f"  {state}"
    text = render_safe_line(field(row, "body").strip())
    if screen.width is not None:
        text = cut_text(text, max(screen.width - len(head) - 2, 20))
    return f"{screen.dim(head)}  {text}"


def _render_time(row: Row) -> str:
    """In the time zone of this machine; the day as well if it was not today."""
    try:
        at = datetime.fromisoformat(field(row, "sent_at")).astimezone()
    except ValueError:
        return "?"
    return f"{at:%H:%M:%S}" if at.date() == datetime.now().astimezone().date() else f"{at:%Y-%m-%d %H:%M}"


# -- search ----------------------------------------------------------------------------------------------------


@commands.command()
def search(
    words: Annotated[list[str], typer.Argument(metavar="WORDS...", help="Words, 'a \"phrase\"', or a beginning*.")],
    agent: AgentOption = "",
    state: StateOption = None,
    kind: KindOption = None,
    thread: Annotated[int | None, typer.Option("--thread", metavar="ID", min=1, help="Only in this one.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=PAGE, help="How many at most.")] = 20,
    before: Annotated[
        int | None, typer.Option("--before", metavar="ID", min=1, help="Only messages older than this one.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find messages that contain all of the words, the newest last."""
    # What is no text is no word of any message.
    text = " ".join(words).encode("utf-8", "replace").decode()
    if parse_search(text) is None:
        raise InvalidInputError("there is nothing to search for", "name a word")
    query = _render_query(agent, state, kind) | {"search": text, "limit": limit}
    query |= {} if thread is None else {"thread": thread}
    query |= {} if before is None else {"before": before}
    rows, unsearched = find_hive().get_rows_and_header("/api/messages", query, UNSEARCHED_HEADER)
    if as_json:
        show_json(rows)
    else:
        show(render_hits(rows, text, observe_screen()))
    if unsearched:
        typer.echo(f"{render_safe_line(unsearched)} messages are not indexed yet: try again in a while", err=True)
    elif len(rows) == limit and not as_json:
        typer.echo(f"there may be more: --before {parse_id(rows[-1])}", err=True)


def render_hits(rows: list[Row], text: str, screen: Screen) -> str:
    """Messages with those of their lines in which something was found."""
    words = _list_words(text)
    blocks = [render_message(row | {"body": _pick_lines(field(row, "body"), words)}, screen) for row in reversed(rows)]
    return "\n\n".join(blocks) if blocks else "nothing found"


def _list_words(text: str) -> list[str]:
    found = parse_search(text)
    return [] if found is None else [word.casefold() for term in found.terms for word in term.text.split()]


def _pick_lines(body: str, words: list[str]) -> str:
    lines = [line for line in body.split("\n") if line.strip()]
    hits = [line for line in lines if any(word in line.casefold() for word in words)] or lines
    return "\n".join(hits[:HIT_LINES] + ["…"] * (len(lines) > len(hits[:HIT_LINES])))


# -- message ---------------------------------------------------------------------------------------------------


@commands.command()
def message(
    number: Annotated[int, typer.Argument(metavar="ID", min=1, help="Its number.")],
    as_json: JsonOption = False,
) -> None:
    """Show a whole message, what became of it, and the conversation it belongs to."""
    hive = find_hive()
    row = hive.get_row(f"/api/messages/{number}")
    receipts = hive.get_rows(f"/api/messages/{number}/receipts") if row.get("broadcast") is not None else [row]
    key = row.get("thread") or row.get("id")
    thread = hive.get_rows("/api/messages", {"thread": str(key), "limit": PAGE})
    if as_json:
        show_json({"message": row, "receipts": receipts, "thread": thread})
    else:
        show(render_whole(row, receipts, thread, observe_screen()))


def render_whole(row: Row, receipts: list[Row], thread: list[Row], screen: Screen) -> str:
    head = f"#{line_field(row, 'id')} from {line_field(row, 'sender')} to {line_field(row, 'recipient')}"
    facts = [f"{name}: {value}" for name, value in _list_facts(row, screen)]
    parts = [render_block("\n".join([screen.title(head), *facts]), field(row, "body"), screen)]
    if len(receipts) > 1:
        parts.append("\n".join([screen.title("sent to all"), _render_receipts(receipts, screen)]))
    others = [other for other in reversed(thread) if other.get("id") != row.get("id")]
    if others:
        key = line_field(row, "thread" if row.get("thread") is not None else "id")
        title = screen.title(f"in the same conversation (hive inbox --thread {key})")
        parts.append("\n".join([title, *(render_line(other, screen) for other in others)]))
    return "\n\n".join(parts)


def _list_facts(row: Row, screen: Screen) -> Iterator[tuple[str, str]]:
    """What there is to say of a message beside its text."""
    yield "sent", f"{line_field(row, 'sent_at')}, {render_age(field(row, 'sent_at'), screen.now)} ago"
    state = line_field(row, "state")
    yield "state", state if row.get("settled_at") is None else f"{state} at {line_field(row, 'settled_at')}"
    yield "sender", line_field(row, "kind")
    for name, title in (("priority", "priority"), ("deliveries", "deliveries"), ("expires_at", "expires")):
        if row.get(name) not in (None, "normal", 0):
            yield title, line_field(row, name)
    for name, title in (("in_reply_to", "answers"), ("thread", "thread"), ("broadcast", "to all, with")):
        if row.get(name) is not None:
            yield title, f"#{line_field(row, name)}"
    # What a harness said of why it gave it back.
    if row.get("note"):
        yield "note", line_field(row, "note")


def _render_receipts(rows: list[Row], screen: Screen) -> str:
    columns = [
        Column("ID", lambda row: field(row, "id")),
        Column("TO", lambda row: field(row, "recipient")),
        Column("STATE", lambda row: field(row, "state"), state=True),
        Column("SINCE", lambda row: _render_since(row, screen)),
    ]
    return render_table(columns, rows, screen)


def _render_since(row: Row, screen: Screen) -> str:
    return render_age(field(row, "sent_at" if row.get("settled_at") is None else "settled_at"), screen.now)
