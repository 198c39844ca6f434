"""`hive import-first-hive`: what comes over of a first hive's folder, what does not, and that it stays as it was."""

import json
import os
import shutil
from pathlib import Path

from cli_process import call
from first_hive import AGENT_NIX, SENT_S, FirstHive, digest_tree, git
from first_hive_rig import agents, query, reasons, take_over


async def test_agents_come_over_stopped_with_config_history_state_and_conversation(
    folder: Path, first: FirstHive
) -> None:
    report = await take_over(folder, first)
    commits = first.commits["alice"]
    data = folder / "data"
    rows = query(folder, "select name, desired, deployed_commit from agents order by name")
    assert rows == [
        ("alice", "stopped", commits["main"]),
        ("manager", "stopped", first.commits["hm1nd"]["main"]),
    ]
    repository = data / "applied/alice"
    assert git(repository, "rev-parse", "main") == commits["main"]
    assert git(repository, "rev-parse", "first-hive/denied/2^{commit}") == commits["denied/2"]
    assert git(repository, "for-each-ref", "--format=%(contents)", "refs/tags/first-hive/denied/2") == (
        "denied 2: as it was"
    )
    assert git(repository, "rev-parse", "deployed/0^{commit}") == commits["deployed/1"]
    assert git(repository, "rev-parse", "first-hive/proposed") == commits["proposed"]
    assert git(repository, "log", "--format=%s", "main").splitlines() == ["change 3", "change 1"]
    assert git(repository, "show", "main:agent.nix") == AGENT_NIX.strip()
    git(repository, "fsck", "--strict")
    state, claude = data / "agents/alice/state", data / "agents/alice/claude"
    assert (state / "notes.md").read_text() == "# alice\n- [ ] go on\n"
    assert (state / "hyperhive-model").read_text() == "opus\n"
    assert (claude / "projects/past.jsonl").exists()
    # Ours keeps something else in a file of that name.
    assert not (state / "hyperhive-events.sqlite").exists()
    assert (state / "first-hive-events.sqlite").read_bytes()[:6] == b"SQLite"
    uid = query(folder, "select uid from agents where name = 'alice'")[0][0]
    assert {path.stat().st_uid for path in state.rglob("*")} == {os.geteuid() if uid is None else uid}
    alice = agents(report)["alice"]
    assert (alice["taken"], alice["commit"], alice["tags"]) == (True, commits["main"], 7)
    assert any("agent.nix" in note and "nixos" in note for note in alice["notes"])
    assert not any("agent.nix" in note for note in agents(report)["hm1nd"]["notes"])


async def test_a_login_comes_over_only_if_that_is_asked_for(folder: Path, first: FirstHive) -> None:
    report = await take_over(folder, first)
    login = folder / "data/agents/alice/claude/.credentials.json"
    assert not login.exists()
    [left] = agents(report)["alice"]["left_out"]
    assert (left["path"], "--with-credentials" in left["reason"]) == ("claude/.credentials.json", True)
    shutil.rmtree(folder / "data")
    report = await take_over(folder, first, "--with-credentials")
    assert json.loads(login.read_text()) == {"claudeAiOauth": {}}
    assert agents(report)["alice"]["left_out_count"] == 0


async def test_messages_approvals_and_questions_come_over_with_their_times(folder: Path, first: FirstHive) -> None:
    report = await take_over(folder, first)
    at = SENT_S * 1000
    assert query(
        folder, "select sender, recipient, body, sent_at, state, settled_at from message_rows order by id"
    ) == [
        ("alice", "operator", "alice is done", at, "acked", at + 5000),
        ("operator", "alice", "and now?", at + 10_000, "queued", None),
        ("manager", "alice", "hurry", at + 11_000, "queued", None),
    ]
    assert reasons(report, "messages") == {"from 'stranger', who is not taken over": 1}
    commits = first.commits["alice"]
    columns = "status, commit_sha, base_sha, requested_at, resolved_at, reason, description"
    assert query(folder, f"select {columns} from approvals order by id") == [
        ("deployed", commits["deployed/1"], None, at, at + 100_000, None, "change 1"),
        ("denied", commits["denied/2"], None, at + 1000, at + 101_000, "not like this", "change 2"),
        ("deployed", commits["deployed/3"], None, at + 2000, at + 102_000, None, "change 3"),
        ("pending", commits["proposed"], commits["main"], at + 3000, None, None, "change 4"),
    ]
    columns = "question, options, multi, status, answer, asked_at, resolved_at"
    rows = query(folder, f"select {columns}, expires_at from questions order by id")
    options = '["red", "blue"]'
    assert [row[:-1] for row in rows] == [
        ("which colour?", options, 1, "open", None, at, None),
        ("tea?", options, 0, "answered", "no", at, at + 9000),
        ("too late?", options, 0, "expired", None, at, at + 60_000),
    ]
    # The first hive gave it no end: it waits here as long as a new one does.
    now_ms = query(folder, "select at from audit where name = 'first_hive.imported'")[0][0]
    assert 0 <= rows[0][-1] - now_ms - 24 * 3600 * 1000 + 60_000 < 120_000
    assert report["messages"]["taken"] == {"delivered": 1, "queued": 2}
    assert report["approvals"]["taken"] == {"deployed": 2, "denied": 1, "pending": 1}
    assert report["questions"]["taken"] == {"open": 1, "answered": 1, "expired": 1}
    assert {"path": "broker.sqlite: reminders", "reason": "no table that is taken over"} in report["left"]


async def test_the_import_is_a_row_of_the_audit(folder: Path, first: FirstHive) -> None:
    await take_over(folder, first)
    [(actor, body)] = query(folder, "select actor, body from audit where name = 'first_hive.imported'")
    assert actor == f"operator uid {os.getuid()} files"
    assert json.loads(body) == {
        "source": str(first.folder),
        "agents": ["alice", "manager"],
        "messages": 3,
        "approvals": 4,
        "questions": 3,
    }
    done = await call(folder / "data", "audit", "verify")
    assert done.ok, done.error_text


async def test_a_dry_run_says_the_same_and_makes_nothing(folder: Path, first: FirstHive) -> None:
    before = digest_tree(folder)
    rehearsed = await take_over(folder, first, "--dry-run")
    assert digest_tree(folder).keys() == before.keys()
    report = await take_over(folder, first)
    assert (rehearsed["dry_run"], report["dry_run"]) == (True, False)
    assert {**rehearsed, "dry_run": False} == report
    # Who holds the lock writes its name there.
    before = digest_tree(folder / "data", without=["hive.lock"])
    again = await take_over(folder, first, "--dry-run")
    assert digest_tree(folder / "data", without=["hive.lock"]) == before
    assert again["messages"]["already_here"] == 3


async def test_people_read_what_is_taken_and_what_is_left(folder: Path, first: FirstHive) -> None:
    done = await call(folder / "data", "import-first-hive", str(first.folder), "--dry-run")
    lines = done.stdout.decode().splitlines()
    assert f"alice: would take config {first.commits['alice']['main'][:12]}" in lines[0]
    assert "manager (hm1nd there): would take" in "\n".join(lines)
    assert "messages: would take 1 delivered, 2 queued" in lines
    assert lines[-1] == "nothing was changed; without --dry-run it is taken over"


async def test_what_was_taken_over_is_not_taken_twice(folder: Path, first: FirstHive) -> None:
    await take_over(folder, first)
    before = query(folder, "select * from message_rows"), query(folder, "select count(*) from audit")
    again = await take_over(folder, first)
    assert {agent["left"] for agent in again["agents"]} == {"it was taken over before"}
    assert [again[table]["already_here"] for table in ("messages", "approvals", "questions")] == [3, 4, 3]
    assert not any(again[table]["taken"] for table in ("messages", "approvals", "questions"))
    assert (query(folder, "select * from message_rows"), query(folder, "select count(*) from audit")) == before
    # What came since does come over.
    first.insert("messages", sender="alice", recipient="hm1nd", body="one more", sent_at=SENT_S + 99)
    assert (await take_over(folder, first))["messages"]["taken"] == {"queued": 1}
    assert query(folder, "select recipient from message_rows where body = 'one more'") == [("manager",)]
