"""What root's helper writes down: a line for each deed, whatever is in it, and few for what is only looked at."""

import json
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from helper_rig import read_notes
from hyperhive.host.separation.notes import READS_TOLD_EVERY_S, SIZE_LIMIT_BYTES, HelperNotes, Outcome

# As on a disk that has a thousand bytes left: what fits is written, and then no more until there is room again.
FULL_DISK = """
import resource, shutil, sys
from pathlib import Path
from hyperhive.host.separation.notes import HelperNotes, Outcome

path = Path(sys.argv[1])
notes = HelperNotes(path)
before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
for number in range(20):
    notes.note("start", f"agent-{number}", Outcome.OK)
resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
shutil.copy(path, path.with_name("full"))
notes.note("stop", "alice", Outcome.OK)
"""


class Clock:
    def __init__(self) -> None:
        self.at_s = 1000.0

    def __call__(self) -> float:
        return self.at_s


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def test_each_deed_has_a_line_in_a_file_of_its_owners_alone(path: Path) -> None:
    notes = HelperNotes(path)
    for _ in range(3):
        notes.note("start", "alice", Outcome.OK, "uid 7")
    notes.note("stop", "alice", Outcome.FAILED, "it hangs")
    lines = read_notes(path)
    told = [(line["verb"], line["name"], line["outcome"], line["message"], line["count"]) for line in lines]
    assert told == [*[("start", "alice", "ok", "uid 7", 1)] * 3, ("stop", "alice", "failed", "it hangs", 1)]
    for line in lines:
        assert abs(datetime.fromisoformat(line["at"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_that_is_noted_ends_a_line_or_is_long(path: Path) -> None:
    notes = HelperNotes(path)
    notes.note("exec", "a\n\x1b[31m\ud800", Outcome.OK, '\n{"at": 0}\r\u2028é\0"' + "x" * 10_000)
    assert len(path.read_bytes().splitlines()) == 1
    [line] = read_notes(path)
    assert line["name"] == "a\n\x1b[31m\ud800"
    assert line["message"].startswith('\n{"at": 0}\r\u2028é\0"x') and len(line["message"]) == 300
    assert len(path.read_bytes()) < 4000


def test_what_is_only_looked_at_is_told_once_and_then_counted(path: Path) -> None:
    clock = Clock()
    notes = HelperNotes(path, clock_s=clock)
    for _ in range(200):
        notes.note("observe", "alice", Outcome.OK)
        clock.at_s += 2
    notes.note("observe", "bob", Outcome.OK)
    notes.note("logs", "alice", Outcome.OK)
    notes.note("observe", "alice", Outcome.FAILED, "it cannot be read")
    told = [(line["verb"], line["name"], line["outcome"], line["count"]) for line in read_notes(path)]
    assert told == [
        ("observe", "alice", "ok", 1),
        ("observe", "bob", "ok", 1),
        ("logs", "alice", "ok", 1),
        ("observe", "alice", "failed", 1),
    ]
    clock.at_s += READS_TOLD_EVERY_S
    notes.note("start", "bob", Outcome.OK)
    told = [(line["verb"], line["name"], line["outcome"], line["count"]) for line in read_notes(path)[4:]]
    assert told == [("observe", "alice", "ok", 199), ("start", "bob", "ok", 1)]


def test_what_was_counted_is_told_at_the_end(path: Path) -> None:
    notes = HelperNotes(path)
    for _ in range(5):
        notes.note("find_usage", "alice", Outcome.OK)
    notes.close()
    assert [line["count"] for line in read_notes(path)] == [1, 4]


def test_each_refusal_is_told_also_of_looking(path: Path) -> None:
    notes = HelperNotes(path)
    for _ in range(5):
        notes.note("observe", "../etc", Outcome.REFUSED, "no agent")
    assert [line["count"] for line in read_notes(path)] == [1] * 5


def test_a_long_file_is_put_aside_once(path: Path) -> None:
    notes = HelperNotes(path, limit_bytes=1000)
    for number in range(100):
        notes.note("start", f"agent-{number}", Outcome.OK)
    aside = path.with_name("audit.jsonl.1")
    names = [line["name"] for line in (*read_notes(aside), *read_notes(path))]
    assert names == [f"agent-{number}" for number in range(100 - len(names), 100)]
    assert 1000 <= aside.stat().st_size < 1200 and path.stat().st_size < 1000
    assert set(path.parent.iterdir()) == {path, aside}
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600
    assert SIZE_LIMIT_BYTES == 8 * 1024 * 1024


def test_another_helper_goes_on_where_the_one_before_ended(path: Path) -> None:
    HelperNotes(path).note("start", "alice", Outcome.OK)
    with path.open("ab") as file:
        # It was killed, or the machine was.
        file.write(b'{"at": "2026-')
    HelperNotes(path).note("start", "bob", Outcome.OK)
    first, torn, last, *rest = path.read_bytes().splitlines()
    assert (b"alice" in first, torn, b"bob" in last, rest) == (True, b'{"at": "2026-', True, [])


def test_no_link_is_followed(path: Path) -> None:
    other = path.with_name("other")
    other.touch()
    path.symlink_to(other)
    HelperNotes(path).note("start", "alice", Outcome.OK)
    assert other.read_bytes() == b""


def test_a_full_disk_is_logged_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    notes = HelperNotes(Path("/dev/full"))
    notes.note("start", "alice", Outcome.OK)
    assert "helper.not_noted" in capsys.readouterr().out


def test_after_a_full_disk_lines_are_whole_again(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    full, after = path.with_name("full").read_bytes(), path.read_bytes()
    assert len(full) == 1000 and not full.endswith(b"\n")
    assert after.startswith(full + b"\n")
    assert json.loads(after.removeprefix(full))["verb"] == "stop"
