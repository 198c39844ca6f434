"""A desktop client of host.sock as those of the first hyperhive are: strict where they are strict, and no more."""

import contextlib
import json
import re
import socket
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GIVE_UP_S = 5.0
KNOWN_VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")


class RefusedError(Exception):
    """The hive said no, with its words."""


class TooNewError(Exception):
    """The hive speaks a version that this client does not know."""


class Stream:
    """One connection, line by line."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout_s)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self._lines = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def take(self) -> bytes:
        """The next line with its end; nothing once the hive has hung up."""
        return self._lines.readline()

    def take_row(self) -> dict[str, Any]:
        """The one row of the next response."""
        [row] = read_response(self.take())["agent_statuses"]
        return row

    def close(self) -> None:
        self._lines.close()
        self.socket.close()


@dataclass(frozen=True)
class DesktopClient:
    path: Path

    def exchange(self, line: bytes) -> bytes:
        """A connection of its own for one line; what comes back, as it came."""
        with self.connect() as stream:
            stream.send(line + b"\n")
            return stream.take()

    def ask(self, cmd: str, **fields: Any) -> dict[str, Any]:
        """The response. Raises RefusedError, TooNewError."""
        return read_response(self.exchange(json.dumps({"cmd": cmd, **fields}).encode()))

    def find_row(self, name: str) -> dict[str, Any]:
        rows = self.ask("agent_status")["agent_statuses"]
        return next(row for row in rows if row["name"] == name and _NAME.fullmatch(row["name"]))

    def find_approvals(self, agent: str) -> list[dict[str, Any]]:
        response = self.ask("pending")
        # An absent key would mean that nobody answered.
        assert "approvals" in response
        return [approval for approval in response["approvals"] if approval["agent"] == agent]

    @contextlib.contextmanager
    def connect(self, timeout_s: float = GIVE_UP_S) -> Generator[Stream]:
        stream = Stream(self.path, timeout_s)
        try:
            yield stream
        finally:
            stream.close()

    @contextlib.contextmanager
    def subscribe(self, timeout_s: float = 60.0) -> Generator[Stream]:
        """Listens; the acknowledgement has been read."""
        with self.connect(timeout_s) as stream:
            stream.send(b'{"cmd":"subscribe_agent_status"}\n')
            assert list(read_response(stream.take())) == ["version", "ok"]
            yield stream


def read_response(line: bytes) -> dict[str, Any]:
    """A line as a response. The version is looked at before anything else."""
    assert line.endswith(b"\n"), f"no whole line came: {line!r}"
    response: dict[str, Any] = json.loads(line)
    if response.get("version", 0) > KNOWN_VERSION:
        raise TooNewError
    if not response["ok"]:
        raise RefusedError(response["error"])
    assert "error" not in response
    return response


def decide_badge(row: dict[str, Any]) -> str:
    """The one word a client shows of a row."""
    found = [word for word in ("failed", "needs_login", "paused") if row[word]]
    return found[0] if found else ("running" if row["running"] else "stopped")
