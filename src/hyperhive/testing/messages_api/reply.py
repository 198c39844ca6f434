"""What a rule may answer: blocks, an error, or a stream that breaks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hyperhive.testing.messages_api.request import ParsedRequest
from hyperhive.testing.steps import Block, FailureKind, RateLimit, ToolUse, Usage


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. `headers` go with it; `usage` replaces the estimated token counts."""

    blocks: Sequence[Block]
    usage: Usage | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    delay_s: float = 0.0

    @property
    def stop_reason(self) -> str:
        return "tool_use" if any(isinstance(block, ToolUse) for block in self.blocks) else "end_turn"


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An HTTP error in the API's form."""

    status: int
    error_type: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class BrokenReply:
    """A connection that is cut in the middle, tells an error in the stream, or stays silent for ever."""

    kind: FailureKind
    delay_s: float = 0.0


Answer = Reply | ErrorReply | BrokenReply
Rule = Callable[[ParsedRequest], Answer | None]


def render_rate_limit_headers(limit: RateLimit) -> dict[str, str]:
    """The headers that tell of a usage window. The CLI reads them only when it runs on a subscription's login."""
    used = {"allowed": "0.42", "allowed_warning": "0.91", "rejected": "1"}[limit.status]
    prefix = "anthropic-ratelimit-unified"
    headers = {
        f"{prefix}-status": limit.status,
        f"{prefix}-reset": str(limit.resets_at),
        f"{prefix}-representative-claim": "five_hour",
        f"{prefix}-5h-status": limit.status,
        f"{prefix}-5h-reset": str(limit.resets_at),
        f"{prefix}-5h-utilization": used,
        f"{prefix}-7d-status": "allowed",
        f"{prefix}-7d-reset": str(limit.resets_at + 86_400),
        f"{prefix}-7d-utilization": "0.4",
        f"{prefix}-overage-status": "rejected",
        f"{prefix}-overage-disabled-reason": "org_level_disabled",
    }
    if limit.status != "allowed":
        headers[f"{prefix}-5h-surpassed-threshold"] = "0.9"
    return headers
