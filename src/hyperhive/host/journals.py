"""Journals: what agents' containers wrote, read from either end, as live lines, and by what stands in them.

A journal is the agent's: nothing in it is trusted, and every answer is bounded, in bytes and in what is looked at.
"""

import asyncio
import codecs
import contextlib
from dataclasses import dataclass
from pathlib import Path

import structlog

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.names import container_name, parse_known_agent_name
from hyperhive.core.paths import Roots
from hyperhive.host.agent_records import get_any_agent
from hyperhive.host.drivers.container_log import ContainerLog
from hyperhive.host.drivers.protocol import Driver, DriverError
from hyperhive.host.store.store import Store
from hyperhive.system.files import write_atomically
from hyperhive.wire.operator.records import Journal

log = structlog.get_logger(__name__)

PIECE_BYTES = 64 * 1024
# What is looked through for one answer: with a filter most of it is left out again.
PAGE_BYTES = 256 * 1024
SCAN_BYTES = 1024 * 1024
# What is kept of the journal of a destroyed agent, its end.
KEPT_BYTES = 1024 * 1024
# Who waits beyond these is answered at once.
WAITERS_LIMIT = 64
_LOOK_INTERVAL_S = 0.25


@dataclass(frozen=True, slots=True)
class _Container:
    """The log of a container that the driver has."""

    driver: Driver
    name: str

    async def range(self) -> tuple[int, int]:
        return await self.driver.log_range(self.name)

    async def read(self, offset: int, limit_bytes: int) -> tuple[bytes, int]:
        return await self.driver.logs(self.name, offset, limit_bytes)


@dataclass(frozen=True, slots=True)
class _File:
    """What was kept when an agent was destroyed."""

    log: ContainerLog

    async def range(self) -> tuple[int, int]:
        return await asyncio.to_thread(self.log.range)

    async def read(self, offset: int, limit_bytes: int) -> tuple[bytes, int]:
        return await asyncio.to_thread(self.log.read, offset, limit_bytes)


_Source = _Container | _File


class Journals:
    def __init__(self, store: Store, driver: Driver, roots: Roots) -> None:
        self._store = store
        self._driver = driver
        self._roots = roots
        self._waiting = 0

    async def read_page(self, name: str, before: int | None, lines: int, words: str) -> Journal:
        """The last whole lines that end at `before` or above it (None: at the end), at most `lines` of them.

        With `words` only those that contain them, whatever the case. An answer may be empty and say that there is
        `more`: so much was looked at. Raises NotFoundError for an unknown agent.
        """
        source = await self._find_source(name)
        first, last = await source.range()
        end = last if before is None else min(before, last)
        start, data = await _read_between(source, max(first, end - (SCAN_BYTES if words else PAGE_BYTES)), end)
        if start > first:
            # A line that begins further up is left for the page above, unless it is longer than any page.
            cut = data.find(b"\n") + 1
            if 0 < cut < len(data):
                start, data = start + cut, data[cut:]
        # What is cut inside a character is left for the piece that follows.
        cut = _count_cut_bytes(data[-4:])
        end, data = end - cut, data[: len(data) - cut]
        text, skipped = await asyncio.to_thread(_pick_last, data, lines, words)
        return Journal(text=text, offset=start + skipped, next_offset=end, more=start + skipped > first)

    async def read_piece(self, name: str, offset: int, wait_s: float, words: str) -> Journal:
        """What was written from `offset` on, a piece of it; waits up to `wait_s` for something if there is nothing.

        With `words` only the whole lines that contain them. Raises NotFoundError for an unknown agent.
        """
        source = await self._find_source(name)
        _, last = await source.range()
        journal = await _read_on(source, offset, words)
        if journal.next_offset != offset or wait_s == 0 or self._waiting >= WAITERS_LIMIT:
            return journal
        self._waiting += 1
        try:
            await _wait_written(source, last, wait_s)
        finally:
            self._waiting -= 1
        return await _read_on(source, offset, words)

    async def keep(self, name: str) -> None:
        """Keeps the end of an agent's journal with its folders; what cannot be kept is no reason not to destroy it."""
        try:
            _, end = await self._driver.log_range(container_name(name))
            container = _Container(self._driver, container_name(name))
            _, data = await _read_between(container, max(0, end - KEPT_BYTES), end)
            await asyncio.to_thread(_save, self._roots.journal(name), data)
        except (DriverError, OSError) as error:
            log.warning("journal.not_kept", agent=name, error=str(error))

    async def _find_source(self, name: str) -> _Source:
        parse_known_agent_name(name)
        record = await self._store.read(lambda view: get_any_agent(view, name))
        if record.destroyed_at is not None:
            return _File(ContainerLog(self._roots.journal(name)))
        return _Container(self._driver, container_name(name))


def check_words(words: str) -> str:
    """What a line is to contain, as it is compared. Raises InvalidInputError if no line can."""
    if "\n" in words:
        raise InvalidInputError("the filter is more than one line", "a filter is looked for within lines")
    return words.casefold()


def _save(path: Path, data: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        write_atomically(path, data, 0o600)


async def _read_between(source: _Source, start: int, end: int) -> tuple[int, bytes]:
    """What stands from `start` to `end`, and where it really begins: the oldest may be given back at any time."""
    pieces: list[bytes] = []
    at, begin = start, start
    while at < end:
        piece, next_at = await source.read(at, end - at)
        found = next_at - len(piece)
        if not piece or found < at or next_at > end:
            break
        if not pieces:
            begin = found
        pieces.append(piece)
        at = next_at
    return begin, b"".join(pieces)


async def _read_on(source: _Source, offset: int, words: str) -> Journal:
    """What stands from `offset` on, as much as is looked at for one answer."""
    piece, end = await source.read(offset, SCAN_BYTES if words else PIECE_BYTES)
    start = end - len(piece)
    if words:
        # A line is judged once it is whole, or is longer than what is looked at.
        whole = piece.rfind(b"\n") + 1
        piece = piece[: whole or (len(piece) if len(piece) == SCAN_BYTES else 0)]
        text, _ = await asyncio.to_thread(_pick_last, piece, len(piece), words)
        end = start + len(piece)
    else:
        cut = _count_cut_bytes(piece[-4:])
        end -= cut
        text = piece[: len(piece) - cut].decode("utf-8", "replace")
    first, _ = await source.range()
    return Journal(text=text, offset=start, next_offset=end, more=start > first)


async def _wait_written(source: _Source, end: int, wait_s: float) -> None:
    """Returns once the journal ends elsewhere than at `end`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            # A file that other programs write to tells nobody.
            while (await source.range())[1] == end:  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_INTERVAL_S)


def _pick_last(data: bytes, lines: int, words: str) -> tuple[str, int]:
    """The last `lines` of those with `words` in them, and how many bytes of `data` stand before the first of these.

    Nothing is left out above if there are fewer.
    """
    picked: list[str] = []
    at = len(data)
    for line in reversed(_split(data)):
        if len(picked) == lines:
            return "".join(reversed(picked)), at
        at -= len(line)
        text = line.decode("utf-8", "replace")
        if words in text.casefold():
            picked.append(text)
    return "".join(reversed(picked)), 0


def _count_cut_bytes(end: bytes) -> int:
    """How many of the last bytes begin a character that is not there in full."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(end)
    return len(decoder.getstate()[0])


def _split(data: bytes) -> list[bytes]:
    """By line feeds alone: a carriage return is part of its line."""
    *whole, rest = data.split(b"\n")
    return [line + b"\n" for line in whole] + ([rest] if rest else [])
