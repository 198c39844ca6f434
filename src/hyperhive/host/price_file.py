"""The operator's `prices.toml`: read at start and again when it changed. A broken one is told, never fatal."""

import stat
import time
from pathlib import Path

import structlog

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.prices import DEFAULT_TABLE, FILE_LIMIT_BYTES, PriceTable, parse_prices

log = structlog.get_logger(__name__)

# How often the file is looked at while requests come.
LOOK_EVERY_S = 1.0


class PriceFile:
    """`table` is the last good one: the default table until a file was there that could be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._table = DEFAULT_TABLE
        self._seen: tuple[int, int, int] | None = None
        self._looked_at_s = float("-inf")
        self.problem = ""

    @property
    def table(self) -> PriceTable:
        if time.monotonic() - self._looked_at_s >= LOOK_EVERY_S:
            self.look()
        return self._table

    def look(self) -> None:
        """Reads the file if it is another one than the last time. `problem` says why it is not in force, if so."""
        self._looked_at_s = time.monotonic()
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._table, self._seen, self.problem = DEFAULT_TABLE, None, ""
            return
        except OSError as error:
            self._tell(f"it cannot be looked at: {error.strerror}")
            return
        seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        if seen == self._seen:
            return
        self._seen = seen
        if not stat.S_ISREG(status.st_mode):
            self._tell("it is not a plain file")
            return
        try:
            with self._path.open("rb") as file:
                self._table = parse_prices(file.read(FILE_LIMIT_BYTES + 1))
            self.problem = ""
            log.info("prices.read", path=str(self._path), models=len(self._table.rows))
        except OSError as error:
            self._tell(f"it cannot be read: {error.strerror}")
        except InvalidInputError as error:
            self._tell(error.message)

    def _tell(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("prices.refused", path=str(self._path), problem=problem)
        self.problem = problem
