"""The fake claude: the real SDK believes it, and what it emits has the shape of what the real one was recorded with."""

import asyncio
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKClient,
    HookContext,
    HookInput,
    HookJSONOutput,
    HookMatcher,
    McpServerConfig,
    ProcessError,
    ResultMessage,
    SystemMessage,
    TextBlock,
    ToolResultBlock,
    UserMessage,
    create_sdk_mcp_server,
    tool,
)

from hyperhive.testing.fake_claude import install_fake_claude
from stand_in import DEADLINE_S, open_client

RECORDINGS = Path(__file__).parents[1] / "data" / "claude-events"

Json = dict[str, Any]


@tool("send", "Send a message.", {"to": str, "body": str})
async def send(arguments: Json) -> Json:
    return {"content": [{"type": "text", "text": f"sent to {arguments['to']}"}]}


@tool("fail", "Always fails.", {})
async def fail(_arguments: Json) -> Json:
    return {"content": [{"type": "text", "text": "no such agent"}], "is_error": True}


def make_options(folder: Path, cli: Path | None = None, **more: Any) -> ClaudeAgentOptions:
    servers: dict[str, McpServerConfig] = {"hyperhive": create_sdk_mcp_server("hyperhive", "1", [send, fail])}
    return ClaudeAgentOptions(
        cli_path=cli or install_fake_claude(folder),
        cwd=folder,
        env={"HOME": str(folder)},
        mcp_servers=servers,
        **more,
    )


async def ask(client: ClaudeSDKClient, prompt: str, interrupt_at: type | None = None) -> list[object]:
    """The messages of one turn. Interrupts once, at the first message of `interrupt_at`."""
    messages: list[object] = []
    async with asyncio.timeout(DEADLINE_S):
        await client.query(prompt)
        async for message in client.receive_response():
            if interrupt_at and isinstance(message, interrupt_at):
                interrupt_at = None
                await client.interrupt()
            messages.append(message)
    return messages


def get_result(messages: Sequence[object]) -> ResultMessage:
    result = messages[-1]
    assert isinstance(result, ResultMessage)
    return result


def find_tool_results(messages: Sequence[object]) -> list[ToolResultBlock]:
    return [
        block
        for message in messages
        if isinstance(message, UserMessage) and isinstance(message.content, list)
        for block in message.content
        if isinstance(block, ToolResultBlock)
    ]


# -- the SDK ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["-v", "--version"])
def test_it_tells_a_version_quickly(tmp_path: Path, flag: str) -> None:
    cli = install_fake_claude(tmp_path)
    done = subprocess.run([cli, flag], capture_output=True, text=True, timeout=10, check=True)
    assert done.stdout == "2.1.329 (Claude Code)\n"


async def test_it_calls_the_tools_of_an_in_process_server(tmp_path: Path) -> None:
    async with open_client(make_options(tmp_path)) as client:
        messages = await ask(client, '%% tool send {"to": "bob", "body": "hi"}\n%% tool fail\n%% say ok')
    sent, failed = find_tool_results(messages)
    assert sent.content == [{"type": "text", "text": "sent to bob"}]
    assert failed.is_error
    assert get_result(messages).result == "ok"


async def test_it_runs_bash_and_reports_failures(tmp_path: Path) -> None:
    async with open_client(make_options(tmp_path)) as client:
        messages = await ask(client, '%% tool Bash {"command": "echo a"}\n%% tool Bash {"command": "exit 3"}')
    echoed, failed = find_tool_results(messages)
    assert echoed.content == "a"
    assert (failed.content, failed.is_error) == ("Exit code 3", True)


async def test_a_hook_of_the_caller_can_deny_a_tool(tmp_path: Path) -> None:
    async def deny(_input: HookInput, _tool_use_id: str | None, _context: HookContext) -> HookJSONOutput:
        return {
            "hookSpecificOutput": {
                "hookEventName": "PreToolUse",
                "permissionDecision": "deny",
                "permissionDecisionReason": "not today",
            }
        }

    options = make_options(tmp_path, hooks={"PreToolUse": [HookMatcher(matcher="Bash", hooks=[deny])]})
    async with open_client(options) as client:
        messages = await ask(client, '%% tool Bash {"command": "touch made"}')
    (result,) = find_tool_results(messages)
    assert (result.content, result.is_error) == ("not today", True)
    assert not (tmp_path / "made").exists()
    assert get_result(messages).permission_denials


@pytest.mark.parametrize("on_failure", ["block", "continue"])
async def test_a_hook_that_fails_blocks_only_if_it_is_said_to(
    tmp_path: Path, on_failure: Literal["block", "continue"]
) -> None:
    async def break_down(_input: HookInput, _tool_use_id: str | None, _context: HookContext) -> HookJSONOutput:
        raise RuntimeError("broken")

    options = make_options(tmp_path, hooks={"PreToolUse": [HookMatcher(hooks=[break_down], on_failure=on_failure)]})
    async with open_client(options) as client:
        messages = await ask(client, '%% tool Bash {"command": "touch made"}')
    (result,) = find_tool_results(messages)
    assert result.is_error is (on_failure == "block")
    assert (tmp_path / "made").exists() is (on_failure == "continue")


async def test_an_interrupt_ends_the_turn_and_the_process_goes_on(tmp_path: Path) -> None:
    async with open_client(make_options(tmp_path)) as client:
        silent = await ask(client, "%% hang", interrupt_at=SystemMessage)
        running = await ask(client, '%% tool Bash {"command": "sleep 600"}', interrupt_at=AssistantMessage)
        after = await ask(client, "%% say alive")
    assert [get_result(messages).is_error for messages in (silent, running, after)] == [True, True, False]


async def test_costs_and_models_add_up_over_the_session(tmp_path: Path) -> None:
    async with open_client(make_options(tmp_path, model="claude-a")) as client:
        first = get_result(await ask(client, "%% usage input=100 output=0\n%% say a"))
        await client.set_model("claude-b")
        messages = await ask(client, "%% usage input=100 output=0\n%% say b")
        context = await client.get_context_usage()
    second = get_result(messages)
    assert first.total_cost_usd is not None
    assert second.total_cost_usd == pytest.approx(2 * first.total_cost_usd)  # pyright: ignore[reportUnknownMemberType]
    assert set(second.model_usage or {}) == {"claude-a", "claude-b"}
    assert (second.usage or {})["input_tokens"] == 100
    assert context["totalTokens"] == 100


async def test_a_session_is_resumed_and_an_unknown_one_refused(tmp_path: Path) -> None:
    async with open_client(make_options(tmp_path)) as client:
        session = get_result(await ask(client, "hello")).session_id
    async with open_client(make_options(tmp_path, resume=session)) as client:
        assert get_result(await ask(client, "again")).session_id == session
    unknown = ClaudeSDKClient(make_options(tmp_path, resume="00000000-0000-0000-0000-000000000000"))
    with pytest.raises(Exception, match="No conversation found"):
        await unknown.connect()
    await unknown.disconnect()


async def test_a_message_in_the_middle_of_a_turn_folds_into_it(tmp_path: Path) -> None:
    async with open_client(make_options(tmp_path)) as client:
        await client.query('%% tool Bash {"command": "while ! test -e go; do sleep 0.01; done"}\n%% say first')
        texts: list[str] = []
        async for message in client.receive_response():
            if isinstance(message, AssistantMessage):
                texts += [block.text for block in message.content if isinstance(block, TextBlock)]
                if not texts:
                    await client.query("%% say second")
                    (tmp_path / "go").touch()
    assert texts == ["second"]


async def test_an_exit_is_seen_as_the_death_of_the_process(tmp_path: Path) -> None:
    async with open_client(make_options(tmp_path)) as client:
        with pytest.raises(ProcessError) as caught:
            await ask(client, "%% exit 7")
    assert caught.value.exit_code == 7


def is_big(line: bytes) -> bool:
    return len(line) > 2_000_000


def is_no_text(line: bytes) -> bool:
    return b"\xff" in line


def has_broken_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return line.startswith(b"{")
    return False


@pytest.mark.parametrize(
    ("fault", "is_there"),
    [
        ("%% partial-json", has_broken_json),
        ("%% big-line 2000000", is_big),
        ("%% bad-utf8", is_no_text),
    ],
)
def test_a_faulty_line_is_really_written_and_the_turn_goes_on(
    tmp_path: Path, fault: str, is_there: Callable[[bytes], bool]
) -> None:
    # Without the SDK: its reader dies of such a line and leaves the pipe behind it open.
    prompt = {"type": "user", "message": {"role": "user", "content": f"{fault}\n%% say after"}}
    done = subprocess.run(
        [install_fake_claude(tmp_path), "--input-format", "stream-json", "--output-format", "stream-json"],
        input=json.dumps(prompt).encode() + b"\n",
        stdout=subprocess.PIPE,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        timeout=30,
        check=True,
    )
    init, faulty, *_, result = done.stdout.splitlines()
    assert json.loads(init)["subtype"] == "init"
    assert is_there(faulty)
    # The end of its input lets the turn finish first.
    assert json.loads(result)["result"] == "after"


# -- the recordings ---------------------------------------------------------------------------------------


def describe_shape(events: Sequence[Json]) -> list[Any]:
    """What the comparison holds on to: type, subtype, and the names of the fields, two levels deep where it matters."""
    return [
        (
            event["type"],
            event.get("subtype"),
            sorted(event),
            sorted(event["message"]) if "message" in event and event["type"] != "system" else [],
            sorted(event.get("usage", ())),
            [sorted(usage) for usage in event.get("modelUsage", {}).values()],
            event.get("terminal_reason"),
            event.get("is_error"),
            event.get("num_turns"),
        )
        for event in events
        if not event["type"].startswith("control_")
    ]


def load_recording(name: str, first: int = 0, last: int | None = None) -> list[Json]:
    lines = (RECORDINGS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[first:last]]


async def record_turn(folder: Path, prompt: str, interrupt_at: type | None = None, **more: Any) -> list[Json]:
    """The raw lines that the fake wrote during one turn."""
    fake = install_fake_claude(folder)
    tee, output = folder / "claude-tee", folder / "raw.jsonl"
    tee.write_text(f'#!/bin/sh\n"{fake}" "$@" | tee "{output}"\n', encoding="utf-8")
    tee.chmod(0o755)
    async with open_client(make_options(folder, tee, **more)) as client:
        await ask(client, prompt, interrupt_at)
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("prompt", "recording", "first", "last"),
    [
        ("hello there", "hello", 0, None),
        ('%% tool send {"to": "x", "body": "y"}\n%% say done1', "persist", 2, 7),
        ('%% tool Bash {"command": "true"}\n%% say q1done', "persist", 46, 51),
        ('%% tool send {"to": "x", "body": "y"}\n%% tool Bash {"command": "id -u"}', "mcp-stdio", 0, None),
        ("%% error 401 always", "401", 0, None),
        ("%% error 403 always", "persist", 69, 72),
        ("%% prompt-too-long always", "ptl-always", 0, None),
        ("%% ratelimit allowed_warning resets=9\n%% say hello", "ratelimit-warning", 0, None),
        ("%% ratelimit rejected resets=9", "ratelimit-rejected", 0, None),
        ("/compact", "compact", 0, None),
    ],
)
async def test_a_turn_has_the_shape_of_the_recorded_one(
    tmp_path: Path, prompt: str, recording: str, first: int, last: int | None
) -> None:
    recorded = describe_shape(load_recording(recording, first, last))
    played = describe_shape(await record_turn(tmp_path, prompt))
    if recording in {"persist", "compact"}:
        # Recorded in the middle of a session, whose sums hold the models of earlier turns.
        recorded, played = drop_model_usage(recorded), drop_model_usage(played)
    assert played == recorded


def drop_model_usage(shape: list[Any]) -> list[Any]:
    return [(*entry[:5], *entry[6:]) for entry in shape]


async def test_an_exhausted_turn_limit_has_the_recorded_shape(tmp_path: Path) -> None:
    prompt = "\n".join(['%% tool Bash {"command": "echo a"}'] * 3)
    events = await record_turn(tmp_path, prompt, max_turns=2)
    assert describe_shape(events) == describe_shape(load_recording("max-turns"))


async def test_an_interrupted_tool_has_the_recorded_shape(tmp_path: Path) -> None:
    prompt = '%% tool Bash {"command": "sleep 600"}'
    events = describe_shape(await record_turn(tmp_path, prompt, interrupt_at=AssistantMessage))
    recorded = describe_shape(load_recording("persist", 40, 46))
    # The recorded call was one of an MCP tool, which is announced with the names of its server, and a turn later.
    assert [entry[:2] for entry in events] == [entry[:2] for entry in recorded]
    assert [entry[2] for entry in events[2:]] == [entry[2] for entry in recorded[2:]]
    assert events[-1][6] == recorded[-1][6] == "aborted_tools"


async def test_an_interrupted_answer_has_the_recorded_shape(tmp_path: Path) -> None:
    events = describe_shape(await record_turn(tmp_path, "%% hang", interrupt_at=SystemMessage))
    recorded = load_recording("persist", 26, 31)
    # In the recording a piece of text had come already; a hang comes before any.
    recorded = [event for event in recorded if not event.get("aborted")]
    assert [entry[:3] for entry in events] == [entry[:3] for entry in describe_shape(recorded)]
    assert events[-1][6] == "aborted_streaming"


async def test_partial_messages_come_in_the_recorded_order(tmp_path: Path) -> None:
    prompt = '%% think hm\n%% say hello world\n%% and tool Bash {"command": "echo a"}\n%% say end'
    events = await record_turn(tmp_path, prompt, include_partial_messages=True)
    assert list_stream(events) == list_stream(load_recording("partial"))


def list_stream(events: Sequence[Json]) -> list[str]:
    """The kinds of the events of an answer, with neighbouring deltas of one block taken as one."""
    kinds = [
        str(event["event"]["type"]) if event["type"] == "stream_event" else str(event["type"])
        for event in events
        if event["type"] in {"stream_event", "assistant", "result"} or "tool_use_result" in event
    ]
    return [kind for at, kind in enumerate(kinds) if kind != "content_block_delta" or kinds[at - 1] != kind]
