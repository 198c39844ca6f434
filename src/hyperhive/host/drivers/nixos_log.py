"""The journal of a unit as a container's log. Whoever reads the log has what is new in the journal appended before.

The hive's logs are bytes with offsets, the journal is entries with cursors. Beside the log stands how far it is taken,
and how long the log was then: what a daemon appended that ended before it could note it is taken back and taken again.
An entry is one line. The journal drops empty ones, and cuts those of over 48 KiB.
"""

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hyperhive.host.drivers.container_log import ContainerLog
from hyperhive.host.drivers.detached import ENVIRONMENT
from hyperhive.host.drivers.protocol import DriverError
from hyperhive.system.files import write_atomically
from hyperhive.system.process import OUTPUT_LIMIT_BYTES, ProcessError, run

TIMEOUT_S = 30.0
# Taken at once, and how often before what is in between is left out: with common lines more than a log keeps.
PAGE_LINES = 4000
PAGES = 12
_HINT = "see `systemctl status systemd-journald`"


@dataclass(frozen=True, slots=True)
class _Taken:
    """`cursor` is the last entry's that was taken, `size_bytes` the log's length with it."""

    cursor: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Page:
    """Some lines, the cursor of the last one, and whether there may be more."""

    content: bytes
    cursor: str
    more: bool


@dataclass(frozen=True, slots=True)
class JournalLog:
    """What the journal has of `unit`, in `log`, which nobody else writes; `note` is the file that says how far.

    `program` is journalctl. Of one log, one method at a time.
    """

    log: ContainerLog
    note: Path
    unit: str
    program: str = "journalctl"

    async def begin(self) -> None:
        """What the journal has until now is another container's of that name. Raises DriverError."""
        # Not the journal's own last entry: the unit's first one behind it could be left out (docs/gotchas.md).
        page = self._parse(await self._ask(f"--unit={self.unit}", "--lines=1"), 1)
        await asyncio.to_thread(self._save, _Taken(page.cursor, self.log.size_bytes()))

    async def fetch(self) -> None:
        """Appends what is new in the journal: of a flood, its beginning and its end.

        Of a log that was never begun, the journal's last lines. Raises DriverError; what was taken until then is kept.
        """
        taken = await asyncio.to_thread(self._load)
        for _ in range(PAGES if taken.cursor else 0):
            page = await self._read(taken.cursor)
            taken = await asyncio.to_thread(self._append, taken, page)
            if not page.more:
                return
        page = await self._read("")
        said = f"(lines are left out here: see journalctl --unit={self.unit})\n" if taken.cursor else ""
        await asyncio.to_thread(self._append, taken, _Page(said.encode() + page.content, page.cursor, more=False))

    async def _read(self, cursor: str) -> _Page:
        """The first lines behind the cursor; without one, the last that there are."""
        place = [f"--after-cursor={cursor}"] if cursor else []
        output = await self._ask(f"--unit={self.unit}", f"--lines={PAGE_LINES}", *place)
        return await asyncio.to_thread(self._parse, output, PAGE_LINES)

    async def _ask(self, *options: str) -> bytes:
        # Only in JSON each entry has its cursor: what is cut off is taken next time.
        form = ("--quiet", "--no-pager", "--all", "--output=json", "--output-fields=MESSAGE")
        try:
            done = await run((self.program, *form, *options), timeout_s=TIMEOUT_S, env=ENVIRONMENT)
        except ProcessError as error:
            raise DriverError(f"the journal of {self.unit} cannot be read: {error}", _HINT) from error
        if not done.ok:
            raise DriverError(f"the journal of {self.unit} cannot be read: {done.error_text}", _HINT)
        return done.stdout

    def _parse(self, output: bytes, most: int) -> _Page:
        try:
            # Behind the last end of a line is nothing, or what was left when the output was cut.
            entries: list[dict[str, Any]] = [json.loads(line) for line in output.split(b"\n")[:-1]]
            content = b"".join(_render_line(entry.get("MESSAGE")) for entry in entries)
            cursor: str = entries[-1]["__CURSOR"] if entries else ""
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise DriverError(f"the journal of {self.unit} is told in another form: {error!r}", _HINT) from error
        return _Page(content, cursor, more=len(entries) >= most or len(output) >= OUTPUT_LIMIT_BYTES)

    def _append(self, taken: _Taken, page: _Page) -> _Taken:
        if not page.cursor:
            return taken
        try:
            with os.fdopen(self.log.open_for_writing(None), "ab") as file:
                file.write(page.content)
            self.log.shorten()
        except OSError as error:
            raise DriverError(f"{self.log.path} cannot be written: {error.strerror}", "is the disk full?") from error
        taken = _Taken(page.cursor, self.log.size_bytes())
        self._save(taken)
        return taken

    def _save(self, taken: _Taken) -> None:
        try:
            write_atomically(self.note, json.dumps(asdict(taken)).encode(), 0o600)
        except OSError as error:
            raise DriverError(f"{self.note} cannot be written: {error.strerror}", "is the disk full?") from error

    def _load(self) -> _Taken:
        """How far it is taken, with the log as it was then. Raises DriverError."""
        try:
            taken = _Taken(**json.loads(self.note.read_bytes()))
            if self.log.size_bytes() > taken.size_bytes:
                os.truncate(self.log.path, taken.size_bytes)
        except FileNotFoundError:
            return _Taken("", 0)
        except (OSError, ValueError, TypeError) as error:
            raise DriverError(f"{self.note} cannot be read: {error!r}", "remove it") from error
        return taken


def _render_line(message: "str | Sequence[Any] | None") -> bytes:
    """One line. What is not plain text is told as a list of bytes; what is told in another way, nobody said inside."""
    if isinstance(message, str):
        return message.encode("utf-8", "replace") + b"\n"
    if message and all(isinstance(byte, int) for byte in message):
        return bytes(message) + b"\n"
    return b""
