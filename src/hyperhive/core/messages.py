"""Messages: their states, who sent them, and the envelope an agent reads them in."""

import re
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from hyperhive.core.errors import InvalidInputError, TooLargeError
from hyperhive.core.names import MANAGER, OPERATOR, SYSTEM

# As a recipient: all that the sender may write to, but for the operator.
EVERYBODY = "*"
BODY_LIMIT_BYTES = 64 * 1024
# How long a `recv` may wait: calls that are silent for about 300 s get cut off by the CLI.
RECV_WAIT_LIMIT_S = 180
RECV_MAX_MESSAGES = 32
# Of all bodies in one answer, but for the first: written as JSON they may grow sixfold, and a line has its limit.
RECV_LIMIT_BYTES = 128 * 1024
# After this many failed deliveries a message is dead: shown to the operator, not delivered again by itself.
DELIVERY_ATTEMPTS = 5


TTL_LIMIT_S = 30 * 24 * 3600


class MessageState(StrEnum):
    """`queued` and `leased` wait; the others are settled. `dead` can be queued again by the operator."""

    QUEUED = "queued"
    LEASED = "leased"
    ACKED = "acked"
    EXPIRED = "expired"
    DEAD = "dead"


class Priority(StrEnum):
    """What is handed out first. Order holds among the messages of one sender, recipient and priority."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class SenderKind(StrEnum):
    OPERATOR = "operator"
    MANAGER = "manager"
    SYSTEM = "system"
    PEER = "peer"


_KINDS = {OPERATOR: SenderKind.OPERATOR, MANAGER: SenderKind.MANAGER, SYSTEM: SenderKind.SYSTEM}


class Message(NamedTuple):
    """One message. `deliveries` counts how often it was handed out; above 1 it is marked redelivered.

    `broadcast` is set on each message of a broadcast: the id of its first. `settled_at` is when it was acked, expired
    or died; `note` is why it was given back or died. `question` is the question that it asks, `answer_to` the one
    whose end it tells: both are the hive's word.
    """

    id: int
    sender: str
    recipient: str
    body: str
    sent_at: datetime
    state: MessageState
    deliveries: int
    thread: int | None = None
    in_reply_to: int | None = None
    priority: Priority = Priority.NORMAL
    expires_at: datetime | None = None
    broadcast: int | None = None
    settled_at: datetime | None = None
    note: str | None = None
    question: int | None = None
    answer_to: int | None = None

    @property
    def redelivered(self) -> bool:
        return self.deliveries > 1


def sender_kind(sender: str) -> SenderKind:
    """How far a sender is to be trusted. The sender's name comes from its socket, never from a body."""
    return _KINDS.get(sender, SenderKind.PEER)


def parse_body(body: str) -> str:
    """`body` if it can be sent: some text, valid UTF-8, at most `BODY_LIMIT_BYTES` long."""
    if not body.strip():
        raise InvalidInputError("the message is empty", "write a body")
    try:
        size = len(body.encode())
    except UnicodeEncodeError as error:
        raise InvalidInputError("the message is not valid text (lone surrogates)", "send valid UTF-8") from error
    if size > BODY_LIMIT_BYTES:
        raise TooLargeError(
            f"the message has {size} bytes, over the limit of {BODY_LIMIT_BYTES}",
            "put long content into a file and send where it is",
        )
    return body


def check_ttl(ttl_s: float | None) -> None:
    """Raises InvalidInputError for a lifetime out of range."""
    if ttl_s is not None and not 1 <= ttl_s <= TTL_LIMIT_S:
        raise InvalidInputError(f"ttl_seconds is from 1 to {TTL_LIMIT_S}", "leave it out: then it waits for ever")


_ENVELOPE_TAG = re.compile(r"<(?=\s*/?\s*message\b)", re.IGNORECASE)


def render_envelope(message: Message) -> str:
    """The message as an agent reads it: who it is from, set by the broker, around a body that cannot forge it.

    Inside the body every `<` that would open or close a message tag is written `&lt;`; all else is verbatim.
    """
    fields = [
        f'id="{message.id}"',
        f'from="{message.sender}"',
        f'kind="{sender_kind(message.sender)}"',
    ]
    if message.thread is not None:
        fields.append(f'thread="{message.thread}"')
    if message.in_reply_to is not None:
        fields.append(f'in_reply_to="{message.in_reply_to}"')
    if message.question is not None:
        fields.append(f'question="{message.question}"')
    if message.answer_to is not None:
        fields.append(f'answer_to="{message.answer_to}"')
    if message.broadcast is not None:
        fields.append('to="*"')
    if message.redelivered:
        fields.append('redelivered="true"')
    body = _ENVELOPE_TAG.sub("&lt;", message.body)
    return f"<message {' '.join(fields)}>\n{body}\n</message>"


def render_wake_prompt(messages: Sequence[Message], waiting: int) -> str:
    """What a turn starts with: the leased messages in their envelopes and how many more wait. Nothing else."""
    parts = [render_envelope(message) for message in messages]
    if waiting:
        parts.append(f"{waiting} more waiting: call recv for them.")
    return "\n\n".join(parts)
