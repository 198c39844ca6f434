"""The daemon that dies at a step of choice sees what it is to die at, whether or not its modules were there before."""

import subprocess
import sys
from pathlib import Path

from doors import COMMIT, PROGRAM, read_kinds, render_step

TESTS = Path(__file__).parent.parent
# What the daemon does, as far as it concerns doors: git is run by a module that took the function for itself.
LOOK = """
import asyncio, sys
from pathlib import Path
{before}
sys.argv = ["crashing_daemon.py", sys.argv[1], "0"]
import crashing_daemon
from hyperhive.system import git
asyncio.run(git.run(["true", "of", "git"], timeout_s=20))
"""


def look(steps_file: Path, before: str) -> list[str]:
    steps_file.touch()
    argv = [sys.executable, "-c", LOOK.format(before=before), str(steps_file)]
    subprocess.run(argv, check=True, cwd=TESTS, timeout=60)
    return steps_file.read_text().splitlines()


def test_programs_are_seen_where_modules_had_taken_the_function_before(tmp_path: Path) -> None:
    assert look(tmp_path / "steps", "from hyperhive.system import git") == ["1 program true of git"]


def test_programs_are_seen_where_modules_take_the_function_later(tmp_path: Path) -> None:
    assert look(tmp_path / "steps", "") == ["1 program true of git"]


def test_the_kinds_of_steps_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "steps"
    file.write_text(render_step(1, PROGRAM, "git a  b") + render_step(2, COMMIT, "before"))
    assert read_kinds(file) == [PROGRAM, COMMIT]
