"""What is kept of an agent: reminders, notes, its transcript, journal, files and requests to the web."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from hyperhive.wire.operator.base import Model


class Reminder(Model):
    id: int
    agent: str
    note: str
    due_at: datetime
    created_at: datetime


class ScheduledMessage(Model):
    """An entry of the schedule in an agent's deployed config."""

    agent: str
    cron: str = Field(description="Minute, hour, day, month, weekday, in UTC.")
    message: str
    next_at: datetime | None = Field(description="None: never.")
    last_at: datetime | None = Field(description="The newest of its times that was sent; None: none yet.")


class NotesVersion(Model):
    """One change of an agent's notes that the hive made or kept."""

    commit: str
    at: datetime
    kind: Literal["compacted", "asked", "restored", "kept"] = Field(
        description="asked: it lost so much that the operator is asked before it is written."
    )
    size_before: int
    size_after: int


class RestoreRequest(Model):
    commit: str = Field(max_length=64)


class TranscriptEvent(Model):
    """One event of an agent's transcript, as the harness recorded it (see `wire.agent_link.AgentEvent`)."""

    seq: int
    at: datetime
    kind: str
    body: dict[str, Any]


class Journal(Model):
    """A piece of what an agent's container wrote; with a filter only the lines that it is in."""

    text: str
    offset: int = Field(description="Where it begins: `before` for what stands above it.")
    next_offset: int = Field(description="Where it ends: `offset` for what follows.")
    more: bool = Field(description="Whether something stands above it.")


class StateEntry(Model):
    """What has a name in an agent's /state."""

    name: str = Field(description="What cannot be seen or is not UTF-8 is spelled `\\xff`, a backslash as two.")
    kind: Literal["file", "folder", "link", "other"] = Field(
        description="Links are never followed; other: a pipe, a socket or a device."
    )
    size_bytes: int
    changed_at: datetime | None = Field(description="None for a time that no calendar has.")


class StateFolder(Model):
    """A folder of an agent's /state: its first entries by name."""

    path: str = Field(description="Below /state; empty for itself.")
    entries: list[StateEntry]
    more: bool = Field(description="Whether there are others than these.")


class StateFile(Model):
    """A plain file in an agent's /state."""

    path: str
    size_bytes: int
    text: str = Field(description="Its beginning; empty for what is no text.")
    cut: bool = Field(description="Whether there is more of it than is looked at.")
    binary: bool = Field(description="Whether it is no text.")


class EgressRequest(Model):
    """What an agent asked of the egress proxy. A refusal for the same host is told once in ten seconds."""

    agent: str
    at: datetime = Field(description="When it ended.")
    host: str = Field(description="Empty for what was no request; '*' for several hosts that were refused.")
    port: int
    verdict: Literal["allowed", "refused", "failed"]
    rule: str = Field(description="What decided: 'network.allow: *.example.org', 'granted: …', 'address', …")
    method: str = Field(default="", description="Of a plain http request; empty: a tunnel, such as for https.")
    path: str = Field(default="", description="Of a plain http request, decoded, without what follows a '?'.")
    bytes_up: int
    bytes_down: int
    elapsed_ms: int


class EgressGrant(Model):
    """What the operator lets an agent reach for a while, beside its config."""

    id: int
    agent: str
    host: str
    port: int
    granted_at: datetime
    until: datetime


class EgressGrantRequest(Model):
    agent: str = Field(max_length=200)
    host: str = Field(min_length=1, max_length=260, description="A name or an address.")
    port: int = Field(default=443, ge=1, le=65535)
    minutes: int = Field(default=30, ge=1, le=1440)


class EgressProposalRequest(Model):
    agent: str = Field(max_length=200)
    entry: str = Field(min_length=1, max_length=1000, description="As it is to stand in network.allow.")
