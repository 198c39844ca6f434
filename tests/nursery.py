"""Daemons that start in no time: forked from a process that has imported everything and done nothing else.

Importing is most of what a start of the daemon costs, and the tests start hundreds. What is forked is the daemon's own
program from its first line on, in a process of its own with arguments, output and an environment of its own; it is
ended and killed like any. Only what `/proc` tells of its command line, environment and memory is the nursery's.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

LENGTH_BYTES = 8
_SERVER = Path(__file__).with_name("nursery_server.py")


class Nursery:
    """Starts Python programs by a fork. It is itself started by the first of them."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket
        self._lock = threading.Lock()

    def start(self, command: Sequence[str], environment: Mapping[str, str], errors: IO[Any]) -> "Forked":
        """Runs `command`, `-m MODULE` or a file and then arguments. Standard error goes to `errors`."""
        read_end, write_end = os.pipe()
        request = {"command": list(command), "environment": dict(environment), "folder": str(Path.cwd())}
        try:
            pid = self.ask(request, [write_end, errors.fileno()])
        finally:
            os.close(write_end)
        return Forked(self, pid, os.pidfd_open(pid), os.fdopen(read_end, "r"))

    def ask(self, request: Mapping[str, Any], files: Sequence[int] = ()) -> int:
        """The answer to a request."""
        content = json.dumps(request).encode()
        with self._lock:
            if self._server is None:
                self._open()
            socket.send_fds(self._socket, [len(content).to_bytes(LENGTH_BYTES)], list(files))
            self._socket.sendall(content)
            return int.from_bytes(read_exactly(self._socket, LENGTH_BYTES), signed=True)

    def close(self) -> None:
        """Ends the nursery. What was started goes on."""
        if self._server is not None:
            self._socket.close()
            self._server.wait()
            self._server = None

    def _open(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, str(_SERVER)], stdin=theirs.fileno(), stdout=subprocess.DEVNULL
            )


@dataclass
class Forked:
    """A program that was forked, as `subprocess.Popen` would show it."""

    _nursery: Nursery
    pid: int
    _pid_file: int
    stdout: IO[str]
    returncode: int | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def poll(self) -> int | None:
        """Its exit status, a signal's as a negative number; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status. Raises subprocess.TimeoutExpired."""
        with self._lock:
            if self.returncode is None:
                ended = select.poll()
                ended.register(self._pid_file, select.POLLIN)
                if not ended.poll(None if timeout is None else timeout * 1000):
                    raise subprocess.TimeoutExpired("a forked program", timeout or 0)
                self.returncode = self._nursery.ask({"ended": self.pid})
                os.close(self._pid_file)
            return self.returncode

    def send_signal(self, number: int) -> None:
        """Nothing happens if it has ended."""
        with self._lock:
            if self.poll() is None:
                signal.pidfd_send_signal(self._pid_file, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def read_exactly(connection: socket.socket, size_bytes: int) -> bytes:
    """Raises EOFError if the other end closes before that."""
    content = b""
    while len(content) < size_bytes:
        piece = connection.recv(size_bytes - len(content))
        if not piece:
            raise EOFError("the nursery has ended")
        content += piece
    return content
