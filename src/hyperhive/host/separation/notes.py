"""What the helper did, refused or failed at, a line each: a file that is root's alone, and closed to the daemon."""

import json
import os
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Final

import structlog

from hyperhive.core.throttles import Throttle
from hyperhive.host.separation.verbs import READING
from hyperhive.system.clock import now

log = structlog.get_logger(__name__)

SIZE_LIMIT_BYTES: Final = 8 * 1024 * 1024
MESSAGE_LIMIT_CHARS: Final = 300
# What changes nothing is asked every few seconds of each container.
READS_TOLD_EVERY_S: Final = 600.0
_LOOK_EVERY_S = 60.0


class Outcome(StrEnum):
    OK = "ok"
    REFUSED = "refused"
    FAILED = "failed"


class HelperNotes:
    """Lines of JSON in the file `path`: at, verb, name, outcome, message and count.

    Once it has `limit_bytes` it becomes `<path>.1`, in place of the one before. What only reads is told the first time
    for each name, and then with the number of times every ten minutes. `clock_s` is a clock that never goes back.
    """

    def __init__(
        self, path: Path, limit_bytes: int = SIZE_LIMIT_BYTES, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._clock_s = clock_s
        self._reads: Throttle[tuple[str, str, Outcome]] = Throttle(READS_TOLD_EVERY_S)
        self._looked_at_s = clock_s()
        # A line may have been cut off, also of an earlier helper: then the next one begins anew.
        self._is_torn = True

    def note(self, verb: str, name: str, outcome: Outcome, message: str = "") -> None:
        """`message` is cut. A disk that does not take the line is logged, and no more."""
        at_s = self._clock_s()
        if at_s - self._looked_at_s >= _LOOK_EVERY_S:
            self._looked_at_s = at_s
            self._tell_reads(at_s)
        if verb in READING and outcome is not Outcome.REFUSED and not self._reads.note((verb, name, outcome), at_s):
            return
        self._write(verb, name, outcome, message, 1)

    def close(self) -> None:
        """Writes what was only counted so far."""
        self._tell_reads(self._clock_s(), is_last=True)

    def _tell_reads(self, at_s: float, *, is_last: bool = False) -> None:
        for (verb, name, outcome), count in self._reads.take_due(at_s, is_last=is_last):
            self._write(verb, name, outcome, "", count)

    def _write(self, verb: str, name: str, outcome: Outcome, message: str, count: int) -> None:
        fields = {
            "at": now().isoformat(timespec="milliseconds"),
            "verb": verb,
            "name": name[:MESSAGE_LIMIT_CHARS],
            "outcome": outcome,
            "message": message[:MESSAGE_LIMIT_CHARS],
            "count": count,
        }
        # All of it ASCII: nothing in it moves a cursor, or ends a line.
        line = json.dumps(fields).encode() + b"\n"
        try:
            self._append(line)
        except OSError as error:
            self._is_torn = True
            log.warning("helper.not_noted", reason=str(error), **fields)

    def _append(self, line: bytes) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(self._path, flags, 0o600)
        try:
            size_bytes = os.fstat(handle).st_size
            if self._is_torn and size_bytes and os.pread(handle, 1, size_bytes - 1) != b"\n":
                line = b"\n" + line
            written = os.write(handle, line)
        finally:
            os.close(handle)
        if written < len(line):
            raise OSError("the disk is full")
        self._is_torn = False
        if size_bytes + written >= self._limit_bytes:
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
