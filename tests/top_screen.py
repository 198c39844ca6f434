"""`hive top` on a terminal of its own, as a person has it: what it drew, and how it left the terminal."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEADLINE_S = 60
_SEQUENCES = re.compile(rb"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_]|[()][0-9A-B])")


@dataclass
class TopScreen:
    process: "subprocess.Popen[bytes]"
    handle: int
    terminal: int
    # How the terminal was before.
    settings: list[Any]
    written: bytearray = field(default_factory=bytearray)

    @property
    def text(self) -> str:
        """All that was ever drawn, without what only moves or colours."""
        return _SEQUENCES.sub(b"", bytes(self.written)).decode("utf-8", "replace")

    def press(self, keys: str) -> None:
        os.write(self.handle, keys.encode())

    def wait_for(self, is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not is_so():
            assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}\n{self.text[-3000:]}"
            self._read()

    def wait_end(self) -> int:
        self.wait_for(lambda: self.process.poll() is not None, "it ends")
        while self._read():
            pass
        return self.process.wait()

    def is_restored(self) -> bool:
        """Whether the terminal is as it was: echo and lines, the screen of before, a cursor, no mouse."""
        modes = {found[1]: found[2] for found in re.finditer(rb"\x1b\[\?(\d+)([hl])", bytes(self.written))}
        entered = {mode for mode, last in modes.items() if last == b"h"} - {b"25", b"7"}
        return termios.tcgetattr(self.terminal) == self.settings and not entered and modes.get(b"25") != b"l"

    def _read(self) -> bool:
        if not select.select([self.handle], [], [], 0.1)[0]:
            return False
        try:
            piece = os.read(self.handle, 65536)
        except OSError:
            # Nobody has the terminal open any more.
            return False
        self.written += piece
        return bool(piece)


@contextmanager
def run_top(data: Path, size: tuple[int, int] = (80, 24), **environment: str) -> Generator[TopScreen]:
    """`hive top` for the hive on `data`, on a terminal of so many columns and rows."""
    handle, terminal = pty.openpty()
    columns, rows = size
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    settings = termios.tcgetattr(terminal)
    process = subprocess.Popen(
        [sys.executable, "-m", "hyperhive.cli.main", "top"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        env=os.environ | {"HIVE_DATA": str(data), "TERM": "xterm-256color"} | environment,
    )
    try:
        # The terminal stays open here, so that its settings can be looked at when the program is gone.
        yield TopScreen(process, handle, terminal, settings)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(terminal)
        os.close(handle)
