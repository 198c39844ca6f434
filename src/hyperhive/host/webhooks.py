"""Webhooks: addresses of the operator's are told of events, in order, at least once, over restarts.

The queue of a hook is the table of events after its cursor: nothing is written for an event that nobody took yet. One
task a hook sends one event after the other, and waits longer after each failure. What is older than GIVE_UP_AFTER when
an attempt fails is given up, so that an address that is gone keeps nothing for ever.
"""

import asyncio
import json
import random
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from hyperhive.core.errors import HiveError, InvalidInputError, NotFoundError, TooManyError
from hyperhive.core.events import TRAFFIC, Event, EventName
from hyperhive.host.store.store import Store, Transaction, View
from hyperhive.host.webhook_post import Delivery, HookPoster, parse_hook_url
from hyperhive.system.clock import from_millis, now, to_millis

log = structlog.get_logger(__name__)

HOOKS_LIMIT = 10
RETRY_FIRST_S = 5.0
RETRY_LIMIT_S = 900.0
GIVE_UP_AFTER = timedelta(hours=24)
# Of each hook, the newest.
DEAD_LIMIT = 1000
BATCH_LIMIT = 100
SECRET_PREFIX = "hivehook_"  # noqa: S105 - a prefix, not a secret
# Those that stand in the table. What happens to a single message is told live and nowhere else.
_MESSAGE_STATES = {EventName.MESSAGE_REQUEUED, EventName.MESSAGE_DEAD, EventName.MESSAGE_EXPIRED}
TOLD = frozenset(EventName) - TRAFFIC - _MESSAGE_STATES


@dataclass(frozen=True, slots=True)
class Webhook:
    """`error` says why the last attempt failed, empty if it did not; `dead` counts what was given up."""

    id: int
    url: str
    events: tuple[str, ...]
    bodies: bool
    added_at: datetime
    ok_at: datetime | None
    error: str
    dead: int

    def wants(self, name: str) -> bool:
        noun = name.partition(".")[0]
        return not self.events or name in self.events or f"{noun}.*" in self.events


class Webhooks:
    """To be loaded once; then it works until it is closed."""

    def __init__(
        self,
        store: Store,
        poster: HookPoster,
        *,
        private: bool,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], datetime] = now,
    ) -> None:
        """`private` as for `parse_hook_url`."""
        self._store = store
        self._poster = poster
        self._private = private
        self._pause = pause
        self._clock = clock
        self._hooks: dict[int, Webhook] = {}
        self._news: dict[int, asyncio.Event] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def load(self) -> None:
        """Goes on where the last daemon ended."""
        for hook in await self.list_hooks():
            self._begin(hook)

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._poster.close()

    def on_event(self, event: Event) -> None:
        """Told each fact after its commit."""
        if event.id is not None:
            for hook in self._hooks.values():
                if hook.wants(event.name):
                    self._news[hook.id].set()

    # -- the operator's --------------------------------------------------------------------------------------

    async def list_hooks(self) -> list[Webhook]:
        """All, with what became of the last attempt."""

        def look(view: View) -> list[Webhook]:
            return [_to_webhook(row) for row in view.list("list_webhooks")]

        return await self._store.read(look)

    async def add_hook(self, url: str, events: Iterable[str], *, bodies: bool) -> tuple[Webhook, str]:
        """A new hook, told of what happens from now on, and the secret of its signatures.

        Raises InvalidInputError, TooManyError.
        """
        parse_hook_url(url, private=self._private)
        wanted = _parse_events(events)
        secret = SECRET_PREFIX + secrets.token_urlsafe(32)

        def insert(tx: Transaction) -> Webhook:
            if len(tx.list("list_webhooks")) >= HOOKS_LIMIT:
                raise TooManyError(f"there are {HOOKS_LIMIT} webhooks", "remove one that nobody uses any more")
            row = tx.get(
                "insert_webhook", url=url, events=json.dumps(wanted), bodies=int(bodies), secret=secret, at=tx.at_ms
            )
            # Not the address: many hold a secret.
            tx.emit(EventName.WEBHOOK_ADDED, None, {"id": row["id"], "events": wanted, "bodies": bodies})
            return _to_webhook(row)

        hook = await self._store.write(insert)
        self._begin(hook)
        return hook, secret

    async def remove_hook(self, hook_id: int) -> None:
        """Raises NotFoundError."""

        def delete(tx: Transaction) -> None:
            if tx.find("delete_webhook", id=hook_id) is None:
                raise NotFoundError(f"there is no webhook {hook_id}", "`hive webhook list` shows all")
            tx.list("delete_webhook_dead", id=hook_id)
            tx.emit(EventName.WEBHOOK_REMOVED, None, {"id": hook_id})

        await self._store.write(delete)
        self._hooks.pop(hook_id, None)
        if (task := self._tasks.pop(hook_id, None)) is not None:
            task.cancel()

    async def test_hook(self, hook_id: int) -> str:
        """Sends something that is no event, once. Why it was not taken; empty if it was. Raises NotFoundError."""
        row = await self._store.read(lambda view: _find_hook(view, hook_id))
        if row is None:
            raise NotFoundError(f"there is no webhook {hook_id}", "`hive webhook list` shows all")
        at = self._clock()
        content = {"id": 0, "at": at.isoformat(), "name": "webhook.test", "agent": None}
        return await self._poster.post(
            row["url"], row["secret"], Delivery(0, "webhook.test", content), int(at.timestamp())
        )

    # -- sending -----------------------------------------------------------------------------------------------

    def _begin(self, hook: Webhook) -> None:
        self._hooks[hook.id] = hook
        self._news[hook.id] = asyncio.Event()
        self._tasks[hook.id] = asyncio.create_task(self._follow(hook))

    async def _follow(self, hook: Webhook) -> None:
        """Sends what there is and what comes, for as long as the hook is there."""
        failures = 0
        while True:
            self._news[hook.id].clear()
            try:
                is_done = await self._advance(hook)
            except HiveError as error:
                # A full disk passes.
                log.warning("webhook.failed", hook=hook.id, message=error.message)
                is_done = False
            if is_done:
                failures = 0
                await self._news[hook.id].wait()
            else:
                failures += 1
                await self._pause(plan_pause(failures))

    async def _advance(self, hook: Webhook) -> bool:
        """Sends one event after the other until nothing is left, or one was not taken. Raises HiveError."""
        while True:
            row, rows = await self._store.read(lambda view: _look(view, hook.id))
            if row is None or not rows:
                return True
            for event in rows:
                if not hook.wants(event["name"]):
                    continue
                fault = await self._send(hook, row, event)
                if fault:
                    await self._give_up_old(hook, event, fault)
                    return False
            await self._skip_to(hook, int(rows[-1]["id"]))

    async def _skip_to(self, hook: Webhook, event_id: int) -> None:
        await self._store.write(lambda tx: tx.list("skip_webhook_to", id=hook.id, cursor=event_id))

    async def _send(self, hook: Webhook, row: sqlite3.Row, event: sqlite3.Row) -> str:
        at = self._clock()
        fault = await self._poster.post(row["url"], row["secret"], _render_delivery(hook, event), int(at.timestamp()))
        event_id = int(event["id"])
        if fault:
            if fault != row["error"]:
                log.warning("webhook.not_taken", hook=hook.id, reason=fault)
            await self._store.write(lambda tx: tx.list("note_webhook_failed", id=hook.id, error=fault))
        else:
            await self._store.write(
                lambda tx: tx.list("note_webhook_taken", id=hook.id, cursor=event_id, at=to_millis(at))
            )
        return fault

    async def _give_up_old(self, hook: Webhook, first: sqlite3.Row, reason: str) -> None:
        """Puts what waited for too long, from the event that was not taken on, on the dead list."""
        before_ms = to_millis(self._clock() - GIVE_UP_AFTER)

        def give_up(tx: Transaction) -> None:
            after = int(first["id"]) - 1
            while rows := [
                row for row in tx.list("list_events_after", after=after, limit=BATCH_LIMIT) if row["at"] < before_ms
            ]:
                for row in rows:
                    if hook.wants(row["name"]):
                        tx.list("give_up_webhook_event", id=hook.id, event=row["id"], at=tx.at_ms, reason=reason)
                after = int(rows[-1]["id"])
                tx.list("skip_webhook_to", id=hook.id, cursor=after)
                tx.list("trim_webhook_dead", id=hook.id, keep=DEAD_LIMIT)

        if first["at"] < before_ms:
            await self._store.write(give_up)


def plan_pause(failures: int) -> float:
    """How long to wait after so many failures in a row: doubling, with jitter."""
    limit_s = min(RETRY_FIRST_S * 2 ** min(failures - 1, 16), RETRY_LIMIT_S)
    return limit_s * (0.75 + random.random() / 4)  # noqa: S311 - jitter, no secret


def _parse_events(words: Iterable[str]) -> list[str]:
    known = {name.value for name in TOLD} | {f"{name.value.partition('.')[0]}.*" for name in TOLD}
    wanted = sorted(set(words))
    if not known.issuperset(wanted):
        raise InvalidInputError(
            "a webhook is told of events that there are", "such as approval.requested or approval.*; docs/programs.md"
        )
    return wanted


def _render_delivery(hook: Webhook, event: sqlite3.Row) -> Delivery:
    content: dict[str, Any] = {
        "id": event["id"],
        "at": from_millis(event["at"]).isoformat(),
        "name": event["name"],
        "agent": event["agent"],
    }
    if hook.bodies:
        content["body"] = json.loads(event["body"])
    return Delivery(event["id"], event["name"], content)


def _look(view: View, hook_id: int) -> tuple[sqlite3.Row | None, list[sqlite3.Row]]:
    row = _find_hook(view, hook_id)
    return row, [] if row is None else view.list("list_events_after", after=row["cursor"], limit=BATCH_LIMIT)


def _find_hook(view: View, hook_id: int) -> sqlite3.Row | None:
    return next((row for row in view.list("list_webhooks") if row["id"] == hook_id), None)


def _to_webhook(row: sqlite3.Row) -> Webhook:
    return Webhook(
        id=row["id"],
        url=row["url"],
        events=tuple(json.loads(row["events"])),
        bodies=bool(row["bodies"]),
        added_at=from_millis(row["added_at"]),
        ok_at=None if row["ok_at"] is None else from_millis(row["ok_at"]),
        error=row["error"],
        dead=row["dead"],
    )
