"""What is told when: rules that hold for any course of events, clocks that jump included."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.needs import Need, NeedKind
from hyperhive.core.notify_text import TITLE_LIMIT_CHARS, TITLES_LIMIT, render_notification
from hyperhive.core.notifying import (
    BACKOFF_LIMIT_S,
    GATHER,
    RETURN_LIMIT,
    RUSH_GAP,
    RUSHES_PER_HOUR,
    URGENT_DWELL,
    ChannelRecord,
    Hold,
    Item,
    Plan,
    Reason,
    Rules,
    Sighting,
    Told,
    decide_message,
    plan_backoff,
    reduce_sightings,
    settle,
)
from hyperhive.core.quiet_hours import QuietHours, parse_quiet_hours

START = datetime(2026, 3, 28, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = parse_quiet_hours("22:00-08:00", BERLIN)
LOST_KINDS = (NeedKind.QUESTION, NeedKind.PERMISSION, NeedKind.NOTES)


def make_need(
    ref: object, since: datetime = START, kind: NeedKind = NeedKind.APPROVAL, lasts: timedelta | None = None
) -> Need:
    return Need(
        kind=kind,
        ref=str(ref),
        agent="alice",
        title=f"alice needs you, {ref}",
        detail="what an agent wrote",
        since=since,
        deadline=None if lasts is None else since + lasts,
        by_default="",
        acts=(),
    )


@dataclass
class Sent:
    at: datetime
    items: tuple[Item, ...]
    rushed: bool


@dataclass
class Desk:
    """One channel as the service keeps it, and all that arrived there."""

    rules: Rules = field(default_factory=Rules)
    at: datetime = START
    needs: dict[str, Need] = field(default_factory=dict[str, Need])
    sightings: dict[str, Sighting] = field(default_factory=dict[str, Sighting])
    record: ChannelRecord = field(default_factory=ChannelRecord)
    sent: list[Sent] = field(default_factory=list[Sent])
    works: bool = True
    left: set[str] = field(default_factory=set[str])
    ids: int = 0

    def add(self, need: Need) -> None:
        self.needs[need.key] = need

    def remove(self, key: str) -> None:
        if self.needs.pop(key, None) is not None:
            self.left.add(key)

    def look(self) -> Plan:
        seen = reduce_sightings(self.sightings, self.needs.values(), self.left, self.at)
        self.left.clear()
        for key, sighting in seen.items():
            if sighting.id == 0:
                self.ids += 1
                seen[key] = replace(sighting, id=self.ids)
        self.sightings = seen
        alive = {sighting.id for sighting in seen.values()}
        record = settle(self.record, self.at)
        self.record = replace(record, told={id_: told for id_, told in record.told.items() if id_ in alive})
        plan = decide_message(self.rules, list(self.needs.values()), seen, self.record, self.at)
        if plan.items:
            self._send(plan)
        return plan

    def _send(self, plan: Plan) -> None:
        if not self.works:
            failures = self.record.failures + 1
            self.record = replace(self.record, failures=failures, retry_at=self.at + plan_backoff(failures))
            return
        told = dict(self.record.told)
        for item in plan.items:
            first = item.reason is Reason.NEW
            told[item.sighting.id] = Told(self.at) if first else replace(told[item.sighting.id], reminded_at=self.at)
        rushed_at = (*self.record.rushed_at, self.at) if plan.rushed else self.record.rushed_at
        self.record = ChannelRecord(told, self.at, rushed_at)
        self.sent.append(Sent(self.at, plan.items, plan.rushed))

    def wait(self, span: timedelta) -> "Desk":
        """Looks when the plans say so, for so long."""
        end = self.at + span
        while True:
            plan = self.look()
            again = self.look() if plan.items else plan
            assert not again.items or not self.works, "what was sent is due again at once"
            if again.wake_at is None or again.wake_at > end:
                break
            assert again.wake_at > self.at
            self.at = again.wake_at
        self.at = end
        return self

    def told(self) -> list[tuple[int, Reason]]:
        return [(item.sighting.id, item.reason) for sent in self.sent for item in sent.items]

    def told_keys(self) -> list[list[str]]:
        return [[item.need.key for item in sent.items] for sent in self.sent]


# -- single rules ------------------------------------------------------------------------------------------


def test_what_is_answered_within_the_dwell_is_never_told() -> None:
    desk = Desk()
    desk.add(make_need(1))
    desk.wait(59 * SECOND)
    desk.remove("approval-1")
    assert desk.wait(HOUR).sent == []


def test_what_waits_is_told_once_after_the_dwell_and_once_more_after_hours() -> None:
    desk = Desk()
    desk.add(make_need(1))
    desk.wait(100 * HOUR)
    assert [(sent.at, sent.items[0].reason) for sent in desk.sent] == [
        (START + MINUTE, Reason.NEW),
        (START + MINUTE + 4 * HOUR, Reason.REMINDER),
    ]


def test_reminders_can_be_turned_off() -> None:
    desk = Desk(Rules(remind_s=0))
    desk.add(make_need(1))
    assert len(desk.wait(100 * HOUR).sent) == 1


def test_what_comes_nearly_at_once_is_one_message_and_what_comes_later_waits_for_the_cooldown() -> None:
    desk = Desk()
    for number, step in enumerate((2, 3, 20, 60)):
        desk.add(make_need(number))
        desk.wait(step * SECOND)
    desk.wait(HOUR)
    assert desk.told_keys() == [["approval-0", "approval-1", "approval-2"], ["approval-3"]]
    first, second = desk.sent
    assert first.at == START + 5 * SECOND + MINUTE
    assert second.at == first.at + 5 * MINUTE


def test_a_tool_call_is_told_sooner_and_does_not_wait_for_the_cooldown() -> None:
    desk = Desk()
    desk.add(make_need(1))
    desk.wait(MINUTE)
    desk.add(make_need(2, desk.at, NeedKind.PERMISSION, 10 * MINUTE))
    desk.wait(HOUR)
    assert [(sent.at, sent.rushed) for sent in desk.sent] == [
        (START + MINUTE, False),
        (START + MINUTE + max(URGENT_DWELL, RUSH_GAP), True),
    ]


def test_a_question_with_a_near_deadline_is_told_in_time() -> None:
    desk = Desk()
    desk.add(make_need(1, START, NeedKind.QUESTION, 20 * SECOND))
    desk.wait(5 * SECOND)
    assert desk.told_keys() == [["question-1"]]
    desk.add(make_need(2, desk.at, NeedKind.QUESTION, 8 * MINUTE))
    desk.wait(2 * MINUTE)
    assert desk.told_keys() == [["question-1"], ["question-2"]]


def test_a_budget_that_ends_by_itself_rushes_nobody() -> None:
    desk = Desk()
    desk.add(make_need(1))
    desk.wait(MINUTE)
    desk.add(make_need("alice", desk.at, NeedKind.BUDGET, 2 * MINUTE))
    assert len(desk.wait(4 * MINUTE).sent) == 1


def test_an_agent_that_asks_without_end_rings_a_few_times_an_hour() -> None:
    desk = Desk()
    for number in range(240):
        desk.add(make_need(number, desk.at, NeedKind.QUESTION, MINUTE))
        desk.wait(15 * SECOND)
        desk.remove(f"question-{number - 3}")
    assert len(desk.sent) <= RUSHES_PER_HOUR + 12 + 1


def test_what_is_held_in_the_night_is_one_message_in_the_morning() -> None:
    desk = Desk(Rules(quiet=NIGHT), at=datetime(2026, 1, 5, 21, 0, tzinfo=UTC))
    for number in range(20):
        desk.add(make_need(number, desk.at))
        desk.wait(20 * MINUTE)
    desk.remove("approval-3")
    [held] = {hold.by for hold in desk.look().held}
    assert held is Hold.QUIET
    desk.wait(8 * HOUR)
    morning, *reminders = desk.sent
    assert morning.at == datetime(2026, 1, 6, 7, 0, tzinfo=UTC)
    assert len(morning.items) == 19
    assert {item.reason for sent in reminders for item in sent.items} <= {Reason.REMINDER}


@pytest.mark.parametrize(("excepted", "lasts", "messages"), [(True, HOUR, 1), (True, 12 * HOUR, 0), (False, HOUR, 0)])
def test_what_is_lost_before_the_morning_is_told_at_night_if_the_operator_wants_it(
    excepted: bool, lasts: timedelta, messages: int
) -> None:
    desk = Desk(Rules(quiet=NIGHT, quiet_deadlines=excepted), at=datetime(2026, 1, 5, 22, 0, tzinfo=UTC))
    desk.add(make_need(1, desk.at, NeedKind.QUESTION, lasts))
    desk.add(make_need(2, desk.at))
    desk.wait(30 * MINUTE)
    assert desk.told_keys() == [["question-1"]] * messages


def test_a_channel_that_fails_is_left_alone_for_longer_and_longer_and_then_told_what_still_waits() -> None:
    desk = Desk(works=False)
    desk.add(make_need(1))
    desk.add(make_need(2))
    desk.wait(10 * HOUR)
    assert 20 <= desk.record.failures <= 30
    desk.remove("approval-1")
    desk.works = True
    desk.wait(timedelta(seconds=BACKOFF_LIMIT_S))
    assert desk.told_keys() == [["approval-2"]]


def test_what_flaps_is_not_new_but_what_comes_again_for_another_reason_is() -> None:
    desk = Desk(Rules(remind_s=0))
    login = make_need("alice", kind=NeedKind.LOGIN)
    desk.add(login)
    desk.wait(2 * MINUTE)
    desk.remove(login.key)
    desk.wait(MINUTE)
    desk.add(login)
    assert len(desk.wait(HOUR).sent) == 1
    # Gone and there again between two looks.
    desk.remove(login.key)
    desk.add(replace(login, since=desk.at))
    assert len(desk.wait(HOUR).sent) == 2
    desk.remove(login.key)
    desk.wait(RETURN_LIMIT + MINUTE).look()
    assert desk.sightings == {}


def test_what_is_there_all_the_time_is_not_new_whatever_its_age_says() -> None:
    desk = Desk(Rules(remind_s=0))
    for number in range(20):
        desk.add(replace(make_need("more", kind=NeedKind.DEAD_LETTER), since=START + number * MINUTE))
        desk.wait(10 * MINUTE)
    assert len(desk.sent) == 1


# -- clocks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("day", "hours"), [((2026, 3, 29), 9), ((2026, 10, 25), 11)])
def test_a_night_with_a_change_of_the_clock_ends_in_the_morning(day: tuple[int, int, int], hours: int) -> None:
    assert NIGHT is not None
    end = datetime(*day, 8, 0, tzinfo=BERLIN)
    evening = end.astimezone(UTC) - timedelta(hours=hours)
    assert NIGHT.is_quiet(evening)
    assert not NIGHT.is_quiet(evening - MINUTE)
    assert NIGHT.find_end(evening + 30 * SECOND) == end


@given(
    at=st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    start=st.times(),
    end=st.times(),
)
def test_quiet_hours_end_when_they_say_so(at: datetime, zone: str, start: datetime, end: datetime) -> None:
    text = f"{start:%H:%M}-{end:%H:%M}"
    if text[:5] == text[6:]:
        with pytest.raises(InvalidInputError):
            parse_quiet_hours(text, ZoneInfo(zone))
        return
    quiet = parse_quiet_hours(text, ZoneInfo(zone))
    assert quiet is not None
    found = quiet.find_end(at)
    assert not quiet.is_quiet(found)
    assert found >= at
    assert found == at or quiet.is_quiet(found - SECOND)
    assert str(quiet) == text


@pytest.mark.parametrize(
    "text", ["22-8", "24:00-08:00", "22:60-08:00", "22:00", "always", "22:00-08:00 x", "٢٢:00-08:00"]
)
def test_what_are_no_hours_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_quiet_hours(text, UTC)


@given(
    before=st.integers(0, 600),
    jump_s=st.integers(-7 * 86400, 7 * 86400),
    told_first=st.booleans(),
    works=st.booleans(),
)
def test_no_jump_of_the_clock_silences_a_need(before: int, jump_s: int, told_first: bool, works: bool) -> None:
    desk = Desk(works=works)
    if told_first:
        desk.add(make_need("first"))
    desk.wait(timedelta(seconds=before))
    desk.add(make_need(1, desk.at))
    desk.wait(timedelta(seconds=before / 7))
    desk.at += timedelta(seconds=jump_s)
    desk.works = True
    desk.wait(MINUTE + 5 * MINUTE + timedelta(seconds=BACKOFF_LIMIT_S))
    assert "approval-1" in {key for keys in desk.told_keys() for key in keys}
    assert len(set(desk.told())) == len(desk.told())


def test_a_clock_that_is_set_back_delays_no_reminder() -> None:
    desk = Desk()
    desk.add(make_need(1))
    desk.wait(MINUTE)
    desk.at -= 24 * HOUR
    desk.wait(5 * HOUR)
    assert [item.reason for sent in desk.sent for item in sent.items] == [Reason.NEW, Reason.REMINDER]


# -- any course of events ----------------------------------------------------------------------------------

some_needs = st.tuples(
    st.integers(0, 6), st.sampled_from(list(NeedKind)), st.integers(-1, 100_000), st.integers(0, 100_000)
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), some_needs),
        st.tuples(st.just("remove"), st.integers(0, 20)),
        st.tuples(st.just("wait"), st.integers(0, 20_000)),
        st.tuples(st.just("short"), st.integers(0, 90)),
        st.tuples(st.just("works"), st.booleans()),
        st.tuples(st.just("jump"), st.integers(-90_000, 90_000)),
    ),
    max_size=25,
)
rules = st.builds(
    Rules,
    dwell_s=st.sampled_from([0, 10, 60, 600]),
    cooldown_s=st.sampled_from([0, 60, 300, 3600]),
    remind_s=st.sampled_from([0, 600, 14400]),
    quiet=st.sampled_from([None, NIGHT, parse_quiet_hours("12:00-12:30", BERLIN)]),
    quiet_deadlines=st.booleans(),
)


def play(desk: Desk, course: Sequence[tuple[str, object]], *, jumps: bool) -> None:
    for act, value in course:
        match act, value:
            case "add", (int(number), NeedKind() as kind, int(lasts), int(ago)):
                desk.add(make_need(number, desk.at - ago * SECOND, kind, None if lasts < 0 else lasts * SECOND))
            case "remove", int(number):
                if desk.needs:
                    desk.remove(list(desk.needs)[number % len(desk.needs)])
            case "works", bool(works):
                desk.works = works
            case "jump", int(jump_s):
                desk.at += timedelta(seconds=jump_s if jumps else 0)
            case _, int(span_s):
                desk.wait(span_s * SECOND)
            case _:
                raise AssertionError(act)


@settings(max_examples=150, deadline=None)
@given(rules=rules, course=steps)
def test_nothing_is_told_twice_in_the_night_or_never(rules: Rules, course: list[tuple[str, object]]) -> None:
    desk = Desk(rules)
    play(desk, course, jumps=True)
    desk.works = True
    desk.wait(48 * HOUR)
    told = desk.told()
    assert len(set(told)) == len(told)
    waiting = {desk.sightings[key].id for key in desk.needs}
    assert waiting <= {id_ for id_, reason in told if reason is Reason.NEW}
    assert not rules.remind_s or waiting <= {id_ for id_, reason in told if reason is Reason.REMINDER}
    for sent in desk.sent:
        if rules.quiet is not None and rules.quiet.is_quiet(sent.at):
            assert rules.quiet_deadlines
            end = rules.quiet.find_end(sent.at)
            deadlines = [item.need.deadline for item in sent.items if item.need.kind in LOST_KINDS]
            assert all(deadline is not None and deadline <= end for deadline in deadlines)
            assert len(deadlines) == len(sent.items)


@settings(max_examples=150, deadline=None)
@given(rules=rules, course=steps)
def test_messages_keep_their_distance_and_hold_what_has_waited_long_enough(
    rules: Rules, course: list[tuple[str, object]]
) -> None:
    desk = Desk(rules)
    play(desk, course, jumps=False)
    cooldown = timedelta(seconds=rules.cooldown_s)
    for before, sent in zip(desk.sent, desk.sent[1:], strict=False):
        assert sent.at - before.at >= (min(RUSH_GAP, cooldown) if sent.rushed else cooldown)
        rushes = [one for one in desk.sent if one.rushed and sent.at - HOUR < one.at <= sent.at]
        assert len(rushes) <= RUSHES_PER_HOUR
    for sent in desk.sent:
        for item in sent.items:
            waited = sent.at - item.sighting.seen_at
            silent = None if item.need.deadline is None else (item.need.deadline - item.sighting.seen_at) / 4
            dwell = timedelta(seconds=rules.dwell_s)
            lost = item.need.kind in LOST_KINDS and silent is not None
            urgent = item.need.kind is NeedKind.PERMISSION
            assert (
                waited >= dwell
                or (urgent and waited >= URGENT_DWELL)
                or (lost and silent and waited >= silent)
                or (lost and silent is not None and silent <= timedelta())
            )
            if item.reason is Reason.REMINDER:
                assert waited >= timedelta(seconds=rules.remind_s)


def test_what_is_gathered_waits_a_few_seconds_at_most() -> None:
    desk = Desk()
    for number in range(30):
        desk.add(make_need(number, desk.at))
        desk.wait(9 * SECOND)
    assert desk.sent[0].at <= START + MINUTE + GATHER


# -- words -------------------------------------------------------------------------------------------------


def show(*needs: Need, reason: Reason = Reason.NEW, base: str = "http://127.0.0.1:7000") -> tuple[str, str, str]:
    items = [Item(need, Sighting(1, need.key, need.since, START), reason, START, None) for need in needs]
    message = render_notification(items, START, BERLIN, base)
    return message.title, message.body, message.link


def test_one_need_is_told_by_its_title_with_a_link_to_it_and_times_of_the_operators_clock() -> None:
    title, body, link = show(make_need(12, kind=NeedKind.QUESTION, lasts=HOUR))
    assert title == "hyperhive: alice needs you, 12"
    assert link == "http://127.0.0.1:7000/#need-question-12"
    assert body == f"waiting since 13:00, until 14:00\n{link}"
    assert show(make_need(1), reason=Reason.REMINDER)[0] == "hyperhive: still waiting: alice needs you, 1"


def test_several_are_counted_and_listed_each_with_its_link_and_the_rest_is_a_number() -> None:
    many = [make_need(number) for number in range(TITLES_LIMIT + 5)]
    title, body, link = show(make_need("bob", kind=NeedKind.LOGIN), *many)
    assert title == "hyperhive: 16 things need you: 15 approvals, 1 login"
    assert body.count("#need-") == TITLES_LIMIT
    assert "and 6 more" in body
    assert link == "http://127.0.0.1:7000/"
    assert len(body) < 2000


def test_nothing_of_a_detail_and_no_control_character_is_told() -> None:
    bad = replace(make_need(1), title="one\r\nBcc: eve\x1b[2J\u202e" + "x" * 500, ref="a b\n<c>", detail="secret words")
    for needs in ([bad], [bad, make_need(2)]):
        title, body, _ = show(*needs)
        assert "secret words" not in title + body
        assert "\n" not in title
        assert "\x1b" not in title + body
        assert "\u202e" not in title + body
        assert "a b" not in body
        assert len(title) < TITLE_LIMIT_CHARS + 40


@pytest.mark.parametrize("kind", NeedKind)
def test_every_kind_has_its_words(kind: NeedKind) -> None:
    title, _, _ = show(make_need(1, kind=kind), make_need(2, kind=kind))
    assert "2 things need you: 2 " in title


def test_the_back_off_doubles_up_to_its_limit() -> None:
    assert [plan_backoff(count).total_seconds() for count in (1, 2, 3, 7, 1000)] == [30, 60, 120, 1800, 1800]


def test_quiet_hours_that_nobody_set_are_none() -> None:
    assert parse_quiet_hours(" ", UTC) is None
    assert isinstance(NIGHT, QuietHours)
