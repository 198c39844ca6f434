"""/api/snapshots, and their files for the hive command alone."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from hyperhive.core.errors import InvalidInputError
from hyperhive.host.api.services import Services
from hyperhive.host.snapshots.records import SnapshotRecord
from hyperhive.host.snapshots.restores import Restored
from hyperhive.system.http_types import Receive, Scope, Send
from hyperhive.wire.operator.snapshots import (
    ForkRequest,
    RestoreResult,
    Snapshot,
    SnapshotRequest,
    SnapshotRestoreRequest,
)

PIECE_BYTES = 256 * 1024

Id = Annotated[int, Path(ge=1, lt=2**63)]
Agent = Annotated[str | None, Query(max_length=200)]
WithCredentials = Annotated[bool, Query(description="With the agent's own login, if it is in it.")]


def snapshot_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["snapshots"])
    takes, restores = services.takes, services.restores

    @routes.get("/api/snapshots")
    async def list_snapshots(agent: Agent = None) -> list[Snapshot]:
        """The newest first, of one agent or of all; also of agents that are gone."""
        return [show_snapshot(snapshot) for snapshot in await takes.list_snapshots(agent)]

    @routes.post("/api/snapshots", status_code=201)
    async def take_snapshot(request: SnapshotRequest) -> Snapshot:
        """Takes one of an agent between two turns. Answers once it is on the disk, which may take minutes."""
        taken = await takes.take(
            request.agent, request.note, with_credentials=request.with_credentials, wait_s=request.wait_s
        )
        return show_snapshot(taken)

    @routes.delete("/api/snapshots/{snapshot_id}", status_code=204)
    async def remove_snapshot(snapshot_id: Id) -> None:
        await takes.remove(snapshot_id)

    @routes.post("/api/snapshots/{snapshot_id}/restore")
    async def restore_snapshot(snapshot_id: Id, request: SnapshotRestoreRequest) -> RestoreResult:
        """Makes the agent what it was then, also one that was destroyed or purged. What is there now is kept first."""
        restored = await restores.restore(
            snapshot_id, replay=request.replay, with_credentials=request.with_credentials, wait_s=request.wait_s
        )
        return show_restored(restored)

    @routes.post("/api/snapshots/{snapshot_id}/fork", status_code=201)
    async def fork_snapshot(snapshot_id: Id, request: ForkRequest) -> RestoreResult:
        """Makes a new agent of it, which goes its own way."""
        return show_restored(await restores.fork(snapshot_id, request.name, with_credentials=request.with_credentials))

    @routes.get(
        "/api/snapshot-files/{snapshot_id}",
        response_class=Response,
        responses={200: {"content": {"application/gzip": {}}}},
    )
    async def export_snapshot(snapshot_id: Id, with_credentials: WithCredentials = False) -> Response:
        """The archive, for another hive. Only for the hive command."""
        return _Archive(await takes.export(snapshot_id, with_credentials=with_credentials))

    @routes.post("/api/snapshot-files", status_code=201)
    async def import_snapshot(
        request: Request,
        name: Annotated[str, Query(max_length=200, description="Of the agent here; empty: as it was there.")] = "",
        with_credentials: WithCredentials = False,
        sha256: Annotated[str, Query(max_length=64, pattern="^([0-9a-fA-F]{64})?$")] = "",
    ) -> Snapshot:
        """Takes over an archive, which is the body, as a snapshot. Only for the hive command."""
        taken = await takes.import_file(_take_pieces(request), name, with_credentials=with_credentials, sha256=sha256)
        return show_snapshot(taken)

    return routes


async def _take_pieces(request: Request) -> AsyncIterator[bytes]:
    """The body. Raises InvalidInputError if whoever sends it goes away."""
    try:
        async for piece in request.stream():
            yield piece
    except ClientDisconnect as error:
        raise InvalidInputError("the file ended before its end", "send it again") from error


def show_snapshot(record: SnapshotRecord) -> Snapshot:
    return Snapshot(
        id=record.id,
        agent=record.agent,
        at=record.at,
        state="ready" if record.is_ready else "taking",
        note=record.note,
        commit=record.commit,
        session=record.session,
        turns=record.turns,
        with_credentials=record.with_credentials,
        automatic=record.automatic,
        imported=record.imported,
        size_bytes=record.size_bytes,
        left_out=record.left_out,
        sha256=record.sha256,
    )


def show_restored(restored: Restored) -> RestoreResult:
    return RestoreResult(
        agent=restored.agent, undo=restored.undo, approval=restored.approval, replayed=restored.replayed
    )


class _Archive(Response):
    """Sends an open file in pieces, and closes it whatever happens."""

    media_type = "application/gzip"

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while piece := await asyncio.to_thread(self._file.read, PIECE_BYTES):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
