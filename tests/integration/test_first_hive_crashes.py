"""`hive import-first-hive`, killed at any of its steps: nothing is taken, or a rerun completes it."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

from doors import COMMIT, MOVE, PROGRAM, read_kinds
from first_hive import FirstHive, digest_tree, git
from first_hive_rig import query, take_over

TESTS = Path(__file__).parent.parent
# Each step is an import that dies, and one that comes after it.
STRIDE = 11


def run_doomed(folder: Path, first: FirstHive, crash_at: int) -> int:
    command = [sys.executable, str(TESTS / "crashing_import.py"), str(folder / "steps"), str(crash_at)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    (folder / "steps").unlink(missing_ok=True)
    done = subprocess.run(
        [*command, f"--data={folder / 'data'}", str(first.folder)], env=environment, capture_output=True, check=False
    )
    return done.returncode


async def test_killed_at_any_step_nothing_is_taken_or_a_rerun_completes_it(folder: Path) -> None:
    first = FirstHive(folder / "first").make()
    for number, name in enumerate(("alice", "bob")):
        first.add_agent(name, first=1 + 4 * number)
        first.add_rows(name, 1 + 4 * number)
    before = digest_tree(first.folder)
    deaths: set[str] = set()
    outcomes: set[int] = set()
    crash_at = 1
    while (status := run_doomed(folder, first, crash_at)) == -signal.SIGKILL:
        kinds = read_kinds(folder / "steps")
        deaths.add(kinds[-1])
        counts = _count_taken(folder)
        assert counts in ({0}, {2, 6, 8}), f"killed at {crash_at}: {counts}"
        outcomes.add(len(counts))
        report = await take_over(folder, first)
        assert _count_taken(folder) == {2, 6, 8}
        assert any(agent["taken"] for agent in report["agents"]) == (counts == {0})
        _check_whole(folder, first)
        shutil.rmtree(folder / "data")
        # Each step around the moment that decides, and some of the many before it.
        crash_at += 1 if {COMMIT, MOVE} & set(kinds[-2:]) else STRIDE
    assert status == 0
    assert deaths == {COMMIT, MOVE, PROGRAM}
    assert outcomes == {1, 3}
    assert digest_tree(first.folder) == before


def _count_taken(folder: Path) -> set[int]:
    """How many agents, messages, approvals and questions there are."""
    if not (folder / "data/hive.sqlite").exists():
        return {0}
    with contextlib.suppress(sqlite3.OperationalError):
        tables = ("agents", "messages", "approvals", "questions")
        return {query(folder, f"select count(*) from {table}")[0][0] for table in tables}
    # It was killed before there were tables.
    return {0}


def _check_whole(folder: Path, first: FirstHive) -> None:
    data = folder / "data"
    for name in ("alice", "bob"):
        assert git(data / "applied" / name, "rev-parse", "main") == first.commits[name]["main"]
        assert (data / "agents" / name / "state/notes.md").read_text() == f"# {name}\n- [ ] go on\n"
        assert (data / "agents" / name / "claude/projects/past.jsonl").exists()
    assert not list((data / "staging").iterdir())
    assert not list((data / "snapshots").glob("*/*"))
