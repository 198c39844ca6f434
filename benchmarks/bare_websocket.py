"""`python -m benchmarks.bare_websocket SOCKET`: what a tutorial does to tell browsers of events, as a peer of the feed.

Prints its port. Each line of JSON that is written to SOCKET is sent to every web socket that is open, one by one.
"""

import asyncio
import json
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

_viewers: set[WebSocket] = set()


async def _view(viewer: WebSocket) -> None:
    await viewer.accept()
    _viewers.add(viewer)
    try:
        await viewer.receive_text()
    except WebSocketDisconnect:
        pass
    finally:
        _viewers.discard(viewer)


async def _take_lines(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        text = json.dumps(json.loads(line))
        for viewer in list(_viewers):
            try:
                await viewer.send_text(text)
            except (WebSocketDisconnect, RuntimeError):
                # It has gone, which its own task is about to learn.
                _viewers.discard(viewer)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        # Asked to end, it just ends.
        yield


async def _run(path: str) -> None:
    lines = await asyncio.start_unix_server(_take_lines, path)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    app = Starlette(routes=[WebSocketRoute("/", _view)])
    async with lines:
        await _Server(uvicorn.Config(app, log_level="warning")).serve([listener])


if __name__ == "__main__":
    # The daemon's own loop.
    uvicorn_loop = uvicorn.Config("", loop="uvloop").get_loop_factory()
    with asyncio.Runner(loop_factory=uvicorn_loop) as runner:
        runner.run(_run(sys.argv[1]))
