"""One turn: plays the script of a prompt, step by step, as the real program would tell of it."""

import json
import os
import time
from dataclasses import dataclass
from typing import Any

from hyperhive.testing.fake_claude import events
from hyperhive.testing.fake_claude.channel import Channel, InterruptError
from hyperhive.testing.fake_claude.ledger import Ledger
from hyperhive.testing.fake_claude.mcp import McpServers
from hyperhive.testing.fake_claude.options import Options
from hyperhive.testing.fake_claude.partial import make_stream_events
from hyperhive.testing.fake_claude.tools import Call, ToolRunner
from hyperhive.testing.script import ScriptError, parse_script, resolve_tool
from hyperhive.testing.steps import (
    PROMPT_TOO_LONG,
    Block,
    Failure,
    FailureKind,
    FaultKind,
    Script,
    Step,
    Text,
    Thinking,
    ToolUse,
)

Json = dict[str, Any]

_ECHO_LIMIT_CHARS = 400
_BASE_TOKENS = 12_000
# A service that asks for more patience than this is not waited for.
_RETRY_AFTER_LIMIT_S = 60
# What the real program says of its own state when it ends a turn early; only the presence of it matters.
_DIAGNOSTIC = "[ede_diagnostic] result_type=user last_content_type=n/a stop_reason="


class TurnEndedError(Exception):
    """The turn ends with this result before its script is played."""

    def __init__(self, **fields: Any) -> None:
        super().__init__()
        self.fields = fields


@dataclass(slots=True)
class Parts:
    """What a turn works with; all of it outlives the turn."""

    options: Options
    channel: Channel
    ledger: Ledger
    servers: McpServers
    runner: ToolRunner


class Turn:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._options = parts.options
        self._emit = parts.channel.emit
        self._started = time.monotonic()
        self._answers = 0
        self._denials: list[Json] = []
        self._in_tools = False

    def run(self, prompt: str) -> None:
        """Emits everything from `system/init` to the `result`."""
        parts = self._parts
        parts.ledger.start_turn()
        self._emit(events.init_event(self._options, parts.servers.tools, parts.servers.status))
        parts.channel.in_turn = True
        try:
            fields = self._play(prompt)
        except TurnEndedError as end:
            fields = end.fields
        except InterruptError:
            fields = self._tell_interrupt()
        finally:
            parts.channel.in_turn = False
        duration_ms = int((time.monotonic() - self._started) * 1000)
        fields = {"num_turns": self._answers, "permission_denials": self._denials, **fields}
        self._emit(parts.ledger.make_result(self._options, duration_ms, **fields))

    # -- the script ---------------------------------------------------------------------------------------

    def _play(self, prompt: str) -> Json:
        """Plays to the first answer without a tool and returns what the result says of it."""
        script, index = _read_script(prompt), 0
        while True:
            if self._parts.channel.prompts:
                # What arrives in the middle of a turn folds into it, as one more text of the user.
                script, index = _read_script(read_prompt(self._parts.channel.prompts.popleft())), 0
            step = script.get_step(index)
            index += 1
            self._play_faults(step)
            self._parts.channel.sleep(step.sleep_s)
            self._play_failures(step)
            calls = self._answer(step, prompt)
            if not calls:
                return self._success(step)
            self._run_tools(calls)
            limit = self._options.max_turns
            if limit is not None and self._answers >= limit:
                return self._max_turns(limit)

    def _answer(self, step: Step, prompt: str) -> list[Call]:
        """Tells of the blocks of one answer and returns the tool calls among them."""
        self._answers += 1
        usage = _count_usage(step, prompt)
        message_id = events.make_id("msg")
        blocks = [self._render_block(block) for block in step.blocks]
        answers = [events.assistant_event(self._options, message_id, block, usage) for block in blocks]
        if self._options.partial_messages:
            self._emit(events.system_event(self._options, "status", status="requesting"))
            answers = make_stream_events(self._options, message_id, blocks, answers, usage)
        for event in answers:
            self._emit(event)
        self._parts.ledger.add(self._options.model, usage)
        if step.rate_limit:
            self._emit(events.rate_limit_event(self._options, step.rate_limit))
        return [Call(block["id"], block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"]

    def _render_block(self, block: Block) -> Json:
        match block:
            case Text():
                return {"type": "text", "text": block.text}
            case Thinking():
                return {"type": "thinking", "thinking": block.text, "signature": "c3RhbmRpbg=="}
            case ToolUse():
                name = resolve_tool(block.name, [*events.BUILTIN_TOOLS, *self._parts.servers.tools])
                return {
                    "type": "tool_use",
                    "id": events.make_id("toolu"),
                    "name": name,
                    "input": dict(block.input),
                }

    def _run_tools(self, calls: list[Call]) -> None:
        for call in calls:
            self._in_tools = True
            try:
                outcome = self._parts.runner.run(call)
            except InterruptError:
                self._tell_rejected(call)
                raise
            self._in_tools = False
            if outcome.denied is not None:
                self._tell_denied(call, outcome.denied)
            self._emit(events.tool_result_event(self._options, outcome.block, outcome.detail, outcome.decision))

    def _tell_rejected(self, call: Call) -> None:
        text = "The user doesn't want to proceed with this tool use. The tool use was rejected."
        block = {"content": text, "is_error": True, "tool_use_id": call.id}
        decision = {"non_execution_kind": "user-rejected"}
        self._emit(events.tool_result_event(self._options, block, "User rejected tool use", decision))

    def _tell_denied(self, call: Call, reason: str) -> None:
        self._denials.append({"tool_name": call.name, "tool_use_id": call.id, "tool_input": call.input})
        self._emit(
            events.system_event(
                self._options,
                "permission_denied",
                tool_name=call.name,
                tool_use_id=call.id,
                decision_reason_type="hook",
                decision_reason=reason,
                message=reason,
            )
        )

    # -- what goes wrong ----------------------------------------------------------------------------------

    def _play_faults(self, step: Step) -> None:
        for fault in step.faults:
            match fault.kind:
                case FaultKind.EXIT:
                    os._exit(fault.value)
                case FaultKind.PARTIAL_JSON:
                    self._parts.channel.emit_bytes(b'{"type":"assistant","message":{"id":"msg_\n')
                case FaultKind.BIG_LINE:
                    big = {"type": "text", "text": "x" * fault.value}
                    usage = events.token_usage(0, 0)
                    self._emit(events.assistant_event(self._options, events.make_id("msg"), big, usage))
                case FaultKind.BAD_UTF8:
                    self._parts.channel.emit_bytes(b'{"type":"system","subtype":"status","status":"\xff\xfe"}\n')

    def _play_failures(self, step: Step) -> None:
        """Plays the API failures before an answer. Raises TurnEndedError when the program would give up."""
        attempt = 0
        while failure := step.find_failure(attempt):
            attempt += 1
            if failure.kind is FailureKind.HANG:
                self._parts.channel.hang()
            elif failure.kind is FailureKind.ERROR:
                self._play_error(failure, attempt)
            # A broken stream is asked for again without streaming; nothing is told of it.

    def _play_error(self, failure: Failure, attempt: int) -> None:
        options = self._options
        if failure.rate_limit:
            self._emit(events.rate_limit_event(options, failure.rate_limit))
        if not _may_retry(failure) or attempt > options.max_retries:
            self._give_up(failure)
        self._emit(
            events.system_event(
                options,
                "api_retry",
                attempt=attempt,
                max_retries=options.max_retries,
                retry_delay_ms=0,
                error_status=failure.status,
                error=events.error_name(failure.status),
            )
        )

    def _give_up(self, failure: Failure) -> None:
        text = f"API Error: {failure.status} {failure.message}"
        event = events.api_error_event(self._options, failure.status, text)
        limited: Json = {}
        if failure.rate_limit:
            limited = {"api_error": "usage_limit_reached"}
            event["api_error_params"] = {"rate_limit_info": events.rate_limit_info(failure.rate_limit)}
        self._emit({**event, **limited})
        reasons = {400: "prompt_too_long" if failure.message == PROMPT_TOO_LONG else "api_error", 413: "image_error"}
        raise TurnEndedError(
            subtype="success",
            is_error=True,
            result=text,
            stop_reason="stop_sequence",
            terminal_reason=reasons.get(failure.status, "api_error"),
            num_turns=1,
            api_error_status=failure.status,
            api_error_type=event["api_error_type"],
            **limited,
        )

    # -- ends ---------------------------------------------------------------------------------------------

    def _success(self, step: Step) -> Json:
        text = "".join(block.text for block in step.blocks if isinstance(block, Text))
        elapsed_ms = int((time.monotonic() - self._started) * 1000)
        timings = ("ttft_ms", "ttft_stream_ms", "time_to_request_ms", "first_content_frame_ms")
        return {
            "subtype": "success",
            "is_error": False,
            "result": text,
            "stop_reason": "end_turn",
            "terminal_reason": "completed",
            "api_error_status": None,
            **dict.fromkeys(timings, elapsed_ms),
        }

    def _max_turns(self, limit: int) -> Json:
        return {
            "subtype": "error_max_turns",
            "is_error": True,
            "errors": [f"Reached maximum number of turns ({limit})"],
            "stop_reason": "tool_use",
            "terminal_reason": "max_turns",
            "num_turns": self._answers + 1,
        }

    def _tell_interrupt(self) -> Json:
        suffix = " for tool use" if self._in_tools else ""
        stop_reason = "tool_use" if self._in_tools else None
        text = {"type": "text", "text": f"[Request interrupted by user{suffix}]"}
        self._emit(events.user_event(self._options, [text]))
        return {
            "subtype": "error_during_execution",
            "is_error": True,
            "errors": [f"{_DIAGNOSTIC}{json.dumps(stop_reason)}"],
            "stop_reason": stop_reason,
            "terminal_reason": "aborted_tools" if self._in_tools else "aborted_streaming",
        }


def read_prompt(message: Json) -> str:
    """The text of a user message, which is a string or a list of blocks."""
    content: Any = message.get("message", {}).get("content", "")
    if isinstance(content, str):
        return content
    return "\n".join(block.get("text", "") for block in content if block.get("type") == "text")


def _read_script(prompt: str) -> Script:
    try:
        script = parse_script(prompt)
    except ScriptError as error:
        return Script((Step(blocks=(Text(str(error)),)),))
    echo = Step(blocks=(Text(f"you said: {prompt[:_ECHO_LIMIT_CHARS]}"),))
    return script or Script((echo,))


def _may_retry(failure: Failure) -> bool:
    if failure.rate_limit or failure.headers.get("x-should-retry") == "false":
        return False
    if float(failure.headers.get("retry-after", "0")) > _RETRY_AFTER_LIMIT_S:
        return False
    return failure.status in {401, 408, 409, 429} or failure.status >= 500


def _count_usage(step: Step, prompt: str) -> Json:
    given = step.usage
    usage = events.token_usage(_BASE_TOKENS + len(prompt) // 4, 10)
    names = {
        "input_tokens": given and given.input,
        "output_tokens": given and given.output,
        "cache_read_input_tokens": given and given.cache_read,
        "cache_creation_input_tokens": given and given.cache_creation,
    }
    return {**usage, **{name: value for name, value in names.items() if value is not None}}
