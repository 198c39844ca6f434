"""Notes in a running hive: what a harness says of them, what the operator sees, and what is written by whom."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attack_rig import Arena
from cli_process import call
from hive_process import HiveProcess
from link_lines import Link

LONG = "# work\n- [ ] call bob\n" + "- [x] done\n" * 20
SHORT = "# work\n- [ ] call bob\n" + "- [x] done\n" * 5
TINY = "all is done\n"


class Agent:
    """A stopped agent, for which the test speaks on its link."""

    def __init__(self, arena: Arena) -> None:
        self.hive: HiveProcess = arena.hive
        self.name = arena.spawn()
        self.generation = arena.stop(self.name)
        self.state = self.hive.data / "agents" / self.name / "state"

    @property
    def file(self) -> Path:
        return self.state / "notes.md"

    def write(self, text: str) -> None:
        self.file.write_text(text)
        owner = self.state.stat()
        os.chown(self.file, owner.st_uid, owner.st_gid)

    def connect(self) -> Link:
        link = Link(self.hive, self.name)
        assert "result" in link.call("hello", protocol=1, generation=self.generation, holding=[])
        return link

    def rewrite(self, before: str, after: str) -> Any:
        with self.connect() as link:
            return link.call("notes.compacted", before=before, after=after)

    def versions(self) -> list[dict[str, Any]]:
        return self.hive.get(f"/api/notes/{self.name}")

    def find_question(self) -> dict[str, Any]:
        rows = self.hive.get("/api/questions?status=open")
        return next(row for row in rows if row["agent"] == self.name)


@pytest.fixture
def agent(arena: Arena) -> Iterator[Agent]:
    yield Agent(arena)


def test_a_rewrite_is_in_the_list_with_its_diff_and_can_be_taken_back(agent: Agent) -> None:
    assert agent.rewrite(LONG, SHORT)["result"] == {"decision": "apply"}
    agent.write(SHORT)
    newest, kept = agent.versions()
    assert (newest["kind"], newest["size_before"], newest["size_after"]) == ("compacted", len(LONG), len(SHORT))
    diff = agent.hive.get(f"/api/notes/{agent.name}/{newest['commit']}")
    assert diff["version"] == newest
    assert (diff["files"][0]["path"], diff["files"][0]["removed"]) == ("notes.md", 15)
    restored = agent.hive.post(f"/api/notes/{agent.name}/restore", {"commit": kept["commit"]})
    assert agent.file.read_text() == LONG
    assert agent.file.stat().st_uid == agent.state.stat().st_uid
    assert agent.versions()[0] == restored


def test_nothing_is_written_before_the_operator_has_answered(agent: Agent) -> None:
    agent.write(LONG)
    assert agent.rewrite(LONG, TINY)["result"] == {"decision": "asked"}
    question = agent.find_question()
    assert (question["kind"], question["options"]) == ("notes", ["apply", "keep the old"])
    assert agent.file.read_text() == LONG
    agent.hive.post(f"/api/questions/{question['id']}/answer", {"options": ["apply"]})
    assert agent.file.read_text() == TINY


def test_the_question_is_still_there_for_the_next_daemon(agent: Agent) -> None:
    agent.write(LONG)
    agent.rewrite(LONG, TINY)
    agent.hive.kill()
    agent.hive.start()
    agent.hive.post(f"/api/questions/{agent.find_question()['id']}/answer", {"options": ["apply"]})
    assert agent.file.read_text() == TINY
    assert [version["kind"] for version in agent.versions()] == ["compacted", "kept", "asked", "kept"]


def test_notes_that_changed_since_are_left_alone_and_the_operator_hears_of_it(agent: Agent) -> None:
    agent.rewrite(LONG, TINY)
    agent.write("by the agent")
    with agent.hive.client() as client:
        path = f"/api/questions/{agent.find_question()['id']}/answer"
        response = client.post(path, json={"options": ["apply"]})
    assert response.status_code == 409
    assert "nothing was written" in response.json()["message"]
    assert agent.file.read_text() == "by the agent"


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"before": LONG},
        {"before": LONG, "after": 1},
        {"before": None, "after": SHORT},
        {"before": LONG, "after": SHORT, "agent": "manager"},
    ],
)
def test_what_is_no_rewrite_is_refused(agent: Agent, params: dict[str, Any]) -> None:
    with agent.connect() as link:
        assert link.call("notes.compacted", **params)["error"]["data"]["code"] == "invalid_input"
    assert agent.versions() == []


def test_half_of_a_surrogate_pair_does_not_break_the_daemon(agent: Agent) -> None:
    with agent.connect() as link:
        line = {"jsonrpc": "2.0", "id": 1, "method": "notes.compacted", "params": {"before": "\ud800x", "after": "x"}}
        link.send(json.dumps(line).encode() + b"\n")
        answer = link.answer()
    # What is no text is no JSON to the daemon.
    assert answer["error"]["code"] == -32700


def test_a_harness_that_says_nothing_useful_to_a_restore_has_written_nothing(agent: Agent) -> None:
    agent.rewrite(LONG, SHORT)
    agent.write("now")
    commit = agent.versions()[-1]["commit"]
    with agent.connect() as link:
        # It answers {} to whatever it is asked: not that it has written.
        answering = threading.Thread(target=link.take_request)
        answering.start()
        with agent.hive.client() as client:
            response = client.post(f"/api/notes/{agent.name}/restore", json={"commit": commit})
        answering.join()
    assert response.status_code == 200
    assert agent.file.read_text() == LONG


def test_bad_commits_are_refused_everywhere(agent: Agent) -> None:
    agent.rewrite(LONG, SHORT)
    with agent.hive.client() as client:
        for commit, status in (("main", 400), ("A" * 40, 400), ("f" * 40, 404), ("f" * 65, 400), ("--all", 400)):
            assert client.get(f"/api/notes/{agent.name}/{commit}").status_code == status, commit
            body = {"commit": commit}
            assert client.post(f"/api/notes/{agent.name}/restore", json=body).status_code == status, commit
        assert client.get("/api/notes/nobody").status_code == 404
        assert client.get(f"/api/notes/{agent.name}?limit=0").status_code == 400


async def test_the_command_lists_shows_and_restores(agent: Agent) -> None:
    agent.rewrite(LONG, SHORT)
    agent.write(SHORT)
    listed = await call(agent.hive.data, "notes", agent.name)
    assert listed.status == 0, listed.stderr
    first, second = (line.split()[0] for line in listed.stdout.decode().splitlines()[1:3])
    shown = await call(agent.hive.data, "notes", agent.name, "--show", first)
    assert shown.stdout.count(b"- - [x] done") == 15, shown
    restored = await call(agent.hive.data, "notes", agent.name, "--restore", second)
    assert restored.status == 0, restored.stderr
    assert agent.file.read_text() == LONG
