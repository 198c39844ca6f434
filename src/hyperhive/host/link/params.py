"""What a harness may ask, checked: each model is the host's reading of the TypedDict of the same name in `wire`.

`tests/unit/test_link_params.py` holds the two together.
"""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hyperhive.core.messages import RECV_MAX_MESSAGES, RECV_WAIT_LIMIT_S, Priority
from hyperhive.core.questions import ANSWER_LIMIT_CHARS, OPTIONS_LIMIT
from hyperhive.core.terminals import ID_LIMIT_CHARS, SCROLLBACK_LIMIT_BYTES
from hyperhive.wire.agent_link import BUNDLE_LIMIT_BYTES

# What fits into one request at the least: a harness that holds more has to ask more than once.
IDS_LIMIT = 1000
VERSION_LIMIT_CHARS = 40

Key = Annotated[str, Field(min_length=8, max_length=128)]
# SQLite's integers are 64 bits wide.
Id = Annotated[int, Field(ge=0, lt=2**63)]
Ids = Annotated[list[Id], Field(max_length=IDS_LIMIT)]
# In base64; what is too large is refused where the reason can be told.
Bundle = Annotated[str, Field(max_length=BUNDLE_LIMIT_BYTES * 2)]


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class HelloParams(Params):
    protocol: int
    generation: int
    holding: Ids
    version: str = Field(default="", max_length=VERSION_LIMIT_CHARS)


class RecvParams(Params):
    max: int = Field(ge=1, le=RECV_MAX_MESSAGES)
    wait_s: float = Field(ge=0, le=RECV_WAIT_LIMIT_S, strict=False)


class AckParams(Params):
    ids: Ids


class RequeueParams(Params):
    ids: Ids
    reason: str = Field(max_length=2000)
    failed: bool


class SendParams(Params):
    to: str
    body: str
    in_reply_to: Id | None = None
    priority: Priority = Field(default=Priority.NORMAL, strict=False)
    ttl_seconds: float | None = Field(default=None, strict=False)
    idempotency_key: Key


class MessageStatusParams(Params):
    id: Id


class AskOperatorParams(Params):
    question: str
    options: list[str] = Field(default_factory=list[str])
    multi: bool = False
    ttl_seconds: float | None = Field(default=None, strict=False)
    idempotency_key: Key


class AskParams(Params):
    to: str
    question: str
    options: list[str] = Field(default_factory=list[str])
    multi: bool = False
    ttl_seconds: float | None = Field(default=None, strict=False)
    idempotency_key: Key


class AnswerParams(Params):
    id: Id
    options: list[str] = Field(default_factory=list[str], max_length=OPTIONS_LIMIT)
    text: str = Field(default="", max_length=ANSWER_LIMIT_CHARS)


class CancelQuestionParams(Params):
    id: Id


def _normalize_instant(text: str) -> str:
    """In the one form that every reader of a transcript takes: else an agent could make its own unreadable."""
    try:
        instant = datetime.fromisoformat(text)
        known = instant.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("it is no instant") from error
    if instant.tzinfo is None:
        raise ValueError("it has no offset from UTC")
    return known.isoformat()


class AgentEvent(Params):
    seq: int = Field(ge=1, lt=2**63)
    at: Annotated[str, Field(max_length=40), AfterValidator(_normalize_instant)]
    kind: str = Field(max_length=40)
    body: dict[str, Any]


class EventsAppendParams(Params):
    events: list[AgentEvent] = Field(max_length=1000)


class LoginFields(Params):
    kind: str = Field(max_length=40)
    account: str = Field(max_length=400)
    expires_at: str = Field(max_length=40)


class TurnStateParams(Params):
    state: str = Field(max_length=40)
    since: str = Field(max_length=40)
    reason: str = Field(max_length=2000)
    model: str = Field(max_length=200)
    chosen_model: str = Field(max_length=200)
    context_tokens: int = Field(ge=0, lt=2**53)
    context_limit: int = Field(ge=0, lt=2**53)
    session_usd: float | None = Field(ge=0, lt=1e9, allow_inf_nan=False, strict=False)
    warm: bool
    login: LoginFields


class ParkParams(Params):
    kind: str = Field(max_length=40)
    until: str = Field(max_length=40)
    reason: str = Field(max_length=2000)


class RemindMeParams(Params):
    note: str
    at: str | None = Field(default=None, max_length=60)
    in_seconds: float | None = Field(default=None, strict=False)
    idempotency_key: Key


class CancelReminderParams(Params):
    id: Id


class NotesCompactedParams(Params):
    before: str
    after: str


class SpawnParams(Params):
    name: str
    description: str = Field(default="", max_length=4000)


class AskPermissionParams(Params):
    tool: str = Field(max_length=200)
    summary: str = Field(max_length=8000)
    rule: str = Field(max_length=1000)
    wait_s: float = Field(ge=0, le=RECV_WAIT_LIMIT_S, strict=False)
    idempotency_key: Key


class SpawnDraftParams(Params):
    name: str


class SpawnCommitParams(Params):
    name: str
    commit: str = Field(max_length=100)
    notes: str = Field(max_length=100)
    bundle: Bundle
    description: str = Field(default="", max_length=4000)
    idempotency_key: Key


class ApplyCommitParams(Params):
    agent: str
    commit: str = Field(max_length=100)
    bundle: Bundle
    description: str = Field(default="", max_length=4000)
    idempotency_key: Key


class TerminalEndedParams(Params):
    id: str = Field(max_length=ID_LIMIT_CHARS)
    status: int | None = Field(ge=-255, le=255)


class TerminalHead(Params):
    terminal: str = Field(max_length=ID_LIMIT_CHARS)
    generation: int
    replay: int = Field(default=0, ge=0, le=SCROLLBACK_LIMIT_BYTES)


class AgentNameParams(Params):
    name: str


class NoParams(Params):
    pass
