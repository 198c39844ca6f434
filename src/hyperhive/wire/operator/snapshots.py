"""Snapshots of agents: rows, and what may be asked of them."""

from datetime import datetime

from pydantic import Field

from hyperhive.wire.operator.base import Model

WAIT_LIMIT_S = 3600.0

_WAIT = "How long the end of a running turn is waited for."
_CREDENTIALS = "With the agent's own login, if it has one."


class Snapshot(Model):
    """One snapshot of one agent."""

    id: int
    agent: str = Field(description="The agent that it is of; it may be gone.")
    at: datetime
    state: str = Field(description="taking or ready")
    note: str
    commit: str = Field(description="The commit of its config then.")
    session: str = Field(description="The conversation that goes on from it; empty if there was none.")
    turns: int = Field(description="Turns that had ended.")
    with_credentials: bool
    automatic: bool = Field(description="Made by the hive before a restore.")
    imported: bool
    size_bytes: int = Field(description="Of the archive.")
    left_out: int = Field(description="Files that are not in it, such as pipes and sockets.")
    sha256: str = Field(description="Of the archive.")


class SnapshotRequest(Model):
    agent: str = Field(max_length=200)
    note: str = Field("", max_length=1000)
    with_credentials: bool = Field(False, description=_CREDENTIALS)
    wait_s: float = Field(300.0, ge=0, le=WAIT_LIMIT_S, description=_WAIT)


class SnapshotRestoreRequest(Model):
    replay: bool = Field(False, description="Whether messages that were handled since then are handed out again.")
    with_credentials: bool = Field(False, description="With the login in the snapshot, where the agent has none now.")
    wait_s: float = Field(300.0, ge=0, le=WAIT_LIMIT_S, description=_WAIT)


class ForkRequest(Model):
    name: str = Field(max_length=200, description="Of the new agent.")
    with_credentials: bool = Field(False, description="With the login in the snapshot.")


class RestoreResult(Model):
    """What became of a restore or a fork. The agent's row tells how it starts."""

    agent: str
    undo: int | None = Field(description="The snapshot of what was there before; None if nothing was.")
    approval: int | None = Field(description="The approval that brought back its config; None if that was the same.")
    replayed: int = Field(description="Messages that are handed out again.")
