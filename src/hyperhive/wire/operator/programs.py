"""What programs are told, and how they are known."""

from datetime import datetime

from pydantic import Field

from hyperhive.core.tokens import TokenScope
from hyperhive.wire.operator.base import Model


class WaitingEvent(Model):
    """What an address that takes nothing is sent again and again, before anything that came later."""

    id: int
    name: str
    agent: str | None
    at: datetime
    count: int = Field(description="How many wait, with this one; of the next 1000 events.")


class WebhookDrop(Model):
    event: int = Field(ge=1, description="The id of the event that waits: another one is not dropped instead.")


class Webhook(Model):
    """An address that is told of events. All of it is shown to nobody: it may hold a secret."""

    id: int
    place: str = Field(description="Its scheme and host.")
    events: list[str] = Field(description="Names, or all that begin alike, such as approval.*; empty: all.")
    bodies: bool = Field(description="Whether it gets the bodies of events too.")
    added_at: datetime
    ok_at: datetime | None = Field(description="When it last took an event.")
    error: str = Field(description="Why the last attempt failed; empty: it was taken.")
    dead: int = Field(description="How many events were given up, of the newest.")
    dead_at: datetime | None = Field(description="When the newest of those was given up.")
    dead_reason: str = Field(description="Why that was.")
    waiting: WaitingEvent | None = Field(description="What was not taken and is tried again; None if nothing failed.")


class WebhookRequest(Model):
    url: str = Field(min_length=1, max_length=1000)
    events: list[str] = Field(default_factory=list[str], max_length=100, description="Empty: all.")
    bodies: bool = False


class NewWebhook(Model):
    webhook: Webhook
    secret: str = Field(description="Of the signatures; it cannot be shown again.")


class WebhookTest(Model):
    fault: str = Field(description="Empty: it was taken.")


class Token(Model):
    """What a program shows instead of a session. Its secret was shown once."""

    name: str
    scopes: list[TokenScope]
    created_at: datetime
    expires_at: datetime | None = Field(description="None: not before it is revoked.")
    last_used_at: datetime | None = Field(description="To the hour; None: never.")


class TokenRequest(Model):
    name: str = Field(max_length=200)
    scopes: list[TokenScope] = Field(min_length=1, max_length=4)
    expires_s: int | None = Field(default=None, ge=60, le=3650 * 86400, description="None: not before it is revoked.")


class NewToken(Model):
    token: Token
    secret: str = Field(description="For `Authorization: Bearer`; it cannot be shown again.")
