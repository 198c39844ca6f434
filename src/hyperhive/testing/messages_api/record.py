"""What the stand-in remembers: a bounded record of what it received, and how often each step was asked for."""

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import Any

REQUESTS_LIMIT = 1000
TEXT_LIMIT_CHARS = 4000
# Of the conversation before the newest turn, what the user said last.
EARLIER_LIMIT = 50
EARLIER_LIMIT_CHARS = 300
_ATTEMPTS_LIMIT = 10_000


class RequestRecord:
    """The last requests, for tests to look at. The oldest go first; `index` counts all that ever came."""

    def __init__(self) -> None:
        self._entries: deque[dict[str, Any]] = deque(maxlen=REQUESTS_LIMIT)
        self._next = 0

    def add(
        self,
        path: str,
        headers: Mapping[str, str],
        model: str = "",
        user_text: str = "",
        earlier_texts: Sequence[str] = (),
    ) -> None:
        self._entries.append(
            {
                "index": self._next,
                "path": path,
                "model": model,
                "x_api_key": headers.get("x-api-key"),
                "authorization": headers.get("authorization"),
                "user_text": user_text[:TEXT_LIMIT_CHARS],
                "earlier_texts": [text[:EARLIER_LIMIT_CHARS] for text in earlier_texts[-EARLIER_LIMIT:]],
            }
        )
        self._next += 1

    def list_since(self, index: int) -> dict[str, Any]:
        return {"requests": [entry for entry in self._entries if entry["index"] >= index], "next": self._next}


class AttemptCounter:
    """How often a step was asked for before; the steps that were asked longest ago are forgotten."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, int] = OrderedDict()

    def count(self, step_key: str) -> int:
        before = self._counts.pop(step_key, 0)
        self._counts[step_key] = before + 1
        if len(self._counts) > _ATTEMPTS_LIMIT:
            self._counts.popitem(last=False)
        return before
