"""`hive reminders`: what is to come is listed, and one is dropped by its number."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cli_process import call
from fake_hive import NOW, FakeHive, answer_with, refuse_with, run_fake_hive
from hyperhive.cli.reminders import render_reminders
from hyperhive.cli.rendering import Screen
from hyperhive.core.errors import ConflictError
from hyperhive.wire.operator.records import Reminder, ScheduledMessage

REMINDER = Reminder(
    id=3, agent="alice", note="look at\nthe build \x1b[2J", due_at=NOW + timedelta(days=3, hours=12), created_at=NOW
)
ENTRY = ScheduledMessage(
    agent="bob",
    cron="0 9 * * mon-fri",
    message="read the issues",
    next_at=NOW + timedelta(days=2, hours=12),
    last_at=None,
)
PLAIN = Screen(now=NOW)


@pytest.fixture
def hive(tmp_path: Path) -> Iterator[FakeHive]:
    with run_fake_hive(tmp_path) as hive:
        hive.answers |= {
            "GET /api/reminders": answer_with([REMINDER]),
            "GET /api/schedules": answer_with([ENTRY]),
            "DELETE /api/reminders/3": answer_with(None, 204),
            "DELETE /api/reminders/4": refuse_with(ConflictError("reminder 4 was sent already", "nothing"), 409),
        }
        yield hive


async def test_reminders_and_schedules_are_listed_with_the_time_that_is_left(hive: FakeHive) -> None:
    done = await call(hive.data, "reminders")
    assert done.status == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert lines[1].split()[:4] == ["3", "alice", "3", "d"]
    assert "\x1b" not in done.stdout.decode()
    assert len([line for line in lines if "look at" in line and "the build" in line]) == 1
    assert "0 9 * * mon-fri" in lines[-1]
    assert "read the issues" in lines[-1]


async def test_json_holds_both(hive: FakeHive) -> None:
    done = await call(hive.data, "reminders", "alice", "--json")
    shown = json.loads(done.stdout)
    assert shown["reminders"][0]["id"] == 3
    assert shown["schedules"][0]["cron"] == ENTRY.cron
    assert [one.path for one in hive.received] == ["/api/reminders?agent=alice", "/api/schedules?agent=alice"]


async def test_a_reminder_is_dropped_by_its_number(hive: FakeHive) -> None:
    done = await call(hive.data, "reminders", "--cancel", "3")
    assert (done.status, done.stdout) == (0, b"cancelled reminder 3\n")
    for arguments, status in ((["--cancel", "4"], 1), (["--cancel", "0"], 2), (["alice", "--cancel", "3"], 2)):
        done = await call(hive.data, "reminders", *arguments)
        assert done.status == status, done.stderr


def test_nothing_to_come_is_said_and_an_entry_without_a_next_time_is_never_sent() -> None:
    assert render_reminders([], [], PLAIN) == "no reminders, and nothing is scheduled"
    never = ENTRY.model_copy(update={"next_at": None}).model_dump(mode="json")
    assert "never" in render_reminders([], [never], PLAIN)
