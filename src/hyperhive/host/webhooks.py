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
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from hyperhive.core.errors import ConflictError, HiveError, InvalidInputError, NotFoundError, TooManyError
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
# Nobody counts further what waits.
WAITING_LIMIT = 1000
SECRET_PREFIX = "hivehook_"  # noqa: S105 - a prefix, not a secret
# Those that stand in the table. What happens to a single message is told live and nowhere else.
_MESSAGE_STATES = {EventName.MESSAGE_REQUEUED, EventName.MESSAGE_DEAD, EventName.MESSAGE_EXPIRED}
TOLD = frozenset(EventName) - TRAFFIC - _MESSAGE_STATES


@dataclass(frozen=True, slots=True)
class Waiting:
    """The event that is to be taken next, and how many wait with it, of the next WAITING_LIMIT of all."""

    id: int
    name: str
    agent: str | None
    at: datetime
    count: int


@dataclass(frozen=True, slots=True)
class Webhook:
    """`error` says why the last attempt failed, empty if it did not; `dead` counts what was given up.

    `waiting` is known of what `list_hooks` gives, and None when nothing waits.
    """

    id: int
    url: str
    events: tuple[str, ...]
    bodies: bool
    added_at: datetime
    ok_at: datetime | None
    error: str
    dead: int
    dead_at: datetime | None
    dead_reason: str
    waiting: Waiting | None = None

    def wants(self, name: str) -> bool:
        noun = name.partition(".")[0]
        return not self.events or name in self.events or f"{noun}.*" in self.events


@dataclass(slots=True)
class _Work:
    """What sends the events of one hook. One at a time sends or drops: who has the lock."""

    hook: Webhook
    news: asyncio.Event = field(default_factory=asyncio.Event)
    again: asyncio.Event = field(default_factory=asyncio.Event)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    # The newest event that is done with, whoever did it.
    settled: int = 0
    task: asyncio.Task[None] | None = None


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
        self._works: dict[int, _Work] = {}

    async def load(self) -> None:
        """Goes on where the last daemon ended."""
        for hook in await self.list_hooks():
            self._begin(hook)

    async def close(self) -> None:
        tasks = [work.task for work in self._works.values() if work.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._poster.close()

    def on_event(self, event: Event) -> None:
        """Told each fact after its commit."""
        if event.id is not None:
            for work in self._works.values():
                if work.hook.wants(event.name):
                    work.news.set()

    # -- the operator's --------------------------------------------------------------------------------------

    async def list_hooks(self) -> list[Webhook]:
        """All, with what became of the last attempt, and what waits."""

        def look(view: View) -> list[Webhook]:
            return [_look_whole(view, row) for row in view.list("list_webhooks")]

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
                raise _no_hook(hook_id)
            tx.list("delete_webhook_dead", id=hook_id)
            tx.emit(EventName.WEBHOOK_REMOVED, None, {"id": hook_id})

        await self._store.write(delete)
        if (work := self._works.pop(hook_id, None)) is not None and work.task is not None:
            work.task.cancel()

    async def test_hook(self, hook_id: int) -> str:
        """Sends something that is no event, once. Why it was not taken; empty if it was. Raises NotFoundError."""
        row = await self._store.read(lambda view: _get_hook(view, hook_id))
        at = self._clock()
        content = {"id": 0, "at": at.isoformat(), "name": "webhook.test", "agent": None}
        return await self._poster.post(
            row["url"], row["secret"], Delivery(0, "webhook.test", content), int(at.timestamp())
        )

    async def retry_hook(self, hook_id: int) -> str:
        """Sends the event that is to be taken next, now. Why it was not taken; empty if it was.

        Raises NotFoundError, and ConflictError when nothing waits.
        """
        work = self._get_work(hook_id)
        async with work.lock:
            row, event = await self._store.read(lambda view: _get_waiting(view, work.hook))
            fault = await self._send(work, row, event)
        if not fault:
            work.again.set()
        return fault

    async def drop_event(self, hook_id: int, event_id: int) -> None:
        """Gives up the event that is to be taken next: it goes to the dead list, and what waits for it is sent.

        Raises NotFoundError, and ConflictError when another one is next by now.
        """
        work = self._get_work(hook_id)

        def give_up(tx: Transaction) -> None:
            row, event = _get_waiting(tx, work.hook)
            if event["id"] != event_id:
                raise ConflictError(f"event {event_id} does not wait any more", "look at what waits now")
            reason = f"dropped by the operator: {row['error'] or 'it was not tried yet'}"
            tx.list("give_up_webhook_event", id=hook_id, event=event_id, at=tx.at_ms, reason=reason)
            tx.list("skip_webhook_to", id=hook_id, cursor=event_id)
            tx.list("trim_webhook_dead", id=hook_id, keep=DEAD_LIMIT)
            tx.emit(EventName.WEBHOOK_DROPPED, None, {"id": hook_id, "event": event_id})

        async with work.lock:
            await self._store.write(give_up)
            work.settled = max(work.settled, event_id)
        work.again.set()

    def _get_work(self, hook_id: int) -> _Work:
        work = self._works.get(hook_id)
        if work is None:
            raise _no_hook(hook_id)
        return work

    # -- sending -----------------------------------------------------------------------------------------------

    def _begin(self, hook: Webhook) -> None:
        work = _Work(hook)
        self._works[hook.id] = work
        work.task = asyncio.create_task(self._follow(work))

    async def _follow(self, work: _Work) -> None:
        """Sends what there is and what comes, for as long as the hook is there."""
        failures = 0
        while True:
            work.news.clear()
            work.again.clear()
            try:
                is_done = await self._advance(work)
            except HiveError as error:
                # A full disk passes.
                log.warning("webhook.failed", hook=work.hook.id, message=error.message)
                is_done = False
            if is_done:
                failures = 0
                await work.news.wait()
            else:
                failures += 1
                if await self._wait(work, plan_pause(failures)):
                    failures = 0

    async def _wait(self, work: _Work, seconds: float) -> bool:
        """For as long, or until what was in the way is gone. Returns whether it is."""
        waits: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(self._pause(seconds)),
            asyncio.ensure_future(work.again.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        return work.again.is_set()

    async def _advance(self, work: _Work) -> bool:
        """Sends one event after the other until nothing is left, or one was not taken. Raises HiveError."""
        hook = work.hook
        while True:
            row, rows = await self._store.read(lambda view: _look(view, hook.id))
            if row is None or not rows:
                return True
            for event in rows:
                if not hook.wants(event["name"]):
                    continue
                async with work.lock:
                    # The operator may have sent or dropped it meanwhile.
                    if event["id"] <= work.settled:
                        continue
                    fault = await self._send(work, row, event)
                    if fault:
                        await self._give_up_old(hook, event, fault)
                        return False
            await self._skip_to(hook, int(rows[-1]["id"]))

    async def _skip_to(self, hook: Webhook, event_id: int) -> None:
        await self._store.write(lambda tx: tx.list("skip_webhook_to", id=hook.id, cursor=event_id))

    async def _send(self, work: _Work, row: sqlite3.Row, event: sqlite3.Row) -> str:
        hook, at = work.hook, self._clock()
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
            work.settled = max(work.settled, event_id)
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


def _get_hook(view: View, hook_id: int) -> sqlite3.Row:
    row = _find_hook(view, hook_id)
    if row is None:
        raise _no_hook(hook_id)
    return row


def _get_waiting(view: View, hook: Webhook) -> tuple[sqlite3.Row, sqlite3.Row]:
    """The hook's row, and the event that is to be taken next. Raises NotFoundError, ConflictError."""
    row = _get_hook(view, hook.id)
    for event in _iterate_after(view, row["cursor"]):
        if hook.wants(event["name"]):
            return row, event
    raise ConflictError("nothing waits to be taken", "`hive webhook test` sends something")


def _iterate_after(view: View, after: int) -> Iterator[sqlite3.Row]:
    """The events after one, at most WAITING_LIMIT: what nobody wants is skipped in steps smaller than that."""
    for _ in range(WAITING_LIMIT // BATCH_LIMIT):
        rows = view.list("list_events_after", after=after, limit=BATCH_LIMIT)
        yield from rows
        if len(rows) < BATCH_LIMIT:
            return
        after = int(rows[-1]["id"])


def _look_whole(view: View, row: sqlite3.Row) -> Webhook:
    """A hook with what waits. Only of one whose last attempt failed: else it is on its way."""
    hook = _to_webhook(row)
    if not hook.error:
        return hook
    wanted = [event for event in _iterate_after(view, row["cursor"]) if hook.wants(event["name"])]
    if not wanted:
        return hook
    first = wanted[0]
    return replace(
        hook, waiting=Waiting(first["id"], first["name"], first["agent"], from_millis(first["at"]), len(wanted))
    )


def _no_hook(hook_id: int) -> NotFoundError:
    return NotFoundError(f"there is no webhook {hook_id}", "`hive webhook list` shows all")


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
        dead_at=None if row["dead_at"] is None else from_millis(row["dead_at"]),
        dead_reason=row["dead_reason"],
    )
