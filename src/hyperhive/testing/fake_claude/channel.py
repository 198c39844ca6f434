"""The two pipes: JSON lines in and out, and requests that wait for their response while others are served."""

import contextlib
import json
import os
import select
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]


class InterruptError(Exception):
    """The caller interrupted the turn."""


class CallerGoneError(Exception):
    """The caller closed its end while an answer of it was needed."""


class RefusedError(Exception):
    """The caller answered a request with an error."""


class Channel:
    """One thread serves both directions: whoever waits here also handles what arrives meanwhile.

    `on_request` answers a control request of the caller; user messages queue up in `prompts`.
    """

    def __init__(self, on_request: Callable[[Json], None]) -> None:
        self.prompts: deque[Json] = deque()
        self.closed = False
        self.in_turn = False
        self._on_request = on_request
        self._interrupted = False
        self._responses: dict[str, Json] = {}
        self._requests = 0
        self._buffer = b""

    # -- out ----------------------------------------------------------------------------------------------

    def emit(self, event: Json) -> None:
        self.emit_bytes(json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")

    def emit_bytes(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def request(self, request: Json) -> Json:
        """Asks the caller and returns its answer. Raises RefusedError, CallerGoneError or InterruptError."""
        self._requests += 1
        request_id = f"fake-{self._requests}"
        self.emit({"type": "control_request", "request_id": request_id, "request": request})
        while request_id not in self._responses:
            if self.closed:
                raise CallerGoneError
            self.pump()
        response = self._responses.pop(request_id)
        if response.get("subtype") == "error":
            raise RefusedError(str(response.get("error")))
        answer: Json = response.get("response") or {}
        return answer

    # -- in -----------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Ends the turn at its next wait. Between turns there is nothing to end."""
        self._interrupted = self.in_turn

    def sleep(self, seconds: float) -> None:
        """Waits, and serves the caller meanwhile. Raises InterruptError."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.pump(left)

    def hang(self) -> None:
        """Never returns: an interrupt or a signal ends it."""
        while True:
            self.pump()

    def wait_for(self, descriptor: int) -> None:
        """Waits until `descriptor` can be read. Raises InterruptError."""
        while not self.pump(watch=descriptor):
            pass

    def pump(self, timeout_s: float | None = None, watch: int | None = None) -> bool:
        """Handles what comes in within `timeout_s`, at most one read. True when `watch` can be read."""
        watched = [] if watch is None else [watch]
        if not self.closed:
            watched.append(sys.stdin.fileno())
        ready, _, _ = select.select(watched, [], [], timeout_s)
        if sys.stdin.fileno() in ready:
            self._read()
        if self._interrupted:
            self._interrupted = False
            raise InterruptError
        return watch in ready

    def _read(self) -> None:
        data = os.read(sys.stdin.fileno(), 1 << 16)
        self.closed = not data
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):
                self._dispatch(json.loads(line))

    def _dispatch(self, message: Json) -> None:
        match message.get("type"):
            case "control_request":
                self._on_request(message)
            case "control_response":
                response: Json = message["response"]
                self._responses[str(response.get("request_id"))] = response
            case "user":
                self.prompts.append(message)
            case _:
                pass
