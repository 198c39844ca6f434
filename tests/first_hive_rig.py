"""Imports of a first hive by the real command, and what of it is looked at."""

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

from cli_process import call
from first_hive import AGENT_NIX, FirstHive, digest_tree

TOML = {"agent.toml": 'model = "haiku"\n', "prompt.md": "You answer.\n"}


def make_pattern(folder: Path) -> FirstHive:
    """With alice, a manager in the folder of its container's name, and all kinds of rows about alice."""
    first = FirstHive(folder).make()
    first.add_agent("alice")
    first.add_agent("hm1nd", {**TOML, "agent.nix": AGENT_NIX}, bare=True, first=5)
    first.add_rows("alice")
    return first


def copy_first_hive(pattern: FirstHive, folder: Path) -> FirstHive:
    """The same in `folder`, which is not there yet."""
    subprocess.run(["cp", "-a", "--", pattern.folder, folder], check=True)
    return FirstHive(folder, {name: dict(commits) for name, commits in pattern.commits.items()})


async def take_over(folder: Path, first: FirstHive, *flags: str) -> dict[str, Any]:
    """The report of an import into `folder`/data, in which the source was not changed."""
    before = digest_tree(first.folder)
    done = await call(folder / "data", "import-first-hive", str(first.folder), "--json", *flags)
    assert done.ok, done.error_text
    assert digest_tree(first.folder) == before
    report: dict[str, Any] = json.loads(done.stdout)
    return report


async def refuse(folder: Path, source: Path, *flags: str) -> str:
    """Why an import was refused."""
    done = await call(folder / "data", "import-first-hive", str(source), *flags)
    assert done.status == 1, (done.stdout, done.stderr)
    assert not done.stdout
    assert b"hint: " in done.stderr
    return done.error_text


def query(folder: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "data/hive.sqlite")) as database:
        return list(database.execute(statement))


def agents(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {agent["origin"]: agent for agent in report["agents"]}


def reasons(report: dict[str, Any], table: str) -> dict[str, int]:
    return {left["reason"]: left["count"] for left in report[table]["left"]}
