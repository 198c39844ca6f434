"""What may be spent."""

from pydantic import Field

from hyperhive.wire.operator.base import Model


class Budget(Model):
    """A budget for a rolling day, and what was spent of it. `agent` is '*' for the whole hive."""

    agent: str
    tokens_per_day: int | None
    usd_per_day: float | None
    granted_tokens: int
    granted_usd: float
    day_tokens: int
    day_usd: float
    day_unpriced: bool
    problem: str = Field(description="Of the hive's: why prices.toml is not in force; empty if it is, or is not there.")


class BudgetRequest(Model):
    """The hive's budget; None: no limit."""

    tokens_per_day: int | None = Field(default=None, ge=0, le=10**12)
    usd_per_day: float | None = Field(default=None, ge=0, le=10**6, allow_inf_nan=False)


class GrantRequest(Model):
    """What may be spent on top for 24 hours; with nothing given, half of each budget."""

    tokens: int | None = Field(default=None, ge=1, le=10**12)
    usd: float | None = Field(default=None, gt=0, le=10**6, allow_inf_nan=False)
