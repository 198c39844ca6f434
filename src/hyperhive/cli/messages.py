"""Commands about messages and questions: send, inbox, ack, questions, answer."""

import sys
import uuid
from typing import Annotated, Any

import typer

from hyperhive.cli.client import find_hive, parse_row
from hyperhive.cli.console import JsonOption, observe_screen, show, show_json
from hyperhive.cli.rendering import Screen, line_field, render_age, render_block, render_exact_line, render_wait
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.messages import BODY_LIMIT_BYTES, parse_body
from hyperhive.core.names import parse_recipient
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


@commands.command()
def send(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An agent, or manager.")],
    body: Annotated[str, typer.Argument(metavar="BODY", help="The text; '-' or nothing reads standard input.")] = "-",
    reply_to: Annotated[int | None, typer.Option("--reply-to", metavar="ID", help="The message this answers.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Send a message. It is safely stored when this returns."""
    recipient = parse_recipient(name)
    text = parse_body(_read_standard_input() if body == "-" else body)
    # The key makes it one message, also if the same request should arrive twice.
    request = {"to": recipient, "body": text, "in_reply_to": reply_to, "idempotency_key": uuid.uuid4().hex}
    created = parse_row(find_hive().post("/api/messages", request))
    if as_json:
        show_json(created)
    else:
        show(f"sent {line_field(created, 'id')} to {recipient}")


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
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500, help="How many at most.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show the messages to you, the newest last."""
    rows = find_hive().get_rows("/api/inbox", {"limit": limit})
    if as_json:
        show_json(rows)
    else:
        show(render_inbox(rows, observe_screen()))


def render_inbox(rows: list[dict[str, Any]], screen: Screen) -> str:
    blocks: list[str] = []
    for row in sorted(rows, key=lambda row: int(row.get("id", 0))):
        age = render_age(str(row.get("sent_at")), screen.now)
        head = f"#{line_field(row, 'id')} from {line_field(row, 'sender')}, {age} ago"
        if row.get("in_reply_to") is not None:
            head += f", answers #{line_field(row, 'in_reply_to')}"
        if row.get("state") != "acked":
            head += ", new"
        blocks.append(render_block(screen.title(head), str(row.get("body", "?")), screen))
    return "\n\n".join(blocks) if blocks else "no messages"


@commands.command()
def ack(ids: Annotated[list[int], typer.Argument(metavar="ID...", min=1)]) -> None:
    """Mark messages of the inbox as read."""
    hive = find_hive()
    for message in ids:
        hive.post(f"/api/inbox/{message}/ack")
        show(f"read {message}")


@commands.command()
def questions(
    every: Annotated[bool, typer.Option("--all", help="Those already ended too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what agents ask you."""
    rows = find_hive().get_rows("/api/questions", None if every else {"status": "open"})
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
    find_hive().post(f"/api/questions/{question}/answer", {"options": chosen, "text": text})
    show(f"answered {question}")
