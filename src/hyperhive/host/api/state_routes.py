"""/api/agents/{name}/state: the files in an agent's /state, to be looked at and to be saved."""

import asyncio
import os
import re
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from hyperhive.core.file_paths import SPELLING_LIMIT_CHARS
from hyperhive.host.api.agent_routes import Name
from hyperhive.host.api.services import Services
from hyperhive.host.state_files import Opened
from hyperhive.system.http_types import Receive, Scope, Send
from hyperhive.wire.operator.records import StateFile, StateFolder

PIECE_BYTES = 256 * 1024
NAME_LIMIT_CHARS = 100

# Looked at closely by the service.
Path = Annotated[
    str, Query(max_length=SPELLING_LIMIT_CHARS, description="Below /state, each name as a listing spells it.")
]

_UNPLAIN = re.compile(r"[^A-Za-z0-9._-]")


def state_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["agents"])
    files = services.state_files

    @routes.get("/api/agents/{name}/state")
    async def list_state(name: Name, path: Path = "") -> StateFolder:
        """What is in a folder of the agent's /state, at most the first 1,000 by name; also of a destroyed agent.

        A character of a name that cannot be seen or is not UTF-8 is spelled `\\xff`, a backslash as two.
        """
        return await files.list_folder(name, path)

    @routes.get("/api/agents/{name}/state/file")
    async def read_state_file(name: Name, path: Path) -> StateFile:
        """The text of a plain file, its first MiB. No link is followed."""
        return await files.read_text(name, path)

    @routes.get(
        "/api/agents/{name}/state/download",
        response_class=Response,
        responses={200: {"content": {"application/octet-stream": {}}}},
    )
    async def download_state_file(name: Name, path: Path) -> Response:
        """A plain file as it is, of at most 64 MiB, to be saved and never shown."""
        return _Download(await files.open_file(name, path))

    return routes


class _Download(Response):
    """Sends an open file in pieces, and closes it whatever happens.

    No length is told beforehand: the agent may cut the file meanwhile.
    """

    media_type = "application/octet-stream"

    def __init__(self, opened: Opened) -> None:
        super().__init__(headers={"content-disposition": f'attachment; filename="{render_download_name(opened.name)}"'})
        del self.headers["content-length"]
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            at = 0
            while piece := await asyncio.to_thread(self._read, at):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                at += len(piece)
            await send({"type": "http.response.body", "body": b""})
        finally:
            os.close(self._opened.handle)

    def _read(self, at: int) -> bytes:
        return os.pread(self._opened.handle, min(PIECE_BYTES, self._opened.size_bytes - at), at)


def render_download_name(name: bytes) -> str:
    """A name that no header, page or file system minds, and that hides nothing: what is not plain becomes `_`."""
    plain = _UNPLAIN.sub("_", name.decode("utf-8", "replace")).lstrip(".")
    return plain[-NAME_LIMIT_CHARS:].lstrip(".") or "file"
