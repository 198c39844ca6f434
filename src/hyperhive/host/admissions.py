"""Who may send a model request now: the queue in front of the budgets, and what is reserved for those on their way.

Each request is judged by two budgets, its agent's and the hive's. One that has to wait for a budget holds back all
later ones of that budget, so that small ones do not pass it for ever; it holds no reservation itself, so that two that
wait can never wait for each other.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from hyperhive.core.budgets import NOTHING, Admission, Amount, Level, Limit, decide_admission, decide_level
from hyperhive.core.parking import EVERYONE
from hyperhive.host.ledger import Ledger


class BudgetSpentError(Exception):
    """A budget is spent. `name` is the agent's, or EVERYONE for the hive's."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(eq=False, slots=True)
class Ticket:
    """A request on its way. It is ended exactly once."""

    agent: str
    reserved: Amount
    ended: bool = False


@dataclass(slots=True)
class _Account:
    """What is on its way of one budget."""

    reserved: Amount = NOTHING
    in_flight: int = 0


@dataclass(eq=False, slots=True)
class _Waiter:
    ticket: Ticket
    turn: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Admissions:
    """All of it happens on the event loop and without a pause between looking and deciding."""

    def __init__(self, ledger: Ledger, find_limit: Callable[[str], Limit]) -> None:
        """`find_limit` gives the present limit of an agent, or of the hive (EVERYONE)."""
        self._ledger = ledger
        self._find_limit = find_limit
        self._accounts: dict[str, _Account] = {}
        self._waiting: list[_Waiter] = []

    async def admit(self, agent: str, reserved: Amount) -> Ticket:
        """Waits until the request may begin. Raises BudgetSpentError if a budget is spent, also while it waits.

        Whoever is cancelled while it waits has left the queue. What was admitted is to be ended with `end`.
        """
        waiter = _Waiter(Ticket(agent, reserved))
        self._waiting.append(waiter)
        self.recheck()
        try:
            await waiter.turn
        except asyncio.CancelledError:
            self._leave(waiter)
            raise
        return waiter.ticket

    def end(self, ticket: Ticket, spent: Amount) -> None:
        """Charges what the request cost, and lets those begin that may now. Ending it twice is no error."""
        if ticket.ended:
            return
        ticket.ended = True
        self._ledger.add(ticket.agent, spent)
        for name in (ticket.agent, EVERYONE):
            account = self._accounts[name]
            account.reserved -= ticket.reserved
            account.in_flight -= 1
            if not account.in_flight:
                del self._accounts[name]
        self.recheck()

    def recheck(self) -> None:
        """Looks at all that wait, in the order they came: to be called when a limit changed or time has passed."""
        held_back: set[str] = set()
        self._waiting = [
            waiter for waiter in self._waiting if not waiter.turn.done() and not self._settle(waiter, held_back)
        ]

    def _settle(self, waiter: _Waiter, held_back: set[str]) -> bool:
        """Admits or refuses one that waits; False if it goes on waiting."""
        names = (waiter.ticket.agent, EVERYONE)
        spent = next((name for name in names if self.is_spent(name)), None)
        if spent is not None:
            waiter.turn.set_exception(BudgetSpentError(spent))
            return True
        if held_back.intersection(names):
            return False
        waits = {name for name in names if self._decide(name, waiter.ticket.reserved) is Admission.WAIT}
        if waits:
            held_back |= waits
            return False
        for name in names:
            account = self._accounts.setdefault(name, _Account())
            account.reserved += waiter.ticket.reserved
            account.in_flight += 1
        waiter.turn.set_result(None)
        return True

    def is_spent(self, name: str) -> bool:
        return decide_level(self._find_limit(name), self._ledger.total(name)) is Level.SPENT

    def _decide(self, name: str, own: Amount) -> Admission:
        account = self._accounts.get(name, _Account())
        return decide_admission(
            self._find_limit(name), self._ledger.total(name), account.reserved, own, account.in_flight
        )

    def _leave(self, waiter: _Waiter) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        if waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None:
            # It was let in at the very moment it left.
            self.end(waiter.ticket, NOTHING)
        else:
            self.recheck()
