"""Only the operator approves, and only the manager proposes: agents that try to be either, from outside and inside."""

import json
import uuid
from typing import Any

import httpx

from attack_rig import Arena
from hive_process import wait_for
from hyperhive.wire.jsonrpc import METHOD_NOT_FOUND
from link_lines import Link
from proposer import commit_files


def test_no_request_over_an_agents_sockets_approves(arena: Arena) -> None:
    name = arena.spawn()
    number, _ = arena.manager.propose(name, {"a": "1"})
    http = f"POST /api/approvals/{number}/approve HTTP/1.1\r\nHost: hive\r\nContent-Length: 0\r\n\r\n"
    generation = arena.stop(name)
    with Link(arena.hive, name) as link:
        assert link.call("hello", protocol=1, generation=generation, holding=[])["result"]
        for method in ("approve", "deny", "approvals.approve", "/api/approvals/1/approve", "config.set"):
            assert link.call(method, id=number, approval_id=number)["error"]["code"] == METHOD_NOT_FOUND
        link.send(http.encode())
        assert "error" in link.answer()
    sockets = arena.hive.run / "agents" / name
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(sockets / "model.sock")), base_url="http://hive") as client:
        for path in (f"/api/approvals/{number}/approve", f"/v1/messages/../../api/approvals/{number}/approve"):
            assert client.post(path).status_code == 404
    assert arena.approval(number)["status"] == "pending"


def refusal(headers: dict[str, str]) -> int:
    """What is said to whoever comes from no page of ours, or from one without a session."""
    return 401 if headers else 403


def test_no_request_without_a_session_approves(arena: Arena) -> None:
    name = arena.spawn()
    number, _ = arena.manager.propose(name, {"a": "1"})
    path = f"{arena.hive.origin}/api/approvals/{number}/approve"
    cookie = f"hive_session_{arena.hive.port}"
    for cookies in ({}, {cookie: ""}, {cookie: "x" * 43}, {"session": "x"}):
        for headers in ({}, {"origin": arena.hive.origin}, {"origin": arena.hive.origin, "authorization": "Bearer x"}):
            answer = httpx.post(path, headers=headers, cookies=cookies)
            # A cookie and a token at once are 400: it must never be in doubt who asks.
            assert answer.status_code == (
                400 if cookies.get(cookie) and "authorization" in headers else refusal(headers)
            )
    assert arena.approval(number)["status"] == "pending"


PROBE = """
import http.client, json, os, socket, sys
said = {}
def attempt(name, connect):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=3)
        connection.sock = connect()
        connection.request("POST", "/api/approvals/NUMBER/approve", headers={"origin": "http://127.0.0.1:PORT"})
        said[name] = connection.getresponse().status
    except OSError as error:
        said[name] = type(error).__name__
def unix(path):
    def connect():
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(3)
        made.connect(path)
        return made
    return connect
attempt("tcp", lambda: socket.create_connection(("127.0.0.1", PORT), 3))
for path in ("RUN/hive.sock", "/run/hive/../hive.sock", "/run/hyperhive/hive.sock", "/proc/1/root/RUN/hive.sock"):
    attempt(path, unix(path))
attempt("abstract", unix("\\0hive.sock"))
said["model"] = 0
attempt("model", unix("/run/hive/model.sock"))
said["seen"] = [p for p in ("RUN", "DATA", "DATA/hive.sqlite") if os.path.exists(p)]
open("/state/said.json", "w").write(json.dumps(said))
"""


def test_a_program_in_a_container_reaches_no_operator(arena: Arena) -> None:
    name = arena.spawn()
    number, _ = arena.manager.propose(name, {"a": "1"})
    probe = PROBE.replace("PORT", str(arena.hive.port)).replace("NUMBER", str(number))
    probe = probe.replace("RUN", str(arena.hive.run)).replace("DATA", str(arena.hive.data))
    script = arena.state(name) / "probe.py"
    script.write_text(probe)
    script.chmod(0o644)
    call = json.dumps({"command": "python3 /state/probe.py; echo done"})
    arena.hive.post("/api/messages", {"to": name, "body": f"%% tool Bash {call}\n%% say ok"})
    said_file = arena.state(name) / "said.json"
    wait_for(said_file.exists, "the probe's end", hive=arena.hive)
    said: dict[str, Any] = wait_for(lambda: said_file.read_text() and json.loads(said_file.read_text()), "its words")
    assert said.pop("seen") == []
    # The gateway to the model is all that answers, and it forwards nothing of this.
    assert said.pop("model") == 404
    assert {status for status in said.values() if isinstance(status, int)} == set()
    assert len(said) == 6
    assert arena.approval(number)["status"] == "pending"


def test_only_the_manager_may_call_the_managers_methods(arena: Arena) -> None:
    name, draft = arena.spawn(), arena.draft()
    copy = arena.manager.clone(name)
    commit = commit_files(copy, {"a": "1"})
    before = (arena.hive.get("/api/approvals"), arena.residue(name), arena.hive.get("/api/drafts"))
    proposal = {"commit": commit, "bundle": "", "description": "", "idempotency_key": uuid.uuid4().hex}
    generation = arena.stop(name)
    with Link(arena.hive, name) as link:
        assert link.call("hello", protocol=1, generation=generation, holding=[])["result"]
        calls: list[tuple[str, dict[str, Any]]] = [
            ("request_spawn", {"name": "mallory"}),
            ("request_spawn_draft", {"name": "mallory"}),
            ("request_spawn_commit", {"name": draft, "notes": "", **proposal}),
            ("request_apply_commit", {"agent": name, **proposal}),
            *((method, {"name": "manager"}) for method in ("kill", "start", "restart")),
            ("list_agents", {}),
        ]
        for method, params in calls:
            assert link.call(method, **params)["error"]["data"]["code"] == "refused", method
    assert (arena.hive.get("/api/approvals"), arena.residue(name), arena.hive.get("/api/drafts")) == before
