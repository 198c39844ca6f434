"""The OAuth stand-in as a process of a test, and the operator's browser: opens a link, gets the code."""

import asyncio
import contextlib
import ssl
import sys
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any
from urllib.parse import urlsplit

import httpx

from hyperhive.testing.oauth import HOSTS

DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True)
class OAuth:
    """`ca` is what a client has to trust, `tokens` the file for the Messages stand-in."""

    port: int
    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens.json"

    @property
    def egress_map(self) -> str:
        """For the daemon's setting: all of the account's hosts are the stand-in."""
        return ",".join(f"{host}=127.0.0.1:{self.port}" for host in HOSTS)

    def call(self, method: str, path: str, host: str = "api.anthropic.com", **more: Any) -> httpx.Response:
        """A request to the stand-in as `host`, whose certificate is looked at."""
        with httpx.Client(verify=ssl.create_default_context(cafile=self.ca), trust_env=False) as client:
            return client.request(
                method,
                f"https://127.0.0.1:{self.port}{path}",
                headers={"host": host, **more.pop("headers", {})},
                extensions={"sni_hostname": host},
                **more,
            )

    def get_code(self, url: str) -> str:
        """What the page behind a login link shows."""
        parts = urlsplit(url)
        response = self.call("GET", f"{parts.path}?{parts.query}", parts.netloc)
        response.raise_for_status()
        return str(response.json()["code"])

    def control(self, **wish: Any) -> None:
        """`access_s`, `expire`, `kill_refresh`: see `hyperhive.testing.oauth.app`."""
        self.call("POST", "/_control", json=wish).raise_for_status()

    def list_requests(self) -> list[dict[str, Any]]:
        requests: list[dict[str, Any]] = self.call("GET", "/_requests").json()["requests"]
        return requests

    def count_grants(self, grant_type: str) -> int:
        return len([request for request in self.list_requests() if request["grant_type"] == grant_type])


def run_oauth(folder: Path) -> Generator[OAuth]:
    """For fixtures: the stand-in on a free port; it must end with status 0 when it is asked to."""
    command = [sys.executable, "-m", "hyperhive.testing.oauth", str(folder)]
    with Popen(command, stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening: 127.0.0.1:"), line
        try:
            yield OAuth(int(line.rsplit(":", 1)[1]), folder)
        finally:
            process.terminate()
            status = process.wait(DEADLINE_S)
    assert status == 0


def run_messages(*arguments: str) -> Generator[str]:
    """For fixtures: the Messages stand-in on a free port; its base URL."""
    command = [sys.executable, "-m", "hyperhive.testing.messages_api", *arguments]
    with Popen(command, stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().removeprefix("listening: ").strip()
        finally:
            process.terminate()


@contextlib.asynccontextmanager
async def run_connect_proxy(port: int, only: str = "") -> AsyncGenerator[tuple[str, list[str]]]:
    """A proxy that leads every CONNECT, or those to `only`, to the stand-in on `port`.

    Gives its address, and the targets that were asked for.
    """
    asked: list[str] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            asked.append(head.split()[1].decode())
            if only and asked[-1] != only:
                writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
                writer.close()
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))
        writer.close()

    async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await source.read(65536):
                sink.write(piece)
                await sink.drain()
        sink.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
