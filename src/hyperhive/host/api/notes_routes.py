"""/api/notes: the versions of an agent's notes, and the way back to each."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from hyperhive.host.api.agent_routes import Name
from hyperhive.host.api.services import Services
from hyperhive.host.notes import LIST_LIMIT
from hyperhive.wire.operator.configs import NotesDiff
from hyperhive.wire.operator.records import NotesVersion, RestoreRequest

# Looked at closely by the service; the bound only keeps error messages short.
Commit = Annotated[str, Path(max_length=64)]
Limit = Annotated[int, Query(ge=1, le=500)]


def notes_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["notes"])
    notes = services.notes

    @routes.get("/api/notes/{name}")
    async def list_versions(name: Name, limit: Limit = LIST_LIMIT) -> list[NotesVersion]:
        """What was replaced or written of an agent's notes, the newest first."""
        return await notes.list_versions(name, limit)

    @routes.get("/api/notes/{name}/{commit}")
    async def show_version(name: Name, commit: Commit) -> NotesDiff:
        """What a version changed against the one before it."""
        return await notes.diff(name, commit)

    @routes.post("/api/notes/{name}/restore")
    async def restore(name: Name, request: RestoreRequest) -> NotesVersion:
        """Brings a version back. What stands there becomes a version itself, so this can be undone the same way."""
        return await notes.restore(name, request.commit)

    return routes
