"""What stands between a client and the model's stand-in, and notes when each request arrived."""

import asyncio
import contextlib
import re
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from benchmarks.processes import end_program, start_program

_REQUEST = re.compile(rb"POST /v1/messages[? ]")
_READ_BYTES = 64 * 1024


class Relay:
    """Passes bytes both ways. A request is known by a marker in its body, that nothing before it contained."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._marker = b""
        self._arrived_at = 0.0
        self._arrived = threading.Event()
        self.url = ""

    def expect(self, marker: str) -> None:
        """Begins to look for the first request with `marker` in it."""
        self._arrived.clear()
        self._marker = marker.encode()

    def wait_arrival(self, timeout_s: float = 60.0) -> float:
        """When the first byte of that request was here, by `time.perf_counter`. Raises TimeoutError."""
        if not self._arrived.wait(timeout_s):
            raise TimeoutError(f"no request with {self._marker!r} came within {timeout_s:g} s")
        return self._arrived_at

    async def serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        async with await asyncio.start_server(self._accept, "127.0.0.1", 0) as server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            ready.set()
            await stop.wait()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        answers = asyncio.create_task(_copy(up_reader, writer))
        with contextlib.suppress(OSError):
            await self._watch(reader, up_writer)
        answers.cancel()
        await asyncio.gather(answers, return_exceptions=True)
        for end in (writer, up_writer):
            end.close()

    async def _watch(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began_at, request = 0.0, b""
        while data := await reader.read(_READ_BYTES):
            if _REQUEST.match(data):
                began_at, request = time.perf_counter(), b""
            request += data
            if self._marker and self._marker in request and not self._arrived.is_set():
                self._arrived_at = began_at
                self._arrived.set()
            writer.write(data)
            await writer.drain()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_READ_BYTES):
            writer.write(data)
            await writer.drain()


@contextmanager
def run_model() -> Generator[Relay]:
    """The stand-in of the Messages API behind a relay in a thread of this process."""
    stand_in = start_program([sys.executable, "-I", "-m", "hyperhive.testing.messages_api", "--until-eof"])
    loop = asyncio.new_event_loop()
    try:
        assert stand_in.stdout is not None
        relay = Relay(int(stand_in.stdout.readline().strip().rpartition(":")[2]))
        ready, stop = threading.Event(), asyncio.Event()
        thread = threading.Thread(target=lambda: loop.run_until_complete(relay.serve(ready, stop)))
        thread.start()
        ready.wait()
        try:
            yield relay
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
    finally:
        end_program(stand_in)
