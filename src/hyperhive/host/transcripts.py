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


@dataclass(frozen=True, slots=True)
class TurnSummary:
    turns: int
    last_outcome: str


class Transcripts:
    def __init__(self, store: Store, feed: Feed) -> None:
        self._store = store
        self._feed = feed

    async def append(self, agent: str, events: Sequence[AgentEvent]) -> tuple[list[AgentEvent], int]:
        """Stores events; returns those that were not here already and the newest sequence number stored."""

        def insert(tx: Transaction) -> tuple[int, int]:
            before = int(tx.get("newest_transcript_seq", agent=agent)["seq"])
            for event in events:
                body = json.dumps(event.body)
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
                tx.list("trim_transcript", agent=agent, through=after - EVENTS_LIMIT)
            return before, after

        before, after = await self._store.write(insert)
        fresh = [event for event in events if event.seq > before]
        for event in fresh:
            entry = TranscriptEntry(agent, event.seq, event.at, event.kind, event.body)
            self._feed.publish(Item("transcript", {"agent": agent} | show_transcript_entry(entry)))
        return fresh, after

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
        await self._store.write(lambda tx: tx.list("delete_transcript", agent=agent))
