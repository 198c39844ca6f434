"""`hive files`: a folder as a list, a file as its text, and what an agent wrote moves no cursor."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cli_process import asked, call
from fake_hive import NOW, FakeHive, answer_with, refuse_with, run_fake_hive
from hyperhive.cli.files import render_folder
from hyperhive.cli.rendering import Screen
from hyperhive.core.errors import ConflictError, RefusedError
from hyperhive.wire.operator.records import StateEntry, StateFile, StateFolder

FOLDER = StateFolder(
    path="",
    entries=[
        StateEntry(name="a\\x0ab", kind="file", size_bytes=2048, changed_at=NOW - timedelta(hours=2)),
        StateEntry(name="logs", kind="folder", size_bytes=4096, changed_at=NOW - timedelta(days=3)),
        StateEntry(name="out", kind="link", size_bytes=11, changed_at=None),
    ],
    more=False,
)
TEXT = "one\x1b[2J\u202etwo\n"
FILE = StateFile(path="notes.md", size_bytes=len(TEXT), text=TEXT, cut=False, binary=False)
STATE = "/api/agents/alice/state"


@pytest.fixture
def hive(tmp_path: Path) -> Iterator[FakeHive]:
    with run_fake_hive(tmp_path) as hive:
        hive.answers |= {
            f"GET {STATE}": answer_with(FOLDER),
            f"GET {STATE}/file": answer_with(FILE),
            f"GET {STATE}/download": lambda _: (200, b"\0raw\xff" * 100_000),
        }
        yield hive


def have_a_file(hive: FakeHive, file: StateFile = FILE) -> None:
    hive.answers[f"GET {STATE}"] = refuse_with(ConflictError("notes.md is a file", "read it"), 409)
    hive.answers[f"GET {STATE}/file"] = answer_with(file)


async def test_a_folder_is_a_list(hive: FakeHive) -> None:
    done = await call(hive.data, "files", "alice")
    assert done.status == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert lines[0].split() == ["KIND", "SIZE", "AGE", "NAME"]
    assert lines[1].split() == ["file", "2", "KiB", "2", "h", "a\\x0ab"]
    assert lines[2].split() == ["folder", "-", "3", "d", "logs"]
    assert lines[3].split() == ["link", "-", "?", "out"]
    assert len(lines) == 4


async def test_a_path_is_sent_as_it_is_typed(hive: FakeHive) -> None:
    await call(hive.data, "files", "alice", "a b/\\xff&c=%2e")
    assert asked(hive) == [f"GET {STATE}?path=a+b%2F%5Cxff%26c%3D%252e"]


def test_what_is_not_listed_is_told() -> None:
    text = render_folder(FOLDER.model_copy(update={"more": True}).model_dump(mode="json"), Screen(now=NOW))
    assert "the first 3 by name" in text
    assert render_folder({"entries": []}, Screen(now=NOW)) == "nothing is there"


async def test_a_file_is_its_text_for_a_program(hive: FakeHive) -> None:
    have_a_file(hive)
    done = await call(hive.data, "files", "alice", "notes.md")
    assert (done.status, done.stdout) == (0, TEXT.encode())


def test_nothing_in_a_file_is_obeyed_by_a_terminal(hive: FakeHive) -> None:
    have_a_file(hive)
    ours, terminal = pty.openpty()
    command = [sys.executable, "-m", "hyperhive.cli.main", "files", "alice", "notes.md"]
    try:
        subprocess.run(command, stdout=terminal, check=True, timeout=60, env=os.environ | {"HIVE_DATA": str(hive.data)})
        shown = os.read(ours, 65536)
    finally:
        os.close(ours)
        os.close(terminal)
    assert shown == b"one\\x1b[2J\\u202etwo\r\n"


async def test_what_is_cut_or_no_text_is_told_with_the_way_to_have_it(hive: FakeHive) -> None:
    have_a_file(hive, FILE.model_copy(update={"cut": True, "size_bytes": 5 * 2**20}))
    done = await call(hive.data, "files", "alice", "notes.md")
    assert (done.status, done.stdout) == (1, TEXT.encode())
    assert b"the file has 5.0 MiB" in done.stderr
    have_a_file(hive, FILE.model_copy(update={"binary": True, "text": ""}))
    done = await call(hive.data, "files", "alice", "notes.md")
    assert (done.status, done.stdout) == (1, b"")
    assert b"-o FILE" in done.stderr


async def test_a_file_is_saved_as_it_is(hive: FakeHive, tmp_path: Path) -> None:
    target = tmp_path / "saved"
    done = await call(hive.data, "files", "alice", "notes.md", "-o", str(target))
    assert (done.status, done.stdout) == (0, b"")
    assert target.read_bytes() == b"\0raw\xff" * 100_000
    assert asked(hive) == [f"GET {STATE}/download?path=notes.md"]


async def test_what_is_refused_leaves_the_file_that_is_there_alone(hive: FakeHive, tmp_path: Path) -> None:
    target = tmp_path / "saved"
    target.write_text("mine")
    hive.answers[f"GET {STATE}/download"] = refuse_with(RefusedError("out is a link", "links are shown"), 403)
    done = await call(hive.data, "files", "alice", "out", "-o", str(target))
    assert (done.status, done.stderr) == (1, b"hive: out is a link\nhint: links are shown\n")
    assert target.read_text() == "mine"


async def test_where_nothing_can_be_saved_says_so(hive: FakeHive, tmp_path: Path) -> None:
    done = await call(hive.data, "files", "alice", "notes.md", "-o", str(tmp_path / "none/saved"))
    assert done.status == 1
    assert b"cannot be written" in done.stderr
    assert (await call(hive.data, "files", "alice", "x", "-o", "y", "--json")).status == 2
