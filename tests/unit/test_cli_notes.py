"""`hive notes`: what there is, how it changed, and that nothing is replaced by a slip."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cli_process import call
from fake_hive import NOTES, NOW, FakeHive, answer_with, refuse_with, run_fake_hive
from hyperhive.cli.diffs import DiffStyle
from hyperhive.cli.notes import render_notes_diff, render_versions
from hyperhive.cli.rendering import Screen
from hyperhive.core.errors import ConflictError
from hyperhive.wire.operator.configs import NotesDiff
from hyperhive.wire.operator.records import NotesVersion

ASKED = NotesVersion(
    commit="ab" * 20, at=NOW - timedelta(minutes=5), kind="asked", size_before=40_000, size_after=2_000
)
KEPT = NotesVersion(commit="ac" * 20, at=NOW - timedelta(hours=1), kind="kept", size_before=0, size_after=40_000)
PLAIN = Screen(now=NOW)


@pytest.fixture
def hive(tmp_path: Path) -> Iterator[FakeHive]:
    with run_fake_hive(tmp_path) as hive:
        hive.answers |= {
            "GET /api/notes/alice": answer_with([ASKED, KEPT]),
            f"GET /api/notes/alice/{ASKED.commit}": answer_with(NotesDiff(version=ASKED, files=[NOTES])),
            "POST /api/notes/alice/restore": answer_with(KEPT.model_copy(update={"kind": "restored"})),
        }
        yield hive


def rows(*models: Any) -> list[dict[str, Any]]:
    return [model.model_dump(mode="json") for model in models]


async def test_versions_are_listed_with_what_they_are(hive: FakeHive) -> None:
    done = await call(hive.data, "notes", "alice")
    assert done.status == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert lines[1].split("  ")[0] == "ab" * 6
    assert "a rewrite that you were asked about" in lines[1]
    assert "what stood there" in lines[2]


async def test_the_beginning_of_a_name_is_enough_if_it_is_one_versions(hive: FakeHive) -> None:
    done = await call(hive.data, "notes", "alice", "--show", "abababa")
    assert done.status == 0, done.stderr
    assert b"+ start here" in done.stdout
    assert ASKED.commit.encode() in done.stdout
    for text in ("afafafa", "ababab", "main", "--all", "AB" * 20, "ab" * 21):
        done = await call(hive.data, "notes", "alice", f"--show={text}")
        assert done.status == 1, text
        assert b"hive notes alice" in done.stderr


async def test_a_restore_names_the_whole_commit(hive: FakeHive) -> None:
    done = await call(hive.data, "notes", "alice", "--restore", "acacaca")
    assert done.status == 0, done.stderr
    assert hive.received[-1].body == {"commit": KEPT.commit}
    assert b"restored" in done.stdout


async def test_why_a_restore_was_refused_is_told(hive: FakeHive) -> None:
    hive.answers["POST /api/notes/alice/restore"] = refuse_with(ConflictError("they changed", "try again"), 409)
    done = await call(hive.data, "notes", "alice", "--restore", KEPT.commit, "--yes")
    assert (done.status, done.stderr.decode()) == (1, "hive: they changed\nhint: try again\n")


async def test_showing_and_restoring_at_once_is_wrong_use(hive: FakeHive) -> None:
    done = await call(hive.data, "notes", "alice", "--show", "abababa", "--restore", "acacaca")
    assert done.status == 2
    assert [request for request in hive.received if request.method == "POST"] == []


async def test_json_is_what_the_api_says(hive: FakeHive) -> None:
    done = await call(hive.data, "notes", "alice", "--json")
    assert b'"kind": "asked"' in done.stdout


def test_an_agent_without_versions_has_none() -> None:
    assert render_versions([], "alice", PLAIN) == "the hive has not changed the notes of alice yet"


def test_what_an_agent_wrote_cannot_steer_the_terminal() -> None:
    hostile = NOTES.model_copy(deep=True)
    hostile.hunks[0].lines[0] = hostile.hunks[0].lines[0].model_copy(update={"text": "\x1b[2J\u202e\rx"})
    diff = NotesDiff(version=ASKED, files=[hostile])
    shown = render_notes_diff(diff.model_dump(mode="json"), "alice", PLAIN, DiffStyle())
    assert all(char.isprintable() or char == "\n" for char in shown)
    odd = rows(ASKED)
    odd[0] |= {"commit": "\x1b[31m", "kind": "\x1b]0;x\x07"}
    assert "\x1b" not in render_versions(odd, "alice", PLAIN)
