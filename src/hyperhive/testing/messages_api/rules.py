"""The rules that are always there: the script in the prompt, and an echo when nothing else applies."""

from collections.abc import Sequence
from dataclasses import replace

from hyperhive.testing.messages_api.reply import (
    Answer,
    BrokenReply,
    ErrorReply,
    Reply,
    Rule,
    render_rate_limit_headers,
)
from hyperhive.testing.messages_api.request import ParsedRequest
from hyperhive.testing.script import ScriptError, parse_script, resolve_tool
from hyperhive.testing.steps import Block, Failure, FailureKind, Step, Text, ToolUse

_ECHO_LIMIT_CHARS = 400


def answer_script(request: ParsedRequest) -> Answer | None:
    """Plays the `%%` lines of the newest user text; says what is wrong with them if they are."""
    try:
        script = parse_script(request.user_text)
    except ScriptError as error:
        return Reply([Text(str(error))])
    if script is None:
        return None
    step = script.get_step(request.steps)
    failure = step.find_failure(request.attempt, fresh=not request.earlier_texts)
    return _render_failure(failure, step) if failure else _render_step(step, request.tools)


def _render_step(step: Step, offered: Sequence[str]) -> Reply:
    def resolve(block: Block) -> Block:
        return replace(block, name=resolve_tool(block.name, offered)) if isinstance(block, ToolUse) else block

    return Reply(
        [resolve(block) for block in step.blocks],
        usage=step.usage,
        headers=render_rate_limit_headers(step.rate_limit) if step.rate_limit else {},
        delay_s=step.sleep_s,
    )


def _render_failure(failure: Failure, step: Step) -> ErrorReply | BrokenReply:
    if failure.kind is not FailureKind.ERROR:
        return BrokenReply(failure.kind, step.sleep_s)
    limit = render_rate_limit_headers(failure.rate_limit) if failure.rate_limit else {}
    return ErrorReply(failure.status, failure.error_type, failure.message, {**failure.headers, **limit}, step.sleep_s)


def answer_echo(request: ParsedRequest) -> Reply:
    """The last word when no rule had one: text only, so that a turn always ends."""
    if request.steps:
        return Reply([Text("done")])
    return Reply([Text(f"you said: {request.user_text[:_ECHO_LIMIT_CHARS]}")])


def decide_answer(rules: Sequence[Rule], request: ParsedRequest) -> Answer:
    """The first answer any rule has. A script in the prompt goes before all rules."""
    for rule in (answer_script, *rules):
        if (answer := rule(request)) is not None:
            return answer
    return answer_echo(request)
