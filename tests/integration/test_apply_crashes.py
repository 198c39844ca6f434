"""The daemon is killed at every step of carrying out an approval, started again, and every promise is looked at.

A step is a call through one of the doors: processes, git among them, and database (`crashing_daemon.py`).
"""

import base64
import contextlib
import json
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from doors import COMMIT, PROGRAM, read_kinds
from hive_process import KEEP_ROOT, HiveProcess, end_hive, wait_for
from hyperhive.cli.client import Client, NoHiveError
from hyperhive.core.errors import NotFoundError, UnavailableError
from hyperhive.core.paths import Roots
from proposer import Proposer, commit_files, git, make_bundle, read_generation

TESTS = Path(__file__).parent.parent
ENDED = {"deployed", "failed", "denied"}
# More than any of these takes; without an end a test would never end.
STEPS_LIMIT = 400


class Doomed:
    """A hive whose daemon dies at a step of choice, with the agent `alice` and a manager whom the test plays."""

    def __init__(self, folder: Path) -> None:
        self.steps_file = folder / "steps"
        self.crash_at = 0
        # The kinds of the steps that it died at.
        self.deaths: list[str] = []
        self.hive = HiveProcess(folder / "data", KEEP_ROOT)
        self.proposer = Proposer(self.hive, folder / "copies")
        # The command's own client leaves no socket open when the daemon dies in the middle of an answer.
        self.client = Client(Roots(self.hive.data, self.hive.run))

    def start(self, crash_at: int) -> None:
        self.steps_file.unlink(missing_ok=True)
        self.crash_at = crash_at
        # Any free one: what was given up a moment ago may be somebody else's now.
        self.hive.port = 0
        self.hive.program = (str(TESTS / "crashing_daemon.py"), str(self.steps_file), str(crash_at))
        self.hive.start()
        self.proposer.connect()

    def do_and_die(self, act: Callable[[], object], approval: int, agent: str = "alice") -> bool:
        """Does `act` while steps are counted. Whether the daemon died of it before all was done."""
        self.steps_file.touch()
        with contextlib.suppress(UnavailableError, NoHiveError):
            act()
        assert self.hive.process is not None
        process = self.hive.process
        wait_for(lambda: process.poll() is not None or self.is_done(approval, agent), "the daemon's end, or the act's")
        # What it does from now on is no step of this any more.
        taken = self.steps_file.rename(self.steps_file.with_suffix(".taken"))
        kinds = read_kinds(taken)
        # It may have come to its last step in this moment, after all was done.
        died = len(kinds) == self.crash_at or process.poll() is not None
        if died:
            wait_for(lambda: process.poll() is not None, "its end")
            self.deaths.append(kinds[-1])
        return died

    def is_done(self, approval: int, agent: str) -> bool:
        """Whether an approval has ended, and all that follows from its end was done."""
        # A revert that was not begun is not there yet.
        with contextlib.suppress(UnavailableError, NoHiveError, NotFoundError):
            status = self.client.get(f"/api/approvals/{approval}")["status"]
            return status in ENDED and status in self.tags(agent, approval) and self.is_quiet(agent)
        return False

    def is_quiet(self, agent: str) -> bool:
        """Whether what is deployed is main, and nothing is built or staged but that."""
        rows = {row["name"]: row for row in self.client.get_rows("/api/agents")}
        builds = [build.name for build in (self.hive.data / "versions" / agent).iterdir()]
        staged = list((self.hive.data / "staging").iterdir())
        return agent in rows and builds == [rows[agent]["commit"]] == [self.main(agent)] and not staged

    def has_agent(self, name: str) -> bool:
        return any(row["name"] == name for row in self.client.get_rows("/api/agents"))

    def approve(self, approval: int) -> None:
        self.client.post(f"/api/approvals/{approval}/approve")

    def repository(self, agent: str) -> Path:
        return self.hive.data / "applied" / agent

    def main(self, agent: str) -> str:
        return git(self.repository(agent), "rev-parse", "refs/heads/main").decode().strip()

    def tags(self, agent: str, approval: int) -> set[str]:
        names = git(self.repository(agent), "tag", "-l", f"*/{approval}").decode().split()
        return {name.partition("/")[0] for name in names}

    def told(self) -> list[dict[str, Any]]:
        """What the manager was told by the system."""
        messages = self.hive.get("/api/messages?agent=manager&limit=500")
        return [json.loads(message["body"]) for message in messages if message["sender"] == "system"]

    def container(self, agent: str) -> dict[str, Any]:
        return json.loads((self.hive.run / "containers" / agent / "container.json").read_text())


@pytest.fixture
def doomed() -> Iterator[Doomed]:
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        doomed = Doomed(Path(folder))
        doomed.hive.start()
        try:
            doomed.hive.wait_state("manager", "idle")
            doomed.proposer.generation = read_generation(doomed.hive)
            doomed.hive.post("/api/agents", {"name": "alice"})
            doomed.hive.wait_state("alice", "idle")
            doomed.hive.post("/api/agents/manager/stop")
            doomed.hive.wait_state("manager", "stopped")
            doomed.hive.stop()
            yield doomed
        finally:
            doomed.proposer.close()
            doomed.hive.program = ("-m", "hyperhive.host.main")
            end_hive(doomed.hive)


def check_kept(doomed: Doomed, agent: str) -> None:
    """What holds whenever nothing is at work: what runs is what is deployed is main, and nothing else is left."""
    doomed.hive.wait_state(agent, "idle")
    wait_for(lambda: doomed.is_quiet(agent), "main to follow, and nothing to be left", hive=doomed.hive)
    git(doomed.repository(agent), "fsck", "--strict")


def crash_at_each_step(doomed: Doomed, stride: int, run: Callable[[int], bool]) -> int:
    """Calls `run` with each step to die at, until it was survived to the end. Returns how many steps there were."""
    for crash_at in range(1, STEPS_LIMIT, stride):
        doomed.start(crash_at)
        if not run(crash_at):
            doomed.hive.stop()
            deaths, doomed.deaths = doomed.deaths, []
            # If not, a door is not watched, and what was survived is less than it seems.
            assert set(deaths) == {PROGRAM, COMMIT}
            return crash_at
    raise AssertionError(f"it takes more than {STEPS_LIMIT} steps")


@pytest.mark.slow
def test_an_apply_is_carried_out_once_whatever_step_the_daemon_dies_at(doomed: Doomed) -> None:
    def run(crash_at: int) -> bool:
        mark = uuid.uuid4().hex
        files = {"agent.toml": f'environment = {{ MARK = "{mark}" }}\n', "data.txt": mark}
        approval, commit = doomed.proposer.propose("alice", files)
        died = doomed.do_and_die(lambda: doomed.approve(approval), approval)
        if died:
            doomed.start(0)
            if doomed.hive.get(f"/api/approvals/{approval}")["status"] == "pending":
                # It died before that was durable, and nothing of it happened.
                assert doomed.container("alice")["environment"].get("MARK") != mark
                doomed.approve(approval)
            wait_for(
                lambda: doomed.hive.get(f"/api/approvals/{approval}")["status"] in ENDED, "its end", hive=doomed.hive
            )
        where = f"killed at step {crash_at}: {doomed.hive.log[-3000:]}"
        row = doomed.hive.get(f"/api/approvals/{approval}")
        assert (row["status"], row["reason"]) == ("deployed", None), where
        check_kept(doomed, "alice")
        assert doomed.main("alice") == commit, where
        assert doomed.container("alice")["environment"]["MARK"] == mark, where
        wait_for(
            lambda: doomed.tags("alice", approval) == {"proposal", "approved", "building", "deployed"},
            f"its tags, {where}",
        )
        told = [event for event in doomed.told() if event.get("approval") == approval]
        assert [event["status"] for event in told] == ["deployed"], where
        doomed.hive.stop()
        return died

    steps = crash_at_each_step(doomed, 1, run)
    assert steps > 20


@pytest.mark.slow
def test_a_build_that_fails_fails_once_and_the_old_version_runs_whatever_step_the_daemon_dies_at(
    doomed: Doomed,
) -> None:
    def run(crash_at: int) -> bool:
        before = doomed.main("alice")
        files = {"agent.toml": f'packages = ["no-such-package"]\nenvironment = {{ N = "{crash_at}" }}\n'}
        approval, _ = doomed.proposer.propose("alice", files)
        died = doomed.do_and_die(lambda: doomed.approve(approval), approval)
        if died:
            doomed.start(0)
            if doomed.hive.get(f"/api/approvals/{approval}")["status"] == "pending":
                doomed.approve(approval)
        row = wait_for(
            lambda: (a := doomed.hive.get(f"/api/approvals/{approval}"))["status"] in ENDED and a,
            "its end",
            hive=doomed.hive,
        )
        assert row["status"] == "failed"
        assert "no-such-package" in row["reason"]
        check_kept(doomed, "alice")
        assert doomed.main("alice") == before
        assert "no-such-package" in doomed.hive.agent("alice")["config_error"]
        wait_for(lambda: "failed" in doomed.tags("alice", approval), "its tag")
        assert "deployed" not in doomed.tags("alice", approval)
        told = [event for event in doomed.told() if event.get("approval") == approval]
        assert [event["status"] for event in told] == ["failed"]
        doomed.hive.stop()
        return died

    assert crash_at_each_step(doomed, 1, run) > 10


@pytest.mark.slow
def test_a_denial_and_a_revert_happen_once_whatever_step_the_daemon_dies_at(doomed: Doomed) -> None:
    doomed.start(0)
    first, _ = doomed.proposer.propose("alice", {"agent.toml": 'environment = { A = "1" }\n'})
    doomed.hive.post(f"/api/approvals/{first}/approve")
    wait_for(lambda: doomed.hive.get(f"/api/approvals/{first}")["status"] == "deployed", "it", hive=doomed.hive)
    # main follows the database: until it has, a clone is of what was deployed before.
    check_kept(doomed, "alice")
    doomed.hive.stop()

    def deny(crash_at: int) -> bool:
        approval, _ = doomed.proposer.propose("alice", {"agent.toml": f'environment = {{ N = "{crash_at}" }}\n'})
        act = lambda: doomed.client.post(f"/api/approvals/{approval}/deny", {"reason": "not so"})  # noqa: E731
        died = doomed.do_and_die(act, approval)
        if died:
            doomed.start(0)
            if doomed.hive.get(f"/api/approvals/{approval}")["status"] == "pending":
                act()
        assert doomed.hive.get(f"/api/approvals/{approval}")["status"] == "denied"
        wait_for(lambda: doomed.tags("alice", approval) == {"proposal", "denied"}, "its tags")
        assert "not so" in git(doomed.repository("alice"), "tag", "-n9", "-l", f"denied/{approval}").decode()
        assert [e["status"] for e in doomed.told() if e.get("approval") == approval] == ["denied"]
        check_kept(doomed, "alice")
        doomed.hive.stop()
        return died

    def revert(_: int) -> bool:
        newest = doomed.hive.get("/api/approvals")[0]["id"]
        target = 0 if "A" in doomed.container("alice")["environment"] else first

        def reverts() -> list[dict[str, Any]]:
            return [a for a in doomed.hive.get("/api/approvals") if a["kind"] == "revert" and a["id"] > newest]

        act = lambda: doomed.client.post("/api/agent-config/alice/revert", {"to": target})  # noqa: E731
        died = doomed.do_and_die(act, newest + 1)
        if died:
            doomed.start(0)
            if not reverts():
                act()
        row = wait_for(lambda: (r := reverts()) and r[0]["status"] in ENDED and r[0], "its end", hive=doomed.hive)
        assert (row["status"], len(reverts())) == ("deployed", 1)
        check_kept(doomed, "alice")
        assert ("A" in doomed.container("alice")["environment"]) == (target == first)
        doomed.hive.stop()
        return died

    assert crash_at_each_step(doomed, 1, deny) > 4
    assert crash_at_each_step(doomed, 2, revert) > 10


@pytest.mark.slow
def test_a_two_step_spawn_is_carried_out_once_whatever_step_the_daemon_dies_at(doomed: Doomed) -> None:
    def run(crash_at: int) -> bool:
        name = f"draft-{crash_at}"
        doomed.proposer.request("request_spawn_draft", {"name": name})
        copy = doomed.proposer.clone(name)
        commit = commit_files(copy, {"agent.toml": f'environment = {{ MARK = "{crash_at}" }}\n'})
        tree = (
            git(copy, "mktree", stdin=b"100644 blob " + _blob(copy, b"remember\n") + b"\tnotes.md\n").decode().strip()
        )
        notes = git(copy, "commit-tree", "-m", "notes", tree).decode().strip()
        answer = doomed.proposer.request(
            "request_spawn_commit",
            {
                "name": name,
                "commit": commit,
                "notes": notes,
                "bundle": base64.b64encode(make_bundle(copy, commit, notes)).decode(),
                "idempotency_key": uuid.uuid4().hex,
            },
        )
        approval = answer["approval_id"]
        died = doomed.do_and_die(lambda: doomed.approve(approval), approval, name)
        if died:
            doomed.start(0)
            if doomed.hive.get(f"/api/approvals/{approval}")["status"] == "pending":
                assert not doomed.has_agent(name)
                assert [draft["name"] for draft in doomed.hive.get("/api/drafts")] == [name]
                doomed.approve(approval)
        row = wait_for(
            lambda: (a := doomed.hive.get(f"/api/approvals/{approval}"))["status"] in ENDED and a,
            "its end",
            hive=doomed.hive,
        )
        assert (row["status"], row["reason"]) == ("deployed", None)
        check_kept(doomed, name)
        assert doomed.container(name)["environment"]["MARK"] == str(crash_at)
        assert (doomed.hive.data / "agents" / name / "state" / "notes.md").read_text() == "remember\n"
        assert doomed.hive.get("/api/drafts") == []
        assert [e["event"] for e in doomed.told() if e.get("agent") == name] == ["spawned", "approval_resolved"]
        with doomed.hive.client() as client:
            client.delete(f"/api/agents/{name}?purge=true").raise_for_status()
        doomed.hive.stop()
        return died

    # What waits for the writer at one time is one step.
    assert crash_at_each_step(doomed, 1, run) > 15


def _blob(folder: Path, content: bytes) -> bytes:
    return git(folder, "hash-object", "-w", "--stdin", stdin=content).strip()
