"""The operator's HTTP API: what requests and answers hold. The routes are in `host/api`, the document in OpenAPI.

Instants are aware and in UTC. Every refusal is an `ErrorBody`.
"""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from hyperhive.core.approvals import ApprovalKind, ApprovalStatus
from hyperhive.core.messages import MessageState, SenderKind
from hyperhive.core.questions import QuestionStatus


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorBody(Model):
    code: str = Field(description="Stable, for programs: invalid_input, not_found, conflict, refused, …")
    message: str
    hint: str = ""


class Hive(Model):
    """`rehearsal` means that no model is behind this hive: every page says so."""

    version: str
    rehearsal: bool
    upstream: str = Field(description="The Messages API the gateway forwards to, without credentials.")
    credential: str = Field(description="What the gateway adds: 'api_key', 'token' or 'none'.")
    driver: str
    started_at: datetime


class AgentRow(Model):
    """One agent. `state` is what is known now; what is not known is 'unknown'."""

    name: str
    manager: bool
    state: str = Field(
        description="stopped, starting, stopping, failed, crashed, unknown, "
        "or while the harness is connected its turn state: offline, needs_login, idle, thinking, compacting, parked"
    )
    reason: str = Field(description="Why, when the state alone does not tell.")
    since: datetime
    driver: str
    model: str = Field(description="The model claude last reported; empty before the first turn.")
    waiting: int = Field(description="Messages queued for it.")
    turns: int = Field(description="Turns ended since it was spawned.")
    last_outcome: str = Field(description="How the last turn ended; empty before the first.")
    spawned_at: datetime


class KeptState(Model):
    """What is left of a destroyed agent until it is purged."""

    name: str
    destroyed_at: datetime
    size_bytes: int


class SpawnRequest(Model):
    name: str


class Approval(Model):
    id: int
    kind: ApprovalKind
    agent: str
    status: ApprovalStatus
    requested_by: str
    description: str
    requested_at: datetime
    resolved_at: datetime | None
    reason: str | None


class DenyRequest(Model):
    reason: str = Field(default="", max_length=2000)


class Message(Model):
    id: int
    sender: str
    kind: SenderKind
    recipient: str
    body: str
    sent_at: datetime
    state: MessageState
    deliveries: int
    thread: int | None
    in_reply_to: int | None
    acked_at: datetime | None
    note: str | None


class SendRequest(Model):
    to: str
    body: str
    in_reply_to: int | None = None
    idempotency_key: str | None = Field(default=None, max_length=128)


class Created(Model):
    id: int


class Question(Model):
    id: int
    agent: str
    question: str
    options: list[str]
    multi: bool
    status: QuestionStatus
    asked_at: datetime
    expires_at: datetime
    answer: str | None
    resolved_at: datetime | None


class AnswerRequest(Model):
    """The chosen options, free text, or both."""

    options: list[str] = Field(default_factory=list[str], max_length=12)
    text: str = Field(default="", max_length=16_000)


class TranscriptEvent(Model):
    """One event of an agent's transcript, as the harness recorded it (see `wire.agent_link.AgentEvent`)."""

    seq: int
    at: datetime
    kind: str
    body: dict[str, Any]


class HiveEvent(Model):
    """One entry of the feed: a fact, in the past tense. `agent` is whom it concerns, if anyone."""

    id: int
    at: datetime
    name: str
    agent: str | None
    body: dict[str, Any]


class Journal(Model):
    """A piece of an agent's captured log. `next_offset` continues it."""

    text: str
    next_offset: int


class CancelResult(Model):
    cancelled: bool


class LoginLink(Model):
    """A dashboard address that opens one operator session, once."""

    url: str


class Shutdown(Model):
    """What became of `hive down`: the agents whose containers could not be stopped, none if all went well."""

    left_running: list[str]
