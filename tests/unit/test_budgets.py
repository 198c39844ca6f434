"""The rules of budgets: what counts, what may begin, and that any order of requests passes a budget by one at most."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.core.budgets import (
    NOTHING,
    Admission,
    Amount,
    Level,
    Limit,
    Tokens,
    decide_admission,
    decide_level,
    plan_default_grant,
    render_spent,
    render_usd,
)

AMOUNTS = st.builds(Amount, st.integers(0, 1000), st.integers(0, 1000))
LIMITS = st.builds(Limit, st.none() | st.integers(0, 1000), st.none() | st.integers(0, 1000))


def test_reading_the_cache_counts_for_no_token() -> None:
    assert Tokens(input=1, output=2, cache_write=4, cache_read=1_000_000).work == 7


@pytest.mark.parametrize(
    ("spent", "level"),
    [(0, Level.FREE), (79, Level.FREE), (80, Level.WARNED), (99, Level.WARNED), (100, Level.SPENT), (101, Level.SPENT)],
)
def test_a_budget_warns_at_four_fifths_and_is_spent_at_all_of_it(spent: int, level: Level) -> None:
    assert decide_level(Limit(tokens=100), Amount(tokens=spent)) is level
    assert decide_level(Limit(micro_usd=100), Amount(micro_usd=spent)) is level


def test_a_budget_of_nothing_refuses_all_and_none_refuses_nothing() -> None:
    assert decide_admission(Limit(tokens=0), NOTHING, NOTHING, NOTHING, 0) is Admission.REFUSE
    assert decide_admission(Limit(micro_usd=0), NOTHING, NOTHING, Amount(1), 0) is Admission.REFUSE
    huge = Amount(10**15, 10**15)
    assert decide_admission(Limit(), huge, huge, huge, 99) is Admission.ADMIT


def test_what_fits_goes_beside_others_and_what_does_not_waits_until_it_is_alone() -> None:
    limit, spent, own = Limit(tokens=100), Amount(50), Amount(30)
    assert decide_admission(limit, spent, Amount(20), own, 1) is Admission.ADMIT
    assert decide_admission(limit, spent, Amount(21), own, 1) is Admission.WAIT
    assert decide_admission(limit, spent, NOTHING, Amount(1000), 0) is Admission.ADMIT


@given(LIMITS, AMOUNTS, AMOUNTS, AMOUNTS, st.integers(0, 5))
def test_an_admission_never_depends_on_a_limit_that_is_not_there(
    limit: Limit, spent: Amount, reserved: Amount, own: Amount, in_flight: int
) -> None:
    """More of a kind without a limit changes nothing."""
    answer = decide_admission(limit, spent, reserved, own, in_flight)
    more = Amount(10**9 if limit.tokens is None else 0, 10**9 if limit.micro_usd is None else 0)
    assert decide_admission(limit, spent + more, reserved + more, own + more, in_flight) is answer


def test_a_grant_comes_on_top_of_a_limit_and_makes_none() -> None:
    assert Limit(100, None).raise_by(Amount(50, 50)) == Limit(150, None)
    assert plan_default_grant(Limit(100, 5_000_000)) == Amount(50, 2_500_000)
    assert plan_default_grant(Limit()) == NOTHING


def test_what_is_spent_is_told_in_words() -> None:
    spent = Amount(1_200_000, 5_250_000)
    assert render_spent(Limit(1_000_000), spent) == "1,200,000 of 1,000,000 tokens of the last 24 hours"
    assert render_spent(Limit(2_000_000, 5_000_000), spent) == "$5.25 of $5.00 of the last 24 hours"
    assert render_spent(Limit(1_000_000, 5_000_000), spent).startswith("1,200,000 of 1,000,000 tokens and $5.25 of")
    assert [render_usd(value) for value in (0, 99, 9_999, 10_000, 1_234_567_890)] == [
        "$0.00",
        "$0.0001",
        "$0.0100",
        "$0.01",
        "$1,234.57",
    ]
