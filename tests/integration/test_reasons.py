"""Each way in which an agent cannot run, on a real hive: its row says so in a few words, by API and by `hive ps`."""

import contextlib
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from attack_rig import Arena
from cli_process import call
from hive_process import wait_for
from hyperhive.wire.agent_link import PROTOCOL_VERSION
from link_lines import HungUpError, Link
from proposer import commit_files, git

Trouble = Callable[[Arena, str], None]


def deploy_behind(arena: Arena, name: str, text: str | None) -> None:
    """Makes a config the deployed one that no proposal could bring; None: one without its file."""
    copy = arena.manager.clone(name)
    if text is None:
        git(copy, "rm", "-q", "agent.toml")
    commit = commit_files(copy, {} if text is None else {"agent.toml": text})
    git(copy, "push", "-q", "origin", f"{commit}:refs/heads/main")
    set_deployed(arena, name, commit)


def set_deployed(arena: Arena, name: str, commit: str) -> None:
    with contextlib.closing(sqlite3.connect(arena.hive.data / "hive.sqlite")) as database, database:
        database.execute("update agents set deployed_commit = ? where name = ?", (commit, name))


def break_state_folder(arena: Arena, name: str) -> None:
    shutil.rmtree(arena.hive.data / "agents" / name)
    (arena.hive.data / "agents" / name).write_text("a file where a folder should be")


# What is wrong while the daemon is down, and what the row says once it is back.
AT_REST: dict[str, tuple[Trouble, str]] = {
    "syntax": (
        lambda arena, name: deploy_behind(arena, name, 'model = "a"\n\n# fine so far\nwarm_s = = 3\n'),
        "not running: config does not parse, line 4: Invalid value",
    ),
    "the end of the file": (
        lambda arena, name: deploy_behind(arena, name, 'model = "a"\npackages = [\n'),
        "not running: config does not parse, line 3: [A-Z][^()]+",
    ),
    "unknown key": (
        lambda arena, name: deploy_behind(arena, name, "modle = 'a'\n"),
        "not running: config cannot be used: agent.toml: .*modle.*model.*",
    ),
    "no config": (
        lambda arena, name: deploy_behind(arena, name, None),
        "not running: config cannot be used: there is no agent.toml in it .*",
    ),
    "no such commit": (
        lambda arena, name: set_deployed(arena, name, "1" * 40),
        "not running: config cannot be used: there is no commit .*",
    ),
    "no such package": (
        lambda arena, name: deploy_behind(arena, name, "packages = ['no-such-package']\n"),
        "not running: .*no-such-package.*",
    ),
    "no folder": (break_state_folder, "not running: its folders could not be made: .*"),
}


@pytest.fixture
def troubled(arena: Arena) -> Iterator[dict[str, str]]:
    """The hive started again with an agent for each trouble: which agent has which."""
    names = {trouble: arena.spawn() for trouble in AT_REST}
    arena.manager.close()
    assert arena.hive.down() == 0
    for trouble, name in names.items():
        AT_REST[trouble][0](arena, name)
    arena.hive.start()
    try:
        yield names
    finally:
        arena.manager.connect()


async def test_an_agent_that_cannot_be_started_says_why(arena: Arena, troubled: dict[str, str]) -> None:
    for trouble, name in troubled.items():
        row = arena.hive.wait_state(name, "failed", timeout_s=120)
        assert re.fullmatch(AT_REST[trouble][1], row["reason"]), (trouble, row["reason"])
        # Nothing runs that could be out of date.
        assert row["needs_update"] == ""
    listed = await call(arena.hive.data, "ps")
    for name in troubled.values():
        [line] = [line for line in listed.stdout.decode().splitlines() if line.startswith(f"{name} ")]
        assert "failed" in line
        assert "not running: " in line


def park(arena: Arena, name: str, kind: str, until: str = "") -> None:
    """Says what the harness of an agent would. That one comes back at once, and may be before us."""
    wait_for(lambda: has_parked(arena, name, kind, until), "the park to be taken", 60, arena.hive)


def has_parked(arena: Arena, name: str, kind: str, until: str) -> bool:
    with Link(arena.hive, name) as link:
        # The daemon may tell the harness of it before it answers; and the harness may take our place at any time.
        try:
            hello = link.call("hello", protocol=PROTOCOL_VERSION, generation=arena.generation(name), holding=[])
            assert "result" in hello
            assert "error" not in link.call("park", kind=kind, until=until, reason="as the service says")
        except (HungUpError, ConnectionError):
            return False
    return True


def test_an_agent_that_runs_no_turns_says_why_and_until_when(arena: Arena) -> None:
    hive = arena.hive
    in_two_hours = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    names = {kind: arena.spawn() for kind in ("limit", "login", "failing", "paused", "hive")}
    for kind in ("limit", "login", "failing"):
        park(arena, names[kind], kind, in_two_hours if kind == "limit" else "")
    hive.post(f"/api/agents/{names['paused']}/pause", {"reason": "lunch"})
    expected = {
        "limit": r"until ([\d-]+ )?\d\d:\d\d UTC: usage limit \(as the service says\)",
        "login": r"login needed \(as the service says\)",
        "failing": r"keeps failing \(as the service says\)",
        "paused": r"paused \(lunch\)",
    }
    for kind, pattern in expected.items():
        row = hive.wait_state(names[kind], "parked", "needs_login")
        assert re.fullmatch(pattern, row["reason"]), (kind, row["reason"])
        assert row["state"] == ("needs_login" if kind == "login" else "parked")
    hive.post("/api/pause", {"reason": "the night"})
    try:
        row = hive.wait_state(names["hive"], "parked")
        assert row["reason"] == "the whole hive: paused (the night)"
    finally:
        hive.post("/api/resume")
    wait_for(lambda: hive.agent(names["hive"])["reason"] == "", "no reason once it goes on", 60, hive)
