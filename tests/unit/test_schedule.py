"""Reminders and schedules on a real store, with a clock that the test sets: what is queued, for whom, how often."""

import asyncio
import contextlib
import json
import tempfile
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config_rig import open_config_rig
from hyperhive.core.errors import ConflictError, InvalidInputError, NotFoundError, TooLargeError, UnavailableError
from hyperhive.core.events import Event
from hyperhive.core.messages import MessageState
from hyperhive.core.names import MANAGER, OPERATOR
from hyperhive.core.policy import Policy
from hyperhive.core.reminders import WAITING_LIMIT
from hyperhive.core.schedules import find_due, find_next
from hyperhive.host.agent_records import insert_agent, mark_destroyed, save_deployed
from hyperhive.host.broker import Broker
from hyperhive.host.configs.configs import Version
from hyperhive.host.feed import Feed
from hyperhive.host.schedule import LOOK_EVERY_S, Schedule
from hyperhive.host.schedule_records import ENDED_KEPT, forget_schedule, send_scheduled
from hyperhive.host.store.rows import to_message, to_schedule
from hyperhive.host.store.store import Store
from hyperhive.system.clock import now
from hyperhive.wire.agent_config import AgentConfig

# What is deployed is noted with the real clock: it must not lie behind the one of the test.
START = now().replace(microsecond=0) - timedelta(days=800)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
HOURLY = ("0 * * * *", "look around")
DEADLINE_S = 10.0


async def get_policy(name: str) -> Policy:
    return Policy()


@dataclass
class Desk:
    """A store with agents and a broker, and the service. `deployed` is what each agent's config says."""

    store: Store
    broker: Broker
    schedule: Schedule
    clock: list[datetime]
    deployed: dict[str, Version] = field(default_factory=dict[str, Version])
    events: list[Event] = field(default_factory=list[Event])

    async def deploy(self, name: str, *entries: tuple[str, str], commit: str = "1" * 40, noted: bool = True) -> None:
        await self.store.write(lambda tx: save_deployed(tx, name, commit))
        if noted:
            self.note(name, *entries, commit=commit)

    def note(self, name: str, *entries: tuple[str, str], commit: str = "1" * 40) -> None:
        schedule = [{"cron": cron, "message": message} for cron, message in entries]
        config = AgentConfig.model_validate({"schedule": schedule})
        self.deployed[name] = Version(name, commit, config, "", Path("/nowhere"), config.to_policy())

    async def pass_time(self, step: timedelta) -> float:
        self.clock[0] += step
        return await self.schedule.send_due()

    async def list_bodies(self, agent: str = "alice") -> list[dict[str, Any]]:
        """What the system sent an agent, the oldest first."""
        rows = await self.store.read(lambda view: view.list("list_messages", agent=agent, before=2**62, limit=500))
        messages = [to_message(row) for row in reversed(rows)]
        return [json.loads(one.body) for one in messages if one.sender == "system" and one.recipient == agent]

    async def settle(self, agent: str = "alice") -> None:
        """The agent takes what waits and is done with it."""
        messages, _ = await self.broker.recv(agent, 1, 32, 0)
        await self.broker.ack(agent, 1, [message.id for message in messages])

    def list_names(self, prefix: str) -> list[str]:
        return [event.name.value for event in self.events if event.name.startswith(prefix)]


@contextlib.asynccontextmanager
async def open_desk(folder: Path, clock: list[datetime], before: Desk | None = None) -> AsyncGenerator[Desk]:
    """Opened again on the same folder it is the daemon's next start. An empty `clock` is the real one."""
    feed = Feed()
    store = Store(folder / "hive.sqlite", "hive", feed.publish_events)
    deployed = before.deployed if before else {}

    async def get_deployed(name: str) -> Version:
        if name not in deployed:
            raise UnavailableError("the disk hums")
        return deployed[name]

    try:
        desk = Desk(
            store,
            Broker(store, get_policy),
            Schedule(store, get_deployed, (lambda: clock[0]) if clock else now),
            clock,
            deployed,
        )
        for listener in (desk.schedule.on_event, desk.broker.on_event, desk.events.append):
            feed.listen(listener)
        yield desk
    finally:
        store.close()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path, [START]) as desk:
        await spawn_all(desk)
        yield desk


async def spawn_all(desk: Desk) -> None:
    for name in ("alice", "bob", MANAGER):
        await desk.store.write(lambda tx, name=name: insert_agent(tx, name, None))
    desk.events.clear()


async def remind(desk: Desk, note: str, in_seconds: float = 60, agent: str = "alice") -> int:
    return (await desk.schedule.remind(agent, note, None, in_seconds, uuid.uuid4().hex)).id


# -- reminders ---------------------------------------------------------------------------------------------


async def test_a_reminder_arrives_at_its_time_once_as_a_message_of_the_system(desk: Desk) -> None:
    number = await remind(desk, "look at the build, Käthe")
    assert await desk.pass_time(timedelta(0)) == LOOK_EVERY_S
    assert await desk.pass_time(timedelta(seconds=50)) == pytest.approx(10)
    assert await desk.list_bodies() == []
    await desk.pass_time(timedelta(seconds=12))
    await desk.pass_time(timedelta(days=1))
    due_at = (START + timedelta(seconds=60)).isoformat()
    wanted = {"event": "reminder", "note": "look at the build, Käthe", "due_at": due_at, "late_s": 2, "id": number}
    assert await desk.list_bodies() == [wanted]
    assert desk.list_names("reminder.") == ["reminder.set", "reminder.sent"]
    with pytest.raises(ConflictError, match="was sent already"):
        await desk.schedule.cancel(number, "alice")


async def test_reminders_outlive_the_daemon_and_what_came_due_meanwhile_is_sent_by_the_next_one(tmp_path: Path) -> None:
    clock = [START]
    async with open_desk(tmp_path, clock) as desk:
        await spawn_all(desk)
        for note, in_seconds in (("third", 300), ("first", 100), ("second", 200), ("later", 86400 * 90)):
            await remind(desk, note, in_seconds)
    clock[0] += timedelta(days=60)
    async with open_desk(tmp_path, clock) as desk:
        await desk.schedule.send_due()
        bodies = await desk.list_bodies()
        assert [body["note"] for body in bodies] == ["first", "second", "third"]
        assert [body["late_s"] for body in bodies] == [86400 * 60 - late_s for late_s in (100, 200, 300)]
        assert [one.note for one in await desk.schedule.list_reminders(None)] == ["later"]


async def test_the_same_key_is_the_same_reminder_also_after_its_time(desk: Desk) -> None:
    at = (START + timedelta(seconds=5)).isoformat()
    first = await desk.schedule.remind("alice", "once", at, None, "key-of-alice")
    assert await desk.schedule.remind("alice", "once", at, None, "key-of-alice") == first
    assert (await desk.schedule.remind("bob", "once", at, None, "key-of-alice")).id != first.id
    await desk.pass_time(timedelta(seconds=10))
    assert (await desk.schedule.remind("alice", "once", at, None, "key-of-alice")).id == first.id
    await desk.pass_time(timedelta(seconds=10))
    assert len(await desk.list_bodies()) == 1


async def test_a_cancelled_reminder_is_never_sent_and_only_its_agent_or_the_operator_cancels_it(desk: Desk) -> None:
    mine, other = await remind(desk, "mine"), await remind(desk, "other")
    for reminder in (mine, 99, 2**62):
        with pytest.raises(NotFoundError, match="there is no reminder"):
            await desk.schedule.cancel(reminder, "bob")
    await desk.schedule.cancel(mine, "alice")
    await desk.schedule.cancel(mine, "alice")
    await desk.schedule.cancel(other, OPERATOR)
    await desk.pass_time(HOUR)
    assert await desk.list_bodies() == []
    assert desk.list_names("reminder.c") == ["reminder.cancelled", "reminder.cancelled"]
    assert [event.body["by"] for event in desk.events if event.name == "reminder.cancelled"] == ["alice", OPERATOR]


async def test_an_agent_has_so_many_reminders_waiting_and_no_more(desk: Desk) -> None:
    numbers = [await remind(desk, "x") for _ in range(WAITING_LIMIT)]
    with pytest.raises(TooLargeError, match="are waiting already"):
        await remind(desk, "one more")
    await remind(desk, "of another", agent="bob")
    await desk.schedule.cancel(numbers[0], "alice")
    await remind(desk, "one more")


async def test_an_agent_that_sets_and_cancels_on_and_on_fills_no_disk(desk: Desk) -> None:
    waiting = await remind(desk, "stays")
    for _ in range(ENDED_KEPT + 20):
        await desk.schedule.cancel(await remind(desk, "x"), "alice")
    await remind(desk, "stays, too")
    rows = await desk.store.read(
        lambda view: [view.find("get_reminder", id=number) for number in range(1, waiting + ENDED_KEPT + 30)]
    )
    assert len([row for row in rows if row is not None]) == ENDED_KEPT + 2
    assert [one.note for one in await desk.schedule.list_reminders("alice")] == ["stays", "stays, too"]


@pytest.mark.parametrize("name", ["carol", "bob"])
async def test_whoever_is_not_there_is_reminded_of_nothing(desk: Desk, name: str) -> None:
    await desk.store.write(lambda tx: mark_destroyed(tx, "bob"))
    with pytest.raises(NotFoundError):
        await remind(desk, "x", agent=name)
    with pytest.raises(InvalidInputError):
        await remind(desk, " ", agent="alice")


async def test_the_reminders_of_a_destroyed_agent_wait_for_its_revival_and_go_with_its_purge(desk: Desk) -> None:
    await remind(desk, "for alice")
    await remind(desk, "for bob", agent="bob")
    for name in ("alice", "bob"):
        await desk.store.write(lambda tx, name=name: mark_destroyed(tx, name))
    assert await desk.pass_time(HOUR) == LOOK_EVERY_S
    assert len(await desk.schedule.list_reminders(None)) == 2
    await desk.store.write(lambda tx: forget_schedule(tx, "bob"))
    for name in ("alice", "bob"):
        await desk.store.write(lambda tx, name=name: tx.list("revive_agent", name=name))
    await desk.pass_time(HOUR)
    assert [body["late_s"] for body in await desk.list_bodies()] == [7140]
    assert await desk.list_bodies("bob") == []


async def test_hundreds_at_once_are_all_sent(desk: Desk) -> None:
    for agent in ("alice", "bob", MANAGER):
        for count in range(90):
            await remind(desk, f"{agent} {count}", 60 + count / 100, agent)
    await desk.pass_time(HOUR)
    for agent in ("alice", "bob"):
        assert [body["note"] for body in await desk.list_bodies(agent)] == [f"{agent} {count}" for count in range(90)]


# -- schedules ---------------------------------------------------------------------------------------------


async def open_hourly(desk: Desk) -> datetime:
    """Has alice sent something each hour, and returns the first of these times, which has not come."""
    await desk.deploy("alice", HOURLY)
    await desk.schedule.send_due()
    first = find_next(HOURLY[0], desk.clock[0])
    assert first is not None
    return first


async def test_an_entry_is_sent_at_its_times_and_never_for_the_past(desk: Desk) -> None:
    first = await open_hourly(desk)
    assert await desk.list_bodies() == []
    for hours in range(3):
        await desk.pass_time(first + hours * HOUR + timedelta(seconds=7) - desk.clock[0])
        await desk.settle()
        await desk.pass_time(timedelta(minutes=1))
    wanted = [
        {"event": "schedule", "cron": HOURLY[0], "message": HOURLY[1], "due_at": due.isoformat(), "missed": 0}
        for due in (first, first + HOUR, first + 2 * HOUR)
    ]
    assert await desk.list_bodies() == wanted
    [shown] = await desk.schedule.list_scheduled(None)
    assert (shown.agent, shown.cron, shown.message) == ("alice", *HOURLY)
    assert (shown.next_at, shown.last_at) == (first + 3 * HOUR, first + 2 * HOUR)
    assert await desk.schedule.list_scheduled("bob") == []


async def test_after_a_gap_the_newest_missed_time_alone_is_sent_with_how_many_it_stands_for(desk: Desk) -> None:
    first = await open_hourly(desk)
    await desk.pass_time(first + 50 * HOUR - desk.clock[0])
    [body] = await desk.list_bodies()
    assert (body["due_at"], body["missed"]) == ((first + 50 * HOUR).isoformat(), 50)


async def test_what_is_more_than_a_week_late_is_left_out_and_the_next_time_is_sent(desk: Desk) -> None:
    due = (desk.clock[0] + DAY).replace(hour=9, minute=0, second=0)
    await desk.deploy("alice", (f"0 9 {due.day} {due.month} *", "the yearly report"))
    await desk.schedule.send_due()
    assert await desk.pass_time(due + 8 * DAY - desk.clock[0]) == LOOK_EVERY_S
    assert await desk.list_bodies() == []
    [shown] = await desk.schedule.list_scheduled("alice")
    assert shown.last_at is None
    assert shown.next_at is not None
    assert shown.next_at > desk.clock[0]
    await desk.pass_time(shown.next_at + 6 * DAY - desk.clock[0])
    [body] = await desk.list_bodies()
    assert (body["due_at"], body["missed"]) == (shown.next_at.isoformat(), 0)


async def test_what_an_agent_has_not_read_does_not_pile_up_but_tells_of_the_newest_time(desk: Desk) -> None:
    first = await open_hourly(desk)
    await desk.deploy("alice", HOURLY, ("0 * * * *", "another"), commit="2" * 40)
    await desk.schedule.send_due()
    for hours in range(4):
        await desk.pass_time(first + hours * HOUR - desk.clock[0])
    bodies = await desk.list_bodies()
    assert sorted((body["message"], body["due_at"], body["missed"]) for body in bodies) == [
        ("another", (first + 3 * HOUR).isoformat(), 3),
        ("look around", (first + 3 * HOUR).isoformat(), 3),
    ]
    # What is being read stays as it is: the next one is another message.
    messages, _ = await desk.broker.recv("alice", 1, 32, 0)
    await desk.pass_time(HOUR)
    assert [body["missed"] for body in await desk.list_bodies()] == [3, 3, 0, 0]
    assert all(message.state is MessageState.LEASED for message in messages)


async def test_only_what_is_new_in_a_config_begins_anew(desk: Desk) -> None:
    first = await open_hourly(desk)
    await desk.pass_time(first - desk.clock[0] - timedelta(seconds=1))
    await desk.deploy("alice", HOURLY, ("30 * * * *", "new"), commit="2" * 40)
    await desk.schedule.send_due()
    await desk.pass_time(2 * HOUR)
    assert {body["message"]: body["missed"] for body in await desk.list_bodies()} == {"look around": 1, "new": 1}
    await desk.settle()
    await desk.deploy("alice", ("30 * * * *", "new"), commit="3" * 40)
    await desk.pass_time(2 * HOUR)
    assert [body["message"] for body in await desk.list_bodies()][2:] == ["new"]
    # Back again, it counts from now.
    await desk.settle()
    await desk.deploy("alice", HOURLY, commit="4" * 40)
    await desk.pass_time(timedelta(seconds=1))
    assert len(await desk.list_bodies()) == 3


async def test_an_entry_counts_from_its_deployment_though_the_daemon_died_before_it_looked(tmp_path: Path) -> None:
    async with open_desk(tmp_path, [now() + 3 * HOUR]) as desk:
        await spawn_all(desk)
        await desk.deploy("alice", HOURLY)
        await desk.schedule.send_due()
        assert [body["missed"] for body in await desk.list_bodies()] == [2]


async def test_a_config_that_is_not_noted_yet_is_taken_over_when_it_is(desk: Desk) -> None:
    first = await open_hourly(desk)
    await desk.deploy("alice", noted=False, commit="2" * 40)
    await desk.pass_time(first - desk.clock[0])
    assert await desk.schedule.list_scheduled(None) == []
    desk.note("alice", ("5 * * * *", "new"), commit="2" * 40)
    await desk.schedule.send_due()
    assert [one.message for one in await desk.schedule.list_scheduled(None)] == ["new"]
    assert await desk.list_bodies() == []


async def test_a_config_that_cannot_be_read_keeps_nobody_elses_from_being_sent(desk: Desk) -> None:
    await desk.deploy("bob", noted=False)
    first = await open_hourly(desk)
    await desk.pass_time(first - desk.clock[0])
    assert len(await desk.list_bodies()) == 1
    # One that can be read is looked at without a wait.
    await desk.deploy("bob", HOURLY, commit="2" * 40)
    await desk.schedule.send_due()
    assert len(await desk.schedule.list_scheduled("bob")) == 1


async def test_what_a_real_config_says_is_taken_over_and_goes_with_the_purge(tmp_path: Path) -> None:
    async with open_config_rig(tmp_path) as rig:
        schedule = Schedule(rig.store, rig.configs.get_deployed)
        for name in ("alice", "bob"):
            await rig.spawn(name, {"agent.toml": "[[schedule]]\ncron = '0 9 * * mon-fri'\nmessage = 'go'\n"})
            await schedule.remind(name, "x", None, 3600, f"the key of {name}")
        await schedule.send_due()
        assert [(one.agent, one.message) for one in await schedule.list_scheduled(None)] == [
            ("alice", "go"),
            ("bob", "go"),
        ]
        await rig.destroy("alice")
        assert len(await schedule.list_reminders("alice")) == 1
        await rig.kept.purge("alice")
        assert [one.agent for one in await schedule.list_scheduled(None)] == ["bob"]
        assert [one.agent for one in await schedule.list_reminders(None)] == ["bob"]
        # Another one of that name begins with nothing.
        await rig.spawn("alice")
        await schedule.send_due()
        assert await schedule.list_scheduled("alice") == []


async def test_a_destroyed_agent_is_sent_nothing_and_once_it_is_revived_the_newest(desk: Desk) -> None:
    first = await open_hourly(desk)
    await desk.store.write(lambda tx: mark_destroyed(tx, "alice"))
    await desk.pass_time(first + 5 * HOUR - desk.clock[0])
    assert await desk.list_bodies() == []
    assert await desk.schedule.list_scheduled(None) == []
    await desk.store.write(lambda tx: tx.list("revive_agent", name="alice"))
    await desk.store.write(lambda tx: save_deployed(tx, "alice", "1" * 40))
    await desk.pass_time(timedelta(minutes=1))
    assert [body["missed"] for body in await desk.list_bodies()] == [5]


async def test_what_was_found_due_is_not_sent_of_a_config_that_is_not_deployed_any_more(desk: Desk) -> None:
    first = await open_hourly(desk)
    [record] = [to_schedule(row) for row in await desk.store.read(lambda view: view.list("list_schedules", agent=None))]
    due = find_due(record.cron, record.done_to, first)
    assert due is not None
    await desk.deploy("alice", commit="2" * 40)
    await desk.store.write(lambda tx: send_scheduled(tx, [(record, due)]))
    await desk.schedule.send_due()
    await desk.store.write(lambda tx: send_scheduled(tx, [(record, due)]))
    assert await desk.list_bodies() == []


async def test_what_was_found_due_twice_is_sent_once(desk: Desk) -> None:
    first = await open_hourly(desk)
    [record] = [to_schedule(row) for row in await desk.store.read(lambda view: view.list("list_schedules", agent=None))]
    due = find_due(record.cron, record.done_to, first)
    assert due is not None
    for _ in range(2):
        await desk.store.write(lambda tx: send_scheduled(tx, [(record, due)]))
        await desk.settle()
    assert len(await desk.list_bodies()) == 1


async def test_the_loop_sleeps_until_something_is_due_and_is_woken_by_what_is_set_meanwhile(tmp_path: Path) -> None:
    async with open_desk(tmp_path, []) as desk, asyncio.timeout(DEADLINE_S):
        await spawn_all(desk)
        loop = asyncio.create_task(desk.schedule.run_forever())
        try:
            # The second one is set while the loop sleeps for much longer.
            for note in ("first", "second"):
                await remind(desk, note, 0.2)
                [message], _ = await desk.broker.recv("alice", 1, 1, 180)
                assert json.loads(message.body)["note"] == note
        finally:
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)


STEPS = st.lists(
    st.tuples(st.integers(-3 * 24 * 60, 5 * 24 * 60), st.booleans(), st.booleans()), min_size=1, max_size=8
)


@settings(max_examples=12, deadline=None)
@given(STEPS)
def test_over_restarts_and_jumps_of_the_clock_nothing_is_sent_twice_and_the_newest_is(
    steps: list[tuple[int, bool, bool]],
) -> None:
    asyncio.run(live_through(steps))


async def live_through(steps: list[tuple[int, bool, bool]]) -> None:
    """Each step is minutes, whether the daemon is started anew then, and whether the agent reads."""
    with tempfile.TemporaryDirectory() as folder:
        clock = [START]
        before: Desk | None = None
        async with contextlib.AsyncExitStack() as stack:
            desk = await stack.enter_async_context(open_desk(Path(folder), clock))
            await spawn_all(desk)
            await open_hourly(desk)
            highest = clock[0]
            for minutes, anew, reads in steps:
                if anew:
                    before = desk
                    await stack.aclose()
                    desk = await stack.enter_async_context(open_desk(Path(folder), clock, before))
                await desk.pass_time(timedelta(minutes=minutes))
                highest = max(highest, clock[0])
                if reads:
                    await desk.settle()
                bodies = await desk.list_bodies()
                newest = highest.replace(minute=0, second=0)
                due_at = [datetime.fromisoformat(body["due_at"]) for body in bodies]
                assert due_at == sorted(set(due_at))
                assert due_at[-1:] == ([newest] if newest > START else [])
                # No time between is forgotten: it was sent, or counted.
                counted = sum(1 + body["missed"] for body in bodies)
                assert counted <= (newest - START) / HOUR + 1
