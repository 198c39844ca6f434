"""The journal of a unit as a container's log, with the journal of a machine booted for it."""

import asyncio
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from booted import Booted, booted
from hyperhive.host.drivers.container_log import LIMIT_BYTES, ContainerLog
from hyperhive.host.drivers.nixos_log import PAGE_LINES, PAGES, JournalLog
from hyperhive.host.drivers.protocol import DriverError

UNIT = "container@h-alice.service"
WAIT_S = 60.0


class Rig:
    """A machine in which units speak, and the log of one of them."""

    def __init__(self, host: Booted, folder: Path, journalctl: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.host = host
        self.log = ContainerLog(folder / "log")
        self.journal = JournalLog(self.log, folder / "journal.json", UNIT, str(journalctl))

    def say(self, script: str, unit: str = UNIT) -> None:
        """Has the unit run a script of Python."""
        options = ("--quiet", "--wait", "--collect", f"--unit={unit}")
        self.host.run("systemd-run", *options, "--", "python3", "-u", "-c", script)
        # What systemd itself says of a unit comes another way, and may come later.
        self.host.run("journalctl", "--sync")

    def begin(self) -> None:
        asyncio.run(self.journal.begin())

    def fetch(self) -> None:
        asyncio.run(self.journal.fetch())

    def read(self, offset: int = 0) -> bytes:
        self.fetch()
        content = b""
        while (piece := self.log.read(offset, 1024 * 1024))[0]:
            content, offset = content + piece[0], piece[1]
        return content

    def wait(self, end: bytes, offset: int = 0) -> bytes:
        """What is in the log from the offset on, once the line `end` is."""
        deadline = time.monotonic() + WAIT_S
        while end + b"\n" not in (content := self.read(offset)):
            assert time.monotonic() < deadline, content[-2000:]
            time.sleep(0.1)
        return content


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """Its journal takes whatever is said: what it leaves out of a flood by itself is not what is looked at."""
    with booted(tmp_path_factory.mktemp("machine")) as machine:
        (machine.root / "etc/systemd/journald.conf").write_text("[Journal]\nRateLimitIntervalSec=0\n")
        machine.run("systemctl", "restart", "systemd-journald.service")
        yield machine


@pytest.fixture
def rig(host: Booted, tmp_path: Path) -> Rig:
    """With a log of its own for each test, begun."""
    journalctl = tmp_path / "journalctl"
    enter = ("nsenter", f"--target={host.seen_root.parent.name}", "--mount", "--pid", "--", "journalctl")
    journalctl.write_text(f'#!/bin/sh\nexec {shlex.join(enter)} "$@"\n')
    journalctl.chmod(0o755)
    rig = Rig(host, tmp_path, journalctl)
    rig.begin()
    return rig


def lines_said(content: bytes) -> list[bytes]:
    """Without what systemd says of the unit."""
    return [line for line in content.splitlines() if not line.startswith((UNIT.encode(), b"Started ", b"Stopp"))]


def test_what_a_unit_says_is_appended_in_order_and_once(rig: Rig) -> None:
    rig.say("for number in range(3): print('first', number)")
    first = rig.wait(b"first 2")
    assert lines_said(first) == [b"first 0", b"first 1", b"first 2"]
    rig.say("print('second')")
    offset = len(first)
    second = rig.wait(b"second", offset)
    assert lines_said(second) == [b"second"]
    assert rig.read() == first + second
    assert rig.read() == first + second


def test_bytes_of_every_kind_are_kept(rig: Rig) -> None:
    odd = (
        b"\xff\xfe",
        b"\x1b[1mbold\x1b[0m",
        b"\xc3\xa9 \xe2\x82\xac",
        b"\t tab",
        b'{"MESSAGE": "forged"}',
        b"-- cursor: s=1",
    )
    rig.say(f"import os; os.write(1, {b''.join(line + bytes([10]) for line in odd)!r} + b'end\\n')")
    assert lines_said(rig.wait(b"end")) == [*odd, b"end"]


def test_nothing_of_another_unit_or_of_an_earlier_container(rig: Rig) -> None:
    rig.say("print('of an earlier one')")
    rig.wait(b"of an earlier one")
    rig.say("print('of another')", "container@h-bob.service")
    later = Rig(rig.host, rig.log.path.with_name("later"), Path(rig.journal.program))
    later.begin()
    later.fetch()
    assert later.log.size_bytes() == 0
    rig.say("print('of a later one')")
    first, second, *_ = later.wait(b"of a later one").splitlines()
    assert first.startswith(f"Started {UNIT}".encode())
    assert second == b"of a later one"
    assert b"of another" not in rig.read()


def test_what_was_appended_and_not_noted_is_not_there_twice(rig: Rig) -> None:
    rig.say("print('first')")
    before = rig.wait(b"first")
    noted = rig.journal.note.read_bytes()
    rig.say("print('second')")
    after = rig.wait(b"second")
    # As a daemon leaves it that ended between the two, in the middle of a line.
    rig.journal.note.write_bytes(noted)
    with rig.log.path.open("r+b") as file:
        file.truncate(len(before) + 3)
    assert rig.read() == after


def test_a_log_that_was_never_begun_has_what_the_journal_has(rig: Rig) -> None:
    rig.say("print('before')")
    rig.wait(b"before")
    rig.journal.note.unlink()
    rig.log.path.write_bytes(b"by another driver\n")
    content = rig.read()
    assert content.startswith(b"by another driver\n")
    assert b"before\n" in content
    assert rig.read() == content


def test_long_lines_are_taken_whole_over_several_answers(rig: Rig) -> None:
    """In one answer are 4 MiB, with each of these bytes as a number."""
    rig.say("for number in range(120): print('%03d' % number + chr(27) * 40000)\nprint('end')")
    lines = lines_said(rig.wait(b"end"))
    assert [line[:3] for line in lines] == [*(b"%03d" % number for number in range(120)), b"end"]
    assert {len(line) for line in lines[:-1]} == {40003}


def test_of_a_flood_the_beginning_and_the_end_are_there_and_what_is_left_out_is_said(rig: Rig) -> None:
    count = PAGE_LINES * (PAGES + 2)
    rig.say(f"print('begins')\nfor number in range({count}): print(number)\nprint('ends')")
    rig.host.run(
        "sh", "-c", f"until journalctl --unit={UNIT} --lines=20 --output=cat | grep -qx ends; do sleep 0.1; done"
    )
    lines = lines_said(rig.read())
    place = next(number for number, line in enumerate(lines) if line.startswith(b"(lines are left out"))
    before, after = lines[:place], lines[place + 1 :]
    assert before[0] == b"begins"
    assert before[1:] == [b"%d" % number for number in range(len(before) - 1)]
    assert len(before) > PAGE_LINES * (PAGES - 1)
    assert after[-1] == b"ends"
    assert len(after) > PAGE_LINES // 2
    assert after[:-1] == [b"%d" % number for number in range(count - len(after) + 1, count)]


def test_a_log_is_bounded_and_its_offsets_stay(rig: Rig) -> None:
    rig.say("for number in range(400): print('a' * 40000)\nprint('end')")
    rig.wait(b"end")
    begin, end = rig.log.range()
    assert end > 400 * 40000
    assert 0 < end - begin <= LIMIT_BYTES
    assert rig.log.path.stat().st_blocks * 512 <= LIMIT_BYTES


def test_a_journal_that_was_thrown_away_is_gone_on_with(rig: Rig) -> None:
    rig.say("print('before')")
    before = rig.wait(b"before")
    rig.host.run("journalctl", "--rotate", "--vacuum-time=1us")
    rig.say("print('once')\nprint('more')")
    assert lines_said(rig.wait(b"more", len(before)))[-1] == b"more"


def test_a_journal_that_cannot_be_read_is_an_error_and_nothing_is_lost(rig: Rig) -> None:
    rig.say("print('first')")
    before = rig.wait(b"first")
    good = rig.journal.program
    for script, message in (("echo no >&2; exit 1", "no"), ("echo '{'", "another form"), ("echo '[]'", "another form")):
        bad = Path(good).with_name("bad")
        bad.write_text(f"#!/bin/sh\n{script}\n")
        bad.chmod(0o755)
        journal = JournalLog(rig.log, rig.journal.note, UNIT, str(bad))
        with pytest.raises(DriverError, match=message):
            asyncio.run(journal.fetch())
    with pytest.raises(DriverError, match="cannot be started"):
        asyncio.run(JournalLog(rig.log, rig.journal.note, UNIT, "/missing").fetch())
    assert rig.read() == before
    rig.journal.note.write_bytes(b"half")
    with pytest.raises(DriverError, match="cannot be read") as refused:
        rig.fetch()
    assert refused.value.hint == "remove it"
