"""The tools for questions and receipts: what reaches the daemon, under which key, and what claude reads."""

from collections.abc import Mapping
from typing import Any

import pytest

from hyperhive.core.errors import HiveError, RefusedError, UnavailableError
from hyperhive.harness.inbox import Inbox
from hyperhive.harness.link import Link
from hyperhive.harness.tools import Toolbox

ASK = {"to": "bob", "question": "which?", "options": ["a", "b"], "multi": True, "ttl_seconds": 60}


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
        ("ask", ASK, {"id": 3}, "question 3 is asked; the answer arrives as a message from 'bob'"),
        ("answer", {"id": 3, "options": ["a"], "text": "x"}, {}, "question 3 is answered"),
        ("cancel_question", {"id": 3}, {}, "question 3 is cancelled"),
        (
            "send",
            {"to": "*", "body": "x", "priority": "high"},
            {"id": 4, "ids": [4, 5]},
            "message 4 is sent to 2 agents",
        ),
        ("send", {"to": "*", "body": "x", "ttl_seconds": 5}, {"id": 4}, "message 4 to * is sent"),
    ],
)
async def test_each_tool_is_one_request_and_its_answer_plain_text(
    tool: str, arguments: dict[str, Any], answer: Any, text: str
) -> None:
    daemon = Daemon(answer)
    assert await Toolbox(daemon, Inbox()).call(tool, arguments) == {"text": text}
    [(method, params)] = daemon.requests
    assert method == tool
    assert {key: value for key, value in params.items() if key != "idempotency_key"} == arguments
    assert ("idempotency_key" in params) == (tool in {"ask", "send"})


async def test_a_status_shows_each_receipt() -> None:
    receipt = {"id": 4, "to": "bob", "state": "dead", "settled_at": "", "note": "the turn failed"}
    result = await Toolbox(Daemon({"receipts": [receipt]}), Inbox()).call("message_status", {"id": 4})
    for part in ('"to": "bob"', '"state": "dead"', "the turn failed"):
        assert part in result["text"]


async def test_a_question_that_was_not_answered_in_time_is_asked_once_when_it_is_repeated() -> None:
    daemon = Daemon(UnavailableError("the daemon is away"), {"id": 3}, {"id": 4})
    toolbox = Toolbox(daemon, Inbox())
    assert "it is not known whether this was done" in (await toolbox.call("ask", ASK))["text"]
    for _ in range(2):
        await toolbox.call("ask", ASK)
    first, again, another = [params["idempotency_key"] for _, params in daemon.requests]
    assert first == again != another


async def test_a_refusal_says_what_to_do() -> None:
    daemon = Daemon(RefusedError("bob is not among those", "the manager can propose a change of your config"))
    result = await Toolbox(daemon, Inbox()).call("ask", ASK)
    assert result == {
        "text": "bob is not among those (the manager can propose a change of your config)",
        "is_error": True,
    }
