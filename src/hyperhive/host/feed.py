"""The feed: what was committed, to whoever listens. A slow listener is told to look again, never waited for."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hyperhive.core.events import Event

# What a listener may be behind before it has to fetch anew: a few seconds of a busy hive.
BACKLOG_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Item:
    """Something to tell a listener. `kind` is hive, transcript, state or resync; `data` is ready for the wire."""

    kind: str
    data: dict[str, Any]
    event_id: int | None = None


class Subscription:
    """One listener's queue, bounded: over `BACKLOG_LIMIT` it is emptied and says `resync` instead."""

    def __init__(self, wants: Callable[[Item], bool]) -> None:
        self.wants = wants
        self._items: deque[Item] = deque()
        self._arrived = asyncio.Event()

    def put(self, item: Item) -> None:
        if len(self._items) >= BACKLOG_LIMIT:
            self._items.clear()
            item = Item("resync", {})
        self._items.append(item)
        self._arrived.set()

    async def take(self, timeout_s: float) -> list[Item]:
        """All that has arrived, at once; empty after `timeout_s` of silence."""
        if not self._items:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._arrived.wait()
            except TimeoutError:
                return []
        self._arrived.clear()
        items = list(self._items)
        self._items.clear()
        return items


class Feed:
    """Hands every item to the subscriptions that want it, and every event to the daemon's own listeners first."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Event], None]] = []
        self._subscriptions: set[Subscription] = set()

    def listen(self, listener: Callable[[Event], None]) -> None:
        """`listener` is called with each event, on the event loop, and must return at once."""
        self._listeners.append(listener)

    def subscribe(self, wants: Callable[[Item], bool]) -> Subscription:
        subscription = Subscription(wants)
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)

    def publish_events(self, events: Sequence[Event]) -> None:
        for event in events:
            for listener in self._listeners:
                listener(event)
            self.publish(Item("hive", render_event(event), event.id))

    def publish(self, item: Item) -> None:
        for subscription in self._subscriptions:
            if subscription.wants(item):
                subscription.put(item)


def render_event(event: Event) -> dict[str, Any]:
    """An event as the operator's API shows it."""
    return {
        "id": event.id,
        "at": event.at.isoformat(),
        "name": event.name.value,
        "agent": event.agent,
        "body": event.body,
    }
