"""Commands about messages and questions: send, inbox, ack, questions, answer."""

import re
import sys
import uuid
from typing import Annotated, Any

import typer

from hyperhive.cli.answering import check_may_answer
from hyperhive.cli.client import Client, Row, find_hive, parse_id, parse_row
from hyperhive.cli.completion import complete_agents
from hyperhive.cli.console import JsonOption, observe_screen, show, show_json
from hyperhive.cli.rendering import Screen, line_field, render_age, render_block, render_exact_line, render_wait
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.messages import BODY_LIMIT_BYTES, EVERYBODY, Priority, check_ttl, parse_body
from hyperhive.core.names import OPERATOR, parse_recipient
from hyperhive.core.questions import QuestionKind, QuestionStatus

commands = typer.Typer()

# Who asks what, and what comes of it if nobody answers.
_TITLES: dict[str, str] = {
    QuestionKind.PERMISSION: "{agent} asks for permission",
    QuestionKind.NOTES: "a rewrite of the notes of {agent}",
}
_DEADLINES: dict[str, str] = {
    QuestionKind.PERMISSION: "; denied if nobody answers within {wait}",
    QuestionKind.NOTES: "; the notes stay as they are if nobody answers within {wait}",
}

Id = Annotated[int, typer.Argument(metavar="ID", min=1)]

# The most that the hive gives in one answer.
PAGE = 500
_TTL = re.compile(r"([0-9]{1,9})(s|min|m|h|d)?")
_TTL_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


@commands.command()
def send(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="An agent, manager, or all.", autocompletion=complete_agents)
    ],
    body: Annotated[str, typer.Argument(metavar="BODY", help="The text; '-' or nothing reads standard input.")] = "-",
    reply_to: Annotated[int | None, typer.Option("--reply-to", metavar="ID", help="The message this answers.")] = None,
    priority: Annotated[Priority, typer.Option("--priority", "-p", help="What is delivered first.")] = Priority.NORMAL,
    ttl: Annotated[
        str, typer.Option("--ttl", metavar="TIME", help="Who has not got it by then never does: 90, 10m, 2h, 1d.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Send a message. It is safely stored when this returns."""
    recipient = EVERYBODY if name in (EVERYBODY, "all") else parse_recipient(name)
    request = {
        "to": recipient,
        "in_reply_to": reply_to,
        "priority": priority.value,
        "ttl_s": parse_ttl(ttl) if ttl else None,
        "body": parse_body(_read_standard_input() if body == "-" else body),
        # The key makes it one message, also if the same request should arrive twice.
        "idempotency_key": uuid.uuid4().hex,
    }
    sent = parse_row(find_hive().post("/api/messages", request))
    if as_json:
        show_json(sent)
    elif recipient == EVERYBODY:
        ids = list(sent.get("ids") or [])
        show(f"sent {line_field(sent, 'id')} to {len(ids)} agent{'' if len(ids) == 1 else 's'}")
    else:
        show(f"sent {line_field(sent, 'id')} to {recipient}")


def parse_ttl(text: str) -> int:
    """Seconds of `90`, `90s`, `10m`, `2h` or `1d`. Raises InvalidInputError for all else, and for too long a time."""
    found = _TTL.fullmatch(text.strip())
    if found is None:
        raise InvalidInputError(f"{text[:80]!r} is no time", "write 90, 10m, 2h or 1d")
    seconds = int(found[1]) * _TTL_UNITS[found[2] or ""]
    check_ttl(seconds)
    return seconds


def _read_standard_input() -> str:
    if sys.stdin.isatty():
        print("write the message, end it with Ctrl-D", file=sys.stderr)
    content = sys.stdin.buffer.read(BODY_LIMIT_BYTES + 2)
    try:
        # The line feed that an editor or `echo` puts at the end is no part of the message.
        return content.decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise InvalidInputError("standard input is not UTF-8 text", "send text") from error


@commands.command()
def inbox(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=PAGE, help="How many at most.")] = 20,
    thread: Annotated[
        int | None, typer.Option("--thread", metavar="ID", min=1, help="A whole conversation, your part of it, too.")
    ] = None,
    unread: Annotated[bool, typer.Option("--unread", "-u", help="Only those not read yet.")] = False,
    every: Annotated[bool, typer.Option("--all", "-a", help="However many there are.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the messages to you, by conversation, the newest last."""
    hive = find_hive()
    if thread is not None:
        rows = _load_rows(hive, "/api/messages", {"thread": thread}, limit, every=every)
    else:
        rows = _load_rows(hive, "/api/inbox", {"unread": "true"} if unread else {}, limit, every=every)
    if as_json:
        show_json(rows)
    else:
        show(render_inbox(rows, observe_screen()))


def _load_rows(hive: Client, path: str, query: dict[str, str | int], limit: int, *, every: bool) -> list[Row]:
    """The newest first; page by page if there is no limit."""
    if not every:
        return hive.get_rows(path, query | {"limit": limit})
    rows = page = hive.get_rows(path, query | {"limit": PAGE})
    while len(page) == PAGE:
        page = hive.get_rows(path, query | {"limit": PAGE, "before": parse_id(page[-1])})
        rows = rows + page
    return rows


def render_inbox(rows: list[Row], screen: Screen) -> str:
    """Messages by their threads: the thread in which something was said last comes last."""
    threads: dict[str, list[Row]] = {}
    for row in sorted(rows, key=_order, reverse=True):
        threads.setdefault(line_field(row, "id" if row.get("thread") is None else "thread"), []).append(row)
    blocks = [
        _render_thread(key, list(reversed(messages)), screen) for key, messages in reversed(list(threads.items()))
    ]
    return "\n\n".join(blocks) if blocks else "no messages"


def _order(row: Row) -> int:
    value = row.get("id")
    return value if isinstance(value, int) else 0


def _render_thread(key: str, rows: list[Row], screen: Screen) -> str:
    blocks = [render_message(row, screen) for row in rows]
    if len(rows) > 1:
        blocks.insert(0, screen.dim(f"thread {key}: hive inbox --thread {key}"))
    return "\n\n".join(blocks)


def render_message(row: Row, screen: Screen) -> str:
    """A message with its text."""
    age = render_age(str(row.get("sent_at")), screen.now)
    recipient = line_field(row, "recipient")
    head = f"#{line_field(row, 'id')} from {line_field(row, 'sender')}"
    head += "" if recipient == OPERATOR else f" to {recipient}"
    head += f", {age} ago"
    if row.get("in_reply_to") is not None:
        head += f", answers #{line_field(row, 'in_reply_to')}"
    if row.get("priority") not in (None, Priority.NORMAL):
        head += f", {line_field(row, 'priority')} priority"
    if recipient != OPERATOR:
        head += f", {line_field(row, 'state')}"
    elif row.get("state") != "acked":
        head += ", new"
    return render_block(screen.title(head), str(row.get("body", "?")), screen)


@commands.command()
def ack(ids: Annotated[list[int], typer.Argument(metavar="ID...", min=1)]) -> None:
    """Mark messages of the inbox as read."""
    hive = find_hive()
    for message in ids:
        hive.post(f"/api/inbox/{message}/ack")
        show(f"read {message}")


@commands.command()
def questions(
    every: Annotated[
        bool, typer.Option("--all", help="Those already ended too, and what agents ask one another.")
    ] = False,
    cancel: Annotated[
        int | None, typer.Option("--cancel", metavar="ID", min=1, help="End this question without an answer instead.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what agents ask you."""
    hive = find_hive()
    if cancel is not None:
        check_may_answer(hive, cancel)
        hive.post(f"/api/questions/{cancel}/cancel")
        show(f"cancelled question {cancel}")
        return
    rows = hive.get_rows("/api/questions", {"everyone": "true"} if every else {"status": "open"})
    if as_json:
        show_json(rows)
    else:
        show(render_questions(rows, observe_screen()))


def render_questions(rows: list[dict[str, Any]], screen: Screen) -> str:
    return "\n\n".join(_render_question(row, screen) for row in rows) if rows else "no questions"


def _render_question(row: dict[str, Any], screen: Screen) -> str:
    age = render_age(str(row.get("asked_at")), screen.now)
    kind = str(row.get("kind"))
    title = _TITLES.get(kind, "{agent} asks").format(agent=line_field(row, "agent"))
    if row.get("asked") not in (None, OPERATOR):
        title += f" {line_field(row, 'asked')}"
    head = screen.title(f"#{line_field(row, 'id')} {title}, {age} ago")
    if row.get("status") == QuestionStatus.OPEN:
        wait = render_wait(str(row.get("expires_at")), screen.now)
        head += _DEADLINES.get(kind, "; expires in {wait}").format(wait=wait)
    else:
        head += f", {line_field(row, 'status')}"
    # An option is one line, whatever it holds: it cannot bring another one along.
    options = [
        f"[{number}] {render_exact_line(str(option))}" for number, option in enumerate(row.get("options") or [], 1)
    ]
    text = "\n".join([str(row.get("question", "?")), *options])
    if row.get("answer") is not None:
        text += f"\nanswer: {row['answer']}"
    return render_block(head, text, screen)


@commands.command()
def answer(
    question: Id,
    text: Annotated[str, typer.Argument(metavar="[TEXT]", help="Free text.", show_default=False)] = "",
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", help="An offered option, as it is written; may repeat."),
    ] = None,
) -> None:
    """Answer a question: with options, free text, or both."""
    chosen = option or []
    if not chosen and not text.strip():
        raise InvalidInputError("an answer needs an option or a text", f"hive answer {question} 'your text'")
    hive = find_hive()
    check_may_answer(hive, question)
    hive.post(f"/api/questions/{question}/answer", {"options": chosen, "text": text})
    show(f"answered {question}")
