"""Snapshots on a real hive: the real claude goes on with the conversation that it had, whatever came in between."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli_process import call
from hive_process import HiveProcess, end_hive, wait_for

OWN = {"ANTHROPIC_API_KEY": "sk-ant-api03-canary-of-the-snapshot-test", "CLAUDE_CODE_OAUTH_TOKEN": ""}


@dataclass
class Swarm:
    hive: HiveProcess
    upstream: str
    spawned: list[str] = field(default_factory=list[str])

    def spawn(self, name: str) -> str:
        self.hive.post("/api/agents", {"name": name})
        self.hive.wait_state(name, "idle")
        return name

    def send(self, agent: str, text: str) -> int:
        return self.hive.post("/api/messages", {"to": agent, "body": text})["id"]

    def tell(self, agent: str, text: str) -> int:
        """Sends a message and waits until its turn has ended."""
        number = self.send(agent, text)
        self.wait_settled([number])
        return number

    def message(self, number: int) -> dict[str, Any]:
        return self.hive.get(f"/api/messages/{number}")

    def wait_settled(self, numbers: list[int]) -> None:
        wait_for(
            lambda: all(self.message(number)["state"] == "acked" for number in numbers),
            f"messages {numbers} to be handled",
            180,
            self.hive,
        )

    def earlier(self, text: str) -> list[str]:
        """What the model was told of the conversation before the turn that had `text`."""
        requests = httpx.get(f"{self.upstream}/_requests").json()["requests"]
        return [request["earlier_texts"] for request in requests if text in request["user_text"]][-1]

    def take(self, agent: str, **fields: Any) -> dict[str, Any]:
        return self.post("/api/snapshots", {"agent": agent, **fields})

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        with self.hive.client() as client:
            response = client.post(path, json=body or {}, timeout=180)
            assert response.is_success, f"{response.text}\n{self.hive.log[-6000:]}"
            return response.json()

    def destroy(self, agent: str, *, purge: bool = False) -> None:
        with self.hive.client() as client:
            client.delete(f"/api/agents/{agent}", params={"purge": purge}, timeout=60).raise_for_status()

    def log_in(self, agent: str, content: str) -> Path:
        folder = self.hive.data / "agents" / agent / "claude"
        login = folder / ".credentials.json"
        login.write_text(content)
        # Only what is the agent's own counts as its login.
        os.chown(login, folder.stat().st_uid, -1)
        return login

    def state(self, agent: str) -> Path:
        return self.hive.data / "agents" / agent / "state"


@pytest.fixture(scope="module")
def swarm() -> Iterator[Swarm]:
    command = [sys.executable, "-m", "hyperhive.testing.messages_api", "--port", "0"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
        tempfile.TemporaryDirectory(prefix="hive-") as folder,
    ):
        assert process.stdout is not None
        upstream = process.stdout.readline().removeprefix("listening: ").strip()
        hive = HiveProcess(Path(folder) / "data", ("--upstream", upstream), OWN).start()
        try:
            hive.wait_state("manager", "idle")
            # What it is told of others would only cost time.
            hive.post("/api/agents/manager/stop")
            yield Swarm(hive, upstream)
        finally:
            end_hive(hive)
            process.terminate()


@contextmanager
def load(swarm: Swarm, agent: str) -> Generator[list[int]]:
    """Messages keep coming for the agent; the value has their numbers."""
    sent: list[int] = []
    stop = threading.Event()

    def keep_sending() -> None:
        while not stop.wait(0.1):
            sent.append(swarm.send(agent, f"%% say load {len(sent)}"))

    sender = threading.Thread(target=keep_sending)
    sender.start()
    try:
        wait_for(lambda: len(sent) > 3, "some to be sent")
        yield sent
    finally:
        stop.set()
        sender.join()


def test_an_agent_under_load_is_restored_after_its_destruction_and_goes_on_with_the_conversation(swarm: Swarm) -> None:
    hive, agent = swarm.hive, swarm.spawn("alice")
    swarm.tell(agent, "%% say the password is swordfish")
    before = swarm.state(agent) / "before"
    before.write_text("kept\n")
    with load(swarm, agent) as sent:
        began_s = time.monotonic()
        taken = swarm.take(agent, note="under load")
        print(f"taken in {time.monotonic() - began_s:.2f} s")
        done = len(sent)
        wait_for(lambda: len(sent) > done + 3, "more to be sent")
    swarm.wait_settled(sent)
    # None was lost, and none came twice.
    assert {swarm.message(number)["deliveries"] for number in sent} == {1}
    assert (taken["state"], taken["note"], taken["with_credentials"]) == ("ready", "under load", False)
    later = swarm.tell(agent, "%% say the password is changed")
    before.write_text("spoiled\n")
    assert any("swordfish" in text for text in swarm.earlier("the password is changed"))

    swarm.destroy(agent)
    restored = swarm.post(f"/api/snapshots/{taken['id']}/restore")
    assert restored["agent"] == agent
    hive.wait_state(agent, "idle", "thinking")
    swarm.tell(agent, "%% say what was the password?")
    earlier = "\n".join(swarm.earlier("what was the password?"))
    assert "swordfish" in earlier
    assert "the password is changed" not in earlier
    assert before.read_text() == "kept\n"
    # What was handled since then does not come again.
    assert {swarm.message(number)["deliveries"] for number in [*sent, later]} == {1}

    # The restore can be undone.
    swarm.post(f"/api/snapshots/{restored['undo']}/restore")
    swarm.tell(agent, "%% say and now?")
    assert "the password is changed" in "\n".join(swarm.earlier("and now?"))
    assert before.read_text() == "spoiled\n"


def test_a_purged_agent_comes_back_and_may_be_handed_again_what_it_handled_since(swarm: Swarm) -> None:
    agent = swarm.spawn("bob")
    swarm.tell(agent, "%% say remember the milk")
    taken = swarm.take(agent)
    later = swarm.tell(agent, "%% say and the eggs")
    swarm.destroy(agent, purge=True)
    assert not swarm.state(agent).exists()
    restored = swarm.post(f"/api/snapshots/{taken['id']}/restore", {"replay": True})
    assert (restored["undo"], restored["approval"], restored["replayed"]) == (None, None, 1)
    wait_for(lambda: swarm.message(later)["deliveries"] == 2, "it to come again", 120, swarm.hive)
    swarm.wait_settled([later])
    assert "remember the milk" in "\n".join(swarm.earlier("and the eggs"))
    assert 'redelivered="true"' in _last_request(swarm, "and the eggs")


def test_a_fork_goes_on_with_the_conversation_in_one_of_its_own(swarm: Swarm) -> None:
    hive, agent = swarm.hive, swarm.spawn("carol")
    swarm.tell(agent, "%% say we are one")
    taken = swarm.take(agent)
    swarm.post(f"/api/snapshots/{taken['id']}/fork", {"name": "dave"})
    hive.wait_state("dave", "idle", "thinking")
    swarm.tell("dave", "%% say i am dave")
    swarm.tell(agent, "%% say i am carol")
    assert "we are one" in "\n".join(swarm.earlier("i am dave"))
    assert "i am dave" not in "\n".join(swarm.earlier("i am carol"))
    mine, its = (swarm.take(name)["session"] for name in (agent, "dave"))
    assert mine == taken["session"]
    assert its not in ("", mine)
    assert not (swarm.state("dave") / "hyperhive-fork").exists()
    told = [m for m in hive.get("/api/messages?agent=dave&limit=100") if m["sender"] == "system"]
    assert "with the conversation and the /state that carol had" in told[0]["body"]
    with hive.client() as client:
        assert client.post(f"/api/snapshots/{taken['id']}/fork", json={"name": "dave"}).status_code == 409


async def test_a_snapshot_is_carried_to_another_hive_as_a_file(swarm: Swarm, tmp_path: Path) -> None:
    hive, agent = swarm.hive, swarm.spawn("erin")
    swarm.tell(agent, "%% say far away")
    swarm.log_in(agent, '{"secret": "s3cret"}')
    number = swarm.take(agent, with_credentials=True)["id"]
    file = tmp_path / "erin.tar.gz"
    done = await call(hive.data, "snapshot", "export", str(number), str(file))
    assert done.status == 0, done.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    digest = done.stdout.decode().split()[-1]
    refused = await call(hive.data, "snapshot", "import", str(file), "--name", "frank", "--sha256", "0" * 64)
    assert (refused.status, b"another digest" in refused.stderr) == (1, True)
    done = await call(hive.data, "snapshot", "import", str(file), "--name", "frank", "--sha256", digest)
    assert done.status == 0, done.stderr
    row = hive.get("/api/snapshots?agent=frank")[0]
    assert (row["imported"], row["with_credentials"], row["agent"]) == (True, False, "frank")
    done = await call(hive.data, "snapshot", "restore", str(row["id"]), "--yes")
    assert done.status == 0, done.stderr
    hive.wait_state("frank", "idle", "thinking")
    swarm.tell("frank", "%% say where am i?")
    assert "far away" in "\n".join(swarm.earlier("where am i?"))
    assert not (swarm.hive.data / "agents/frank/claude/.credentials.json").exists()
    listed = await call(hive.data, "snapshots", "frank")
    assert b"imported" in listed.stdout
    assert (await call(hive.data, "snapshot", "rm", str(row["id"]), "--yes")).status == 0
    assert hive.get("/api/snapshots?agent=frank") == []


def test_the_end_of_a_running_turn_is_waited_for_and_no_other_begins_meanwhile(swarm: Swarm) -> None:
    hive, agent = swarm.hive, swarm.spawn("grace")
    bash = '{"command": "touch /state/begun; while [ ! -e /state/go ]; do sleep 0.1; done; echo done > /state/result"}'
    first = swarm.send(agent, f"%% tool Bash {bash}\n%% say over")
    wait_for((swarm.state(agent) / "begun").exists, "the turn to be under way", 120, hive)
    with hive.client() as client:
        refused = client.post("/api/snapshots", json={"agent": agent, "wait_s": 0.3})
        assert (refused.status_code, "is in a turn" in refused.json()["message"]) == (409, True)
    assert hive.get(f"/api/snapshots?agent={agent}") == []
    taken: list[dict[str, Any]] = []
    taker = threading.Thread(target=lambda: taken.append(swarm.take(agent, wait_s=120)))
    taker.start()
    wait_for(lambda: hive.get(f"/api/snapshots?agent={agent}"), "it to be begun", 30, hive)
    second = swarm.send(agent, "%% say later")
    (swarm.state(agent) / "go").touch()
    taker.join(120)
    swarm.wait_settled([first, second])
    assert [swarm.message(number)["deliveries"] for number in (first, second)] == [1, 1]
    # The turn had ended, and the message that came meanwhile was of the next one.
    (swarm.state(agent) / "result").unlink()
    login = swarm.log_in(agent, '{"mine": 1}')
    restored = swarm.post(f"/api/snapshots/{taken[0]['id']}/restore")
    assert (swarm.state(agent) / "result").read_text() == "done\n"
    assert login.read_text() == '{"mine": 1}'
    assert (restored["approval"], restored["replayed"]) == (None, 0)
    swarm.tell(agent, "%% say who am i?")
    earlier = "\n".join(swarm.earlier("who am i?"))
    assert "say over" in earlier
    assert "say later" not in earlier


def _last_request(swarm: Swarm, text: str) -> str:
    requests = httpx.get(f"{swarm.upstream}/_requests").json()["requests"]
    return [request["user_text"] for request in requests if text in request["user_text"]][-1]
