"""Reminders and schedules in a running hive, and a daemon that dies while it sends them."""

import asyncio
import contextlib
import json
import shutil
import signal
import sqlite3
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hive_process import HiveProcess, wait_for
from hyperhive.core.errors import UnavailableError
from hyperhive.host.agent_records import insert_agent, save_deployed
from hyperhive.host.configs.configs import Version
from hyperhive.host.schedule import Schedule
from hyperhive.host.schedule_records import save_schedule
from hyperhive.host.store.store import Store
from hyperhive.system.clock import now
from proposer import Proposer, read_generation

CRASHING = Path(__file__).parent.parent / "crashing_schedule.py"
STEPS_LIMIT = 40


def say(hive: HiveProcess, *script: str) -> None:
    hive.post("/api/messages", {"to": "manager", "body": "\n".join(f"%% {line}" for line in script)})


def list_system_messages(hive: HiveProcess, agent: str) -> list[dict[str, Any]]:
    """What the system told an agent, the oldest first, with the state of each message."""
    rows = hive.get(f"/api/messages?agent={agent}&limit=500")
    sent = [row for row in reversed(rows) if (row["sender"], row["recipient"]) == ("system", agent)]
    return [json.loads(row["body"]) | {"state": row["state"]} for row in sent]


def read_transcript(hive: HiveProcess) -> str:
    return json.dumps(hive.get("/api/agents/manager/transcript?limit=500"))


def test_a_reminder_that_an_agent_sets_starts_a_turn_with_its_note(hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    say(
        hive,
        'tool remind_me {"note": "look at the build", "in_seconds": 1}',
        'tool remind_me {"note": "another day", "in_seconds": 86400}',
        'tool remind_me {"note": "a year ahead", "at": "2020-01-01T00:00:00Z"}',
        "tool list_reminders {}",
        'tool cancel_reminder {"id": 2}',
        'tool cancel_reminder {"id": 7}',
        'tool remind_me {"note": "stays", "in_seconds": 7200}',
        "say ok",
    )
    [told] = wait_for(
        lambda: [one for one in list_system_messages(hive, "manager") if one["state"] == "acked"], "it", hive=hive
    )
    assert (told["event"], told["note"], told["id"]) == ("reminder", "look at the build", 1)
    assert 0 <= told["late_s"] <= 5
    transcript = read_transcript(hive)
    assert "reminder 1 is set: its note arrives as a message from 'system' at" in transcript
    assert "2020-01-01T00:00:00Z is past" in transcript
    assert "reminder 2 is cancelled" in transcript
    assert "there is no reminder 7 (list_reminders lists yours)" in transcript
    [left] = hive.get("/api/reminders?agent=manager")
    assert (left["note"], left["agent"]) == ("stays", "manager")
    assert hive.get("/api/reminders") == [left]
    assert hive.get("/api/reminders?agent=alice") == []
    check_the_operator_cancels(hive, left["id"])


def check_the_operator_cancels(hive: HiveProcess, number: int) -> None:
    with hive.client() as client:
        for path, status in (
            (f"/api/reminders/{number}", 204),
            (f"/api/reminders/{number}", 204),
            ("/api/reminders/1", 409),
            ("/api/reminders/99", 404),
            (f"/api/reminders/{2**63}", 400),
        ):
            assert client.delete(path).status_code == status, path
        assert client.get("/api/reminders?agent=..").status_code == 400
        assert client.get("/api/schedules?agent=..").status_code == 400
    assert hive.get("/api/reminders") == []


def test_a_deployed_schedule_is_live_and_what_was_missed_while_the_hive_was_down_is_sent_once(
    hive: HiveProcess, tmp_path: Path
) -> None:
    hive.wait_state("manager", "idle")
    proposer = Proposer(hive, tmp_path, read_generation(hive))
    hive.post("/api/agents/manager/stop")
    hive.wait_state("manager", "stopped")
    hive.post("/api/agents", {"name": "alice"})
    hive.wait_state("alice", "idle")
    proposer.connect()
    hourly = {"cron": "0 * * * *", "message": "look around"}
    config = "\n".join(["[[schedule]]", *(f"{key} = '{value}'" for key, value in hourly.items())])
    approval, _ = proposer.propose("alice", {"agent.toml": f"{config}\n"})
    proposer.close()
    hive.post(f"/api/approvals/{approval}/approve")
    [shown] = wait_for(lambda: hive.get("/api/schedules"), "the schedule", hive=hive)
    assert shown | hourly == shown
    next_at = datetime.fromisoformat(shown["next_at"])
    assert timedelta(0) <= next_at - datetime.now(UTC) <= timedelta(hours=1)
    assert (next_at.minute, shown["last_at"]) == (0, None)
    assert list_system_messages(hive, "alice") == []

    hive.stop()
    database = sqlite3.connect(hive.data / "hive.sqlite")
    with contextlib.closing(database), database:
        database.execute("update schedules set done_to = done_to - ?", (3 * 3600 * 1000,))
    hive.start()
    # It may be the full hour by now.
    told = wait_for(
        lambda: [one for one in list_system_messages(hive, "alice") if one["state"] == "acked"], "it", hive=hive
    )
    assert (told[0]["event"], told[0]["cron"], told[0]["message"]) == ("schedule", *hourly.values())
    assert told[0]["missed"] in {2, 3}
    hive.stop()
    hive.start()
    hive.wait_state("alice", "idle")
    assert list_system_messages(hive, "alice")[: len(told)] == told
    assert len(list_system_messages(hive, "alice")) <= len(told) + 1


# -- a crash between -----------------------------------------------------------------------------------------


async def get_nothing(name: str) -> Version:
    raise UnavailableError(name)


async def prepare(path: Path) -> datetime:
    """A store with three reminders and two entries of a schedule. When all of them are due."""
    store = Store(path, "hive")
    try:
        await store.write(lambda tx: insert_agent(tx, "alice", None))
        await store.write(lambda tx: save_deployed(tx, "alice", "1" * 40))
        entries = [("* * * * *", "often"), ("*/2 * * * *", "half as often")]
        at = now() - timedelta(hours=1)
        await store.write(lambda tx: save_schedule(tx, "alice", "1" * 40, entries, at))
        schedule = Schedule(store, get_nothing)
        for note in ("one", "two", "three"):
            await schedule.remind("alice", note, None, 60, f"the key of {note}")
    finally:
        store.close()
    return now() + timedelta(minutes=2)


async def run_round(path: Path, at: datetime, crash_at: int) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(CRASHING), str(path), at.isoformat(), str(crash_at)
    )
    return await process.wait()


def list_sent(path: Path) -> list[str]:
    """What was queued and what the events say was sent; those of messages are no rows."""
    database = sqlite3.connect(path)
    with contextlib.closing(database):
        bodies = [json.loads(body) for (body,) in database.execute("select body from bodies")]
        names = [name for (name,) in database.execute("select name from events where name like '%.sent'")]
    return sorted([str(body.get("note") or body["message"]) for body in bodies] + names)


async def test_everything_is_sent_once_whatever_moment_the_daemon_dies_at(tmp_path: Path) -> None:
    prepared = tmp_path / "prepared.sqlite"
    at = await prepare(prepared)
    wanted = ["half as often", "often", "one", "three", "two"]
    wanted = sorted([*wanted, *["reminder.sent"] * 3, *["schedule.sent"] * 2])
    for crash_at in range(1, STEPS_LIMIT):
        path = tmp_path / f"{crash_at}.sqlite"
        await asyncio.to_thread(shutil.copy, prepared, path)
        died = await run_round(path, at, crash_at) == -signal.SIGKILL
        # The next daemon, and one more.
        assert [await run_round(path, at, 0) for _ in range(2)] == [0, 0]
        assert list_sent(path) == wanted, crash_at
        if not died:
            assert crash_at > 4
            return
    raise AssertionError(f"it takes more than {STEPS_LIMIT} steps")
