"""Budgets of agents and of the hive: asked before each model request, charged after it, shown to the operator.

An agent's budget stands in its deployed config, the hive's in the store; grants of 24 hours come on top of either.
What is spent is in memory (`host.ledger`), so that the next decision is right whatever the disk does.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from hyperhive.core.budgets import (
    NOTHING,
    Amount,
    Level,
    Limit,
    Tokens,
    decide_level,
    plan_default_grant,
    render_spent,
)
from hyperhive.core.errors import ConflictError, HiveError
from hyperhive.core.events import Event, EventName
from hyperhive.core.model_requests import ModelRequest
from hyperhive.core.names import parse_known_agent_name
from hyperhive.core.parking import EVERYONE, ParkKind
from hyperhive.host.admissions import Admissions, Ticket
from hyperhive.host.agent_records import get_agent
from hyperhive.host.budget_records import (
    Grant,
    insert_grant,
    load_grants,
    load_hive_limit,
    note_warned,
    save_hive_budget,
    to_limit,
    to_micro,
    to_usd,
)
from hyperhive.host.configs.configs import Configs
from hyperhive.host.ledger import Ledger
from hyperhive.host.parking import Parking
from hyperhive.host.price_file import PriceFile
from hyperhive.host.store.rows import AgentRecord, to_agent
from hyperhive.host.store.store import Store
from hyperhive.system.clock import now
from hyperhive.wire.operator.budgets import Budget

log = structlog.get_logger(__name__)

# What rolls off or expires is noticed after this long.
RECHECK_S = 60.0
_RETRY_S = 0.1
_CHANGING = frozenset({EventName.AGENT_CONFIGURED, EventName.AGENT_REVIVED})


@dataclass(frozen=True, slots=True)
class Spending:
    """What was spent within 24 hours, and the budget for it with what was granted; None: no limit."""

    day_tokens: int
    day_usd: float
    day_unpriced: bool
    budget_tokens: int | None
    budget_usd: float | None


class Budgets:
    """`load` is to be called once before anything is admitted. EVERYONE is the name of the hive's budget."""

    def __init__(
        self,
        store: Store,
        telemetry: Store,
        configs: Configs,
        parking: Parking,
        prices: PriceFile,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._store = store
        self._telemetry = telemetry
        self._configs = configs
        self._parking = parking
        self._prices = prices
        self._clock = clock
        self._ledger = Ledger(clock)
        self._admissions = Admissions(self._ledger, self.find_limit)
        self._hive = Limit()
        self._grants: list[Grant] = []
        # What the config of an agent said last: it is forgotten elsewhere when the agent is destroyed.
        self._known: dict[str, Limit] = {}
        self._warned: set[str] = set()
        self._settling = asyncio.Lock()
        self._changed: set[str] = set()
        self._woken = asyncio.Event()
        self._tell: Callable[[str], None] = lambda _: None

    def on_change(self, listener: Callable[[str], None]) -> None:
        """`listener` is called with an agent's name when what `describe` says of it may have changed."""
        self._tell = listener

    async def load(self) -> None:
        """Takes over what was spent and granted before this start. Raises StorageError."""
        self._prices.look()
        await self._ledger.load(self._telemetry, self._prices.table)
        at = self._clock()
        self._hive, self._grants, parked = await self._store.read(
            lambda view: (
                load_hive_limit(view),
                load_grants(view, at),
                {str(row["agent"]) for row in view.list("list_budget_parks")},
            )
        )
        await self._load_limits({*self._ledger.list_agents(), *parked, *(grant.agent for grant in self._grants)})
        names = {*self._ledger.list_agents(), *parked}
        # It was told by the daemon that saw it.
        self._warned = {name for name in (*names, EVERYONE) if self._level(name) is not Level.FREE}
        self._changed = names
        self._woken.set()

    # -- requests ------------------------------------------------------------------------------------------

    async def admit(self, agent: str, request: ModelRequest) -> Ticket:
        """Waits until a request may begin; then it has to be ended with `end`.

        Raises BudgetSpentError if a budget is spent, a HiveError if the agent's budget cannot be known.
        """
        await self._configs.get_deployed(agent)
        tokens = request.reservation
        cost = self._prices.table.find_cost(request.model, tokens)
        if cost is None:
            # The answer may come from a model with a price.
            cost = self._prices.table.highest_cost(tokens)
        return await self._admissions.admit(agent, Amount(tokens.work, cost))

    def end(self, ticket: Ticket, model: str, tokens: Tokens) -> int | None:
        """Charges what a request took; at once, in memory. Returns its cost in micro-dollars, None if not known."""
        cost = 0 if tokens == Tokens() else self._prices.table.find_cost(model, tokens)
        self._admissions.end(ticket, Amount(tokens.work, cost or 0, int(cost is None)))
        self._tell(ticket.agent)
        return cost

    async def settle(self, agent: str) -> None:
        """Warns, parks or releases as it follows from what the agent and the hive have spent. Never fails: it logs."""
        async with self._settling:
            for name in (agent, EVERYONE):
                try:
                    await self._settle(name)
                except HiveError as error:
                    # It is tried again with the next request, and each minute.
                    log.warning("budgets.not_settled", budget=name, message=error.message)

    async def _settle(self, name: str) -> None:
        level, spent, limit = self._level(name), self._ledger.total(name), self.find_limit(name)
        park = self._parking.find_own(name, ParkKind.BUDGET)
        if level is Level.SPENT:
            self._warned.add(name)
            reason, until = render_spent(limit, spent), self._ledger.find_free_at(name, limit)
            if park is None or (park.reason, park.until) != (reason, until):
                await self._parking.park(name, ParkKind.BUDGET, reason, until)
            return
        if park is not None:
            await self._parking.release(name, ParkKind.BUDGET)
        if level is Level.FREE:
            self._warned.discard(name)
        elif name not in self._warned:
            self._warned.add(name)
            await self._store.write(lambda tx: note_warned(tx, name, spent, limit))

    # -- what there is -------------------------------------------------------------------------------------

    def find_limit(self, name: str) -> Limit:
        """The present budget of an agent, or of the hive, with what was granted."""
        return self._find_base(name).raise_by(self._find_granted(name))

    def render_refusal(self, name: str) -> str:
        """Why nothing more is admitted, for whoever was refused."""
        spent = render_spent(self.find_limit(name), self._ledger.total(name))
        whose = "the hive's budget" if name == EVERYONE else f"the budget of {name}"
        return f"{whose} is spent: {spent}; the operator can grant more"

    def describe(self, agent: str) -> Spending:
        """From memory. Of an agent whose config was not needed since the start, the budget is not known."""
        spent, limit = self._ledger.total(agent), self.find_limit(agent)
        return Spending(
            day_tokens=spent.tokens,
            day_usd=to_usd(spent.micro_usd),
            day_unpriced=spent.unpriced > 0,
            budget_tokens=limit.tokens,
            budget_usd=None if limit.micro_usd is None else to_usd(limit.micro_usd),
        )

    async def list_budgets(self) -> list[Budget]:
        """The hive's, then those of the agents that have one or spent something, destroyed ones last."""
        self._prices.look()
        records = [to_agent(row) for row in await self._store.read(lambda view: view.list("list_agents"))]
        await self._load_limits({record.name for record in records if self._configs.find_cached(record.name) is None})
        names = [record.name for record in records]
        gone = [name for name in self._ledger.list_agents() if name not in names]
        shown = [name for name in names if self._find_base(name) != Limit() or self._ledger.total(name) != NOTHING]
        return [self._show(EVERYONE), *(self._show(name) for name in [*shown, *gone])]

    def _show(self, name: str) -> Budget:
        spent, base, granted = self._ledger.total(name), self._find_base(name), self._find_granted(name)
        return Budget(
            agent=name,
            tokens_per_day=base.tokens,
            usd_per_day=None if base.micro_usd is None else to_usd(base.micro_usd),
            granted_tokens=granted.tokens,
            granted_usd=to_usd(granted.micro_usd),
            day_tokens=spent.tokens,
            day_usd=to_usd(spent.micro_usd),
            day_unpriced=spent.unpriced > 0,
            problem=f"prices.toml: {self._prices.problem}" if name == EVERYONE and self._prices.problem else "",
        )

    def _find_base(self, name: str) -> Limit:
        if name == EVERYONE:
            return self._hive
        version = self._configs.find_cached(name)
        if version is not None:
            budget = version.config.budget
            self._known[name] = to_limit(budget.tokens_per_day, budget.usd_per_day)
        return self._known.get(name, Limit())

    def _find_granted(self, name: str) -> Amount:
        at = self._clock()
        return sum((grant.amount for grant in self._grants if grant.agent == name and grant.expires_at > at), NOTHING)

    def _level(self, name: str) -> Level:
        return decide_level(self.find_limit(name), self._ledger.total(name))

    # -- what the operator changes ---------------------------------------------------------------------------

    async def set_hive_budget(self, tokens: int | None, usd: float | None) -> Budget:
        """Sets the hive's budget; None: no limit. Raises StorageError: then nothing has changed."""
        await self._store.write(lambda tx: save_hive_budget(tx, tokens, usd))
        self._hive = to_limit(tokens, usd)
        await self._apply(EVERYONE)
        return self._show(EVERYONE)

    async def grant(self, name: str, tokens: int | None, usd: float | None) -> Budget:
        """Lets an agent, or the hive, spend more for 24 hours; with neither given, half of each of its budgets.

        Raises InvalidInputError or NotFoundError for an unknown agent, ConflictError if there is no budget that a
        grant could add to.
        """
        if name != EVERYONE:
            parse_known_agent_name(name)
            await self._store.read(lambda view: get_agent(view, name))
            await self._configs.get_deployed(name)
        amount = _plan_grant(name, self._find_base(name), tokens, usd)
        at = self._clock()
        self._grants.append(await self._store.write(lambda tx: insert_grant(tx, name, amount, at)))
        await self._apply(name)
        return self._show(name)

    async def _apply(self, name: str) -> None:
        self._admissions.recheck()
        await self.settle(name)
        if name != EVERYONE:
            self._tell(name)

    # -- what changes by itself ------------------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        """Follows changed configs; called by the feed after each commit."""
        if event.name in _CHANGING and event.agent is not None:
            self._changed.add(event.agent)
            self._woken.set()

    async def recheck_forever(self) -> None:
        """Follows configs, time and the price file, for as long as the daemon runs."""
        while True:
            try:
                async with asyncio.timeout(RECHECK_S):
                    await self._woken.wait()
            except TimeoutError:
                self._prices.look()
                self._changed.update(self._ledger.list_agents(), self._warned)
            self._woken.clear()
            await self.recheck()

    async def recheck(self) -> None:
        """Looks again at what may have changed."""
        at = self._clock()
        self._grants = [grant for grant in self._grants if grant.expires_at > at]
        changed, self._changed = self._changed - {EVERYONE}, set()
        await self._load_limits(changed)
        self._admissions.recheck()
        for name in changed or {EVERYONE}:
            await self.settle(name)
            if name != EVERYONE:
                self._tell(name)

    async def _load_limits(self, names: set[str]) -> None:
        """Makes known what the deployed configs say; of what is no agent (any more) nothing is."""
        for name in sorted(names - {EVERYONE}):
            row = await self._store.read(lambda view, name=name: view.find("get_agent", name=name))
            if row is not None and row["destroyed_at"] is None and row["deployed_commit"] is not None:
                await self._load_limit(to_agent(row))

    async def _load_limit(self, record: AgentRecord) -> None:
        try:
            version = await self._configs.get_deployed(record.name)
        except HiveError as error:
            log.warning("budgets.config_unreadable", agent=record.name, message=error.message)
            return
        self._find_base(record.name)
        if version.commit != record.deployed_commit:
            # It was deployed a moment ago and is noted in a moment.
            asyncio.get_running_loop().call_later(_RETRY_S, self._look_again, record.name)

    def _look_again(self, name: str) -> None:
        self._changed.add(name)
        self._woken.set()


def _plan_grant(name: str, base: Limit, tokens: int | None, usd: float | None) -> Amount:
    if tokens is None and usd is None:
        amount = plan_default_grant(base)
        if amount == NOTHING:
            raise ConflictError(f"{_render_owner(name)} no budget that half of could be granted", _grant_hint(name))
        return amount
    if tokens is not None and base.tokens is None:
        raise ConflictError(f"{_render_owner(name)} no budget of tokens", _grant_hint(name))
    if usd is not None and base.micro_usd is None:
        raise ConflictError(f"{_render_owner(name)} no budget of money", _grant_hint(name))
    return Amount(tokens or 0, 0 if usd is None else max(1, to_micro(usd)))


def _render_owner(name: str) -> str:
    return "the hive has" if name == EVERYONE else f"{name} has"


def _grant_hint(name: str) -> str:
    if name == EVERYONE:
        return "without one there is no limit; `hive budget --tokens N` sets one"
    return "without one it is only limited by the hive's; one of its own stands in its config, or name an amount"
