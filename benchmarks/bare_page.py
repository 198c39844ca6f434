"""`python -m benchmarks.bare_page SOCKET`: the least that shows lines as they come, as a peer of the hive's pages.

Prints its port. Each line that is written to SOCKET becomes a line of the page, by server-sent events.
"""

import asyncio
import contextlib
import sys

_PAGE = b"""<!doctype html><meta charset=utf-8><title>bare</title><div role=log></div><script>
const log = document.querySelector("[role=log]");
new EventSource("/events").onmessage = ({ data }) => {
  const line = document.createElement("div");
  line.textContent = data;
  log.append(line);
};
</script>"""
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\nconnection: close\r\n\r\n"


class _Pages:
    def __init__(self) -> None:
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if not request.startswith(b"GET /events "):
            writer.write(_HEAD % b"text/html" + _PAGE)
            writer.close()
            return
        writer.write(_HEAD % b"text/event-stream" + b": hello\n\n")
        self._writers.add(writer)
        with contextlib.suppress(OSError):
            await reader.read()
        self._writers.discard(writer)

    async def take_lines(self, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            for writer in self._writers:
                writer.write(b"data: " + line + b"\n")


async def _run(path: str) -> None:
    pages = _Pages()
    server = await asyncio.start_server(pages.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.start_unix_server(pages.take_lines, path)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1]))
