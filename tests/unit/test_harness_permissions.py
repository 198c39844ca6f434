"""Asking the operator about a tool call, against a daemon's end that is scripted here."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from harness_rig import eventually
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.questions import PERMISSION_OPTIONS
from hyperhive.harness.engine_wire import PermissionAnswer, PermissionAskParams
from hyperhive.harness.link import Link
from hyperhive.harness.peer import Peer
from hyperhive.harness.permissions import COMMAND_LIMIT_CHARS, Permissions, render_summary

BASH = PermissionAskParams(tool="Bash", arguments={"command": "git push"}, rule="bash.ask: git push *")


class Asked:
    """A real link to a daemon's end that answers as `answers` says, one after the other, the last for ever."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self.requests: list[dict[str, Any]] = []
        self.answers: list[Any] = []
        self.told: list[str] = []
        self.gate: Callable[[], Awaitable[object]] | None = None
        self.link = Link(socket, 1, list, lambda _: None, self._refuse)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Peer(reader, writer, self._answer).run()

    async def _answer(self, method: str, params: dict[str, Any]) -> Any:
        if method == "hello":
            return {"agent": "alice", "manager": False, "events_stored_seq": 0, "config": {}}
        self.requests.append(params)
        if self.gate is not None:
            await self.gate()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _refuse(self, method: str, params: dict[str, Any]) -> Any:
        raise InvalidInputError(method)


@pytest.fixture
async def asked(tmp_path: Path) -> AsyncIterator[Asked]:
    daemon = Asked(tmp_path / "hive.sock")
    server = await asyncio.start_unix_server(daemon.serve, tmp_path / "hive.sock")
    running = asyncio.create_task(daemon.link.run())
    yield daemon
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    server.close()


def _decided(decision: str, reason: str = "") -> dict[str, Any]:
    return {"id": 3, "decision": decision, "reason": reason}


def _permissions(asked: Asked, ttl_s: float = 30.0) -> Permissions:
    return Permissions(asked.link, asked.told.append, ttl_s)


async def test_one_question_is_asked_again_under_one_key_until_it_is_decided(asked: Asked) -> None:
    asked.answers = [_decided(""), _decided("allow_once")]
    assert (await _permissions(asked).ask(BASH))["granted"] is True
    first, second = asked.requests
    assert first == second
    assert (first["tool"], first["summary"], first["rule"]) == ("Bash", "git push", "bash.ask: git push *")
    assert 0 < first["wait_s"] <= 170
    assert len(first["idempotency_key"]) >= 16


async def test_once_is_once_and_30_minutes_are_remembered_for_that_rule_and_tool(asked: Asked) -> None:
    permissions = _permissions(asked)
    asked.answers = [_decided("allow_once")]
    await permissions.ask(BASH)
    await permissions.ask(BASH)
    assert len(asked.requests) == 2
    assert asked.requests[0]["idempotency_key"] != asked.requests[1]["idempotency_key"]
    asked.answers = [_decided("allow_30m")]
    for _ in range(3):
        assert (await permissions.ask(BASH))["granted"] is True
    assert len(asked.requests) == 3
    await permissions.ask({**BASH, "rule": "permissions.ask: Bash"})
    await permissions.ask({**BASH, "tool": "Monitor"})
    assert len(asked.requests) == 5


async def test_what_was_granted_ends_after_30_minutes_and_with_the_policy(asked: Asked) -> None:
    now_s = 100.0
    permissions = Permissions(asked.link, asked.told.append, 30.0, lambda: now_s)
    asked.answers = [_decided("allow_30m")]
    await permissions.ask(BASH)
    permissions.forget()
    await permissions.ask(BASH)
    assert len(asked.requests) == 2
    now_s += 1799
    await permissions.ask(BASH)
    assert len(asked.requests) == 2
    now_s += 2
    await permissions.ask(BASH)
    assert len(asked.requests) == 3


@pytest.mark.parametrize(
    "answer",
    [_decided("deny", "too early"), _decided("perhaps"), _decided("ALLOW_ONCE"), {}, [], None, {"decision": True}],
)
async def test_whatever_is_not_a_permission_denies_and_is_not_remembered(asked: Asked, answer: Any) -> None:
    permissions = _permissions(asked)
    asked.answers = [answer]
    assert (await permissions.ask(BASH))["granted"] is False
    asked.answers = [_decided("allow_once")]
    assert (await permissions.ask(BASH))["granted"] is True


def test_the_decisions_understood_are_those_that_the_operator_is_offered() -> None:
    assert set(PERMISSION_OPTIONS.values()) == {"allow_once", "allow_30m", "deny"}


async def test_the_operators_reason_reaches_the_agent(asked: Asked) -> None:
    asked.answers = [_decided("deny", "too early")]
    assert "too early" in (await _permissions(asked).ask(BASH))["reason"]


async def test_a_refusal_of_the_daemon_denies(asked: Asked) -> None:
    asked.answers = [InvalidInputError("no such thing")]
    answer = await _permissions(asked).ask(BASH)
    assert answer == PermissionAnswer(granted=False, reason="the operator cannot be asked: no such thing")


async def test_without_an_answer_in_the_life_of_the_question_it_denies(asked: Asked) -> None:
    asked.answers = [_decided("")]
    asked.gate = asyncio.Event().wait
    answer = await _permissions(asked, ttl_s=-59.9).ask(BASH)
    assert answer["granted"] is False
    assert "no answer in time" in answer["reason"]


async def test_the_turn_shows_what_it_waits_for_and_that_it_goes_on(asked: Asked) -> None:
    answered = asyncio.Event()
    asked.answers = [_decided("deny")]
    asked.gate = answered.wait
    permissions = _permissions(asked)
    first = asyncio.create_task(permissions.ask(BASH))
    second = asyncio.create_task(permissions.ask({**BASH, "tool": "WebFetch"}))
    await eventually(lambda: len(asked.requests) == 2)
    assert asked.told == [
        "waits for the operator's permission: Bash",
        "waits for the operator's permission: WebFetch",
    ]
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert asked.told[-1] == "waits for the operator's permission: WebFetch"
    answered.set()
    await second
    assert asked.told[-1] == ""


async def test_only_so_many_calls_wait_at_once(asked: Asked) -> None:
    asked.answers = [_decided("deny")]
    asked.gate = asyncio.Event().wait
    permissions = _permissions(asked)
    waiting = [asyncio.create_task(permissions.ask(BASH)) for _ in range(16)]
    await eventually(lambda: len(asked.requests) == 16)
    assert (await permissions.ask(BASH))["granted"] is False
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


# -- what the operator reads -------------------------------------------------------------------------------


async def test_a_command_that_cannot_be_shown_whole_is_denied_unasked(asked: Asked) -> None:
    for command in ("x" * (COMMAND_LIMIT_CHARS + 1), "\u202e" * (COMMAND_LIMIT_CHARS // 2)):
        answer = await _permissions(asked).ask({**BASH, "arguments": {"command": command}})
        assert answer["granted"] is False
        assert "split it" in answer["reason"]
        assert str(COMMAND_LIMIT_CHARS) in answer["reason"]
    assert asked.requests == []
    command = "x" * COMMAND_LIMIT_CHARS
    assert render_summary("Bash", {"command": command, "description": "harmless"}) == command


def test_how_a_command_is_run_stands_beneath_it() -> None:
    assert render_summary("Bash", {"command": "make", "run_in_background": True}) == (
        'make\n\n{"run_in_background": true}'
    )
    long = render_summary("Bash", {"command": "make", "surprise": "y" * 5000})
    assert len(long) < 300
    assert "more characters" in long


def test_another_tool_is_shown_as_its_input_and_what_is_left_out_is_told() -> None:
    assert render_summary("WebFetch", {"url": "http://x/", "prompt": "é"}) == '{"url":"http://x/","prompt":"é"}'
    assert render_summary("mcp__notes__run", {"command": "make"}) == '{"command":"make"}'
    long = render_summary("Write", {"file_path": "/state/x", "content": "y" * 5000})
    assert len(long) < 2100
    assert "more characters" in long
