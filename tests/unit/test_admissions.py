"""The queue in front of the budgets: no order of requests and ends passes a budget by more than one request."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperhive.core.budgets import NOTHING, Amount, Limit
from hyperhive.core.parking import EVERYONE
from hyperhive.host.admissions import Admissions, BudgetSpentError, Ticket
from hyperhive.host.ledger import Ledger

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)


@dataclass
class Rig:
    """Limits by name; `ask` starts one that asks, `let_run` lets all go as far as they can."""

    limits: dict[str, Limit]
    ledger: Ledger = field(default_factory=lambda: Ledger(lambda: AT))
    asking: "list[asyncio.Task[Ticket]]" = field(default_factory=list["asyncio.Task[Ticket]"])

    def __post_init__(self) -> None:
        self.queue = Admissions(self.ledger, lambda name: self.limits.get(name, Limit()))

    def ask(self, agent: str, tokens: int, micro_usd: int = 0) -> "asyncio.Task[Ticket]":
        task = asyncio.create_task(self.queue.admit(agent, Amount(tokens, micro_usd)))
        self.asking.append(task)
        return task

    def admitted(self) -> list[Ticket]:
        done = [task for task in self.asking if task.done() and not task.cancelled() and task.exception() is None]
        return [ticket for task in done if not (ticket := task.result()).ended]


async def let_run() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_that_fit_together_run_together_and_the_rest_waits_in_turn() -> None:
    rig = Rig({"a": Limit(tokens=100)})
    tasks = [rig.ask("a", 40) for _ in range(5)]
    await let_run()
    assert [task.done() for task in tasks] == [True, True, False, False, False]
    rig.queue.end(tasks[0].result(), Amount(10))
    await let_run()
    assert [task.done() for task in tasks] == [True, True, True, False, False]
    for task in tasks[1:3]:
        rig.queue.end(task.result(), Amount(50))
    await let_run()
    for task in tasks[3:]:
        with pytest.raises(BudgetSpentError) as refused:
            task.result()
        assert refused.value.name == "a"


async def test_far_from_the_edge_all_run_at_once() -> None:
    rig = Rig({"a": Limit(tokens=10**9), EVERYONE: Limit(tokens=10**9)})
    tasks = [rig.ask("a", 100_000) for _ in range(16)]
    await let_run()
    assert all(task.done() for task in tasks)


async def test_a_large_one_is_not_passed_for_ever_by_small_ones() -> None:
    rig = Rig({EVERYONE: Limit(tokens=100)})
    first = rig.ask("a", 60)
    large = rig.ask("b", 1000)
    small = rig.ask("c", 1)
    await let_run()
    assert (first.done(), large.done(), small.done()) == (True, False, False)
    rig.queue.end(first.result(), Amount(5))
    await let_run()
    assert (large.done(), small.done()) == (True, False)
    rig.queue.end(large.result(), Amount(5))
    await let_run()
    assert small.done()


async def test_who_waits_for_its_own_budget_holds_nobody_else_back() -> None:
    rig = Rig({"a": Limit(tokens=100), EVERYONE: Limit(tokens=10**6)})
    rig.ask("a", 60)
    blocked, other = rig.ask("a", 60), rig.ask("b", 60)
    await let_run()
    assert (blocked.done(), other.done()) == (False, True)


async def test_who_leaves_the_queue_leaves_room() -> None:
    rig = Rig({"a": Limit(tokens=100)})
    rig.ask("a", 60)
    large, small = rig.ask("a", 1000), rig.ask("a", 30)
    await let_run()
    assert not small.done()
    large.cancel()
    await let_run()
    assert small.done()


async def test_who_leaves_at_the_moment_it_is_let_in_reserves_nothing() -> None:
    rig = Rig({"a": Limit(tokens=100)})
    first, second, third = rig.ask("a", 90), rig.ask("a", 90), rig.ask("a", 90)
    await let_run()
    rig.queue.end(first.result(), NOTHING)
    second.cancel()
    await let_run()
    assert second.cancelled()
    assert third.done()


async def test_a_raised_limit_lets_those_in_that_wait_and_a_lowered_one_refuses_them() -> None:
    rig = Rig({"a": Limit(tokens=100)})
    first, second = rig.ask("a", 90), rig.ask("a", 90)
    await let_run()
    rig.limits["a"] = Limit(tokens=1000)
    rig.queue.recheck()
    await let_run()
    assert second.done()
    third = rig.ask("a", 1000)
    await let_run()
    rig.queue.end(first.result(), Amount(50))
    rig.limits["a"] = Limit(tokens=50)
    rig.queue.recheck()
    await let_run()
    with pytest.raises(BudgetSpentError):
        third.result()


async def test_ending_twice_charges_once() -> None:
    rig = Rig({})
    ticket = await rig.queue.admit("a", Amount(10))
    rig.queue.end(ticket, Amount(7))
    rig.queue.end(ticket, Amount(7))
    assert rig.ledger.total("a") == Amount(7)


NAMES = st.sampled_from("abc")
STEPS = st.lists(
    st.tuples(st.just("ask"), NAMES, st.integers(1, 60))
    | st.tuples(st.just("end"), st.integers(0, 9), st.integers(0, 100))
    | st.tuples(st.just("leave"), st.integers(0, 9), st.just(0)),
    max_size=60,
)
LIMIT = st.none() | st.integers(0, 200)


@dataclass
class Storm:
    """Many that ask, end and leave in some order; `largest` is the dearest request that ended, by budget."""

    rig: Rig
    unit: Amount
    largest: dict[str, int] = field(default_factory=dict[str, int])

    def step(self, kind: str, who: Any, value: int) -> None:
        if kind == "ask":
            self.rig.ask(who, self.unit.tokens * value, self.unit.micro_usd * value)
            return
        admitted = self.rig.admitted()
        waiting = [task for task in self.rig.asking if not task.done()]
        if kind == "end" and admitted:
            self.end(admitted[int(who) % len(admitted)], value)
        elif kind == "leave" and waiting:
            waiting[int(who) % len(waiting)].cancel()

    def end(self, ticket: Ticket, percent: int) -> None:
        """It cost that part of what was reserved."""
        cost = max(ticket.reserved.tokens, ticket.reserved.micro_usd) * percent // 100
        for name in (ticket.agent, EVERYONE):
            self.largest[name] = max(self.largest.get(name, 0), cost)
        self.rig.queue.end(ticket, Amount(self.unit.tokens * cost, self.unit.micro_usd * cost))

    async def end_all(self) -> None:
        while admitted := self.rig.admitted():
            self.end(admitted[0], 100)
            await let_run()

    def check_ends(self) -> None:
        assert all(task.done() for task in self.rig.asking), "somebody waits for ever"
        ended = [task for task in self.rig.asking if not task.cancelled()]
        assert all(isinstance(task.exception(), BudgetSpentError | None) for task in ended)

    def check_spent(self, name: str, most: int | None) -> None:
        spent = self.rig.ledger.total(name)
        if most is not None:
            assert max(spent.tokens, spent.micro_usd) <= max(0, most - 1) + self.largest.get(name, 0)


@settings(deadline=None, max_examples=200)
@given(STEPS, st.fixed_dictionaries({EVERYONE: LIMIT, "a": LIMIT, "b": LIMIT}), st.booleans())
def test_no_order_of_requests_passes_a_budget_by_more_than_one_of_them(
    steps: list[tuple[str, Any, int]], limits: dict[str, int | None], money: bool
) -> None:
    """Each request costs any part of what it reserved; in tokens or in money."""

    async def scenario() -> None:
        rig = Rig({name: Limit(micro_usd=most) if money else Limit(tokens=most) for name, most in limits.items()})
        storm = Storm(rig, Amount(micro_usd=1) if money else Amount(tokens=1))
        for step in steps:
            storm.step(*step)
            await let_run()
            assert rig.admitted() or all(task.done() for task in rig.asking), "somebody waits for nobody"
        await storm.end_all()
        storm.check_ends()
        for name, most in limits.items():
            storm.check_spent(name, most)

    asyncio.run(scenario())


# -- the ledger -------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.at = AT

    def __call__(self) -> datetime:
        return self.at


def test_what_was_spent_rolls_off_a_day_later_by_the_minute() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    ledger.add("a", Amount(10, 100, 1))
    clock.at = AT + timedelta(hours=1)
    ledger.add("b", Amount(5))
    assert (ledger.total("a"), ledger.total(EVERYONE)) == (Amount(10, 100, 1), Amount(15, 100, 1))
    clock.at = AT + timedelta(hours=24, seconds=59)
    assert ledger.total("a").tokens == 10
    clock.at = AT + timedelta(hours=24, seconds=60)
    assert (ledger.total("a"), ledger.total(EVERYONE)) == (NOTHING, Amount(5))
    assert ledger.list_agents() == ["b"]


def test_when_a_budget_is_free_again_is_when_enough_has_rolled_off() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    for hours in range(3):
        clock.at = AT + timedelta(hours=hours)
        ledger.add("a", Amount(40))
    day = timedelta(hours=24, minutes=1)
    assert ledger.find_free_at("a", Limit(tokens=100)) == AT + day
    assert ledger.find_free_at("a", Limit(tokens=50)) == AT + timedelta(hours=1) + day
    assert ledger.find_free_at("a", Limit(tokens=121)) is None
    assert ledger.find_free_at("a", Limit(tokens=0)) is None
    clock.at = AT + day
    assert ledger.total("a").tokens < 100


def test_a_clock_that_is_set_back_loses_nothing() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    ledger.add("a", Amount(1))
    clock.at = AT - timedelta(hours=2)
    ledger.add("a", Amount(2))
    assert ledger.total("a") == Amount(3)


@given(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 9)), max_size=60))
def test_the_ledger_is_the_sum_of_what_is_younger_than_a_day(steps: list[tuple[int, int]]) -> None:
    clock = Clock()
    ledger = Ledger(clock)
    spent: list[tuple[datetime, int]] = []
    for minutes, tokens in steps:
        clock.at += timedelta(minutes=minutes)
        ledger.add("a", Amount(tokens))
        spent.append((clock.at, tokens))
        young = sum(tokens for at, tokens in spent if clock.at - at <= timedelta(hours=24))
        assert ledger.total("a").tokens == ledger.total(EVERYONE).tokens == young
