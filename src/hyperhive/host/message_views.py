"""Looking at messages: lists, threads, searches. The broker's own reader never waits for any of them."""

from dataclasses import dataclass
from typing import Any

from hyperhive.core.errors import NotFoundError
from hyperhive.core.messages import Message, MessageState, SenderKind
from hyperhive.core.names import OPERATOR
from hyperhive.core.search import Search, render_match
from hyperhive.host.message_index import MessageIndex, find_reach
from hyperhive.host.store.rows import to_message
from hyperhive.host.store.store import View

# SQLite's integers are 64 bits wide.
NEWEST = 2**63 - 1

_WAITING = frozenset({MessageState.QUEUED, MessageState.LEASED})


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Which messages; None is any. `agent` is the sender or the recipient."""

    agent: str | None = None
    recipient: str | None = None
    state: MessageState | None = None
    kind: SenderKind | None = None
    thread: int | None = None
    search: Search | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Messages, the newest first. `unsearched`: so many more could not be searched yet."""

    messages: list[Message]
    unsearched: int = 0


class MessageViews:
    def __init__(self, index: MessageIndex) -> None:
        self._index = index

    async def get_message(self, message_id: int) -> Message:
        """Raises NotFoundError if there is none of that id, or no more."""
        row = await self._index.read(lambda view: view.find("get_message", id=message_id))
        if row is None:
            raise NotFoundError(f"there is no message {message_id}", "settled ones are deleted after a while")
        return to_message(row)

    async def list_receipts(self, message_id: int) -> list[Message]:
        """A message with what became of it; of a broadcast, all of them. Raises NotFoundError."""
        message = await self.get_message(message_id)
        if message.broadcast is None:
            return [message]
        broadcast = message.broadcast
        rows = await self._index.read(lambda view: view.list("list_receipts", sender=message.sender, id=broadcast))
        return [to_message(row) for row in rows]

    async def find_messages(self, wanted: MessageFilter, before: int, limit: int) -> Found:
        """The newest messages with an id below `before`. With a search, one that was just sent is found too."""
        if wanted.search is None:
            return Found(await self._index.read(lambda view: _list_messages(view, wanted, before, limit)))
        if not wanted.search.terms:
            return Found([])
        await self._index.catch_up()

        def look(view: View) -> Found:
            left = view.get("count_unindexed")
            return Found(_list_messages(view, wanted, before, limit), int(left["newer"]) + int(left["older"]))

        return await self._index.read(look)

    async def list_messages_after(self, wanted: MessageFilter, after: int, limit: int) -> list[Message]:
        """The oldest messages with an id above `after`, the oldest first; not by thread or by search."""
        values = _render_values(wanted) | {"after": after, "limit": limit}
        rows = await self._index.read(lambda view: view.list("scan_messages_after", **values))
        return [to_message(row) for row in rows]

    async def list_inbox(self, before: int, limit: int, thread: int | None, *, unread: bool) -> list[Message]:
        """The operator's messages with an id below `before`, the newest first."""
        state = MessageState.QUEUED if unread else None
        wanted = MessageFilter(recipient=OPERATOR, state=state, thread=thread)
        return await self._index.read(lambda view: _list_messages(view, wanted, before, limit))


def _list_messages(view: View, wanted: MessageFilter, before: int, limit: int) -> list[Message]:
    """By what narrows it down most: the rest is looked at for each message."""
    values = _render_values(wanted) | {"before": before, "limit": limit}
    match = _render_match(wanted)
    narrowed = _choose_list(wanted)
    if narrowed is not None:
        # Who they are from and to stands in the messages themselves.
        words = None if wanted.search is None else _render_words(wanted.search)
        rows = view.list(narrowed, **values, match=words)
    elif match is None:
        rows = view.list("scan_messages", **values, after=0)
    elif wanted.search is not None:
        rows = view.list("find_messages", **values, match=match, after=0)
    else:
        rows = _list_by_index(view, values, match, limit)
    return [to_message(row) for row in rows]


def _choose_list(wanted: MessageFilter) -> str | None:
    if wanted.thread is not None:
        return "list_thread_messages"
    if wanted.state in _WAITING:
        return "list_waiting_messages" if wanted.recipient is None else "list_waiting_for"
    return "list_dead_messages" if wanted.state is MessageState.DEAD else None


def _list_by_index(view: View, values: dict[str, Any], match: str, limit: int) -> list[Any]:
    """Those of the index, and before and after them what it does not know yet."""
    reach = find_reach(view)
    before = int(values["before"])
    parts: list[tuple[str, dict[str, Any]]] = [
        ("scan_messages", {"before": before, "after": reach.high}),
        ("find_messages", {"before": min(before, reach.high + 1), "after": reach.low, "match": match}),
        ("scan_messages", {"before": min(before, reach.low + 1), "after": 0}),
    ]
    rows: list[Any] = []
    for query, bounds in parts:
        if len(rows) < limit:
            rows += view.list(query, **values | bounds | {"limit": limit - len(rows)})
    return rows


def _render_values(wanted: MessageFilter) -> dict[str, Any]:
    return {
        "agent": wanted.agent,
        "recipient": wanted.recipient,
        "state": wanted.state,
        "kind": wanted.kind,
        "thread": wanted.thread,
    }


def _render_words(search: Search) -> str:
    return f"body : ({render_match(search)})"


def _render_match(wanted: MessageFilter) -> str | None:
    """What the index is asked for; None if it knows nothing of what is wanted."""
    parts: list[str] = []
    if wanted.search is not None:
        parts.append(_render_words(wanted.search))
    if wanted.agent is not None:
        parts.append(f'who : ("s{_to_hex(wanted.agent)}" OR "r{_to_hex(wanted.agent)}")')
    if wanted.recipient is not None:
        parts.append(f'who : "r{_to_hex(wanted.recipient)}"')
    if wanted.kind not in (None, SenderKind.PEER):
        parts.append(f'who : "s{_to_hex(str(wanted.kind))}"')
    return " AND ".join(parts) if parts else None


def _to_hex(name: str) -> str:
    return name.encode("utf-8", "replace").hex()
