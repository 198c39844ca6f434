"""The feed: what was committed, to whoever listens. A slow listener is told to look again, never waited for."""

import asyncio
import functools
import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hyperhive.core.events import TRAFFIC, Event
from hyperhive.host.present import show_event

# What a listener may be behind before it has to fetch anew: a few seconds of a busy hive, unless it writes long texts.
BACKLOG_LIMIT = 1000
BACKLOG_LIMIT_BYTES = 1024 * 1024
# How much is handed out before it is known whether the listener gets rid of it.
PIECE_BYTES = 64 * 1024
# Those who listen at one time have seen the same; a few more are those that have just come.
_FORMS = 4


@dataclass(frozen=True)
class Item:
    """For a listener: `data` is ready for the wire. `kind`: hive, transcript, state, needs, ports or resync."""

    kind: str
    data: dict[str, Any]
    event_id: int | None = None
    _forms: dict[tuple[int, int], bytes] = field(
        default_factory=dict[tuple[int, int], bytes], init=False, compare=False, repr=False
    )

    @functools.cached_property
    def text(self) -> str:
        """`data` as it is written, made once for all listeners. ASCII: no line end of an agent's ends a line."""
        return json.dumps(self.data, separators=(",", ":"))

    def render(self, event_id: int, seq: int) -> bytes:
        """As it is written to a listener that has seen that much with it: made once for all that have."""
        form = self._forms.get((event_id, seq))
        if form is None:
            if len(self._forms) >= _FORMS:
                self._forms.clear()
            form = f"id: {event_id}:{seq}\nevent: {self.kind}\ndata: {self.text}\n\n".encode()
            self._forms[event_id, seq] = form
        return form


class Subscription:
    """One listener's queue, bounded: over `BACKLOG_LIMIT` or its bytes it is emptied and says `resync` instead."""

    def __init__(self, wants: Callable[[Item], bool]) -> None:
        self.wants = wants
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()

    def put(self, item: Item) -> None:
        is_over = self._bytes + len(item.text) > BACKLOG_LIMIT_BYTES
        if self._items and (is_over or len(self._items) >= BACKLOG_LIMIT):
            self._items.clear()
            self._bytes = 0
            item = Item("resync", {})
        self._items.append(item)
        self._bytes += len(item.text)
        self._arrived.set()

    async def take(self, timeout_s: float) -> list[Item]:
        """What has arrived, never much more than `PIECE_BYTES` of it; empty after `timeout_s` of silence."""
        if not self._items:
            self._arrived.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._arrived.wait()
            except TimeoutError:
                return []
        items: list[Item] = []
        size = 0
        while self._items and size < PIECE_BYTES:
            items.append(item := self._items.popleft())
            size += len(item.text)
        self._bytes -= size
        return items

    @property
    def has_more(self) -> bool:
        """Whether `take` would give something at once."""
        return bool(self._items)


class Feed:
    """Hands every item to the subscriptions that want it, and every event to the daemon's own listeners first."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Event], None]] = []
        self._traffic_listeners: list[Callable[[Event], None]] = []
        self._subscriptions: set[Subscription] = set()

    @property
    def is_watched(self) -> bool:
        """Whether anybody but the daemon itself listens."""
        return bool(self._subscriptions)

    @property
    def watchers(self) -> int:
        """How many they are."""
        return len(self._subscriptions)

    def listen(self, listener: Callable[[Event], None], *, traffic: bool = True) -> None:
        """`listener` is called with each event, on the event loop, and must return at once.

        Without `traffic` it is spared those of messages that come and go (`core.events.TRAFFIC`).
        """
        self._listeners.append(listener)
        if traffic:
            self._traffic_listeners.append(listener)

    def subscribe(self, wants: Callable[[Item], bool]) -> Subscription:
        subscription = Subscription(wants)
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)

    def publish_events(self, events: Sequence[Event]) -> None:
        for event in events:
            for listener in self._traffic_listeners if event.name in TRAFFIC else self._listeners:
                listener(event)
            if self._subscriptions:
                self.publish(Item("hive", show_event(event), event.id))

    def publish(self, item: Item) -> None:
        for subscription in self._subscriptions:
            if subscription.wants(item):
                subscription.put(item)
