"""`hive import-first-hive`: what comes over of a first hive's folder, what does not, and that it stays as it was."""

import contextlib
import fcntl
import json
import mmap
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cli_process import call
from doors import COMMIT, MOVE, PROGRAM, read_kinds
from first_hive import AGENT_NIX, OTHER_SCHEMA, SENT_S, FirstHive, digest_tree, git
from hive_process import HiveProcess, end_hive, wait_for
from hyperhive.system.files import folder_size_bytes

TESTS = Path(__file__).parent.parent
TOML = {"agent.toml": 'model = "haiku"\n', "prompt.md": "You answer.\n"}
# Each step is an import that dies, and one that comes after it.
STRIDE = 11


@pytest.fixture
def folder() -> Iterator[Path]:
    # Short: sockets of hives have their paths in here.
    with tempfile.TemporaryDirectory(prefix="hive-") as made:
        yield Path(made)


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> FirstHive:
    """With alice, a manager in the folder of its container's name, and all kinds of rows about alice."""
    first = FirstHive(tmp_path_factory.mktemp("pattern") / "first").make()
    first.add_agent("alice")
    first.add_agent("hm1nd", {**TOML, "agent.nix": AGENT_NIX}, bare=True, first=5)
    first.add_rows("alice")
    return first


@pytest.fixture
def first(folder: Path, pattern: FirstHive) -> FirstHive:
    """A copy of the pattern, for one test."""
    subprocess.run(["cp", "-a", "--", pattern.folder, folder / "first"], check=True)
    return FirstHive(folder / "first", {name: dict(commits) for name, commits in pattern.commits.items()})


async def take_over(folder: Path, first: FirstHive, *flags: str) -> dict[str, Any]:
    """The report of an import into `folder`/data, in which the source was not changed."""
    before = digest_tree(first.folder)
    done = await call(folder / "data", "import-first-hive", str(first.folder), "--json", *flags)
    assert done.ok, done.error_text
    assert digest_tree(first.folder) == before
    report: dict[str, Any] = json.loads(done.stdout)
    return report


async def refuse(folder: Path, source: Path, *flags: str) -> str:
    """Why an import was refused."""
    done = await call(folder / "data", "import-first-hive", str(source), *flags)
    assert done.status == 1, (done.stdout, done.stderr)
    assert not done.stdout
    assert b"hint: " in done.stderr
    return done.error_text


def query(folder: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "data/hive.sqlite")) as database:
        return list(database.execute(statement))


def agents(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {agent["origin"]: agent for agent in report["agents"]}


def reasons(report: dict[str, Any], table: str) -> dict[str, int]:
    return {left["reason"]: left["count"] for left in report[table]["left"]}


# -- what comes over -------------------------------------------------------------------------------------------


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
        database.execute("insert into padding values (zeroblob(8000000))")
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


# -- hives of ours ---------------------------------------------------------------------------------------------


async def test_a_folder_on_which_a_hive_runs_is_refused(folder: Path, first: FirstHive) -> None:
    data = folder / "data"
    data.mkdir(mode=0o700)
    with (data / "hive.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "a hive runs on" in await refuse(folder, first.folder)
    assert [path.name for path in data.iterdir()] == ["hive.lock"]


async def test_folders_that_are_no_first_hives_or_in_ones_way_are_refused(folder: Path, first: FirstHive) -> None:
    assert "there is no folder" in await refuse(folder, folder / "nothing")
    (folder / "empty").mkdir()
    assert "no data folder of a first hive" in await refuse(folder, folder / "empty")
    assert "neither may be in the other" in await refuse(folder, first.folder, "--data", str(first.folder / "new"))
    assert "neither may be in the other" in await refuse(folder, first.folder, "--data", str(first.folder))
    (folder / "data").mkdir()
    (folder / "data/letters").touch()
    assert "is not empty" in await refuse(folder, first.folder)
    assert [path.name for path in (folder / "data").iterdir()] == ["letters"]
    await take_over(folder / "other", first)
    assert "is the data folder of a hive of this kind" in await refuse(folder, folder / "other/data")


async def test_agents_whose_name_is_taken_are_left_and_nothing_is_told_to_their_namesakes(
    folder: Path, first: FirstHive
) -> None:
    first.add_agent("bob", first=9)
    first.add_rows("bob", 9)
    hive = HiveProcess(folder / "data")
    try:
        hive.start()
        hive.post("/api/agents", {"name": "alice"})
        hive.wait_state("alice", "idle")
        hive.down()
        before = query(folder, "select * from agents where name in ('alice', 'manager') order by name")
        report = await take_over(folder, first)
        assert agents(report)["alice"]["left"] == "there is an agent alice here already"
        assert agents(report)["hm1nd"]["left"] == "this hive has a manager already"
        assert query(folder, "select * from agents where name in ('alice', 'manager') order by name") == before
        assert query(folder, "select count(*) from message_rows where body = 'and now?' and recipient = 'alice'") == [
            (0,)
        ]
        assert query(folder, "select distinct agent from approvals union select distinct agent from questions") == [
            ("bob",)
        ]
        # The role is the same in both.
        assert query(folder, "select sender from messages where recipient = 'bob' and state = 'queued'") == [
            ("operator",),
            ("manager",),
        ]
        hive.start()
        assert hive.wait_state("bob", "stopped")["commit"] == first.commits["bob"]["main"]
    finally:
        end_hive(hive)


# -- what hostile agents have left -----------------------------------------------------------------------------


async def test_names_that_cannot_be_are_told(folder: Path) -> None:
    first = FirstHive(folder / "first").make()
    for name in ("Upper", "operator", "a-very-long-name", "hm1nd", "manager"):
        first.add_agent(name)
    (first.folder / "agents" / "no\x1b[2Jname").mkdir()
    (first.folder / "agents" / "a file").touch()
    (first.folder / "forge").mkdir()
    report = await take_over(folder, first)
    found = agents(report)
    assert "is not an agent name" in found["Upper"]["left"]
    assert "reserved" in found["operator"]["left"]
    assert found["manager"]["left"] == "hm1nd is manager as well"
    assert found["hm1nd"]["taken"]
    assert any("longer than 9" in note for note in found["a-very-long-name"]["notes"])
    assert any("not an agent name" in (agent["left"] or "") for name, agent in found.items() if "2J" in name)
    assert {left["path"] for left in report["left"]} >= {"agents/a file", "forge"}
    shown = await call(folder / "other", "import-first-hive", str(first.folder), "--dry-run")
    assert b"\x1b" not in shown.stdout


async def test_no_git_of_the_first_hives_is_obeyed(folder: Path, first: FirstHive) -> None:
    canary = folder / "canary"
    script = f"#!/bin/sh\ntouch {canary}\n"
    for repository in (first.folder / "applied/alice/.git", first.folder / "agents/alice/config/.git"):
        for name in ("post-checkout", "pre-push", "reference-transaction", "post-index-change"):
            hook = repository / "hooks" / name
            hook.parent.mkdir(exist_ok=True)
            hook.write_text(script)
            hook.chmod(0o755)
        command = str(repository / "hooks/pre-push")
        with (repository / "config").open("a") as config:
            config.write(
                f"[core]\n\tfsmonitor = {command}\n\tsshCommand = {command}\n\talternateRefsCommand = {command}\n"
            )
            config.write(f"[uploadpack]\n\tpackObjectsHook = {command}\n[include]\n\tpath = {command}\n")
    assert agents(await take_over(folder, first))["alice"]["taken"]
    assert not canary.exists()
    kept = {path.name for path in (folder / "data/applied/alice").iterdir()}
    assert kept == {"HEAD", "config", "objects", "refs"}


async def test_links_devices_and_what_is_huge_stay_behind(folder: Path, first: FirstHive) -> None:
    (folder / "secret").write_text("secret")
    state = first.folder / "agents/alice/state"
    (state / "link").symlink_to(folder / "secret")
    os.mkfifo(state / "fifo")
    with (state / "huge").open("wb") as huge:
        huge.truncate(1 << 42)
    (first.folder / "agents/eve").symlink_to(folder)
    (first.folder / "agents/mallory").mkdir()
    (first.folder / "applied/mallory").symlink_to(first.folder / "applied/alice")
    first.add_agent("trent", first=9)
    shutil.rmtree(first.folder / "agents/trent/state")
    (first.folder / "agents/trent/state").symlink_to(folder)
    report = await take_over(folder, first)
    found = agents(report)
    left = {entry["path"]: entry["reason"] for entry in found["alice"]["left_out"]}
    assert left["state/fifo"] == "no file, folder or link"
    assert left["state/huge"] == "almost all of it is holes"
    assert (folder / "data/agents/alice/state/link").readlink() == folder / "secret"
    assert "cannot be read" in found["mallory"]["left"]
    assert {entry["path"] for entry in report["left"]} >= {"agents/eve", "applied/mallory"}
    assert list((folder / "data/agents/trent/state").iterdir()) == []
    assert folder_size_bytes(folder / "data") < 64 * 1024**2


async def test_repositories_that_are_damaged_or_borrow_leave_their_agent(folder: Path) -> None:
    first = FirstHive(folder / "first").make()
    for index, name in enumerate(("borrower", "damaged", "linked", "missing", "packed", "pointer")):
        first.add_agent(name, first=1 + 4 * index)
    applied = first.folder / "applied"
    (applied / "borrower/.git/objects/info").mkdir(exist_ok=True)
    (applied / "borrower/.git/objects/info/alternates").write_text(f"{applied}/missing/.git/objects\n")
    tree = git(applied / "damaged", "rev-parse", "main^{tree}")
    for repository in (applied / "damaged/.git", first.folder / "agents/damaged/config/.git"):
        (repository / f"objects/{tree[:2]}/{tree[2:]}").chmod(0o644)
        (repository / f"objects/{tree[:2]}/{tree[2:]}").write_bytes(b"x" * 100)
    config = first.folder / "agents/linked/config"
    (config / "passwd").symlink_to("/etc/passwd")
    git(config, "add", "--all")
    git(config, "commit", "--quiet", "-m", "a link")
    git(config, "push", "--quiet", str(applied / "linked"), "HEAD:refs/heads/other")
    git(applied / "linked", "update-ref", "refs/heads/main", "refs/heads/other")
    shutil.rmtree(applied / "missing")
    git(applied / "packed", "gc", "--quiet")
    [pack] = (applied / "packed/.git/objects/pack").glob("*.pack")
    pack.chmod(0o644)
    pack.write_bytes(pack.read_bytes()[:-30])
    shutil.rmtree(applied / "pointer/.git")
    (applied / "pointer/.git").write_text(f"gitdir: {applied}/damaged/.git\n")
    found = agents(await take_over(folder, first))
    assert not any(agent["taken"] for agent in found.values())
    assert "borrows objects" in found["borrower"]["left"]
    assert "not whole" in found["damaged"]["left"]
    assert "symbolic link" in found["linked"]["left"]
    assert "no applied repository" in found["missing"]["left"]
    assert "pack of its repository is damaged" in found["packed"]["left"]
    assert "no applied repository" in found["pointer"]["left"]


async def test_packed_repositories_come_over(folder: Path) -> None:
    first = FirstHive(folder / "first").make()
    first.add_agent("alice")
    for repository in (first.folder / "applied/alice", first.folder / "agents/alice/config"):
        git(repository, "gc", "--quiet", "--prune=now")
    alice = agents(await take_over(folder, first))["alice"]
    assert (alice["commit"], alice["tags"]) == (first.commits["alice"]["main"], 7)
    git(folder / "data/applied/alice", "fsck", "--strict")


async def test_a_damaged_proposed_repository_costs_only_what_is_proposed(folder: Path, first: FirstHive) -> None:
    objects = first.folder / "agents/alice/config/.git/objects"
    (objects / "pack" / f"pack-{'0' * 40}.pack").write_bytes(b"PACK")
    report = await take_over(folder, first)
    alice = agents(report)["alice"]
    assert alice["taken"]
    assert any(note.startswith("its proposed repository is left") for note in alice["notes"])


async def test_databases_that_are_none_are_refused_and_nothing_is_taken(folder: Path, first: FirstHive) -> None:
    for end in ("-wal", "-shm"):
        (first.folder / f"broker.sqlite{end}").unlink(missing_ok=True)
    whole = first.database.read_bytes()
    first.database.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))
    assert "cannot be read" in await refuse(folder, first.folder)
    first.database.unlink()
    os.mkfifo(first.database)
    assert "broker.sqlite cannot be read" in await refuse(folder, first.folder)
    first.database.unlink()
    first.database.symlink_to("/etc/passwd")
    assert "broker.sqlite cannot be read" in await refuse(folder, first.folder)
    assert query(folder, "select count(*) from agents") == [(0,)]


async def test_rows_that_cannot_be_ours_are_left_with_the_reason(folder: Path, first: FirstHive) -> None:
    values = {"sender": "alice", "recipient": "operator", "sent_at": SENT_S}
    for body in (b"\xff\xfe", "", "x" * 70_000):
        first.insert("messages", **values, body=body)
    first.insert("messages", **{**values, "sender": b"\x00", "recipient": "*"}, body="to all")
    first.insert("messages", **{**values, "sent_at": 12345}, body="when?")
    with closing(first.connect()) as database:
        database.execute("alter table operator_questions rename to kept")
        database.execute("create view operator_questions as select * from kept")
    report = await take_over(folder, first)
    found = reasons(report, "messages")
    assert found["its body is no UTF-8 text"] == 1
    assert found["its body is empty"] == 1
    assert found["its body is longer than one may be here"] == 1
    assert found["its sent_at is no instant that is understood"] == 1
    assert report["questions"]["problem"] == "operator_questions is no plain table"


# -- crashes ---------------------------------------------------------------------------------------------------


def run_doomed(folder: Path, first: FirstHive, crash_at: int) -> int:
    command = [sys.executable, str(TESTS / "crashing_import.py"), str(folder / "steps"), str(crash_at)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    (folder / "steps").unlink(missing_ok=True)
    done = subprocess.run(
        [*command, f"--data={folder / 'data'}", str(first.folder)], env=environment, capture_output=True, check=False
    )
    return done.returncode


async def test_killed_at_any_step_nothing_is_taken_or_a_rerun_completes_it(folder: Path) -> None:
    first = FirstHive(folder / "first").make()
    for number, name in enumerate(("alice", "bob")):
        first.add_agent(name, first=1 + 4 * number)
        first.add_rows(name, 1 + 4 * number)
    before = digest_tree(first.folder)
    deaths: set[str] = set()
    outcomes: set[int] = set()
    crash_at = 1
    while (status := run_doomed(folder, first, crash_at)) == -signal.SIGKILL:
        kinds = read_kinds(folder / "steps")
        deaths.add(kinds[-1])
        counts = _count_taken(folder)
        assert counts in ({0}, {2, 6, 8}), f"killed at {crash_at}: {counts}"
        outcomes.add(len(counts))
        report = await take_over(folder, first)
        assert _count_taken(folder) == {2, 6, 8}
        assert any(agent["taken"] for agent in report["agents"]) == (counts == {0})
        _check_whole(folder, first)
        shutil.rmtree(folder / "data")
        # Each step around the moment that decides, and some of the many before it.
        crash_at += 1 if {COMMIT, MOVE} & set(kinds[-2:]) else STRIDE
    assert status == 0
    assert deaths == {COMMIT, MOVE, PROGRAM}
    assert outcomes == {1, 3}
    assert digest_tree(first.folder) == before


def _count_taken(folder: Path) -> set[int]:
    """How many agents, messages, approvals and questions there are."""
    if not (folder / "data/hive.sqlite").exists():
        return {0}
    with contextlib.suppress(sqlite3.OperationalError):
        tables = ("agents", "messages", "approvals", "questions")
        return {query(folder, f"select count(*) from {table}")[0][0] for table in tables}
    # It was killed before there were tables.
    return {0}


def _check_whole(folder: Path, first: FirstHive) -> None:
    data = folder / "data"
    for name in ("alice", "bob"):
        assert git(data / "applied" / name, "rev-parse", "main") == first.commits[name]["main"]
        assert (data / "agents" / name / "state/notes.md").read_text() == f"# {name}\n- [ ] go on\n"
        assert (data / "agents" / name / "claude/projects/past.jsonl").exists()
    assert not list((data / "staging").iterdir())
    assert not list((data / "snapshots").glob("*/*"))


# -- and then ----------------------------------------------------------------------------------------------------


async def test_a_hive_started_on_it_goes_on_where_the_first_one_ended(folder: Path, first: FirstHive) -> None:
    first.add_agent("bob", TOML, first=9)
    first.add_rows("bob", 9)
    await take_over(folder, first)
    hive = HiveProcess(folder / "data")
    try:
        hive.start()
        assert {row["name"]: row["state"] for row in hive.get("/api/agents")} == {
            "manager": "stopped",
            "alice": "stopped",
            "bob": "stopped",
        }
        assert {(row["agent"], row["description"]) for row in hive.get("/api/approvals?status=pending")} == {
            ("alice", "change 4"),
            ("bob", "change 12"),
        }
        questions = hive.get("/api/questions?status=open")
        assert {(row["agent"], row["question"]) for row in questions} == {
            ("alice", "which colour?"),
            ("bob", "which colour?"),
        }
        assert any(row["body"] == "bob is done" for row in hive.get("/api/messages?agent=bob"))
        # Its config is the nixos driver's: it does not start here, and says why.
        hive.post("/api/agents/alice/start")
        assert "agent.toml" in hive.wait_state("alice", "failed")["reason"]
        hive.post("/api/agents/bob/start")
        hive.wait_state("bob", "idle", "busy")
        wait_for(lambda: not _list_waiting(folder), "bob to have read what waited", 60, hive)
        [asked] = [row["id"] for row in questions if row["agent"] == "bob"]
        hive.post(f"/api/questions/{asked}/answer", {"options": ["red"], "text": ""})
        [waiting] = [row["id"] for row in hive.get("/api/approvals?status=pending") if row["agent"] == "bob"]
        hive.post(f"/api/approvals/{waiting}/approve")
        wait_for(lambda: hive.get(f"/api/approvals/{waiting}")["status"] == "deployed", "it to be deployed", 60, hive)
        repository = hive.data / "applied/bob"
        wait_for(lambda: f"deployed/{waiting}" in git(repository, "tag").splitlines(), "its tag", hive=hive)
        proposed = first.commits["bob"]["proposed"]
        wait_for(lambda: git(repository, "rev-parse", "main") == proposed, "main to follow", hive=hive)
        assert "not_tagged" not in hive.log
    finally:
        end_hive(hive)


def _list_waiting(folder: Path) -> list[tuple[Any, ...]]:
    return query(folder, "select id from messages where recipient = 'bob' and state in ('queued', 'leased')")
