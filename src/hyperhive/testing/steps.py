"""What a script is made of: steps, their blocks, and all that can go wrong before one. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

# What a service answers with when a script names only the status.
ERROR_TYPES: dict[int, tuple[str, str]] = {
    400: ("invalid_request_error", "the request was refused by the script"),
    401: ("authentication_error", "invalid x-api-key"),
    403: ("permission_error", "your API key does not have permission to use this resource"),
    404: ("not_found_error", "model: not found"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your rate limit"),
    500: ("api_error", "Internal server error"),
    529: ("overloaded_error", "Overloaded"),
}
PROMPT_TOO_LONG = "prompt is too long: 210345 tokens > 200000 maximum"


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    text: str


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A call. `name` may be short in a script: `resolve_tool` finds the offered tool."""

    name: str
    input: Mapping[str, Any]


Block = Text | Thinking | ToolUse


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts that replace the estimated ones; None keeps the estimate."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_creation: int | None = None


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What the service says about the subscription's usage window."""

    status: str
    resets_at: int


class FailureKind(StrEnum):
    ERROR = "error"
    CUT = "cut"
    SSE_ERROR = "sse-error"
    HANG = "hang"


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that fails `count` times, None for always. Only an ERROR has a status and what follows it.

    `in_conversation`: it does not fail while nothing stands before it in the conversation.
    """

    kind: FailureKind
    count: int | None = 1
    status: int = 0
    error_type: str = ""
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    rate_limit: RateLimit | None = None
    in_conversation: bool = False


class FaultKind(StrEnum):
    EXIT = "exit"
    PARTIAL_JSON = "partial-json"
    BIG_LINE = "big-line"
    BAD_UTF8 = "bad-utf8"


@dataclass(frozen=True, slots=True)
class Fault:
    """Misbehaviour of the claude program itself; `value` is the exit code or the size in bytes."""

    kind: FaultKind
    value: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One answer and all that happens before it."""

    blocks: tuple[Block, ...] = ()
    sleep_s: float = 0.0
    failures: tuple[Failure, ...] = ()
    faults: tuple[Fault, ...] = ()
    usage: Usage | None = None
    rate_limit: RateLimit | None = None

    def find_failure(self, attempt: int, fresh: bool = False) -> Failure | None:
        """The failure due at `attempt`, counted from 0; None when all of them are used up.

        `fresh` says that nothing stands before this in the conversation.
        """
        for failure in self.failures:
            if fresh and failure.in_conversation:
                continue
            if failure.count is None or attempt < failure.count:
                return failure
            attempt -= failure.count
        return None


DONE = Step(blocks=(Text("done"),))


@dataclass(frozen=True, slots=True)
class Script:
    steps: tuple[Step, ...]

    def get_step(self, index: int) -> Step:
        return self.steps[index] if index < len(self.steps) else DONE
