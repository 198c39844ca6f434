"""/api/agents/{name}/transcript, /api/journal: what an agent did, and what its container wrote."""

from typing import Annotated

from fastapi import APIRouter, Query

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.names import parse_known_agent_name
from hyperhive.host.api.agent_routes import Name
from hyperhive.host.api.services import Services
from hyperhive.host.journals import check_words
from hyperhive.host.present import show_transcript_entry
from hyperhive.wire.operator.records import Journal, TranscriptEvent

WAIT_LIMIT_S = 25

Offset = Annotated[int | None, Query(ge=0, lt=2**63)]


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
    async def read_journal(
        name: Name,
        offset: Offset = None,
        before: Offset = None,
        lines: Annotated[int, Query(ge=1, le=5000)] = 500,
        filter: Annotated[str, Query(max_length=200)] = "",  # noqa: A002
        wait_s: Annotated[float, Query(ge=0, le=WAIT_LIMIT_S)] = 0,
    ) -> Journal:
        """What the agent's container wrote, also of one that was destroyed until it is purged.

        From `offset` on a piece of it, which waits up to `wait_s` for something to be written. Else the last `lines`,
        or those before `before`. With `filter` only the lines that contain it, whatever the case: an answer may have
        none of them though there are some further up or on, where it says to continue.
        """
        words = check_words(filter)
        if offset is None:
            return await services.journals.read_page(name, before, lines, words)
        if before is not None:
            raise InvalidInputError("offset and before are both given", "offset reads on, before reads back")
        return await services.journals.read_piece(name, offset, wait_s, words)

    return routes
