"""Journals are read from either end, by what stands in them, and as they grow, in answers that are bounded."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from config_rig import ConfigRig, open_config_rig
from hyperhive.core.errors import InvalidInputError, NotFoundError
from hyperhive.host.drivers.container_log import ContainerLog
from hyperhive.host.drivers.protocol import DriverError
from hyperhive.host.journals import KEPT_BYTES, PAGE_BYTES, SCAN_BYTES, WAITERS_LIMIT, Journals, check_words
from hyperhive.wire.operator.records import Journal

DEADLINE_S = 30


@dataclass
class LogDriver:
    """Has logs, and nothing that would write them."""

    log: ContainerLog
    fails: bool = False

    async def logs(self, _: str, offset: int, limit_bytes: int) -> tuple[bytes, int]:
        return self.log.read(offset, limit_bytes)

    async def log_range(self, _: str) -> tuple[int, int]:
        if self.fails:
            raise DriverError("the log cannot be read")
        return self.log.range()


@dataclass
class Bench:
    rig: ConfigRig
    driver: LogDriver
    journals: Journals

    def write(self, text: bytes) -> None:
        with self.driver.log.path.open("ab") as file:
            file.write(text)

    async def read_back(self, words: str = "", lines: int = 500) -> list[Journal]:
        """All pages from the end to the beginning."""
        pages = [await self.journals.read_page("alice", None, lines, words)]
        while pages[-1].more:
            pages.append(await self.journals.read_page("alice", pages[-1].offset, lines, words))
        return pages


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_config_rig(tmp_path) as rig:
        await rig.spawn("alice")
        driver = LogDriver(ContainerLog(tmp_path / "log"))
        yield Bench(rig, driver, Journals(rig.store, cast("Any", driver), rig.roots))


async def test_pages_are_whole_lines_from_the_end_to_the_beginning(bench: Bench) -> None:
    text = "".join(f"line {number} ü\n" for number in range(50_000)).encode()
    bench.write(text)
    pages = await bench.read_back(lines=5000)
    assert "".join(page.text for page in reversed(pages)).encode() == text
    assert all(page.text.endswith("\n") and page.text.startswith("line ") for page in pages)
    assert max(len(page.text.encode()) for page in pages) <= PAGE_BYTES
    assert all(page.text.count("\n") <= 5000 for page in pages)
    assert [page.offset for page in pages[:-1]] == [page.next_offset for page in pages[1:]]


async def test_a_filter_finds_lines_far_up_and_every_answer_is_bounded(bench: Bench) -> None:
    filler = b"nothing\n" * (SCAN_BYTES // 8)
    bench.write(b"The NEEDLE\n" + filler + b"a needle\n" + filler)
    pages = await bench.read_back("needle")
    assert [page.text for page in pages if page.text] == ["a needle\n", "The NEEDLE\n"]
    assert all(page.next_offset - page.offset <= SCAN_BYTES for page in pages)


async def test_a_line_longer_than_a_page_is_shown_in_pieces(bench: Bench) -> None:
    bench.write(b"x" * (3 * PAGE_BYTES) + b"\nend\n")
    assert sum(page.text.count("x") for page in await bench.read_back()) == 3 * PAGE_BYTES


async def test_what_is_cut_inside_a_character_is_left_for_later(bench: Bench) -> None:
    bench.write("one\nü".encode()[:-1])
    page = await bench.journals.read_page("alice", None, 10, "")
    assert page.text == "one\n"
    bench.write("ü\n".encode()[1:])
    assert (await bench.journals.read_piece("alice", page.next_offset, 0, "")).text == "ü\n"


async def test_an_absent_journal_is_empty_and_an_unknown_agent_has_none(bench: Bench) -> None:
    page = await bench.journals.read_page("alice", None, 10, "")
    assert page == Journal(text="", offset=0, next_offset=0, more=False)
    with pytest.raises(NotFoundError):
        await bench.journals.read_page("nobody", None, 10, "")
    with pytest.raises(InvalidInputError):
        await bench.journals.read_page("../alice", None, 10, "")


async def test_who_follows_gets_what_is_written_then(bench: Bench) -> None:
    bench.write(b"before\n")
    async with asyncio.timeout(DEADLINE_S):
        waiting = asyncio.create_task(bench.journals.read_piece("alice", 7, DEADLINE_S, ""))
        await asyncio.sleep(0)
        bench.write(b"after\n")
        assert (await waiting).text == "after\n"


async def test_who_follows_with_a_filter_gets_whole_lines_only(bench: Bench) -> None:
    bench.write(b"a need")
    piece = await bench.journals.read_piece("alice", 0, 0, "needle")
    assert (piece.text, piece.next_offset) == ("", 0)
    bench.write(b"le\nother\n")
    piece = await bench.journals.read_piece("alice", 0, 0, "needle")
    assert (piece.text, piece.next_offset) == ("a needle\n", 15)


async def test_who_waits_beyond_the_limit_is_answered_at_once(bench: Bench) -> None:
    async with asyncio.timeout(DEADLINE_S):
        waiting = [
            asyncio.create_task(bench.journals.read_piece("alice", 0, DEADLINE_S, "")) for _ in range(WAITERS_LIMIT)
        ]
        while bench.journals._waiting < WAITERS_LIMIT:  # pyright: ignore[reportPrivateUsage]
            await asyncio.sleep(0.01)
        assert (await bench.journals.read_piece("alice", 0, DEADLINE_S, "")).text == ""
        bench.write(b"x\n")
        assert {piece.text for piece in await asyncio.gather(*waiting)} == {"x\n"}


async def test_the_end_of_a_destroyed_agents_journal_is_kept_until_it_is_purged(bench: Bench) -> None:
    bench.write(b"old\n" * KEPT_BYTES + b"the last\n")
    await bench.journals.keep("alice")
    await bench.rig.destroy("alice")
    bench.driver.log.path.unlink()
    page = await bench.journals.read_page("alice", None, 1, "")
    assert page.text == "the last\n"
    assert bench.rig.roots.journal("alice").stat().st_size == KEPT_BYTES
    await bench.rig.kept.purge("alice")
    assert not bench.rig.roots.journal("alice").exists()
    with pytest.raises(NotFoundError):
        await bench.journals.read_page("alice", None, 1, "")


async def test_a_log_that_cannot_be_read_is_no_reason_not_to_destroy(bench: Bench) -> None:
    bench.driver.fails = True
    await bench.journals.keep("alice")
    assert not bench.rig.roots.journal("alice").exists()


def test_a_filter_is_one_line() -> None:
    assert check_words("ÄB") == "äb"
    with pytest.raises(InvalidInputError):
        check_words("a\nb")
