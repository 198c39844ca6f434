"""/api/stream: all that happens, as server-sent events. Resumes without a gap by Last-Event-ID.

An id is `<event id>:<transcript seq>`: how far this client has seen the feed, and the transcript it follows.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.names import parse_known_agent_name
from hyperhive.host.api.services import Services
from hyperhive.host.feed import Item, Subscription
from hyperhive.host.present import show_event, show_transcript_entry
from hyperhive.host.store.rows import to_event
from hyperhive.host.store.store import View

# A proxy or a sleeping laptop notices a dead connection by the missing of these.
KEEP_ALIVE_S = 15.0
# A client that missed more than this fetches anew instead.
REPLAY_LIMIT = 1000
# The first of some events is written at once, what follows so soon all together: a screen shows no more frames than
# that, and what a write costs does not depend on how much it is.
FRAME_S = 0.033


@dataclass(slots=True)
class Cursor:
    """How far a client has seen."""

    event_id: int
    seq: int

    def __str__(self) -> str:
        return f"{self.event_id}:{self.seq}"


def parse_cursor(text: str) -> Cursor:
    """The inverse of `str`. Raises InvalidInputError for anything else."""
    event_id, _, seq = text.partition(":")
    # 18 digits are within SQLite's 64 bits.
    if not (event_id.isdecimal() and seq.isdecimal() and max(len(event_id), len(seq)) <= 18):
        raise InvalidInputError("Last-Event-ID is not one of ours", "leave it out to start now")
    return Cursor(int(event_id), int(seq))


def stream_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["hive"])

    @routes.get("/api/stream", response_class=StreamingResponse)
    async def stream(
        agent: Annotated[str | None, Query(max_length=200)] = None,
        last_event_id: Annotated[str | None, Header(max_length=100)] = None,
    ) -> StreamingResponse:
        """Events `hive`, `state`, `needs`, `ports`, `resync`, and `transcript` of one agent if it is named."""
        name = None if agent is None else parse_known_agent_name(agent)
        cursor = None if last_event_id is None else parse_cursor(last_event_id)
        subscription = services.feed.subscribe(lambda item: _wanted(item, name))
        pieces = _write(services, subscription, name, cursor)
        return StreamingResponse(pieces, media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    return routes


def _wanted(item: Item, agent: str | None) -> bool:
    return item.kind != "transcript" or item.data["agent"] == agent


async def _write(
    services: Services, subscription: Subscription, agent: str | None, cursor: Cursor | None
) -> AsyncIterator[bytes]:
    try:
        missed: list[Item] = []
        if cursor is None:
            cursor = await _now(services, agent)
        else:
            missed = await _missed(services, agent, cursor)
        yield f"retry: 1000\nid: {cursor}\n: welcome\n\n".encode()
        for item in missed:
            yield _render(item, cursor)
        while True:
            items = await subscription.take(KEEP_ALIVE_S)
            fresh = [item for item in items if _is_new(item, cursor)]
            yield b"".join(_render(item, cursor) for item in fresh) or b": alive\n\n"
            if not subscription.has_more:
                await asyncio.sleep(FRAME_S)
    finally:
        services.feed.unsubscribe(subscription)


async def _now(services: Services, agent: str | None) -> Cursor:
    row = await services.store.read(lambda view: view.get("newest_event_id"))
    return Cursor(int(row["id"]), 0 if agent is None else await services.transcripts.newest_seq(agent))


async def _missed(services: Services, agent: str | None, cursor: Cursor) -> list[Item]:
    """What was committed after `cursor`, or a single resync if that is too much."""

    def look(view: View) -> list[Item]:
        events = [
            to_event(row) for row in view.list("list_events_after", after=cursor.event_id, limit=REPLAY_LIMIT + 1)
        ]
        return [Item("hive", show_event(event), event.id) for event in events]

    items = await services.store.read(look)
    entries = [] if agent is None else await services.transcripts.after(agent, cursor.seq, REPLAY_LIMIT + 1)
    if len(items) > REPLAY_LIMIT or len(entries) > REPLAY_LIMIT:
        newest = await _now(services, agent)
        cursor.event_id, cursor.seq = newest.event_id, newest.seq
        return [Item("resync", {})]
    items += [Item("transcript", {"agent": agent} | show_transcript_entry(entry)) for entry in entries]
    return items


def _is_new(item: Item, cursor: Cursor) -> bool:
    if item.kind == "hive":
        # What has no id is told once, to those who listen.
        return item.event_id is None or item.event_id > cursor.event_id
    return item.kind != "transcript" or item.data["seq"] > cursor.seq


def _render(item: Item, cursor: Cursor) -> bytes:
    """One event of the stream. Moves `cursor` past it."""
    if item.kind == "hive":
        cursor.event_id = item.event_id or cursor.event_id
    elif item.kind == "transcript":
        cursor.seq = item.data["seq"]
    return item.render(cursor.event_id, cursor.seq)
