"""The daemon may end at any time, in any way: what runs goes on, what was decided is carried out, once."""

import json
import os
import subprocess
import time

import httpx
import pytest

from hive_process import HiveProcess, wait_for
from hyperhive.system.pids import find_process


def init_pid(hive: HiveProcess, container: str) -> int:
    """The first process of a container, as the driver recorded it."""
    return json.loads((hive.run / "containers" / container / "container.json").read_text())["init"]["pid"]


def ask_for(hive: HiveProcess, name: str) -> int:
    """Lets the manager propose an agent; returns the approval's id."""
    hive.post("/api/messages", {"to": "manager", "body": f"we need a {name}"})
    [approval] = wait_for(lambda: hive.get("/api/approvals?status=pending"), "an approval", hive=hive)
    assert approval["agent"] == name
    return approval["id"]


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.1, 0.3])
def test_what_was_approved_is_carried_out_once_though_the_daemon_was_killed(hive: HiveProcess, delay_s: float) -> None:
    hive.wait_state("manager", "idle")
    approval = ask_for(hive, "researcher")
    hive.post(f"/api/approvals/{approval}/approve")
    # Not a wait for anything: the moment of the crash is what is varied.
    time.sleep(delay_s)
    hive.kill()
    hive.start()
    hive.wait_inbox("hello, i am researcher")
    assert [a["status"] for a in hive.get("/api/approvals")] == ["deployed"]
    told = [json.loads(m["body"])["event"] for m in hive.get("/api/messages?limit=500") if m["sender"] == "system"]
    assert sorted(told) == ["approval_resolved", "spawned"]
    with hive.client() as client:
        again = client.post(f"/api/approvals/{approval}/approve")
    assert (again.status_code, again.json()["code"]) == (409, "conflict")


def test_sigterm_leaves_the_agents_running_and_the_next_daemon_adopts_them(hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    before = init_pid(hive, "hm1nd")
    assert hive.stop() == 0
    assert not (hive.run / "hive.sock").exists()
    assert find_process(before) is not None
    hive.start()
    hive.wait_state("manager", "idle")
    assert init_pid(hive, "hm1nd") == before
    hive.post("/api/messages", {"to": "manager", "body": "who is here"})
    assert hive.wait_inbox("")["sender"] == "manager"


def test_down_stops_agents_and_daemon_and_the_next_start_brings_them_back(hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    before = init_pid(hive, "hm1nd")
    assert hive.down() == 0
    assert find_process(before) is None
    hive.start()
    hive.wait_state("manager", "idle")


def test_an_agent_that_was_stopped_stays_stopped_over_a_restart(hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    hive.post("/api/agents/manager/stop")
    hive.wait_state("manager", "stopped")
    hive.kill()
    hive.start()
    sent = hive.post("/api/messages", {"to": "manager", "body": "%% say later"})["id"]
    assert hive.wait_state("manager", "stopped")["waiting"] == 1
    hive.post("/api/agents/manager/start")
    wait_for(lambda: hive.get("/api/messages")[0]["state"] == "acked", f"message {sent} to be acked", hive=hive)


def test_a_container_that_dies_is_told_as_a_crash_and_started_again(hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    hive.post("/api/agents", {"name": "alice"})
    hive.wait_state("alice", "idle")
    before = init_pid(hive, "alice")
    os.kill(before, 9)
    told = wait_for(
        lambda: [m for m in hive.get("/api/messages") if "container_crash" in m["body"]], "the crash", hive=hive
    )
    assert json.loads(told[0]["body"])["agent"] == "alice"
    hive.wait_state("alice", "idle")
    assert init_pid(hive, "alice") != before


def test_a_destroyed_agent_leaves_its_state_until_it_is_purged(hive: HiveProcess) -> None:
    hive.post("/api/agents", {"name": "alice"})
    hive.wait_state("alice", "idle")
    state = hive.data / "agents" / "alice" / "state"
    hive.post("/api/agents/alice/stop")
    hive.wait_state("alice", "stopped")
    for_the_first = hive.post("/api/messages", {"to": "alice", "body": "for you alone"})
    with hive.client() as client:
        assert client.delete("/api/agents/alice").status_code == 204
        assert [row["name"] for row in hive.get("/api/agents")] == ["manager"]
        assert [row["name"] for row in hive.get("/api/kept")] == ["alice"]
        assert (state / "hyperhive-events.sqlite").exists()
        again = client.post("/api/agents", json={"name": "alice"})
        assert again.status_code == 409
        assert "purge" in again.json()["hint"]
        assert client.delete("/api/kept/alice").status_code == 204
        assert not state.parent.exists()
        assert client.post("/api/agents", json={"name": "alice"}).status_code == 201
        # What was written to the one is not delivered to the other of the same name.
        assert hive.wait_state("alice", "idle")["waiting"] == 0
        old = next(m for m in hive.get("/api/messages") if m["id"] == for_the_first["id"])
        assert (old["state"], old["note"]) == ("dead", "alice was purged")
        assert client.delete("/api/agents/manager").status_code == 403


def test_a_model_request_in_flight_is_repeated_by_claude_when_the_daemon_comes_back(hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    body = '%% sleep 4\n%% tool send {"to": "operator", "body": "survived"}\n%% say ok'
    sent = hive.post("/api/messages", {"to": "manager", "body": body})["id"]
    hive.wait_state("manager", "thinking")
    hive.kill()
    hive.start()
    hive.wait_inbox("survived", timeout_s=90)
    hive.wait_state("manager", "idle")
    message = next(m for m in hive.get("/api/messages") if m["id"] == sent)
    assert (message["state"], message["deliveries"]) == ("acked", 1)


def test_another_user_of_the_machine_cannot_use_the_daemons_socket(hive: HiveProcess) -> None:
    # Even with the folders and the file open to all, who asks is decided by the kernel's word.
    for path in (hive.data.parent, hive.data, hive.run):
        path.chmod(0o755)
    (hive.run / "hive.sock").chmod(0o666)
    script = (
        "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n"
        "try:\n  s.sendall(b'GET /api/agents HTTP/1.1\\r\\nhost: hive\\r\\n\\r\\n')\n  print(s.recv(100))\n"
        "except (BrokenPipeError, ConnectionResetError):\n  print(b'')\n"
    )
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", script]
    answer = subprocess.run([*other, str(hive.run / "hive.sock")], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "b''"
    assert hive.get("/api/hive")["rehearsal"] is True


def test_the_event_stream_resumes_without_a_gap(hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")

    def events(last_id: str | None, until: str) -> tuple[list[str], str]:
        """The data lines of a stream up to one that contains `until`, and the last id seen."""
        headers = {"last-event-id": last_id} if last_id else {}
        seen: list[str] = []
        with hive.client() as client, client.stream("GET", "/api/stream?agent=manager", headers=headers) as stream:
            newest = ""
            for line in stream.iter_lines():
                if line.startswith("id: "):
                    newest = line.removeprefix("id: ")
                if line == ": welcome" and until == "":
                    return seen, newest
                if line.startswith("data: "):
                    seen.append(line.removeprefix("data: "))
                    if until and until in line:
                        return seen, newest
        raise AssertionError("the stream ended")

    _, start = events(None, "")
    hive.post("/api/agents/manager/pause", {"reason": "for a moment"})
    hive.post("/api/agents/manager/resume")
    hive.post("/api/messages", {"to": "manager", "body": "%% say first answer"})
    first, middle = events(start, '"outcome":"ok"')
    hive.kill()
    hive.start()
    hive.wait_state("manager", "idle")
    hive.post("/api/agents/manager/pause", {"reason": "again"})
    hive.post("/api/agents/manager/resume")
    hive.post("/api/messages", {"to": "manager", "body": "%% say second answer"})
    second, _ = events(middle, '"outcome":"ok"')
    both = [json.loads(line) for line in first + second]
    # What happens to messages has no number: who reconnects asks for the messages.
    ids = [event["id"] for event in both if event.get("id") is not None]
    seqs = [event["seq"] for event in both if "seq" in event]
    assert ids == list(range(ids[0], ids[-1] + 1)) and len(ids) == 4
    assert seqs == list(range(seqs[0], seqs[-1] + 1))
    sent = [message["body"] for message in hive.get("/api/messages") if message["sender"] == "operator"]
    assert sent == ["%% say second answer", "%% say first answer"]


def test_a_stream_that_missed_too_much_is_told_to_fetch_anew(hive: HiveProcess) -> None:
    for path in ("last-event-id: nonsense", "last-event-id: 1", "last-event-id: -1:0"):
        name, _, value = path.partition(": ")
        with hive.client() as client:
            assert client.get("/api/stream", headers={name: value}).status_code == 400
    with httpx.Client(base_url=hive.origin) as client:
        assert client.get("/api/stream").status_code == 401
