"""Messages and questions."""

from datetime import datetime

from pydantic import Field

from hyperhive.core.messages import MessageState, Priority, SenderKind
from hyperhive.core.questions import QuestionKind, QuestionStatus
from hyperhive.wire.operator.base import Model


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
    priority: Priority
    expires_at: datetime | None
    broadcast: int | None = Field(description="Set on each message of a broadcast: the id of its first.")
    settled_at: datetime | None = Field(description="When it was acked, expired or died.")
    note: str | None = Field(description="Why it was given back or died.")


class SendRequest(Model):
    to: str = Field(description="An agent, or '*' for all of them.")
    body: str
    in_reply_to: int | None = Field(default=None, ge=0, lt=2**63)
    priority: Priority = Priority.NORMAL
    ttl_s: float | None = Field(default=None, description="Who has not got it after so many seconds never does.")
    idempotency_key: str | None = Field(default=None, max_length=128)


class Sent(Model):
    id: int
    ids: list[int] = Field(description="One for each recipient.")


class Question(Model):
    id: int
    kind: QuestionKind
    agent: str
    question: str
    options: list[str]
    multi: bool
    status: QuestionStatus
    asked_at: datetime
    expires_at: datetime
    answer: str | None
    resolved_at: datetime | None
    asked: str = Field(description="Whom `agent` asks: the operator or an agent.")


class AnswerRequest(Model):
    """The chosen options, free text, or both."""

    options: list[str] = Field(default_factory=list[str], max_length=12)
    text: str = Field(default="", max_length=16_000)
