"""What was found out of late: for its time, the newest of it, and errors as values are."""

import pytest

from hyperhive.core.errors import InvalidInputError
from hyperhive.host.remembered import Remembered


def test_what_was_found_out_counts_for_its_time() -> None:
    known: Remembered[str, int] = Remembered(10)
    assert known.find("a") is None
    known.put("a", 1)
    known.put("b", 2, kept_s=0)
    assert (known.find("a"), known.find("b")) == (1, None)
    known.put("a", 3)
    assert known.find("a") == 3


def test_why_there_is_none_is_told_to_each_anew() -> None:
    known: Remembered[str, int] = Remembered(10)
    given = InvalidInputError("no", "try another")
    known.put("a", given, kept_s=60)
    raised: list[InvalidInputError] = []
    for _ in range(2):
        with pytest.raises(InvalidInputError) as refused:
            known.find("a")
        raised.append(refused.value)
    assert [(error.message, error.hint) for error in raised] == [("no", "try another")] * 2
    assert len({id(error) for error in (given, *raised)}) == 3
    known.put("a", 1)
    assert known.find("a") == 1


def test_of_too_many_those_that_nobody_asked_for_go() -> None:
    known: Remembered[int, int] = Remembered(3)
    for number in range(3):
        known.put(number, number)
    assert known.find(0) == 0
    known.put(3, 3)
    assert [known.find(number) for number in range(4)] == [0, None, 2, 3]
