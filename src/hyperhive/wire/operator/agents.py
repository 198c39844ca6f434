"""Agents: their rows, what is left of them, and what may be asked of them."""

from datetime import datetime

from pydantic import Field

from hyperhive.core.parking import ParkKind
from hyperhive.wire.operator.base import Model


class Park(Model):
    """Why an agent runs no turns."""

    kind: ParkKind
    since: datetime
    until: datetime | None = Field(description="When it ends by itself; None: only by an act of the operator.")
    reason: str
    hive: bool = Field(description="Whether it is the whole hive's.")


class AgentRow(Model):
    """One agent. `state` is what is known now; what is not known is 'unknown'."""

    name: str
    manager: bool
    state: str = Field(
        description="stopped, starting, stopping, hibernated, failed, crashed, unknown, "
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
    commit: str = Field(description="The deployed commit of its config; empty before the first start.")
    config_error: str = Field(description="Why the last approved config failed; empty once another one is deployed.")
    needs_update: str = Field(
        description="Why what runs is not what is deployed and installed; empty if it is, or nothing runs."
    )
    updating: bool = Field(description="Whether it is to be built anew, once its turn is over.")
    park: Park | None = Field(description="Why no turns are run; None if they are.")
    chosen_model: str = Field(description="The model that was chosen by hand; empty: the config's.")
    context_tokens: int = Field(description="Of the last inference; 0 when not known.")
    context_limit: int = Field(description="The model's window; 0 when not known.")
    session_usd: float | None = Field(description="What claude counts for the conversation; None when not known.")
    day_tokens: int = Field(description="Input, output and cache writes of the last 24 hours.")
    day_usd: float = Field(description="What those cost, by the price table.")
    day_unpriced: bool = Field(description="Whether some of it was by a model that the price table does not know.")
    budget_tokens: int | None = Field(description="For 24 hours, with what was granted; None: no limit.")
    budget_usd: float | None = Field(description="For 24 hours, with what was granted; None: no limit.")
    login: str = Field(description="none, own, hive (the daemon holds the credential), or unknown.")
    login_account: str
    login_expires_at: datetime | None


class Updating(Model):
    agents: list[str] = Field(
        description="Those that are built anew, each once its turn is over; empty: none is stale."
    )


class KeptState(Model):
    """What is left of a destroyed agent until it is purged."""

    name: str
    spawned_at: datetime
    destroyed_at: datetime
    size_bytes: int
    credentials: bool = Field(description="Whether a login of claude is among it.")


class Draft(Model):
    """An agent that the manager is drafting: a config, no container."""

    name: str
    requested_by: str
    created_at: datetime
    size_bytes: int


class SpawnRequest(Model):
    name: str


class PauseRequest(Model):
    reason: str = Field(default="", max_length=2000, description="For the rows and whoever asks why.")


class ModelRequest(Model):
    model: str = Field(max_length=200, description="The model from the next turn on; empty: the config's.")


class LoginStarted(Model):
    """`url` is the page where the operator gets a code."""

    url: str


class LoginCode(Model):
    code: str = Field(min_length=1, max_length=4096)


class Login(Model):
    kind: str = Field(description="none, own or hive.")
    account: str
    expires_at: datetime | None


class CancelResult(Model):
    cancelled: bool
