"""A purge on a running hive: of an agent that has had everything, nothing is left but the audit and what it cost."""

import contextlib
import sqlite3
import time
from pathlib import Path

from hyperhive.core.egress import Target
from hyperhive.core.names import OPERATOR
from hyperhive.core.notes import RewriteDecision
from hyperhive.core.parking import ParkKind
from hyperhive.core.paths import Roots
from hyperhive.host.rehearsal import run_stand_in
from hyperhive.host.stats.blocks import decode
from lifecycle_rig import Hive, open_hive

# Who wrote what to whom, what was asked and approved, what happened.
AUDIT = {"approvals", "audit", "events", "messages", "questions"}
# What it has spent today still counts, and so does what was granted: for the hive, and for the next one of its name.
SPENT = {"grants", "model_requests"}
APPROVAL = {
    "kind": "apply",
    "agent": "alice",
    "requested_by": "manager",
    "description": "a test",
    "at": 0,
    "commit": "0" * 40,
    "base": None,
    "notes": None,
    "reverts_to": None,
    "key": None,
}
OWN = {
    *("agents", "egress_grants", "egress_requests", "parks", "reminders", "schedules", "stats_blocks", "stats_minutes"),
    *("transcript_sizes", "transcripts"),
}


def find_tables(roots: Roots) -> set[str]:
    """The tables that have a row about alice."""
    found: set[str] = set()
    for path in (roots.database, roots.telemetry):
        with contextlib.closing(sqlite3.connect(path)) as connection:
            for (table,) in connection.execute("select name from sqlite_schema where type = 'table'").fetchall():
                rows = connection.execute(f"select * from {table}").fetchall()
                if any(_is_about_alice(table, row) for row in rows):
                    found.add(table)
    return found


def _is_about_alice(table: str, row: tuple[object, ...]) -> bool:
    if table == "stats_minutes":
        return isinstance(row[1], bytes) and "alice" in decode(row[1])
    return "alice" in row


def find_paths(roots: Roots) -> list[Path]:
    return [path for root in (roots.data, roots.run) for path in root.rglob("*") if path.name == "alice"]


async def live(hive: Hive) -> None:
    """Gives alice something of all that an agent can have."""
    parts = hive.parts
    await hive.agents.spawn("alice")
    await hive.send("hello")
    await hive.wait_row(lambda row: row.last_outcome == "ok", 60)
    await parts.egress.log.record(
        "alice", Target("evil.example", 443), verdict="refused", rule="", bytes_up=0, bytes_down=0, elapsed_ms=1
    )
    await parts.egress_grants.grant("alice", "good.example", 443, 30)
    await parts.questions.ask("alice", "may I?", [], False, None, "key-12345")
    await parts.schedule.remind("alice", "look again", None, 3600, "key-12345")
    notes = "remember\n" * 2000
    assert await parts.notes.take_rewrite("alice", notes, "remember\n" * 1900) is not RewriteDecision.KEEP
    await parts.parking.park("alice", ParkKind.PAUSED, "a test")
    await hive.send("waits")
    await parts.stats.save()
    now_ms = int(time.time() * 1000)
    await parts.store.write(
        lambda tx: (
            tx.get("insert_grant", agent="alice", tokens=1, usd=0.0, at=now_ms, expires_at=now_ms + 10**6),
            tx.list("insert_schedule", agent="alice", cron="0 0 * * *", message="good morning", done_to=now_ms),
            tx.get("insert_approval", **APPROVAL),
        )
    )
    with contextlib.closing(sqlite3.connect(hive.roots.telemetry, timeout=10)) as connection, connection:
        connection.execute("insert into stats_blocks (agent, step_s, at, data) values ('alice', 60, 0, x'')")


async def test_of_an_agent_that_had_everything_a_purge_leaves_the_audit_and_what_it_cost() -> None:
    async with run_stand_in() as upstream, open_hive(upstream=upstream, look_every_s=0.05) as hive:
        await live(hive)
        assert find_tables(hive.roots) == OWN | AUDIT | SPENT
        assert find_paths(hive.roots) != []
        await hive.agents.destroy("alice")
        await hive.parts.kept.purge("alice")
        await hive.parts.stats.save()
        assert find_tables(hive.roots) == AUDIT | SPENT
        assert find_paths(hive.roots) == []
        assert await hive.parts.kept.list_kept() == []
        # The next one of that name begins with nothing.
        await hive.agents.spawn("alice")
        row = await hive.wait_state("idle")
        assert (row.turns, row.waiting, row.park, row.chosen_model) == (0, 0, None, "")
        kinds = {entry.kind for entry in await hive.parts.transcripts.after("alice", 0, 99)}
        assert not any(kind.startswith("turn.") for kind in kinds)
        assert await hive.parts.broker.recv("alice", 1, 8, 0) == ([], 0)
        assert [message.sender for message in await hive.parts.broker.list_messages("alice", 2**53, 99)][-1] == OPERATOR
