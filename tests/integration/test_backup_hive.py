"""A backup of a hive that works, and the hive that comes out of it."""

import json
import os
import shutil
import sqlite3
import tarfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import pytest

from attack_rig import Arena
from cli_process import call
from hive_process import HiveProcess, end_hive
from link_lines import Link
from proposer import git

LONG = "# work\n" + "- [x] done\n" * 20
SHORT = "# work\n" + "- [x] done\n" * 5
ODD = b"n\xff\n\x1b[2J"


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[HiveProcess]:
    """A hive on a folder that is still to be restored; its containers end with the test."""
    hive = HiveProcess(tmp_path / "copy")
    yield hive
    if hive.process is not None:
        end_hive(hive)


class Sending:
    """Sends to the operator's own view of an agent until it is left; `confirmed` are those that the hive took."""

    def __init__(self, hive: HiveProcess, agent: str) -> None:
        self.confirmed: list[str] = []
        self._hive, self._agent = hive, agent
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        with self._hive.client() as client:
            while not self._ended.wait(0.005):
                body = f"note {len(self.confirmed)}"
                client.post("/api/messages", json={"to": self._agent, "body": body}).raise_for_status()
                self.confirmed.append(body)


class Growing:
    """Makes a file longer all the time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        self._path.write_bytes(b"x" * 100_000)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        with self._path.open("ab", buffering=0) as file:
            while not self._ended.is_set() and file.tell() < 50_000_000:
                file.write(b"x" * 10_000)


def fill_state(state: Path) -> None:
    """What an agent can make there, for its own uid."""
    (state / "plain.txt").write_text("plain\n")
    (state / "passwd").symlink_to("/etc/passwd")
    os.mkfifo(state / "pipe")
    (state / "deep/er").mkdir(parents=True)
    Path(os.fsdecode(os.fsencode(state / "deep/er") + b"/" + ODD)).write_text("odd\n")
    os.link(state / "plain.txt", state / "again.txt")
    (state / "run.sh").write_text("#!/bin/sh\n")
    (state / "run.sh").chmod(0o4755)
    (state.parent / "claude/.credentials.json").write_text('{"claudeAiOauth": {}}')
    owner = state.stat()
    for path in (*state.rglob("*"), state.parent / "claude/.credentials.json"):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def rewrite_notes(hive: HiveProcess, agent: str, generation: int) -> None:
    with Link(hive, agent) as link:
        assert "result" in link.call("hello", protocol=1, generation=generation, holding=[])
        assert link.call("notes.compacted", before=LONG, after=SHORT)["result"] == {"decision": "apply"}


def describe(hive: HiveProcess, agent: str, numbers: Sequence[int]) -> dict[str, Any]:
    """What the operator sees of a hive, but for what a restart changes."""
    return {
        "approvals": [hive.get(f"/api/approvals/{number}") for number in numbers],
        "inbox": [(message["id"], message["body"]) for message in hive.get("/api/inbox")],
        "notes": hive.get(f"/api/notes/{agent}"),
        "config": hive.get(f"/api/agent-config/{agent}"),
        "history": hive.get(f"/api/agent-config/{agent}/history"),
    }


def check_state(state: Path, original: Path) -> None:
    assert (state / "plain.txt").read_text() == "plain\n"
    assert (state / "passwd").readlink() == Path("/etc/passwd")
    assert not os.path.lexists(state / "pipe")
    assert Path(os.fsdecode(os.fsencode(state / "deep/er") + b"/" + ODD)).read_text() == "odd\n"
    assert (state / "again.txt").stat().st_ino == (state / "plain.txt").stat().st_ino
    assert (state / "run.sh").stat().st_mode & 0o7777 == 0o755
    assert not (state.parent / "claude/.credentials.json").exists()
    grown = (state / "growing.log").read_bytes()
    assert len(grown) >= 100_000
    assert set(grown) == {ord("x")}
    for path in (state, state / "plain.txt", state / "passwd", state / "deep"):
        assert path.lstat().st_uid == (original / path.relative_to(state)).lstat().st_uid


def check_stores(data: Path, agents: list[str]) -> None:
    for name in ("hive.sqlite", "telemetry.sqlite"):
        with closing(sqlite3.connect(data / name)) as connection:
            assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    for agent in agents:
        git(data / "applied" / agent, "fsck", "--strict", "--no-dangling")


async def test_a_hive_that_was_backed_up_while_it_worked_goes_on_from_there(
    arena: Arena, copy: HiveProcess, tmp_path: Path
) -> None:
    one, two = arena.spawn(), arena.spawn()
    commit = arena.deploy(one, {"agent.toml": 'model = "claude-haiku-4-5"\n'})
    pending, _ = arena.manager.propose(one, {"prompt.md": "be brief\n"})
    numbers = [pending - 1, pending]
    arena.wait_tagged(numbers)
    rewrite_notes(arena.hive, two, arena.stop(two))
    arena.hive.post("/api/messages", {"to": one, "body": "please\n%% say to the inbox"})
    fill_state(arena.state(two))
    (arena.hive.data / "credential").write_text("sk-ant-secret\n")
    arena.hive.wait_state(one, "idle")
    archive = tmp_path / "backup.tar.gz"

    with Sending(arena.hive, two) as sending, Growing(arena.state(two) / "growing.log"):
        before = describe(arena.hive, one, numbers)
        notes = arena.hive.get(f"/api/notes/{two}")
        early = list(sending.confirmed)
        taken = await call(arena.hive.data, "backup", str(archive), "--json")
    assert taken.status == 0, taken.stderr
    (arena.hive.data / "credential").unlink()
    assert archive.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["backup.tar.gz"]
    told = json.loads(taken.stdout)
    assert {one, two, "manager"} <= set(told["agents"])
    reasons = {row["path"]: row["reason"] for row in told["left_out"]}
    assert reasons[f"agents/{two}/state/pipe"] == "no file, folder or link"
    assert reasons[f"agents/{two}/claude/.credentials.json"].startswith("secrets")
    assert "credential" in reasons

    restored = await call(copy.data, "restore", str(archive))
    assert restored.status == 0, restored.stderr
    assert b"sk-ant-secret" not in b"".join(path.read_bytes() for path in copy.data.iterdir() if path.is_file())
    assert copy.data.stat().st_mode & 0o777 == 0o700
    check_state(copy.data / "agents" / two / "state", arena.state(two))
    check_stores(copy.data, [one, two, "manager"])

    copy.start()
    assert describe(copy, one, numbers) == before
    assert copy.get(f"/api/notes/{two}") == notes
    copy.wait_state(one, "idle")
    copy.wait_state(two, "stopped")
    bodies = {message["body"] for message in copy.get(f"/api/messages?agent={two}&limit=500")}
    assert set(early) <= bodies
    copy.post(f"/api/approvals/{pending}/approve")
    assert git(copy.data / "applied" / one, "rev-parse", f"deployed/{pending - 1}^{{}}").decode().strip() == commit
    copy.post(f"/api/agents/{two}/start")
    copy.wait_state(two, "idle", "busy")


async def test_a_hive_that_is_down_is_backed_up_and_a_running_one_is_never_replaced(tmp_path: Path) -> None:
    hive = HiveProcess(tmp_path / "hive").start()
    try:
        status = hive.get("/api/hive")
        refused = await call(hive.data, "restore", str(tmp_path / "none.tar.gz"))
        assert (refused.status, b"a hive runs on" in refused.stderr) == (1, True)
        hive.kill()
        archive = tmp_path / "backup.tar.gz"
        taken = await call(hive.data, "backup", str(archive), "--with-credentials")
        assert taken.status == 0, taken.stderr
        assert b"hive restore" in taken.stdout.splitlines()[-1]
        refused = await call(hive.data, "restore", str(archive))
        assert (refused.status, b"is not empty" in refused.stderr) == (1, True)
        shutil.copy(hive.data / "vapid.pem", tmp_path / "vapid.pem")
    finally:
        end_hive(hive)
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert "data/vapid.pem" in names
    # What agents keep is in it as it is, their databases' logs, too.
    own = [name for name in names if not name.startswith("data/agents/")]
    assert not [name for name in own if name.endswith((".lock", "-wal", "-shm", ".sock", "search.sqlite"))]
    copy = HiveProcess(tmp_path / "copy")
    copy.data.mkdir()
    restored = await call(copy.data, "restore", str(archive))
    assert restored.status == 0, restored.stderr
    assert (copy.data / "vapid.pem").read_bytes() == (tmp_path / "vapid.pem").read_bytes()
    copy.start()
    try:
        assert copy.get("/api/hive")["version"] == status["version"]
        copy.wait_state("manager", "idle")
    finally:
        end_hive(copy)
