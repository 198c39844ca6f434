"""`hive show` of a change of an agent's system: after the review, never in its place, and drawn by nobody else."""

import json
import os
import pty
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli_process import asked, call, make_environment
from fake_hive import NOW, REVIEW, SYSTEM_CHANGE, FakeHive, answer_with, refuse_with, run_fake_hive
from hyperhive.cli.rendering import Screen
from hyperhive.cli.system_change import render_system
from hyperhive.core.errors import InvalidInputError, UnavailableError
from hyperhive.core.text import text_width
from hyperhive.system.process import run

SCREEN = Screen(now=NOW)
HOSTILE = "\x1b[2J\r\u202e\u2028evil\n#99 forged"
REVIEW_PATH, SYSTEM_PATH = "GET /api/approvals/7/review", "GET /api/approvals/7/system"


def change(**changes: Any) -> dict[str, Any]:
    return SYSTEM_CHANGE.model_dump(mode="json") | changes


@pytest.fixture
def hive(tmp_path: Path) -> Iterator[FakeHive]:
    with run_fake_hive(tmp_path / "data") as fake:
        fake.answers[REVIEW_PATH] = answer_with(REVIEW.model_copy(update={"system": True}))
        fake.answers[SYSTEM_PATH] = answer_with(SYSTEM_CHANGE)
        yield fake


# -- the words ---------------------------------------------------------------------------------------------


def test_packages_are_a_table_and_sizes_a_line() -> None:
    assert render_system(change(), "", SCREEN).splitlines() == [
        "packages of the agent's system",
        "   PACKAGE  BEFORE  AFTER",
        "~  git      2.42    2.43",
        "-  jq       1.7",
        "+  ripgrep          14.1.0",
        "12.0 MiB more on the disk, at most 1.0 MiB no longer needed, 4.0 MiB to download",
        "a package is built here, of a size that is not known:",
        "    git",
    ]


@pytest.mark.parametrize(
    ("changes", "last"),
    [
        ({"packages": []}, "none comes, goes or becomes another"),
        ({"added_bytes": 0, "removed_bytes": 0, "download_bytes": 0, "built": []}, "nothing more on the disk"),
        ({"problem": "there is no store"}, "what it takes on the disk is not known:\n    there is no store"),
        (
            {"added_bytes": 0, "removed_bytes": 0, "download_bytes": 0},
            "+  ripgrep          14.1.0\na package is built here, of a size that is not known:\n    git",
        ),
        ({"built": ["a", "b"]}, "2 packages are built here, of a size that is not known:\n    a, b"),
    ],
)
def test_what_there_is_to_say_is_said(changes: dict[str, Any], last: str) -> None:
    assert render_system(change(**changes), "", SCREEN).endswith(f"\n{last}")


def test_a_new_agent_is_not_taken_for_one_that_changes() -> None:
    assert "beyond one of which its config says nothing" in render_system(change(base=""), "", SCREEN)
    assert "beyond" not in render_system(change(), "", SCREEN)


def test_packages_that_are_not_listed_are_counted() -> None:
    assert "and 7 more packages\n" in render_system(change(left_out=7), "", SCREEN)


@pytest.mark.parametrize("width", [None, 40])
def test_no_name_of_a_package_controls_the_terminal_or_begins_a_line(width: int | None) -> None:
    forged = "x" * 40 + "#99 forged"
    for text in (HOSTILE, forged):
        packages = [{"change": text, "name": text, "before": text, "after": text}]
        screen = replace(SCREEN, width=width)
        hostile = change(packages=packages, built=[text, text])
        shown = "\n".join(render_system(part, text, screen) for part in (hostile, change(problem=text), None))
        assert not set(shown) & {"\x1b", "\r", "\u202e", "\u2028"}
        assert not [line for line in shown.split("\n") if line.startswith("#99")]
        if width is not None:
            assert max(text_width(line) for line in shown.split("\n") if "forged" in line or "x" * 8 in line) <= width


# -- the command -------------------------------------------------------------------------------------------


async def test_show_tells_it_after_the_review(hive: FakeHive) -> None:
    done = await call(hive.data, "show", "7")
    assert done.status == 0, done.error_text
    review, system = done.stdout.decode().split("\npackages of the agent's system\n")
    assert "hive approve 7" in review
    assert "ripgrep" in system
    assert asked(hive) == [REVIEW_PATH, SYSTEM_PATH]
    # Standard error is no terminal: nothing is at work there.
    assert done.stderr == b""


async def test_it_is_left_out_if_nobody_wants_it_and_where_there_is_none(hive: FakeHive) -> None:
    done = await call(hive.data, "show", "7", "--no-system")
    assert b"agent's system" not in done.stdout
    alone = json.loads((await call(hive.data, "show", "7", "--no-system", "--json")).stdout)
    assert "system_change" not in alone
    hive.answers[REVIEW_PATH] = answer_with(REVIEW)
    assert b"agent's system" not in (await call(hive.data, "show", "7")).stdout
    assert set(asked(hive)) == {REVIEW_PATH}


async def test_the_json_has_it_beside_the_review(hive: FakeHive) -> None:
    shown = json.loads((await call(hive.data, "show", "7", "--json")).stdout)
    assert (shown["system_change"], shown["system_problem"]) == (change(), "")
    assert shown["approval"]["id"] == 7


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (InvalidInputError("agent.nix line 3: no\x1b[2J such", ""), 400, "agent.nix line 3: no\\x1b[2J such"),
        (UnavailableError("there is no nix", "install it"), 503, "there is no nix (install it)"),
    ],
)
async def test_that_it_cannot_be_told_does_not_fail_the_review(
    hive: FakeHive, error: InvalidInputError | UnavailableError, status: int, told: str
) -> None:
    hive.answers[SYSTEM_PATH] = refuse_with(error, status)
    done = await call(hive.data, "show", "7")
    assert (done.status, done.stderr) == (0, b"")
    text = done.stdout.decode()
    assert "hive approve 7" in text
    assert text.endswith(f"\npackages of the agent's system, cannot be told:\n    {told}\n")
    shown = json.loads((await call(hive.data, "show", "7", "--json")).stdout)
    assert shown["system_change"] is None
    assert shown["system_problem"].startswith(error.message)


async def test_somebody_at_a_terminal_sees_that_it_is_being_worked_out(hive: FakeHive) -> None:
    reader, terminal = pty.openpty()
    try:
        command = [sys.executable, "-m", "hyperhive.cli.main", "show", "7"]
        script = f'exec "$@" 2>/proc/{os.getpid()}/fd/{terminal}'
        done = await run(["sh", "-c", script, "sh", *command], timeout_s=60, env=make_environment(hive.data))
        assert done.status == 0, done.error_text
        said = os.read(reader, 4096).decode()
    finally:
        os.close(reader)
        os.close(terminal)
    # Taken back, when the answer is there.
    assert said == "working out the packages of its system …\r\x1b[K"
