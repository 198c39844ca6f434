"""Budgets: what may be spent within any 24 hours, and whether one more request may begin. Pure.

Spending is counted in *work tokens*, that is input, output and what is written to the cache, and in money. Reading
the cache counts for no token, since every turn reads all of a conversation again; it costs money all the same.

The promise: a budget is passed by at most one request. What is on its way is reserved with the most it may cost, and
what does not fit beside it waits until it can be alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

MICRO = 1_000_000
WARN_PERCENT = 80
# More than a request can take: what an upstream reports beyond this is not believed.
COUNT_LIMIT = 100_000_000


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one request, by what they cost."""

    input: int = 0
    output: int = 0
    cache_write: int = 0
    cache_read: int = 0

    @property
    def work(self) -> int:
        return self.input + self.output + self.cache_write


@dataclass(frozen=True, slots=True)
class Amount:
    """What was or may be spent. `unpriced` counts the requests whose model has no known price."""

    tokens: int = 0
    micro_usd: int = 0
    unpriced: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.tokens + other.tokens, self.micro_usd + other.micro_usd, self.unpriced + other.unpriced)

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(self.tokens - other.tokens, self.micro_usd - other.micro_usd, self.unpriced - other.unpriced)


NOTHING = Amount()


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that may be spent; None: no limit."""

    tokens: int | None = None
    micro_usd: int | None = None

    def raise_by(self, granted: Amount) -> "Limit":
        """With what was granted on top. A grant makes no limit where there is none."""
        return Limit(
            None if self.tokens is None else self.tokens + granted.tokens,
            None if self.micro_usd is None else self.micro_usd + granted.micro_usd,
        )

    def pair(self, amount: Amount) -> list[tuple[int, int]]:
        """(limit, amount) for each limit that there is."""
        pairs = ((self.tokens, amount.tokens), (self.micro_usd, amount.micro_usd))
        return [(most, value) for most, value in pairs if most is not None]


class Level(StrEnum):
    FREE = "free"
    WARNED = "warned"
    SPENT = "spent"


class Admission(StrEnum):
    ADMIT = "admit"
    WAIT = "wait"
    REFUSE = "refuse"


def decide_level(limit: Limit, spent: Amount) -> Level:
    """How far a budget is used up: from WARN_PERCENT on warned, at all of it spent. One of 0 is always spent."""
    pairs = limit.pair(spent)
    if any(value >= most for most, value in pairs):
        return Level.SPENT
    if any(value * 100 >= most * WARN_PERCENT for most, value in pairs):
        return Level.WARNED
    return Level.FREE


def decide_admission(limit: Limit, spent: Amount, reserved: Amount, own: Amount, in_flight: int) -> Admission:
    """Whether a request that may cost `own` may begin, beside `in_flight` others that may cost `reserved` together.

    Alone it may begin as long as anything is left. So all that end after a budget was passed are one request.
    """
    if decide_level(limit, spent) is Level.SPENT:
        return Admission.REFUSE
    if in_flight == 0 or all(value <= most for most, value in limit.pair(spent + reserved + own)):
        return Admission.ADMIT
    return Admission.WAIT


def decide_admissions(decisions: Iterable[Admission]) -> Admission:
    """Of several budgets: each has to agree."""
    found = set(decisions)
    return next((answer for answer in (Admission.REFUSE, Admission.WAIT) if answer in found), Admission.ADMIT)


def plan_default_grant(limit: Limit) -> Amount:
    """Half of each budget."""
    return Amount((limit.tokens or 0) // 2, (limit.micro_usd or 0) // 2)


def render_spent(limit: Limit, spent: Amount) -> str:
    """What is used up, in words; of two budgets both, if both are."""
    parts: list[str] = []
    if limit.tokens is not None and spent.tokens >= limit.tokens:
        parts.append(f"{spent.tokens:,} of {limit.tokens:,} tokens")
    if limit.micro_usd is not None and spent.micro_usd >= limit.micro_usd:
        parts.append(f"{render_usd(spent.micro_usd)} of {render_usd(limit.micro_usd)}")
    return f"{' and '.join(parts) or 'nothing'} of the last 24 hours"


def render_usd(micro_usd: int) -> str:
    """Cents, and below a cent what tells it from nothing."""
    places = 4 if 0 < micro_usd < MICRO // 100 else 2
    return f"${micro_usd / MICRO:,.{places}f}"
