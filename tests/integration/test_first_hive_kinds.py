"""`hive import-first-hive` from first hives that are not as the likely one, or that run."""

import mmap
import multiprocessing
from contextlib import closing
from pathlib import Path
from typing import Any

from first_hive import OTHER_SCHEMA, SENT_S, FirstHive
from first_hive_rig import agents, query, reasons, refuse, take_over

# -- other first hives -----------------------------------------------------------------------------------------


async def test_columns_are_found_by_other_names_and_unknown_ones_are_told(folder: Path) -> None:
    first = FirstHive(folder / "first").make(OTHER_SCHEMA, wal=False)
    first.add_agent("alice", branch="master")
    commits = first.commits["alice"]
    new = {"from": "manager", "to": "alice", "text": "hello", "created_at": "2026-05-30T11:30:00+02:00", "mood": "good"}
    first.insert("messages", **new)
    first.insert("messages", **{**new, "created_at": "2026-05-30 09:30:01", "read_at": "2026-05-30T09:31:00Z"})
    first.insert("messages", **{**new, "created_at": "last week"})
    approval = {"id": 4, "name": "alice", "created_at": SENT_S + 0.5, "state": "pending"}
    first.insert("approvals", **approval, commit=commits["proposed"])
    first.insert("approvals", **{**approval, "id": 5}, commit="f" * 40)
    first.insert("approvals", **{**approval, "id": 6, "state": "sleeping"})
    question = {"agent": "alice", "prompt": "why?", "choices": None, "created_at": SENT_S * 1_000_000, "target": "bob"}
    first.insert("operator_questions", **question)
    first.insert("operator_questions", **{**question, "target": "operator", "choices": '{"a": 1}'})
    report = await take_over(folder, first)
    assert report["messages"]["columns"]["sent_at"] == "created_at"
    assert report["messages"]["columns_not_taken"] == ["mood"]
    assert reasons(report, "messages") == {"its sent_at is no instant that is understood": 1}
    at = 1_780_133_400_000
    assert query(folder, "select sent_at, settled_at from messages order by id") == [
        (at, None),
        (at + 1000, at + 60_000),
    ]
    columns = "status, commit_sha, requested_at"
    assert query(folder, f"select {columns} from approvals order by id") == [
        ("pending", commits["proposed"], SENT_S * 1000 + 500),
        ("failed", None, SENT_S * 1000 + 500),
    ]
    assert "was not found" in query(folder, "select reason from approvals where status = 'failed'")[0][0]
    assert reasons(report, "approvals") == {"its status 'sleeping' is not known": 1}
    assert report["approvals"]["columns_missing"] == ["kind", "description", "requested_by"]
    assert reasons(report, "questions") == {
        "asked of 'bob', who is not taken over": 1,
        "its options are no list of texts": 1,
    }


async def test_a_table_of_which_a_column_is_missing_is_left_whole(folder: Path) -> None:
    schema = "create table messages (id integer, sender text, recipient text, body text, sent_at integer, seen integer)"
    first = FirstHive(folder / "first").make(schema)
    first.add_agent("alice")
    first.insert("messages", id=1, sender="operator", recipient="alice", body="hello", sent_at=SENT_S)
    report = await take_over(folder, first)
    assert report["messages"]["problem"] == "no column was found for delivered_at (it has: seen)"
    assert report["approvals"]["problem"] == "there is no table approvals"
    assert query(folder, "select count(*) from messages") == [(0,)]
    assert agents(report)["alice"]["taken"]


async def test_a_first_hive_that_was_never_used_has_agents_alone(folder: Path) -> None:
    first = FirstHive(folder / "first").make()
    first.add_agent("alice")
    first.database.unlink()
    report = await take_over(folder, first)
    assert report["messages"]["problem"] == "there is no broker.sqlite"
    assert agents(report)["alice"]["taken"]


async def test_a_spawn_that_waited_waits_here_if_the_name_is_free(folder: Path, first: FirstHive) -> None:
    for name in ("bob", "bob", "alice"):
        values = {"agent": name, "kind": "spawn", "commit_ref": "", "requested_at": SENT_S, "status": "pending"}
        first.insert("approvals", **values)
    report = await take_over(folder, first)
    rows = query(folder, "select agent, status, reason from approvals where kind = 'spawn' order by id")
    assert rows == [
        ("bob", "pending", None),
        ("bob", "failed", "bob is there already"),
        ("alice", "failed", "alice is there already"),
    ]
    assert report["approvals"]["taken"] == {"deployed": 2, "denied": 1, "pending": 2, "failed": 2}


async def test_what_was_not_committed_is_told_and_left(folder: Path, first: FirstHive) -> None:
    (first.folder / "agents/alice/config/prompt.md").write_text("You are somebody else.\n")
    report = await take_over(folder, first)
    assert "1 files of its proposed config were not committed and are left" in agents(report)["alice"]["notes"]


# -- a first hive that runs ------------------------------------------------------------------------------------


async def test_a_running_first_hive_is_read_with_what_is_in_its_log_only(folder: Path, first: FirstHive) -> None:
    with closing(first.connect()) as daemon:
        daemon.execute("pragma wal_autocheckpoint = 0")
        values = ("alice", "operator", "in the log", SENT_S)
        daemon.execute("insert into messages (sender, recipient, body, sent_at) values (?, ?, ?, ?)", values)
        assert (first.folder / "broker.sqlite-wal").stat().st_size > 0
        # With a transaction open, and its locks held.
        daemon.execute("begin immediate")
        await take_over(folder, first)
        assert daemon.execute("select count(*) from messages").fetchone() == (5,)
    assert query(folder, "select count(*) from message_rows where body = 'in the log'") == [(1,)]


def _write_for_ever(path: str, is_writing: Any) -> None:
    with Path(path).open("r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        number = 0
        while True:
            number += 1
            pages[-8:] = number.to_bytes(8, "big")
            is_writing.set()


async def test_a_first_hive_that_never_stops_writing_is_refused(folder: Path, first: FirstHive) -> None:
    with closing(first.connect()) as database:
        database.execute("create table padding (bytes blob)")
        # Takes longer to be copied than a busy machine lets the writer wait for its turn.
        database.execute("insert into padding values (zeroblob(80000000))")
    context = multiprocessing.get_context("spawn")
    is_writing = context.Event()
    writer = context.Process(target=_write_for_ever, args=(str(first.database), is_writing))
    writer.start()
    try:
        assert is_writing.wait(60)
        assert "writes its database all the time" in await refuse(folder, first.folder)
    finally:
        writer.kill()
        writer.join()
    assert query(folder, "select count(*) from agents") == [(0,)]


async def test_a_change_that_is_not_finished_is_not_finished_by_us(folder: Path) -> None:
    first = FirstHive(folder / "first").make(wal=False)
    with closing(first.connect()) as daemon:
        daemon.execute("begin immediate")
        daemon.execute("insert into messages (sender, recipient, body, sent_at) values ('a', 'b', 'c', 1)")
        daemon.execute("pragma cache_spill = on")
        journal = first.folder / "broker.sqlite-journal"
        assert journal.stat().st_size > 0
        assert "not finished" in await refuse(folder, first.folder)
