"""What was done and what it cost."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from hyperhive.wire.operator.base import Model


class StatsSeries(Model):
    """One line of a chart. See docs/reference/stats.md."""

    key: str
    unit: str
    fold: Literal["sum", "max", "last", "mean", "percentile"] = Field(
        description="How a longer slot's figure follows from what was counted in it."
    )
    scope: Literal["agent", "hive", "both"]
    meaning: str


class StatsPage(Model):
    """Series as columns: `at` and each of `series` have the same length. None: not known."""

    agent: str = Field(description="'*' for the whole hive.")
    since: datetime = Field(alias="from", description="The start of the first slot: at most one slot before `since`.")
    step_s: int = Field(description="The length of a slot. The last one is not over.")
    at: list[int] = Field(description="The start of each slot, in seconds since 1970.")
    series: dict[str, list[float | None]]
    totals: dict[str, float | None] = Field(description="Each series over the whole time as one slot.")
    units: dict[str, str]
    tools: dict[str, int] = Field(description="Calls of each tool in that time, the most called first.")


class UsageRow(Model):
    """What requests to the model service used and cost together."""

    name: str = Field(description="Of an agent, a day (UTC) or a model; the rest is other, (purged), (none).")
    requests: int
    failures: int
    unpriced: int = Field(description="Requests with tokens that have no price: what they cost is not in `cost_usd`.")
    work_tokens: int
    input_tokens: int
    output_tokens: int
    cache_write_tokens: int
    cache_read_tokens: int
    cost_usd: float


class StatsUsage(Model):
    """The same requests by agent, by day and by model."""

    agent: str = Field(description="'*' for the whole hive.")
    since: datetime = Field(alias="from")
    agents: list[UsageRow] = Field(description="The most tokens first; at most 200, the others as one.")
    days: list[UsageRow] = Field(description="Days in UTC on which there were requests, in order.")
    models: list[UsageRow] = Field(description="As agents.")
    total: UsageRow


class StatsOfAgents(Model):
    """What the series come to over the whole time, for each agent that is not destroyed."""

    since: datetime = Field(alias="from")
    agents: dict[str, dict[str, float | None]]
    units: dict[str, str]
