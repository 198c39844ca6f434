"""What an agent may take of the hive, and what it takes."""

from datetime import datetime

from pydantic import Field

from hyperhive.core.quotas import Quota, Unit
from hyperhive.wire.operator.base import Model


class QuotaUse(Model):
    """One quota. `used`: None if nobody knows; `limit`: None for none.

    By the minute, `limit` is what may come each minute, and `used` what was taken of those that may come at once.
    """

    quota: Quota
    unit: Unit
    used: float | None
    limit: float | None


class AgentQuotas(Model):
    """`over` says why the agent was stopped for what it takes, empty if it was not."""

    agent: str
    over: str
    allowed_until: datetime | None
    quotas: list[QuotaUse]


class AllowRequest(Model):
    """What the folders of an agent may hold for a while."""

    size_bytes: int = Field(ge=1, le=2**50)
    for_s: float = Field(default=3600, gt=0, le=30 * 24 * 3600, allow_inf_nan=False)
