"""The hive's stream, read in threads of its own: what happens is told to `tell`, what was missed is fetched anew."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from hyperhive.cli.client import Client, Row
from hyperhive.core.errors import HiveError
from hyperhive.core.paths import Roots

# The hive says that it is alive every 15 s.
STREAM_TIMEOUT_S = 40.0
ASK_TIMEOUT_S = 10.0
RETRY_S = 1.0
# However much happens, it is fetched no more often.
REFRESH_INTERVAL_S = 1.0
MESSAGES = 50


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All anew. `hive` and `messages` are empty if only agents and needs were fetched."""

    agents: list[Row]
    needs: list[Row]
    hive: Row | None = None
    messages: list[Row] | None = None


@dataclass(frozen=True, slots=True)
class Happened:
    kind: str
    data: Row


@dataclass(frozen=True, slots=True)
class Lost:
    """The hive does not answer now; `trouble` says why."""

    trouble: str


@dataclass(frozen=True, slots=True)
class Live:
    """What happens from now on is told."""


News = Snapshot | Happened | Lost | Live


class Feed:
    """`tell` is called from both threads; while it waits, the hive is read no further.

    `close` ends them, at the latest with the hive's next sign of life; they keep no program from ending.
    """

    def __init__(self, roots: Roots, tell: Callable[[News], None]) -> None:
        self._stream = Client(roots, timeout_s=STREAM_TIMEOUT_S)
        self._hive = Client(roots, timeout_s=ASK_TIMEOUT_S)
        self._tell = tell
        self._stale = threading.Event()
        self._closed = threading.Event()

    def start(self) -> None:
        for work in (self._listen, self._refresh):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        self._stale.set()

    def refresh_soon(self) -> None:
        """Has agents and needs fetched again."""
        self._stale.set()

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                self._follow()
                trouble = "the stream ended"
            except HiveError as error:
                trouble = error.message
            if not self._closed.is_set():
                self._tell(Lost(trouble))
            self._closed.wait(RETRY_S)

    def _follow(self) -> None:
        """Tells all anew, then what happens, until the stream ends."""
        with contextlib.closing(self._stream.stream_lines("/api/stream")) as lines:
            events = parse_events(lines)
            # The stream was begun before the rest is asked for: nothing falls between them.
            next(events, None)
            self._tell(self._load_all())
            self._tell(Live())
            for kind, data in events:
                if self._closed.is_set():
                    return
                if kind:
                    self._tell(Happened(kind, data))

    def _load_all(self) -> Snapshot:
        hive = self._hive
        agents, needs = hive.get_rows("/api/agents"), hive.get_rows("/api/needs")
        messages = hive.get_rows("/api/messages", {"limit": MESSAGES})
        return Snapshot(agents, needs, hive.get_row("/api/hive"), messages)

    def _refresh(self) -> None:
        while True:
            self._stale.wait()
            if self._closed.wait(REFRESH_INTERVAL_S):
                return
            self._stale.clear()
            # Without an answer the stream is gone, too: that tells.
            with contextlib.suppress(HiveError):
                self._tell(Snapshot(self._hive.get_rows("/api/agents"), self._hive.get_rows("/api/needs")))


def parse_events(lines: Iterable[bytes]) -> Iterator[tuple[str, Row]]:
    """Server-sent events: kind and data of each; kind "" for one without data, such as a sign of life."""
    kind, data = "", ""
    for line in lines:
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if not text:
            yield (kind, _parse_data(data)) if data else ("", {})
            kind, data = "", ""
        elif text.startswith("event: "):
            kind = text.removeprefix("event: ")
        elif text.startswith("data: "):
            data = text.removeprefix("data: ")


def _parse_data(text: str) -> Row:
    """The object; an empty one for what is none."""
    try:
        found: Any = json.loads(text)
    except ValueError:
        return {}
    return cast("Row", found) if isinstance(found, dict) else {}
