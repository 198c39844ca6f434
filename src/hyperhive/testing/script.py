"""The `%%` language: what a fake model shall do, written into the very prompt that a test or a person sends.

Standard library only, as the fake claude starts by the hundred. One step is one answer of the model:

    %% say TEXT                          answer with text
    %% tool NAME {json}                  call a tool; `send` finds `mcp__hyperhive__send`
    %% and say TEXT, %% and tool NAME    one more block in the same answer
    %% think TEXT                        a thinking block before the next answer

These change the next step and are none themselves:

    %% sleep SECONDS                     answer later
    %% error STATUS [type=T] [message="M"] [retry-after=N] [should-retry=false]
    %% prompt-too-long                   the 400 that makes claude compact
    %% cut, %% sse-error, %% hang        break the stream in the middle, with an error event, or never answer
    %% usage input=N output=N cache_read=N cache_creation=N
    %% ratelimit allowed_warning|rejected resets=EPOCH
    %% exit CODE, %% partial-json, %% big-line BYTES, %% bad-utf8     (the fake claude only)

What fails does so once, `xN` times or `always`, then the step goes on. `first-delivery` on such a line makes it
hold only while its message is not marked redelivered; `in-conversation` makes an error hold only while something
stands before it in the conversation. After the last step the model says `done`.
"""

import json
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

from hyperhive.testing.steps import (
    ERROR_TYPES,
    PROMPT_TOO_LONG,
    Block,
    Failure,
    FailureKind,
    Fault,
    FaultKind,
    RateLimit,
    Script,
    Step,
    Text,
    Thinking,
    ToolUse,
    Usage,
)

MARK = "%%"


class ScriptError(ValueError):
    """A `%%` line that means nothing; the text names the line and the reason."""


def resolve_tool(name: str, offered: Sequence[str]) -> str:
    """The offered tool that `name` means: the equal one, else the one that ends with `__name`, else `name` itself."""
    if name in offered:
        return name
    return next((tool for tool in offered if tool.endswith(f"__{name}")), name)


# -- parsing ----------------------------------------------------------------------------------------------

_ENVELOPE_START = re.compile(r"<message\s[^>]*>\s*$")
_COUNT = re.compile(r"x(\d+)")


def parse_script(text: str) -> Script | None:
    """The script in `text`, None when no line starts with `%%`. Raises ScriptError for a line that is wrong."""
    steps: list[Step] = []
    pending = Step()
    redelivered = found = False
    for number, line in enumerate(text.splitlines(), 1):
        if _ENVELOPE_START.match(line):
            redelivered = 'redelivered="true"' in line
        if not line.startswith(MARK):
            continue
        found = True
        try:
            pending = _read_line(line.removeprefix(MARK).strip(), steps, pending, redelivered)
        except (ValueError, KeyError) as error:
            raise ScriptError(f"line {number} of the script is wrong: {line[:200]!r}: {error}") from error
    if not found:
        return None
    if pending != Step():
        steps.append(_finish(pending, Text("done")))
    return Script(tuple(steps))


def _read_line(line: str, steps: list[Step], pending: Step, redelivered: bool) -> Step:
    """Reads one directive: ends the pending step, extends the last one, or returns the pending one changed."""
    word, _, rest = line.partition(" ")
    rest = rest.strip()
    if word == "and":
        if not steps:
            raise ValueError("nothing comes before it")
        steps[-1] = replace(steps[-1], blocks=(*steps[-1].blocks, _read_block(rest)))
        return pending
    if word in {"say", "tool"}:
        steps.append(_finish(pending, _read_block(line)))
        return Step()
    if word == "think":
        return replace(pending, blocks=(*pending.blocks, Thinking(rest)))
    options = _Options(rest)
    if options.take_flag("first-delivery") and redelivered:
        return pending
    if word not in _DIRECTIVES:
        raise ValueError(f"no directive is called {word!r}")
    step = _DIRECTIVES[word](pending, options)
    options.check_empty()
    return step


def _finish(pending: Step, block: Block) -> Step:
    return replace(pending, blocks=(*pending.blocks, block))


def _read_block(line: str) -> Block:
    word, _, rest = line.partition(" ")
    if word == "say":
        return Text(rest.strip())
    if word != "tool":
        raise ValueError("only `say` and `tool` make a block")
    name, _, arguments = rest.strip().partition(" ")
    if not name:
        raise ValueError("a tool needs a name")
    value: object = json.loads(arguments.strip() or "{}")
    if not isinstance(value, dict):
        raise ValueError("a tool's input is a JSON object")  # noqa: TRY004 - a line that is wrong, not a type error
    return ToolUse(name, cast("dict[str, Any]", value))


class _Options:
    """The words after a directive: each is taken once, what is left over is an error."""

    def __init__(self, text: str) -> None:
        words = shlex.split(text)
        self._named = dict(word.split("=", 1) for word in words if "=" in word)
        self._plain = [word for word in words if "=" not in word]

    def take_flag(self, flag: str) -> bool:
        if flag not in self._plain:
            return False
        self._plain.remove(flag)
        return True

    def take_count(self) -> int | None:
        """How often a failure happens: `xN`, None for `always`, once when nothing is said."""
        if self.take_flag("always"):
            return None
        for word in self._plain:
            if match := _COUNT.fullmatch(word):
                self._plain.remove(word)
                return int(match[1])
        return 1

    def take_word(self, what: str) -> str:
        if not self._plain:
            raise ValueError(f"{what} is missing")
        return self._plain.pop(0)

    def take_named(self, name: str, default: str = "") -> str:
        return self._named.pop(name, default)

    def take_number(self, name: str) -> int | None:
        text = self._named.pop(name, None)
        return None if text is None else int(text)

    def check_empty(self) -> None:
        if left := [*self._plain, *self._named]:
            raise ValueError(f"not understood: {' '.join(left)}")


def _read_sleep(step: Step, options: _Options) -> Step:
    return replace(step, sleep_s=step.sleep_s + float(options.take_word("the number of seconds")))


def _read_error(step: Step, options: _Options) -> Step:
    count = options.take_count()
    status = int(options.take_word("the status"))
    error_type, message = ERROR_TYPES.get(status, ("api_error", f"scripted error {status}"))
    names = {"retry-after": "retry-after", "should-retry": "x-should-retry"}
    headers = {header: value for name, header in names.items() if (value := options.take_named(name))}
    failure = Failure(
        FailureKind.ERROR,
        count,
        status=status,
        error_type=options.take_named("type", error_type),
        message=options.take_named("message", message),
        headers=headers,
        in_conversation=options.take_flag("in-conversation"),
    )
    return replace(step, failures=(*step.failures, failure))


def _read_prompt_too_long(step: Step, options: _Options) -> Step:
    failure = Failure(
        FailureKind.ERROR,
        options.take_count(),
        status=400,
        error_type="invalid_request_error",
        message=PROMPT_TOO_LONG,
        in_conversation=options.take_flag("in-conversation"),
    )
    return replace(step, failures=(*step.failures, failure))


def _read_broken(kind: FailureKind) -> Callable[[Step, _Options], Step]:
    def read(step: Step, options: _Options) -> Step:
        return replace(step, failures=(*step.failures, Failure(kind, options.take_count())))

    return read


def _read_usage(step: Step, options: _Options) -> Step:
    names = ("input", "output", "cache_read", "cache_creation")
    return replace(step, usage=Usage(**{name: options.take_number(name) for name in names}))


def _read_rate_limit(step: Step, options: _Options) -> Step:
    count = options.take_count()
    limit = RateLimit(options.take_word("the status"), int(options.take_named("resets", "0")))
    if limit.status not in {"allowed", "allowed_warning", "rejected"}:
        raise ValueError("the status is allowed, allowed_warning or rejected")
    if limit.status != "rejected":
        return replace(step, rate_limit=limit)
    error_type, message = ERROR_TYPES[429]
    failure = Failure(FailureKind.ERROR, count, status=429, error_type=error_type, message=message, rate_limit=limit)
    return replace(step, failures=(*step.failures, failure))


def _read_fault(kind: FaultKind, valued: bool) -> Callable[[Step, _Options], Step]:
    def read(step: Step, options: _Options) -> Step:
        value = int(options.take_word("the number")) if valued else 0
        return replace(step, faults=(*step.faults, Fault(kind, value)))

    return read


_DIRECTIVES: dict[str, Callable[[Step, _Options], Step]] = {
    "sleep": _read_sleep,
    "error": _read_error,
    "prompt-too-long": _read_prompt_too_long,
    "cut": _read_broken(FailureKind.CUT),
    "sse-error": _read_broken(FailureKind.SSE_ERROR),
    "hang": _read_broken(FailureKind.HANG),
    "usage": _read_usage,
    "ratelimit": _read_rate_limit,
    "exit": _read_fault(FaultKind.EXIT, valued=True),
    "partial-json": _read_fault(FaultKind.PARTIAL_JSON, valued=False),
    "big-line": _read_fault(FaultKind.BIG_LINE, valued=True),
    "bad-utf8": _read_fault(FaultKind.BAD_UTF8, valued=False),
}
