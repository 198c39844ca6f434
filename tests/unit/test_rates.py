"""Rates and exchanges, whatever the clock does."""

from hypothesis import given
from hypothesis import strategies as st

from hyperhive.core.rates import EXCHANGE_LIMIT, EXCHANGE_WINDOW_S, Bucket, Exchange, Rate

instants = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200)


@given(instants, st.integers(1, 20), st.floats(0.1, 600))
def test_no_more_than_the_burst_and_the_rate_is_ever_taken(times_s: list[float], burst: int, per_minute: float) -> None:
    bucket = Bucket(Rate(burst, per_minute), 0.0)
    taken, forward_s, last_s = 0, 0.0, 0.0
    for at_s in times_s:
        forward_s += max(0.0, at_s - last_s)
        last_s = at_s
        wait_s = bucket.take(at_s)
        taken += not wait_s
        assert 0 <= wait_s <= 60 / per_minute + 1e-6
    assert taken <= burst + forward_s * per_minute / 60 + 1e-6


@given(st.integers(1, 20), st.floats(0.1, 600))
def test_after_the_time_it_told_there_is_one(burst: int, per_minute: float) -> None:
    bucket = Bucket(Rate(burst, per_minute), 0.0)
    for _ in range(burst):
        assert not bucket.take(0.0)
    wait_s = bucket.take(0.0)
    assert wait_s > 0
    assert not bucket.take(wait_s * 1.000001)


def test_a_bucket_is_full_again_after_the_time_of_its_burst() -> None:
    bucket = Bucket(Rate(10, 60), 0.0)
    bucket.take(0.0)
    assert not bucket.is_full(0.5)
    assert bucket.is_full(1.0)


def test_two_who_answer_each_other_without_end_are_running_away() -> None:
    exchange = Exchange()
    found = [exchange.note("alice" if turn % 2 else "bob", turn * 10.0) for turn in range(EXCHANGE_LIMIT)]
    assert found == [False] * (EXCHANGE_LIMIT - 1) + [True]


def test_who_tells_a_lot_and_is_not_answered_is_not() -> None:
    exchange = Exchange()
    assert not any(exchange.note("alice", float(turn)) for turn in range(10 * EXCHANGE_LIMIT))


def test_who_takes_their_time_is_not() -> None:
    exchange = Exchange()
    step_s = EXCHANGE_WINDOW_S / (EXCHANGE_LIMIT - 1) * 1.01
    turns = ("alice" if turn % 2 else "bob" for turn in range(10 * EXCHANGE_LIMIT))
    assert not any(exchange.note(sender, turn * step_s) for turn, sender in enumerate(turns))


def test_an_exchange_is_over_when_nothing_of_it_counts() -> None:
    exchange = Exchange()
    assert exchange.is_over(0.0)
    exchange.note("alice", 0.0)
    assert not exchange.is_over(EXCHANGE_WINDOW_S)
    assert exchange.is_over(EXCHANGE_WINDOW_S + 1)
