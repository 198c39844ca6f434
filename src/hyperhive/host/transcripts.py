"""Copies of what the agents' harnesses recorded: appended in order, read in windows, bounded for each agent."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from hyperhive.host.feed import Feed, Item
from hyperhive.host.link.params import AgentEvent
from hyperhive.host.present import show_transcript_entry
from hyperhive.host.store.rows import TranscriptEntry, to_transcript_entry
from hyperhive.host.store.store import Store, Transaction

# Some days of a busy agent; what is older stays in the agent's own record.
EVENTS_LIMIT = 100_000
TRIM_EVERY = 1000
# However long they are. Beyond it the oldest go, some with each request.
KEPT_LIMIT_BYTES = 256 * 1024 * 1024
_TRIM_ROWS = 500


@dataclass(frozen=True, slots=True)
class TurnSummary:
    turns: int
    last_outcome: str


class Transcripts:
    def __init__(self, store: Store, feed: Feed, limit_bytes: int = KEPT_LIMIT_BYTES) -> None:
        self._store = store
        self._feed = feed
        self._limit_bytes = limit_bytes

    async def append(self, agent: str, events: Sequence[AgentEvent]) -> tuple[list[AgentEvent], int, int]:
        """Stores events; returns those that were not here already, the newest sequence number stored, and how many
        bytes these events have."""

        def insert(tx: Transaction) -> tuple[int, int, int]:
            before = int(tx.get("newest_transcript_seq", agent=agent)["seq"])
            size_bytes = come_bytes = 0
            for event in events:
                body = json.dumps(event.body)
                come_bytes += len(body)
                size_bytes += len(body) if event.seq > before else 0
                tx.list(
                    "insert_transcript_event",
                    agent=agent,
                    seq=event.seq,
                    at=event.at,
                    kind=event.kind,
                    body=body,
                )
            after = int(tx.get("newest_transcript_seq", agent=agent)["seq"])
            if before // TRIM_EVERY != after // TRIM_EVERY:
                gone = tx.list("trim_transcript", agent=agent, through=after - EVENTS_LIMIT)
                size_bytes -= sum(row["bytes"] for row in gone)
            _keep_to_limit(tx, agent, size_bytes, self._limit_bytes)
            return before, after, come_bytes

        before, after, come_bytes = await self._store.write(insert)
        fresh = [event for event in events if event.seq > before]
        for event in fresh:
            entry = TranscriptEntry(agent, event.seq, event.at, event.kind, event.body)
            self._feed.publish(Item("transcript", {"agent": agent} | show_transcript_entry(entry)))
        return fresh, after, come_bytes

    async def find_kept_bytes(self, agent: str) -> int:
        """How much is kept of an agent, as far as it was counted."""
        row = await self._store.read(lambda view: view.find("find_transcript_size", agent=agent))
        return 0 if row is None else int(row["bytes"])

    async def newest_seq(self, agent: str) -> int:
        """The highest sequence number stored, 0 if there is none."""
        row = await self._store.read(lambda view: view.get("newest_transcript_seq", agent=agent))
        return int(row["seq"])

    async def before(self, agent: str, seq: int, limit: int) -> list[TranscriptEntry]:
        """The last `limit` events below `seq`, in ascending order."""
        rows = await self._store.read(
            lambda view: view.list("list_transcript_before", agent=agent, before=seq, limit=limit)
        )
        return [to_transcript_entry(row) for row in reversed(rows)]

    async def after(self, agent: str, seq: int, limit: int) -> list[TranscriptEntry]:
        """The first `limit` events above `seq`, in ascending order."""
        rows = await self._store.read(
            lambda view: view.list("list_transcript_after", agent=agent, after=seq, limit=limit)
        )
        return [to_transcript_entry(row) for row in rows]

    async def summaries(self) -> dict[str, TurnSummary]:
        """How many turns each agent has ended, and how the last one went."""
        rows = await self._store.read(
            lambda view: [
                (row, view.get("get_transcript_event", agent=row["agent"], seq=row["last_seq"]))
                for row in view.list("turn_summaries")
            ]
        )
        return {
            row["agent"]: TurnSummary(row["turns"], str(json.loads(last["body"]).get("outcome", "")))
            for row, last in rows
        }

    async def purge(self, agent: str) -> None:
        def delete(tx: Transaction) -> None:
            tx.list("delete_transcript", agent=agent)
            tx.list("delete_transcript_size", agent=agent)

        await self._store.write(delete)


def _keep_to_limit(tx: Transaction, agent: str, size_bytes: int, limit_bytes: int) -> None:
    """Counts what came, and deletes the oldest while there is too much; the newest always stays."""
    kept_bytes = int(tx.get("add_transcript_size", agent=agent, bytes=size_bytes)["bytes"])
    if kept_bytes <= limit_bytes:
        return
    through, gone_bytes = 0, 0
    for row in tx.list("list_oldest_transcript", agent=agent, limit=_TRIM_ROWS)[:-1]:
        if kept_bytes - gone_bytes <= limit_bytes:
            break
        through, gone_bytes = row["seq"], gone_bytes + row["bytes"]
    tx.list("trim_transcript", agent=agent, through=through)
    tx.list("add_transcript_size", agent=agent, bytes=-gone_bytes)
