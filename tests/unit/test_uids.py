"""Every agent has a range of uids that overlaps no other's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.core.uids import (
    FIRST_RANGED_UID,
    FIRST_UID,
    INNER_UID,
    RANGE_WIDTH,
    has_range,
    plan_next_uid,
    range_start,
)

UIDS = st.integers(min_value=0, max_value=2**32)


def test_the_first_agent_has_a_range() -> None:
    assert has_range(plan_next_uid(None))
    assert range_start(FIRST_RANGED_UID) == FIRST_RANGED_UID - INNER_UID


@given(count=st.integers(min_value=1, max_value=200))
def test_ranges_given_out_one_after_the_other_do_not_overlap(count: int) -> None:
    highest, end = None, 0
    for _ in range(count):
        highest = plan_next_uid(highest)
        assert range_start(highest) >= end
        end = range_start(highest) + RANGE_WIDTH
        assert end <= 2_147_483_647


@given(index=st.integers(min_value=0, max_value=60_000))
def test_an_agent_of_an_earlier_version_is_in_nobodys_range(index: int) -> None:
    old = FIRST_UID + index
    assert not has_range(old)
    following = plan_next_uid(old)
    assert has_range(following)
    assert range_start(following) > old


@given(uid=UIDS)
def test_what_has_no_range_has_no_start(uid: int) -> None:
    if not has_range(uid):
        with pytest.raises(ValueError, match="range"):
            range_start(uid)


def test_when_all_are_given_out_there_is_none() -> None:
    uid = plan_next_uid(None)
    count = 1
    with pytest.raises(ValueError, match="every uid"):
        while True:
            uid = plan_next_uid(uid)
            count += 1
    assert count > 3500
