"""`hive import-first-hive` into hives of ours that are there already, and what a hive does with what was taken over."""

import fcntl
from pathlib import Path
from typing import Any

from first_hive import FirstHive, git
from first_hive_rig import TOML, agents, query, refuse, take_over
from hive_process import HiveProcess, end_hive, wait_for

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


# -- and then --------------------------------------------------------------------------------------------------


async def test_a_hive_started_on_it_goes_on_where_the_first_one_ended(folder: Path, first: FirstHive) -> None:
    first.add_agent("bob", TOML, first=9)
    first.add_rows("bob", 9)
    await take_over(folder, first)
    hive = HiveProcess(folder / "data")
    try:
        hive.start()
        for name in ("manager", "alice", "bob"):
            hive.wait_state(name, "stopped")
        assert len(hive.get("/api/agents")) == 3
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
