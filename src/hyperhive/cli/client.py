"""The operator's API over `<run>/hive.sock`: the caller is known by its uid, so there is no token.

The standard library's HTTP client is used because it starts in a tenth of the time a larger one takes.
"""

import contextlib
import http.client
import json
import os
import socket
import sys
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlencode

from hyperhive.cli.units.place import MACHINE_DATA, MACHINE_UNIT, SERVICE
from hyperhive.core.errors import HiveError, RefusedError, UnavailableError, parse_error
from hyperhive.core.paths import DATA_VARIABLE, Roots, decide_roots
from hyperhive.system.pids import ProcessId, find_process
from hyperhive.system.sockets import connect_unix, peer_pid

# Longer than the daemon itself waits for a container to start or stop (60 s, see host/drivers/protocol.py).
ANSWER_TIMEOUT_S = 90.0
# Of a stream's line: no event is as long.
LINE_LIMIT_BYTES = 4 * 1024 * 1024
PIECE_BYTES = 256 * 1024

# For the audit: which command it was. That is believed no more than any word of whoever runs it.
_PROGRAM = " ".join(["hive", *(word for word in sys.argv[1:2] if word.isascii() and word.isprintable())])

Row = dict[str, Any]


class NoHiveError(HiveError):
    """No hive is running on the data folder that is meant."""

    code = "no_hive"


class AnswerError(HiveError):
    """The hive answered something that is not of this API: most likely it is of another version."""

    code = "bad_answer"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock: socket.socket = connect_unix(self._path, timeout_s=self.timeout)


class Client:
    """One hive. Every method raises NoHiveError when it is not there, and the HiveError it answers with."""

    def __init__(self, roots: Roots, *, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self.roots = roots
        self._timeout_s = timeout_s

    def get(self, path: str, query: Mapping[str, str | int] | None = None) -> Any:
        return self._call("GET", path, query=query)

    def get_row(self, path: str, query: Mapping[str, str | int] | None = None) -> Row:
        return parse_row(self.get(path, query))

    def get_rows(self, path: str, query: Mapping[str, str | int] | None = None) -> list[Row]:
        return parse_rows(self.get(path, query))

    def get_rows_and_header(self, path: str, query: Mapping[str, str | int], header: str) -> tuple[list[Row], str]:
        """The same, and what a header of the answer says; empty if it is not there."""
        status, content, found = self._ask("GET", path, query=query, header=header)
        return parse_rows(parse_answer(status, content)), found

    def post(self, path: str, body: Row | None = None) -> Any:
        return self._call("POST", path, body=body or {})

    def put(self, path: str, body: Row) -> Any:
        return self._call("PUT", path, body=body)

    def delete(self, path: str, query: Mapping[str, str | int] | None = None) -> Any:
        return self._call("DELETE", path, query=query)

    def stream_lines(self, path: str) -> Generator[bytes]:
        """The lines of an answer that goes on, until it ends; none is longer than a line may be.

        Raises UnavailableError if nothing comes for as long as the client waits, or the hive goes away.
        """
        connection = _UnixConnection(self.roots.hive_socket, self._timeout_s)
        with contextlib.closing(connection):
            self._connect(connection)
            try:
                connection.request("GET", path, headers={"Accept": "text/event-stream"})
                answer = connection.getresponse()
                if answer.status != 200:
                    parse_answer(answer.status, answer.read())
                while line := answer.readline(LINE_LIMIT_BYTES):
                    yield line
            except (OSError, http.client.HTTPException) as error:
                raise UnavailableError("the hive went away", "it is asked again") from error

    def read_pieces(self, path: str, query: Mapping[str, str | int]) -> Generator[bytes]:
        """The content of an answer as it comes, for what is too large to be held. Nothing is asked before the first.

        Raises UnavailableError if it ends before it is whole.
        """
        connection = _UnixConnection(self.roots.hive_socket, self._timeout_s)
        with contextlib.closing(connection):
            self._connect(connection)
            try:
                connection.request("GET", f"{path}?{urlencode(query)}")
                answer = connection.getresponse()
                if answer.status != 200:
                    parse_answer(answer.status, answer.read())
                while piece := answer.read(PIECE_BYTES):
                    yield piece
            except (OSError, http.client.HTTPException) as error:
                raise UnavailableError("the hive went away before all of it was here", "ask again") from error

    def send_file(self, path: str, query: Mapping[str, str | int], file: BinaryIO, size_bytes: int) -> Any:
        """Posts an open file as it is."""
        connection = _UnixConnection(self.roots.hive_socket, self._timeout_s)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)}
        with contextlib.closing(connection):
            self._connect(connection)
            try:
                connection.request("POST", f"{path}?{urlencode(query)}", file, headers)
                answer = connection.getresponse()
                return parse_answer(answer.status, answer.read())
            except (OSError, http.client.HTTPException) as error:
                raise UnavailableError(
                    "the hive went away before it answered", "look at what is there, then send it again"
                ) from error

    def open_socket(self) -> socket.socket:
        """A connection of the caller's own, for what is no request and answer."""
        connection = _UnixConnection(self.roots.hive_socket, self._timeout_s)
        self._connect(connection)
        return connection.sock

    def find_daemon(self) -> ProcessId | None:
        """The daemon's process; None if it cannot be seen from here."""
        connection = _UnixConnection(self.roots.hive_socket, self._timeout_s)
        with contextlib.closing(connection):
            self._connect(connection)
            return find_process(peer_pid(connection.sock))

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int] | None = None,
        body: Row | None = None,
    ) -> Any:
        status, content, _ = self._ask(method, path, query, body)
        return parse_answer(status, content)

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int] | None = None,
        body: Row | None = None,
        header: str = "",
    ) -> tuple[int, bytes, str]:
        """Status and content of the answer, and what its `header` says."""
        connection = _UnixConnection(self.roots.hive_socket, self._timeout_s)
        target = f"{path}?{urlencode(query)}" if query else path
        headers = {"Accept": "application/json", "User-Agent": _PROGRAM}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(body)
        with contextlib.closing(connection):
            self._connect(connection)
            try:
                connection.request(method, target, content, headers)
                answer = connection.getresponse()
                return answer.status, answer.read(), answer.headers.get(header, "")
            except TimeoutError as error:
                raise UnavailableError(
                    f"the hive did not answer within {self._timeout_s:g} s",
                    "what was asked for may still happen; `hive status` tells more",
                ) from error
            except (OSError, http.client.HTTPException) as error:
                raise UnavailableError(
                    "the hive went away before it answered",
                    "what was asked for may have happened; look once it is running again",
                ) from error

    def _connect(self, connection: _UnixConnection) -> None:
        try:
            connection.connect()
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
            raise NoHiveError(f"no hive is running on {self.roots.data}", plan_start_hint(self.roots)) from error
        except PermissionError as error:
            raise RefusedError(
                f"the hive on {self.roots.data} belongs to another user",
                "run this as the user who started it",
            ) from error
        except OSError as error:
            raise UnavailableError(f"{self.roots.hive_socket} cannot be reached: {error.strerror or error}") from error


_VERSION_HINT = "is it of another version than this command? `hive version` and `hive status` tell"


def parse_answer(status: int, content: bytes) -> Any:
    """The JSON of a successful answer (None if it has none). Raises what a failed one tells."""
    try:
        answer = json.loads(content) if content.strip() else None
    except ValueError as error:
        raise AnswerError(f"the hive answered with status {status} and no JSON", _VERSION_HINT) from error
    if 200 <= status < 300:
        return answer
    if isinstance(answer, dict) and "message" in answer:
        raise parse_error(cast("Row", answer))
    raise AnswerError(f"the hive answered with status {status}", _VERSION_HINT)


def parse_row(answer: Any) -> Row:
    if not isinstance(answer, dict):
        raise AnswerError("the hive answered with something that is no object", _VERSION_HINT)
    return cast("Row", answer)


def parse_rows(answer: Any) -> list[Row]:
    if not isinstance(answer, list):
        raise AnswerError("the hive answered with something that is no list", _VERSION_HINT)
    return [parse_row(row) for row in cast("list[Any]", answer)]


def parse_id(row: Row) -> int:
    value = row.get("id")
    if not isinstance(value, int):
        raise AnswerError("the hive answered with something that has no number", _VERSION_HINT)
    return value


def plan_start_hint(roots: Roots) -> str:
    """How to get a hive that answers: the rehearsal's folder when that one runs, else how to start one."""
    other = decide_own_roots(None, rehearsal=True)
    if other != roots and other.hive_socket.exists():
        return f"a rehearsal is there: {DATA_VARIABLE}={other.data} names it. `hive up` starts a real hive"
    if roots.data == MACHINE_DATA and MACHINE_UNIT.exists():
        return f"start it with `systemctl start {SERVICE}`"
    return f"start it with `hive up`, or name its data folder in {DATA_VARIABLE}"


def decide_own_roots(data: Path | None, *, rehearsal: bool = False) -> Roots:
    """The folders that this process means (see `core.paths.decide_roots`)."""
    return decide_roots(data, environment=os.environ, uid=os.getuid(), working_folder=Path.cwd(), rehearsal=rehearsal)


def find_hive(*, timeout_s: float = ANSWER_TIMEOUT_S) -> Client:
    """The hive that HIVE_DATA names, or this user's own; whether it runs shows on the first call."""
    return Client(decide_own_roots(None), timeout_s=timeout_s)
