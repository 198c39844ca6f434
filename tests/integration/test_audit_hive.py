"""The audit of a real hive: who did what by which way, over kill -9, and verified with it and without."""

import json
import os
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from cli_process import call
from hive_process import HiveProcess, wait_for
from hyperhive.core.paths import Roots

UID = f"operator uid {os.getuid()}"


def list_rows(hive: HiveProcess, **search: str) -> list[dict[str, Any]]:
    """The oldest first."""
    with hive.client() as client:
        return client.get("/api/audit", params={"limit": 1000, **search}).raise_for_status().json()["entries"][::-1]


def find_row(hive: HiveProcess, name: str, **search: str) -> dict[str, Any]:
    return wait_for(lambda: list_rows(hive, name=name, **search)[-1:], f"a row {name}", 60, hive)[0]


async def verify(data: Path, *args: str) -> tuple[int, dict[str, Any]]:
    done = await call(data, "audit", "verify", "--json", *args)
    return done.status, json.loads(done.stdout)


def ask_desktop(hive: HiveProcess, request: dict[str, Any]) -> dict[str, Any]:
    with closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(str(hive.run / "host.sock"))
        client.sendall(json.dumps(request).encode() + b"\n")
        return json.loads(client.makefile().readline())


def act_with_token(hive: HiveProcess, secret: str) -> None:
    with httpx.Client(base_url=hive.origin, headers={"authorization": f"Bearer {secret}"}, timeout=30) as program:
        program.post("/api/agents/alice/resume").raise_for_status()
        program.post("/api/messages", json={"to": "alice", "body": "hello"}).raise_for_status()
        assert program.get("/api/audit").status_code == 200


def fail_to_get_in(hive: HiveProcess) -> None:
    for _ in range(3):
        assert "refused" in httpx.get(f"{hive.origin}/login?token=wrong").headers["location"]
        assert httpx.get(f"{hive.origin}/api/agents", headers={"authorization": "Bearer x"}).status_code == 401


async def test_each_way_to_act_is_told_apart_and_kill_9_leaves_no_gap(hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    # The command line, by the daemon's own socket.
    assert (await call(hive.data, "spawn", "alice")).status == 0
    spawned = find_row(hive, "agent.spawned", agent="alice")
    assert spawned["actor"] == f"{UID} hive.sock"
    acted = find_row(hive, "operator.acted", grep="/api/agents")
    assert acted["body"] == {"method": "POST", "path": "/api/agents", "program": "hive spawn"}
    assert acted["seq"] < spawned["seq"]

    # A browser, by its session: which login link it came with is known, and no secret.
    with hive.browser_session() as browser:
        browser.post("/api/agents/alice/pause", json={"reason": "look"}).raise_for_status()
        opened = find_row(hive, "session.opened")
        assert find_row(hive, "agent.parked", agent="alice")["actor"] == opened["actor"]
        assert opened["actor"] == f"operator session {opened['body']['session']}"
        cookie = next(iter(browser.cookies.values()))
        assert cookie not in json.dumps(list_rows(hive))
        browser.post("/api/logout").raise_for_status()
    assert find_row(hive, "session.ended")["actor"] == opened["actor"]

    # A program, by its token.
    secret = hive.post("/api/tokens", {"name": "ci", "scopes": ["admin", "send"]})["secret"]
    act_with_token(hive, secret)
    assert find_row(hive, "agent.resumed", agent="alice")["actor"] == "operator token ci"
    assert [row["body"]["path"] for row in list_rows(hive, name="token.acted")] == ["/api/agents/alice/resume"]
    assert secret not in json.dumps(list_rows(hive))

    # A desktop client.
    assert ask_desktop(hive, {"cmd": "stop", "scope": {"agent_names": ["alice"]}})
    wished = find_row(hive, "agent.desired", agent="alice")
    assert wished["body"] == {"by": "operator", "desired": "stopped"}
    assert find_row(hive, "operator.acted", actor=f"{UID} host.sock")["body"]["method"] == "stop"

    # Nobody who was let in.
    fail_to_get_in(hive)
    assert find_row(hive, "login.refused")["actor"] == find_row(hive, "token.refused")["actor"] == "stranger"
    assert len(list_rows(hive, actor="stranger")) == 2

    # What was decided is there, in the words of nobody.
    head = (await call(hive.data, "audit", "head")).stdout.decode().strip()
    hive.kill()
    status, found = await verify(hive.data, "--head", head)
    assert (status, found["sound"]) == (0, True)
    assert found["noted"] == int(head.partition(":")[0])
    hive.start()
    names = [row["name"] for row in list_rows(hive, name="hive.*")]
    assert names == ["hive.started", "hive.started"]
    assert [row["seq"] for row in list_rows(hive)] == list(range(1, len(list_rows(hive)) + 1))


async def test_what_agents_bring_about_is_never_put_down_to_the_operator_who_had_them_started(
    hive: HiveProcess,
) -> None:
    hive.wait_state("manager", "idle")
    hive.post("/api/agents/manager/stop")
    wait_for(lambda: hive.agent("manager")["state"] == "stopped", "the manager's stop", 60, hive)
    hive.post("/api/agents/manager/start")
    hive.wait_state("manager", "idle")
    started = list_rows(hive, name="agent.desired")
    assert [row["body"]["desired"] for row in started] == ["stopped", "running"]
    # The socket of its harness was opened by that act, and what comes through it is its own.
    hive.post("/api/messages", {"to": "manager", "body": "we need a gardener, for the secret garden"})
    requested = find_row(hive, "approval.requested")
    assert requested["actor"] == "agent manager"
    number = requested["body"]["id"]
    hive.post(f"/api/approvals/{number}/approve")
    assert find_row(hive, "approval.approved")["actor"] == f"{UID} hive.sock"
    deployed = find_row(hive, "approval.deployed")
    assert (deployed["actor"], deployed["body"]["id"], deployed["agent"]) == ("hive", number, "gardener")
    assert "secret garden" not in json.dumps(list_rows(hive))


async def test_an_edit_of_the_database_is_found_and_an_export_is_verified_elsewhere(
    hive: HiveProcess, tmp_path: Path
) -> None:
    hive.wait_state("manager", "idle")
    export = tmp_path / "audit.jsonl"
    assert (await call(hive.data, "audit", "export", str(export))).status == 0
    assert (await verify(tmp_path / "none", str(export)))[0] == 0
    shown = await call(hive.data, "audit")
    assert b"hive.started" in shown.stdout
    hive.stop()
    roots = Roots(hive.data, hive.run)
    status, found = await verify(hive.data)
    # The end was noted, and nothing came after it.
    assert (status, found["noted"]) == (0, found["rows"])
    with closing(sqlite3.connect(roots.database, isolation_level=None)) as database:
        database.execute("drop trigger audit_is_not_changed")
        database.execute("update audit set actor = 'operator' where name = 'hive.started'")
        [row] = database.execute("select seq from audit where name = 'hive.started'").fetchone()
    status, found = await verify(hive.data)
    assert (status, found["sound"], found["row"]) == (1, False, row)
    done = await call(hive.data, "audit", "verify")
    assert (done.status, f"row {row}: " in done.stderr.decode()) == (1, True)


async def test_a_restored_hive_goes_on_with_the_chain_and_says_so(hive: HiveProcess, tmp_path: Path) -> None:
    hive.wait_state("manager", "idle")
    backup = tmp_path / "backup.tar.gz"
    assert (await call(hive.data, "backup", str(backup), "--with-credentials")).status == 0
    hive.stop()
    hive.start()
    taken = find_row(hive, "backup.taken")
    assert (taken["actor"], taken["body"]["with_credentials"]) == (f"{UID} files", True)
    hive.down()
    other = HiveProcess(tmp_path / "other")
    assert (await call(other.data, "restore", str(backup))).status == 0
    other.start()
    try:
        restored = find_row(other, "hive.restored")
        assert restored["body"]["file"] == str(backup)
        assert [row["name"] for row in list_rows(other, name="hive.*")][-2:] == ["hive.restored", "hive.started"]
        began = time.monotonic()
        assert (await verify(other.data))[0] == 0
        assert time.monotonic() - began < 30
    finally:
        other.down()
