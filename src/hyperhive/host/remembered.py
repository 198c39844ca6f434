"""What was found out of late, in memory: values, or why there is none."""

import math
import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from hyperhive.core.errors import InvalidInputError

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


class Remembered(Generic[KeyT, ValueT]):
    """At most `limit` of them: what was put or asked for the longest ago is forgotten."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # Until when each counts, and what it is; the newest at the end.
        self._entries: OrderedDict[KeyT, tuple[float, ValueT | InvalidInputError]] = OrderedDict()

    def find(self, key: KeyT) -> ValueT | None:
        """The value, None if there is none any more. Raises InvalidInputError if that is what was found out."""
        until, found = self._entries.get(key, (0.0, None))
        if found is None or until <= time.monotonic():
            return None
        self._entries.move_to_end(key)
        if isinstance(found, InvalidInputError):
            raise _renew(found)
        return found

    def put(self, key: KeyT, found: ValueT | InvalidInputError, kept_s: float = math.inf) -> None:
        """Remembers it for `kept_s`, in the place of what was remembered before."""
        entry = _renew(found) if isinstance(found, InvalidInputError) else found
        self._entries[key] = (time.monotonic() + kept_s, entry)
        self._entries.move_to_end(key)
        while len(self._entries) > self._limit:
            self._entries.popitem(last=False)


def _renew(error: InvalidInputError) -> InvalidInputError:
    """The same for whoever asks next: one that was raised holds on to all that led there."""
    return InvalidInputError(error.message, error.hint)
