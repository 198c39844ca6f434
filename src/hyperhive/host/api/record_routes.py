"""/api/agents/{name}/transcript, /api/journal: what an agent did, and what its container wrote."""

import codecs
from typing import Annotated

from fastapi import APIRouter, Query

from hyperhive.core.names import parse_known_agent_name
from hyperhive.host.api.agent_routes import Name
from hyperhive.host.api.services import Services
from hyperhive.host.present import show_transcript_entry
from hyperhive.wire.operator import Journal, TranscriptEvent

JOURNAL_PIECE_BYTES = 64 * 1024


def record_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["agents"])

    @routes.get("/api/agents/{name}/transcript")
    async def read_transcript(
        name: Name,
        before: Annotated[int, Query(ge=0, lt=2**63)] = 2**63 - 1,
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    ) -> list[TranscriptEvent]:
        """The last events below sequence number `before`, in ascending order."""
        entries = await services.transcripts.before(parse_known_agent_name(name), before, limit)
        return [TranscriptEvent.model_validate(show_transcript_entry(entry)) for entry in entries]

    @routes.get("/api/journal/{name}")
    async def read_journal(name: Name, offset: Annotated[int, Query(ge=0, lt=2**63)] = 0) -> Journal:
        """A piece of the container's captured log."""
        text, next_offset = await services.agents.read_log(name, offset, JOURNAL_PIECE_BYTES)
        # What is cut inside a character is left for the next piece.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        shown = decoder.decode(text)
        return Journal(text=shown, next_offset=next_offset - len(decoder.getstate()[0]))

    return routes
