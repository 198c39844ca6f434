"""The tools for reminders: what reaches the daemon, under which key, and what claude reads."""

from collections.abc import Mapping
from typing import Any

import pytest

from hyperhive.core.errors import HiveError, InvalidInputError, UnavailableError
from hyperhive.harness.inbox import Inbox
from hyperhive.harness.link import Link
from hyperhive.harness.tools import Toolbox

DUE = "2026-11-21T19:30:00+00:00"
CALL = {"note": "look at the build", "in_seconds": 60}


class Daemon(Link):
    """Answers each request with the next of `answers`, or raises it."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, Mapping[str, Any]]] = []

    async def request(self, method: str, params: Mapping[str, Any], *_: Any, **__: Any) -> Any:
        self.requests.append((method, params))
        answer = self.answers.pop(0)
        if isinstance(answer, HiveError):
            raise answer
        return answer


@pytest.mark.parametrize(
    ("tool", "arguments", "answer", "text"),
    [
        (
            "remind_me",
            CALL,
            {"id": 3, "due_at": DUE, "note": "x"},
            f"reminder 3 is set: its note arrives as a message from 'system' at {DUE}",
        ),
        ("cancel_reminder", {"id": 3}, {}, "reminder 3 is cancelled"),
        ("list_reminders", {}, {"reminders": []}, "no reminders wait"),
    ],
)
async def test_each_tool_is_one_request_and_its_answer_plain_text(
    tool: str, arguments: dict[str, Any], answer: Any, text: str
) -> None:
    daemon = Daemon(answer)
    result = await Toolbox(daemon, Inbox()).call(tool, arguments)
    assert result == {"text": text}
    [(method, params)] = daemon.requests
    assert method == tool
    assert {key: value for key, value in params.items() if key != "idempotency_key"} == arguments


async def test_a_list_of_reminders_shows_id_time_and_note() -> None:
    result = await Toolbox(Daemon({"reminders": [{"id": 3, "due_at": DUE, "note": "Käthe"}]}), Inbox()).call(
        "list_reminders", {}
    )
    for part in ('"id": 3', DUE, "Käthe"):
        assert part in result["text"]


async def test_a_reminder_that_was_not_answered_counts_once_when_it_is_repeated() -> None:
    daemon = Daemon(UnavailableError("the daemon is away"), {"id": 3, "due_at": DUE}, {"id": 4, "due_at": DUE})
    toolbox = Toolbox(daemon, Inbox())
    assert "it is not known whether this was done" in (await toolbox.call("remind_me", CALL))["text"]
    for _ in range(2):
        await toolbox.call("remind_me", CALL)
    first, again, another = [params["idempotency_key"] for _, params in daemon.requests]
    assert first == again != another


async def test_a_refusal_says_what_to_do() -> None:
    daemon = Daemon(InvalidInputError("give either at or in_seconds", "in_seconds: 600"))
    result = await Toolbox(daemon, Inbox()).call("remind_me", {"note": "x"})
    assert result == {"text": "give either at or in_seconds (in_seconds: 600)", "is_error": True}
