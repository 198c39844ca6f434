"""Terminals: shells in agents' containers that people look at and type into, and what was last on them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from hyperhive.core.errors import InvalidInputError

TERMINALS_LIMIT = 8
# Of all agents together.
HIVE_TERMINALS_LIMIT = 128
"""How many of an agent may be open at once."""
SCROLLBACK_LIMIT_BYTES = 256 * 1024
COLUMNS_LIMIT = 1000
ROWS_LIMIT = 500
ID_LIMIT_CHARS = 64
# What a terminal answers by itself: where its cursor is, a colour. Longer ones nobody waits for.
ANSWER_LIMIT_CHARS = 128

# What a terminal does at the reset that a full `ESC c` is: all that was on it goes.
RESET = b"\x1bc"


class Ending(StrEnum):
    """`exited`: the shell, by itself · `closed`: by a person · `idle`: unused for too long · `stopped`: with its agent
    · `lost`: its harness says no more of it · `failed`: it could not be opened."""

    EXITED = "exited"
    CLOSED = "closed"
    IDLE = "idle"
    STOPPED = "stopped"
    LOST = "lost"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Terminal:
    """One shell. `ended_at` and `ending` are None while it is open; `status` is its exit status, if that is known.

    `bytes_in` counts what was typed, `bytes_out` what the programs wrote.
    """

    id: str
    agent: str
    opened_by: str
    opened_at: datetime
    columns: int
    rows: int
    viewers: int = 0
    ended_at: datetime | None = None
    status: int | None = None
    ending: Ending | None = None
    bytes_in: int = 0
    bytes_out: int = 0


def check_size(columns: int, rows: int) -> None:
    """Raises InvalidInputError for a size that no terminal has."""
    if not (1 <= columns <= COLUMNS_LIMIT and 1 <= rows <= ROWS_LIMIT):
        raise InvalidInputError(
            f"a terminal of {columns} columns and {rows} rows cannot be",
            f"1 to {COLUMNS_LIMIT} columns, 1 to {ROWS_LIMIT} rows",
        )


class Scrollback:
    """The last that was written to a terminal, up to `limit_bytes` of it."""

    def __init__(self, limit_bytes: int = SCROLLBACK_LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._kept = bytearray()
        self._is_cut = False

    def add(self, data: bytes) -> None:
        self._kept += data
        # Cut only now and then: each cut moves all that is kept.
        if len(self._kept) > 2 * self._limit_bytes:
            self._cut()

    def clear(self) -> None:
        self._kept.clear()
        self._is_cut = False

    def read(self) -> bytes:
        """What is kept. It begins at a line if something was before it; without a line at what begins a sequence."""
        if len(self._kept) > self._limit_bytes:
            self._cut()
        if not self._is_cut:
            return bytes(self._kept)
        newline = self._kept.find(b"\n")
        if newline >= 0:
            return bytes(self._kept[newline + 1 :])
        return bytes(self._kept[max(self._kept.find(b"\x1b"), 0) :])

    def _cut(self) -> None:
        del self._kept[: len(self._kept) - self._limit_bytes]
        self._is_cut = True
