"""The stand-in of the Messages API, proven by the real claude: what it understands is what the service must say."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKClient,
    ResultMessage,
    SystemMessage,
    create_sdk_mcp_server,
    tool,
)

from hyperhive.testing.messages_api.app import create_app
from stand_in import CLAUDE, DEADLINE_S, StandIn, make_claude_environment, open_client, run_claude, run_stand_in

RESETS_AT = 1_895_180_590


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stand_in() -> AsyncIterator[StandIn]:
    async with run_stand_in() as running:
        yield running


pytestmark = pytest.mark.asyncio(loop_scope="module")


# -- the real claude --------------------------------------------------------------------------------------


async def test_claude_gets_a_plain_answer(stand_in: StandIn, tmp_path: Path) -> None:
    run = await run_claude("hello there", make_claude_environment(stand_in.url, tmp_path))
    assert (run.status, run.result["is_error"], run.result["result"]) == (0, False, "you said: hello there")


async def test_claude_runs_a_tool_and_comes_back_with_its_output(stand_in: StandIn, tmp_path: Path) -> None:
    prompt = '%% tool Bash {"command": "echo stand-in-$((40+2))"}\n%% usage input=5 output=7\n%% say bye'
    run = await run_claude(
        prompt, make_claude_environment(stand_in.url, tmp_path), "--permission-mode", "bypassPermissions"
    )
    (result,) = run.select("user")
    assert result["message"]["content"][0]["content"] == "stand-in-42"
    assert (run.result["result"], run.result["num_turns"]) == ("bye", 2)


async def test_the_usage_of_a_script_is_what_claude_counts(stand_in: StandIn, tmp_path: Path) -> None:
    prompt = "%% usage input=11 output=7 cache_read=5 cache_creation=3\n%% say bye"
    run = await run_claude(prompt, make_claude_environment(stand_in.url, tmp_path))
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    assert [run.result["usage"][name] for name in names] == [11, 7, 5, 3]


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        ("%% prompt-too-long always", 400, "prompt_too_long"),
        ('%% error 400 always message="Your credit balance is too low"', 400, "api_error"),
        ("%% error 401 always", 401, "api_error"),
        ("%% error 403 always", 403, "api_error"),
        ("%% error 404 always", 404, "api_error"),
        ("%% error 413 always", 413, "image_error"),
        ("%% error 429 always", 429, "api_error"),
        ("%% error 500 always", 500, "api_error"),
        ("%% error 529 always", 529, "api_error"),
    ],
)
async def test_every_api_error_reaches_claudes_result(
    stand_in: StandIn, tmp_path: Path, line: str, status: int, reason: str
) -> None:
    run = await run_claude(line, make_claude_environment(stand_in.url, tmp_path))
    assert (run.status, run.result["is_error"]) == (1, True)
    assert (run.result["api_error_status"], run.result["terminal_reason"]) == (status, reason)


@pytest.mark.parametrize("line", ["%% cut", "%% sse-error"])
async def test_after_a_broken_stream_claude_asks_again_and_succeeds(
    stand_in: StandIn, tmp_path: Path, line: str
) -> None:
    run = await run_claude(f"{line}\n%% say whole", make_claude_environment(stand_in.url, tmp_path))
    assert (run.status, run.result["result"]) == (0, "whole")


async def test_an_error_is_used_up_and_then_the_script_goes_on(stand_in: StandIn, tmp_path: Path) -> None:
    environment = make_claude_environment(stand_in.url, tmp_path, CLAUDE_CODE_MAX_RETRIES="1")
    run = await run_claude("%% error 529\n%% say recovered", environment)
    (retry,) = run.select("system", "api_retry")
    assert (retry["error_status"], run.result["result"]) == (529, "recovered")


async def test_a_refused_retry_fails_at_once(stand_in: StandIn, tmp_path: Path) -> None:
    environment = make_claude_environment(stand_in.url, tmp_path, CLAUDE_CODE_MAX_RETRIES="5")
    run = await run_claude("%% error 529 should-retry=false always", environment)
    assert run.select("system", "api_retry") == []
    assert run.result["api_error_status"] == 529


async def test_usage_limits_are_told_to_a_claude_with_a_login(stand_in: StandIn, tmp_path: Path) -> None:
    environment = make_claude_environment(stand_in.url, tmp_path, CLAUDE_CODE_OAUTH_TOKEN="dummy-token")
    del environment["ANTHROPIC_API_KEY"]
    run = await run_claude(f"%% ratelimit rejected resets={RESETS_AT}", environment)
    (limit,) = run.select("rate_limit_event")
    assert limit["rate_limit_info"]["status"] == "rejected"
    assert limit["rate_limit_info"]["resetsAt"] == RESETS_AT
    assert run.result["api_error_status"] == 429
    warned = await run_claude(f"%% ratelimit allowed_warning resets={RESETS_AT}\n%% say ok", environment)
    assert [event["rate_limit_info"]["status"] for event in warned.select("rate_limit_event")] == ["allowed_warning"]
    assert warned.status == 0


async def test_a_wrong_script_is_answered_with_what_is_wrong(stand_in: StandIn, tmp_path: Path) -> None:
    run = await run_claude("%% frobnicate", make_claude_environment(stand_in.url, tmp_path))
    assert "frobnicate" in run.result["result"]


async def test_the_record_shows_what_claude_sent(stand_in: StandIn, tmp_path: Path) -> None:
    await run_claude("a rare word: pterodactyl", make_claude_environment(stand_in.url, tmp_path))
    (seen,) = [entry for entry in await stand_in.list_requests() if "pterodactyl" in entry["user_text"]]
    assert (seen["path"], seen["x_api_key"], seen["authorization"]) == ("/v1/messages", "dummy", None)
    assert seen["user_text"] == "a rare word: pterodactyl"


async def test_a_kept_claude_goes_on_after_failures_interrupts_and_compaction(
    stand_in: StandIn, tmp_path: Path
) -> None:
    options = ClaudeAgentOptions(
        cli_path=CLAUDE, env=make_claude_environment(stand_in.url, tmp_path), cwd=tmp_path, setting_sources=[]
    )
    async with open_client(options) as client:
        assert (await ask(client, "%% error 403 always")).is_error
        # The failed text stays in the conversation before the new one, and must not be played again.
        assert (await ask(client, "still there?")).result == "you said: still there?"
        await client.query("%% hang always")
        interrupted = [
            message async for message in interrupt_when_started(client, stand_in) if isinstance(message, ResultMessage)
        ]
        assert interrupted[0].is_error
        assert (await ask(client, "and now?")).result == "you said: and now?"
        assert (await ask(client, "/compact")).is_error is False
        assert (await ask(client, "%% say after\n%% say never")).result == "after"


async def ask(client: ClaudeSDKClient, prompt: str) -> ResultMessage:
    async with asyncio.timeout(DEADLINE_S):
        await client.query(prompt)
        results = [message async for message in client.receive_response() if isinstance(message, ResultMessage)]
    return results[0]


async def interrupt_when_started(client: ClaudeSDKClient, stand_in: StandIn) -> AsyncIterator[object]:
    """Interrupts once the model was asked, which is when the hang begins."""
    async with asyncio.timeout(DEADLINE_S):
        async for message in client.receive_response():
            if isinstance(message, SystemMessage) and message.subtype == "init":
                while not (await stand_in.list_requests())[-1]["user_text"].startswith("%% hang"):
                    pass
                await client.interrupt()
            yield message


# -- the rehearsal ----------------------------------------------------------------------------------------


async def test_in_a_rehearsal_the_manager_asks_for_the_agent_the_operator_wants(tmp_path: Path) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    @tool("send", "Send a message.", {"to": str, "body": str, "in_reply_to": int})
    async def send(arguments: dict[str, Any]) -> dict[str, Any]:
        calls.append(("send", arguments))
        return {"content": [{"type": "text", "text": "sent"}]}

    @tool("request_spawn", "Propose an agent.", {"name": str, "description": str})
    async def request_spawn(arguments: dict[str, Any]) -> dict[str, Any]:
        calls.append(("request_spawn", arguments))
        return {"content": [{"type": "text", "text": "approval 1 waits"}]}

    async with run_stand_in("--rules", "rehearsal", "--chunk-delay-ms", "0") as stand_in:
        options = ClaudeAgentOptions(
            cli_path=CLAUDE,
            env=make_claude_environment(stand_in.url, tmp_path),
            cwd=tmp_path,
            setting_sources=[],
            mcp_servers={"hyperhive": create_sdk_mcp_server("hyperhive", "1", [send, request_spawn])},
            allowed_tools=["mcp__hyperhive"],
            system_prompt={
                "type": "preset",
                "preset": "claude_code",
                "append": 'You are the agent "manager" in this hive.',
            },
        )
        async with open_client(options) as client:
            wake = '<message id="7" from="operator" kind="operator">\nwe need a researcher\n</message>'
            result = await ask(client, wake)
    assert not result.is_error
    assert [(name, call.get("name") or call.get("to")) for name, call in calls] == [
        ("request_spawn", "researcher"),
        ("send", "operator"),
    ]


async def test_it_ends_with_its_standard_input_when_told_to() -> None:
    command = [sys.executable, "-m", "hyperhive.testing.messages_api", "--until-eof"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    assert process.stdin is not None
    async with asyncio.timeout(DEADLINE_S):
        assert (await process.stdout.readline()).startswith(b"listening: ")
        process.stdin.close()
        assert await process.wait() == 0


async def test_it_refuses_an_address_that_others_could_reach() -> None:
    command = [sys.executable, "-m", "hyperhive.testing.messages_api", "--host", "0.0.0.0"]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(DEADLINE_S):
        _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"not a loopback address" in errors


# -- the HTTP surface -------------------------------------------------------------------------------------


def open_app() -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(create_app()), base_url="http://stand-in")


def make_body(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": text}], **more}


async def test_an_answer_without_streaming_is_one_object() -> None:
    async with open_app() as http:
        answer = await http.post(
            "/v1/messages?beta=true",
            json=make_body('%% think hm\n%% tool send {"to": "x"}', tools=[{"name": "mcp__hive__send"}], odd_field=1),
        )
    message = answer.json()
    assert [block["type"] for block in message["content"]] == ["thinking", "tool_use"]
    assert (message["content"][1]["name"], message["stop_reason"]) == ("mcp__hive__send", "tool_use")


async def test_a_stream_has_the_events_of_the_service_in_order() -> None:
    async with open_app() as http:
        answer = await http.post("/v1/messages", json=make_body("%% say hello", stream=True))
    assert answer.headers["content-type"].startswith("text/event-stream")
    names = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]
    assert names == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    for line in answer.text.splitlines():
        if line.startswith("data: "):
            json.loads(line.removeprefix("data: "))


async def test_a_redelivered_message_goes_on_counting_failures_in_its_next_turn() -> None:
    envelope = '<message id="5" from="operator" kind="operator"{}>\n%% error 529 x2\n%% say ok\n</message>'
    turns = [make_body(envelope.format(mark)) for mark in ("", "", ' redelivered="true"')]
    async with open_app() as http:
        answers = [(await http.post("/v1/messages", json=body)).status_code for body in turns]
    assert answers == [529, 529, 200]


async def test_a_sleep_delays_the_answer() -> None:
    async with open_app() as http:
        started = time.monotonic()
        await http.post("/v1/messages", json=make_body("%% sleep 0.2\n%% say late"))
        assert time.monotonic() - started >= 0.2


async def test_tokens_can_be_counted() -> None:
    async with open_app() as http:
        answer = await http.post("/v1/messages/count_tokens", json=make_body("hello"))
    assert answer.json()["input_tokens"] > 0


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
async def test_any_other_call_is_refused_in_the_form_of_the_service(method: str) -> None:
    async with open_app() as http:
        answer = await http.request(method, "/api/claude_cli/bootstrap")
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")


@pytest.mark.parametrize("body", [b"no json", b"[]", b"{}", b'{"messages": 3}', b"\xff"])
async def test_a_body_that_is_no_request_is_a_400_in_the_form_of_the_service(body: bytes) -> None:
    async with open_app() as http:
        answer = await http.post("/v1/messages", content=body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_the_record_forgets_the_oldest_and_cuts_long_texts() -> None:
    async with open_app() as http:
        for _ in range(1_001):
            await http.post("/v1/messages", json=make_body("x" * 5_000))
        record = (await http.get("/_requests?since=0")).json()
        newest = (await http.get("/_requests?since=1000")).json()
    assert (len(record["requests"]), record["next"], record["requests"][0]["index"]) == (1_000, 1_001, 1)
    assert len(record["requests"][0]["user_text"]) == 4_000
    assert [entry["index"] for entry in newest["requests"]] == [1_000]
