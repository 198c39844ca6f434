"""The limits: what the disk does when it is asked for nothing but durable writes, and what a socket costs."""

import os
import socket
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import end_program, start_program

_BLOCK = b"x" * 4096
# Written once beforehand: overwriting spares the file system's journal, and is what a grown write-ahead log does.
_FILE_BLOCKS = 1024
_SECTORS_WRITTEN = 6
_SECTOR_BYTES = 512

_ECHO = """
import os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print("ready", flush=True)
peer, _ = server.accept()
while data := peer.recv(4096):
    peer.sendall(data)
"""


class Limits:
    """Does one durable write or one echo at a time."""

    def __init__(self, folder: Path, echo: socket.socket) -> None:
        self._echo = echo
        self._file = os.open(folder / "blocks", os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(self._file, _BLOCK * _FILE_BLOCKS, 0)
        os.fsync(self._file)
        self._next = 0

    def sync_block(self) -> None:
        """A block of 4 KiB, durable."""
        self._next = (self._next + 1) % _FILE_BLOCKS
        os.pwrite(self._file, _BLOCK, self._next * len(_BLOCK))
        os.fdatasync(self._file)

    def echo(self) -> None:
        """1 KiB to another process and back."""
        self._echo.sendall(_BLOCK[:1024])
        left_bytes = 1024
        while left_bytes:
            left_bytes -= len(self._echo.recv(left_bytes))

    def count_syncs(self, duration_s: float) -> float:
        """Durable writes a second, one after another."""
        began = time.perf_counter()
        count = 0
        while time.perf_counter() - began < duration_s:
            self.sync_block()
            count += 1
        return count / (time.perf_counter() - began)


class WriteCounter:
    """Counts what reaches the disk below a folder, whoever writes it.

    The count for a process (`/proc/PID/io`) is of no use here: a file that was once grown is cached in pieces of up to
    1 MiB, and each is counted whole when 4 KiB of it are overwritten.
    """

    def __init__(self, folder: Path) -> None:
        device = folder.stat().st_dev
        self._file = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
        if not self._file.exists():
            raise FileNotFoundError(f"{folder} is not on a disk of its own that the kernel counts: choose a --folder")

    def read_bytes(self) -> int:
        return int(self._file.read_text().split()[_SECTORS_WRITTEN]) * _SECTOR_BYTES


@contextmanager
def open_limits(folder: Path) -> Generator[Limits]:
    folder.mkdir()
    path = folder / "echo.sock"
    server = start_program([sys.executable, "-I", "-c", _ECHO, str(path)])
    try:
        assert server.stdout is not None
        server.stdout.readline()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            yield Limits(folder, connection)
    finally:
        end_program(server)
