"""The hive as a whole, its events, and sessions."""

from datetime import datetime
from typing import Any

from pydantic import Field

from hyperhive.wire.operator.agents import Park
from hyperhive.wire.operator.base import Model


class Hive(Model):
    """`rehearsal` means that no model is behind this hive: every page says so."""

    version: str
    rehearsal: bool
    upstream: str = Field(description="The Messages API the gateway forwards to, without credentials.")
    credential: str = Field(description="What the gateway adds: 'api_key', 'token' or 'none'.")
    driver: str
    started_at: datetime
    park: Park | None = Field(description="Why the whole hive runs no turns; None if it does.")
    port_problems: list[str] = Field(description="Which agents have no page at their own port, and what to do.")
    unlimited: dict[str, str] = Field(
        description="Which limits of a config (memory, cpu, tasks) the driver cannot set on this machine, and why."
    )


class HiveEvent(Model):
    """One entry of the feed: a fact, in the past tense. `agent` is whom it concerns, if anyone."""

    id: int
    at: datetime
    name: str
    agent: str | None
    body: dict[str, Any]


class LoginLink(Model):
    """A dashboard address that opens one operator session, once."""

    url: str


class Ready(Model):
    ready: bool
    reasons: list[str] = Field(description="Why not; empty if it is.")


class Shutdown(Model):
    """What became of `hive down`: the agents whose containers could not be stopped, none if all went well."""

    left_running: list[str]
