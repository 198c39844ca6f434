"""The `%%` language: what a line means, and that a wrong one is told instead of guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.testing.script import ScriptError, parse_script, resolve_tool
from hyperhive.testing.steps import (
    DONE,
    FailureKind,
    Fault,
    FaultKind,
    RateLimit,
    Script,
    Text,
    Thinking,
    ToolUse,
    Usage,
)


def parse(text: str) -> Script:
    script = parse_script(text)
    assert script is not None
    return script


def test_a_text_without_marked_lines_is_no_script() -> None:
    assert parse_script("hello\n  %% say not at the start\n100 %% sure") is None


def test_each_say_and_tool_line_is_one_step_in_order() -> None:
    script = parse('please do this\n%% say one\n%% tool Bash {"command": "echo a"}\nthanks\n%% say two')
    assert [step.blocks for step in script.steps] == [
        (Text("one"),),
        (ToolUse("Bash", {"command": "echo a"}),),
        (Text("two"),),
    ]


def test_after_the_last_step_the_model_says_done() -> None:
    assert parse("%% say one").get_step(1) == DONE


def test_a_tool_without_input_gets_an_empty_object() -> None:
    assert parse("%% tool recv").steps[0].blocks == (ToolUse("recv", {}),)


def test_several_blocks_can_share_an_answer() -> None:
    script = parse("%% think hm\n%% say look\n%% and tool Bash {}\n%% and tool recv {}")
    assert [step.blocks for step in script.steps] == [
        (Thinking("hm"), Text("look"), ToolUse("Bash", {}), ToolUse("recv", {}))
    ]


def test_sleep_and_usage_belong_to_the_next_step_and_count_as_none() -> None:
    script = parse("%% sleep 0.5\n%% usage input=5 cache_read=7\n%% say a\n%% say b")
    assert len(script.steps) == 2
    assert script.steps[0].sleep_s == 0.5
    assert script.steps[0].usage == Usage(input=5, cache_read=7)
    assert (script.steps[1].sleep_s, script.steps[1].usage) == (0.0, None)


def test_failures_are_used_up_in_order_and_then_the_step_goes_on() -> None:
    step = parse("%% error 529 x2\n%% cut\n%% say ok").steps[0]
    failures = [step.find_failure(attempt) for attempt in range(4)]
    assert [failure and failure.kind for failure in failures] == [
        FailureKind.ERROR,
        FailureKind.ERROR,
        FailureKind.CUT,
        None,
    ]


def test_a_failure_can_last_for_ever() -> None:
    step = parse("%% hang always").steps[0]
    assert step.find_failure(10_000) is not None
    assert step.blocks == (Text("done"),)


def test_an_error_takes_its_type_message_and_headers_from_its_options() -> None:
    failure = parse('%% error 429 retry-after=7 should-retry=false type=odd message="too much"').steps[0].failures[0]
    assert (failure.status, failure.error_type, failure.message) == (429, "odd", "too much")
    assert failure.headers == {"retry-after": "7", "x-should-retry": "false"}


def test_a_rejected_rate_limit_is_an_error_and_a_warning_is_not() -> None:
    rejected = parse("%% ratelimit rejected resets=99").steps[0]
    assert rejected.failures[0].rate_limit == RateLimit("rejected", 99)
    warned = parse("%% ratelimit allowed_warning resets=99\n%% say ok").steps[0]
    assert (warned.failures, warned.rate_limit) == ((), RateLimit("allowed_warning", 99))


def test_faults_of_the_program_carry_their_number() -> None:
    step = parse("%% big-line 5000\n%% bad-utf8\n%% partial-json\n%% exit 3").steps[0]
    assert step.faults == (
        Fault(FaultKind.BIG_LINE, 5000),
        Fault(FaultKind.BAD_UTF8),
        Fault(FaultKind.PARTIAL_JSON),
        Fault(FaultKind.EXIT, 3),
    )


def test_first_delivery_lines_are_dropped_when_their_message_comes_again() -> None:
    message = '<message id="7" from="operator" kind="operator"{}>\n%% exit 1 first-delivery\n%% say ok\n</message>'
    assert parse(message.format("")).steps[0].faults
    assert not parse(message.format(' redelivered="true"')).steps[0].faults


@pytest.mark.parametrize(
    "line",
    [
        "%% frobnicate",
        "%% tool",
        "%% tool Bash {broken",
        "%% tool Bash [1]",
        "%% error",
        "%% error often",
        "%% error 500 sometimes",
        "%% sleep",
        "%% usage input=many",
        "%% usage tokens=3",
        "%% ratelimit maybe resets=1",
        '%% error 500 message="open',
        "%% and say nothing before",
        "%% exit",
        "%%",
    ],
)
def test_a_wrong_line_is_named(line: str) -> None:
    with pytest.raises(ScriptError) as caught:
        parse_script(f"hello\n{line}")
    assert "line 2" in str(caught.value)
    assert line in str(caught.value)


@given(st.text().map(lambda text: f"%% {text}") | st.text())
def test_any_text_is_a_script_or_none_or_a_script_error(text: str) -> None:
    try:
        parse_script(text)
    except ScriptError as error:
        assert str(error).startswith("line ")


def test_a_short_tool_name_finds_the_offered_tool() -> None:
    offered = ["Bash", "mcp__hyperhive__send"]
    assert resolve_tool("send", offered) == "mcp__hyperhive__send"
    assert resolve_tool("Bash", offered) == "Bash"
    assert resolve_tool("unknown", offered) == "unknown"
