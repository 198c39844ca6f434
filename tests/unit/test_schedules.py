"""When entries of a schedule are due: held against a calendar that is walked day by day, and over clocks that jump."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperhive.core.config_values import expand_cron, parse_cron
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.reminders import AHEAD_LIMIT_DAYS, NOTE_LIMIT_CHARS, parse_due, parse_note
from hyperhive.core.schedules import LATE_LIMIT, MISSED_LIMIT, Due, find_due, find_next

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
# Nine years hold a 29th of February, also around 2100.
WALK_DAYS = 9 * 366


def parse(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# -- an independent reading of cron ------------------------------------------------------------------------


def is_day(cron: str, day: datetime) -> bool:
    _, _, days, months, weekdays = expand_cron(cron)
    by_day, by_weekday = day.day in days, day.isoweekday() % 7 in weekdays
    either = len(days) < 31 and len(weekdays) < 7
    return day.month in months and (by_day or by_weekday if either else by_day and by_weekday)


def walk(cron: str, start: datetime, *, back: bool) -> datetime | None:
    """The nearest time strictly before or after `start`, by looking at one day after the other."""
    minutes, hours, *_ = expand_cron(cron)
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    for number in range(WALK_DAYS):
        day = midnight - number * DAY if back else midnight + number * DAY
        if not is_day(cron, day):
            continue
        times = [day.replace(hour=hour, minute=minute) for hour in hours for minute in minutes]
        if beyond := [one for one in times if (one < start if back else one > start)]:
            return max(beyond) if back else min(beyond)
    return None


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    def render(kind: int, first: int, last: int, step: int) -> str:
        first, last = sorted((first, last))
        forms = ("*", f"{first}", f"{first}-{last}", f"*/{step}", f"{first}/{step}", f"{first}-{last}/{step}")
        return forms[kind]

    value = st.integers(low, high)
    part = st.builds(render, st.integers(0, 5), value, value, st.integers(1, high))
    return st.lists(part, min_size=1, max_size=2).map(",".join)


def comes(cron: str) -> bool:
    try:
        parse_cron(cron)
    except ValueError as error:
        assert "never comes" in str(error)
        return False
    return True


ANY_CRON = st.tuples(numbers(0, 59), numbers(0, 23), numbers(1, 31), numbers(1, 12), numbers(0, 7)).map(" ".join)
CRON = ANY_CRON.filter(comes)
INSTANT = st.timedeltas(-36 * 365 * DAY, 83 * 365 * DAY).map(lambda distance: AT + distance)


@settings(max_examples=300, deadline=None)
@given(CRON, INSTANT)
def test_the_next_and_the_newest_time_are_those_of_the_calendar(cron: str, at: datetime) -> None:
    assert find_next(cron, at) == walk(cron, at, back=False)
    newest = walk(cron, at + timedelta(microseconds=1), back=True)
    found = find_due(cron, datetime(1970, 1, 1, tzinfo=UTC), at)
    assert newest == (None if found is None else found.at)


@settings(max_examples=200, deadline=None)
@given(CRON)
def test_what_is_taken_comes(cron: str) -> None:
    assert find_next(cron, AT) is not None


@pytest.mark.parametrize(
    ("cron", "after", "then"),
    [
        ("* * * * *", "2026-11-21T12:00:00", "2026-11-21T12:01:00"),
        ("* * * * *", "2026-11-21T12:00:59.999", "2026-11-21T12:01:00"),
        ("0 9 * * mon-fri", "2026-11-20T09:00:00", "2026-11-23T09:00:00"),
        ("0 0 29 2 *", "2096-02-29T00:00:00", "2104-02-29T00:00:00"),
        ("0 0 31 * *", "2026-11-01T00:00:00", "2026-12-31T00:00:00"),
        ("*/20 0 * * *", "2026-11-21T00:40:00", "2026-11-22T00:00:00"),
        ("5/20 0 * * *", "2026-11-21T00:25:00", "2026-11-21T00:45:00"),
        # A range of one is that one, not all.
        ("5-5 0 * * *", "2026-11-21T00:05:00", "2026-11-22T00:05:00"),
        ("0 0 * * sun", "2026-11-21T00:00:00", "2026-11-22T00:00:00"),
        ("0 0 * * 7", "2026-11-21T00:00:00", "2026-11-22T00:00:00"),
        # A day or a weekday: either is enough.
        ("0 0 1 * mon", "2026-11-23T00:00:00", "2026-11-30T00:00:00"),
        ("0 0 1 * mon", "2026-11-30T00:00:00", "2026-12-01T00:00:00"),
        ("0 0 31 2 mon", "2026-02-23T00:00:00", "2027-02-01T00:00:00"),
    ],
)
def test_the_next_time(cron: str, after: str, then: str) -> None:
    assert find_next(cron, parse(after)) == parse(then)


@pytest.mark.parametrize("cron", ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30-31 2 0-6", "* * 31 feb *"])
def test_a_day_that_no_such_month_has_is_refused(cron: str) -> None:
    with pytest.raises(ValueError, match="never comes"):
        parse_cron(cron)


def test_nothing_is_found_beyond_the_calendar_and_without_a_long_search() -> None:
    began_s = time.process_time()
    assert find_next("0 0 1 1 *", datetime(9999, 6, 1, tzinfo=UTC)) is None
    assert find_due("0 0 31 12 *", datetime(1, 1, 1, tzinfo=UTC), datetime(1, 6, 1, tzinfo=UTC)) is None
    assert time.process_time() - began_s < 1


# -- catching up -------------------------------------------------------------------------------------------


def test_of_the_times_that_were_missed_the_newest_is_due_with_how_many_it_stands_for() -> None:
    assert find_due("0 * * * *", AT - 3 * DAY, AT + MINUTE) == Due(AT, 71)
    assert find_due("0 * * * *", AT - MINUTE, AT) == Due(AT, 0)
    assert find_due("0 * * * *", AT, AT + 59 * MINUTE) is None


def test_what_is_older_than_a_week_is_too_late() -> None:
    monthly = "0 12 21 * *"
    assert find_due(monthly, AT - DAY, AT + LATE_LIMIT) == Due(AT, 0)
    assert find_due(monthly, AT - DAY, AT + LATE_LIMIT + MINUTE) == Due(AT, 0, too_late=True)


def test_a_leap_of_the_clock_over_decades_is_little_work() -> None:
    began_s = time.process_time()
    assert find_due("* * * * *", AT, AT.replace(year=2090)) == Due(AT.replace(year=2090), MISSED_LIMIT)
    assert time.process_time() - began_s < 1


STEPS = st.lists(st.integers(-30 * 24 * 60, 30 * 24 * 60).map(lambda minutes: minutes * MINUTE), max_size=12)


@settings(max_examples=150, deadline=None)
@given(CRON, STEPS, st.timedeltas(timedelta(0), DAY))
def test_however_the_clock_moves_each_time_is_sent_once_at_most_and_the_newest_missed_one_is(
    cron: str, steps: list[timedelta], offset: timedelta
) -> None:
    at = done_to = deployed_at = AT + offset
    sent: list[datetime] = []
    for step in steps:
        at += step
        # The state is `done_to` alone: a restart between any two steps changes nothing.
        newest = walk(cron, at + timedelta(microseconds=1), back=True)
        expected = newest is not None and newest > done_to and at - newest <= LATE_LIMIT
        due = find_due(cron, done_to, at)
        assert (due is not None and not due.too_late) == expected
        if due is not None:
            done_to = due.at
            if not due.too_late:
                assert due.at == newest
                sent.append(due.at)
    assert sent == sorted(set(sent))
    assert all(deployed_at < one for one in sent)


# -- reminders ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "in_seconds", "after_s"),
    [
        (None, 0.5, 0.5),
        (None, 86400, 86400),
        ("2026-11-21T12:00:01Z", None, 1),
        ("2026-11-21T13:00:01+01:00", None, 1),
        ("2026-11-22 12:00:00+00:00", None, 86400),
        (None, AHEAD_LIMIT_DAYS * 86400, AHEAD_LIMIT_DAYS * 86400),
    ],
)
def test_a_time_ahead_is_taken(at: str | None, in_seconds: float | None, after_s: float) -> None:
    assert parse_due(at, in_seconds, AT) == AT + timedelta(seconds=after_s)


@pytest.mark.parametrize(
    ("at", "in_seconds", "complaint"),
    [
        (None, None, "either at or in_seconds"),
        ("2026-11-21T12:00:01Z", 1, "either at or in_seconds"),
        ("2026-11-21T12:00:00Z", None, "is past"),
        ("2020-01-01T00:00:00Z", None, "is past"),
        ("2026-11-21T12:00:01", None, "has no offset"),
        ("2026-11-22", None, "has no offset"),
        ("tomorrow", None, "is no instant"),
        ("", None, "is no instant"),
        ("9999-12-31T23:59:59-23:59", None, "is no instant"),
        ("2028-01-01T00:00:00Z", None, "days ahead"),
        (None, 0, "in_seconds is more than 0"),
        (None, -5, "in_seconds is more than 0"),
        (None, 10**12, "in_seconds is more than 0"),
        (None, float("nan"), "in_seconds is more than 0"),
        (None, float("inf"), "in_seconds is more than 0"),
    ],
)
def test_any_other_time_is_refused_with_what_to_do(at: str | None, in_seconds: float | None, complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=complaint) as caught:
        parse_due(at, in_seconds, AT)
    assert caught.value.hint


@pytest.mark.parametrize("note", ["", " \n", "x" * (NOTE_LIMIT_CHARS + 1), "\ud800"])
def test_what_is_no_note_is_refused(note: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_note(note)
    assert parse_note("x" * NOTE_LIMIT_CHARS)
