"""The daemon is killed at every step of a restore and of a fork: there is the old agent or the new one, never a mix.

A step is a call through one of the doors: processes, git among them, and database (`crashing_daemon.py`).
"""

import contextlib
import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from doors import COMMIT, PROGRAM, read_kinds
from hive_process import KEEP_ROOT, HiveProcess, end_hive, wait_for
from hyperhive.cli.client import Client, NoHiveError
from hyperhive.core.errors import HiveError, UnavailableError
from hyperhive.core.paths import Roots
from proposer import Proposer, git, read_generation

TESTS = Path(__file__).parent.parent
# More than any of these takes.
STEPS_LIMIT = 300
# Each step is a daemon that dies and one that comes after it.
STRIDE = 3


class Doomed:
    """A hive whose daemon dies at a step of choice. `alice` does not run; `one` and `two` are snapshots of her."""

    def __init__(self, folder: Path) -> None:
        self.steps_file = folder / "steps"
        # The kinds of the steps that it died at.
        self.deaths: list[str] = []
        self.hive = HiveProcess(folder / "data", KEEP_ROOT)
        self.client = Client(Roots(self.hive.data, self.hive.run))
        self.snapshots: dict[str, int] = {}

    def prepare(self) -> None:
        self.hive.start()
        self.hive.wait_state("manager", "idle")
        proposer = Proposer(self.hive, self.hive.data.parent / "copies")
        proposer.generation = read_generation(self.hive)
        self.hive.post("/api/agents", {"name": "alice"})
        self.hive.wait_state("alice", "idle")
        for name in ("manager", "alice"):
            self.hive.post(f"/api/agents/{name}/stop")
            self.hive.wait_state(name, "stopped")
        proposer.connect()
        for mark in ("one", "two"):
            approval, _ = proposer.propose("alice", {"mark.txt": mark})
            self.hive.post(f"/api/approvals/{approval}/approve")
            self.wait_deployed(approval)
            for folder in ("state", "claude"):
                self.place("alice", folder).write_text(mark)
            self.snapshots[mark] = self.hive.post("/api/snapshots", {"agent": "alice", "note": mark})["id"]
        proposer.close()
        self.hive.stop()

    def wait_deployed(self, approval: int) -> None:
        wait_for(
            lambda: (
                self.hive.get(f"/api/approvals/{approval}")["status"] == "deployed"
                and f"deployed/{approval}" in git(self.repository("alice"), "tag", "-l").decode().split()
            ),
            "it to be deployed",
            hive=self.hive,
        )

    def place(self, agent: str, folder: str) -> Path:
        return self.hive.data / "agents" / agent / folder / "mark"

    def repository(self, agent: str) -> Path:
        return self.hive.data / "applied" / agent

    def start(self, crash_at: int) -> None:
        self.steps_file.unlink(missing_ok=True)
        self.hive.port = 0
        self.hive.program = (str(TESTS / "crashing_daemon.py"), str(self.steps_file), str(crash_at))
        self.hive.start()

    def do_and_die(self, act: Callable[[], object]) -> bool:
        """Does `act` while steps are counted. Whether the daemon died of it."""
        self.steps_file.touch()
        with contextlib.suppress(UnavailableError, NoHiveError):
            act()
            # What follows from it by itself is a step, too.
            wait_for(lambda: not list((self.hive.data / "staging").iterdir()), "it to have ended", 20)
        assert self.hive.process is not None
        process = self.hive.process
        kinds = read_kinds(self.steps_file)
        self.steps_file.unlink()
        with contextlib.suppress(UnavailableError, NoHiveError):
            self.client.get("/api/hive")
            return False
        wait_for(lambda: process.poll() is not None, "its end")
        self.deaths.append(kinds[-1])
        return True

    def look(self, agent: str) -> dict[str, str]:
        """Which of the two each part of an agent is of: all are the same."""
        row = self.hive.agent(agent)
        wait_for(
            lambda: git(self.repository(agent), "rev-parse", "main").decode().strip() == row["commit"],
            "main to follow",
            hive=self.hive,
        )
        marks = {folder: self.place(agent, folder).read_text() for folder in ("state", "claude")}
        config = git(self.repository(agent), "show", f"{row['commit']}:mark.txt").decode()
        return {**marks, "config": config}

    def list_residue(self) -> list[str]:
        """What a restore that is over leaves nowhere."""
        snapshots = self.hive.data / "snapshots"
        kept = {f"{row['id']}.tar.gz" for row in self.hive.get("/api/snapshots")}
        files = {path.name for path in snapshots.glob("*/*")}
        with contextlib.closing(sqlite3.connect(f"file:{self.hive.data}/hive.sqlite?mode=ro", uri=True)) as database:
            rows = [
                *database.execute("select agent from restores"),
                *database.execute("select name from agents where held"),
            ]
        staged = [path.name for path in (self.hive.data / "staging").iterdir()]
        return sorted([*files.symmetric_difference(kept), *map(str, rows), *staged])


@pytest.fixture(scope="module")
def doomed() -> Iterator[Doomed]:
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        doomed = Doomed(Path(folder))
        try:
            doomed.prepare()
            yield doomed
        finally:
            doomed.hive.program = ("-m", "hyperhive.host.main")
            end_hive(doomed.hive)


def crash_at_steps(doomed: Doomed, run: Callable[[int], bool]) -> int:
    """Calls `run` with steps to die at, until one was survived to the end. Returns how many steps there are."""
    for crash_at in range(1, STEPS_LIMIT, STRIDE):
        doomed.start(crash_at)
        if not run(crash_at):
            doomed.hive.stop()
            deaths, doomed.deaths = doomed.deaths, []
            # If not, a door is not watched, and what was survived is less than it seems.
            assert set(deaths) == {PROGRAM, COMMIT}
            return crash_at
        doomed.hive.stop()
    raise AssertionError(f"it takes more than {STEPS_LIMIT} steps")


@pytest.mark.slow
def test_a_restore_leaves_the_old_agent_or_the_new_one_whatever_step_the_daemon_dies_at(doomed: Doomed) -> None:
    now = "two"

    def run(crash_at: int) -> bool:
        nonlocal now
        wanted = "one" if now == "two" else "two"
        restore = f"/api/snapshots/{doomed.snapshots[wanted]}/restore"
        died = doomed.do_and_die(lambda: doomed.client.post(restore, {"replay": False}))
        if died:
            doomed.start(0)
        where = f"killed at step {crash_at}: {doomed.hive.log[-3000:]}"
        found = doomed.look("alice")
        assert set(found.values()) in ({now}, {wanted}), f"{found}, {where}"
        assert died or found["state"] == wanted
        now = found["state"]
        wait_for(lambda: doomed.list_residue() == [], f"{doomed.list_residue()} to be gone, {where}", 20)
        approvals = [row for row in doomed.hive.get("/api/approvals") if row["agent"] == "alice"]
        assert {row["status"] for row in approvals} == {"deployed"}, where
        return died

    assert crash_at_steps(doomed, run) > 20
    told = [m for m in doomed_messages(doomed) if m["sender"] == "system"]
    assert {json.loads(message["body"])["event"] for message in told} == {"restored"}


@pytest.mark.slow
def test_a_fork_is_there_whole_or_not_at_all_whatever_step_the_daemon_dies_at(doomed: Doomed) -> None:
    def run(crash_at: int) -> bool:
        name = f"fork-{crash_at}"
        fork = f"/api/snapshots/{doomed.snapshots['one']}/fork"
        # A machine that is slow to start it would only make this slow.
        died = doomed.do_and_die(lambda: doomed.client.post(fork, {"name": name}))
        if died:
            doomed.start(0)
        where = f"killed at step {crash_at}: {doomed.hive.log[-3000:]}"
        names = {row["name"] for row in doomed.hive.get("/api/agents")}
        assert died or name in names
        if name in names:
            assert set(doomed.look(name).values()) == {"one"}, where
            doomed.client.delete(f"/api/agents/{name}", {"purge": "true"})
        else:
            left = [doomed.hive.data / top / name for top in ("agents", "applied", "versions", "proposed")]
            assert not any(path.exists() for path in left), where
        wait_for(lambda: doomed.list_residue() == [], f"{doomed.list_residue()} to be gone, {where}", 20)
        return died

    assert crash_at_steps(doomed, run) > 15


def doomed_messages(doomed: Doomed) -> list[dict[str, Any]]:
    doomed.start(0)
    messages = doomed.hive.get("/api/messages?agent=alice&limit=500")
    doomed.hive.stop()
    return messages


def test_a_snapshot_that_the_daemon_did_not_live_to_finish_is_forgotten(doomed: Doomed) -> None:
    doomed.start(0)
    before = len(doomed.hive.get("/api/snapshots"))
    doomed.hive.stop()
    doomed.start(5)
    died = doomed.do_and_die(lambda: doomed.client.post("/api/snapshots", {"agent": "alice"}))
    assert died
    doomed.start(0)
    assert len(doomed.hive.get("/api/snapshots")) == before
    wait_for(lambda: doomed.list_residue() == [], "nothing to be left", 20)
    with contextlib.suppress(HiveError):
        doomed.client.post("/api/snapshots", {"agent": "alice"})
    assert len(doomed.hive.get("/api/snapshots")) == before + 1
    doomed.hive.stop()
