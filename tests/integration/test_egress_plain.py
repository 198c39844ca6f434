"""Plain http requests through the egress proxy between real sockets: what a server gets, and what an agent gets."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from egress_rig import DEADLINE_S, Rig, open_rig, serve
from hyperhive.core.egress import EgressPolicy
from hyperhive.host.egress import Times

POLICY = EgressPolicy(
    "proxied", ("GET http://deb.test/debian/*", "POST http://deb.test/up", "* http://any.test:8080/*")
)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@dataclass
class Server:
    """Answers each connection once, and remembers all that came on it."""

    got: list[bytes] = field(default_factory=list[bytes])

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        index = len(self.got)
        self.got.append(head)
        sizes = [line for line in head.decode("latin-1").split("\r\n") if line.startswith("Content-Length: ")]
        self.got[index] += await reader.readexactly(int(sizes[0].split()[1]) if sizes else 0)
        writer.write(ANSWER)
        await writer.drain()
        writer.write_eof()
        # Whatever came behind the request would show here.
        self.got[index] += await reader.read()


@asynccontextmanager
async def open_site(folder: Path, times: Times | None = None) -> AsyncGenerator[tuple[Rig, Server]]:
    server = Server()
    async with open_rig(folder, POLICY, times=times) as rig, serve(server.handle) as place:
        for host, port in (("deb.test", 80), ("any.test", 8080)):
            rig.put(host, place, port)
        yield rig, server


def get(path: str, *headers: str, method: str = "GET", host: str = "deb.test") -> bytes:
    return "\r\n".join([f"{method} http://{host}{path} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode()


async def test_a_listed_request_reaches_its_server_and_its_answer_the_agent(tmp_path: Path) -> None:
    async with open_site(tmp_path) as (rig, server):
        assert await rig.get_answer(get("/debian/pool?x", "Accept: */*", "Proxy-Connection: keep-alive")) == ANSWER
        [request] = await rig.wait_requests(1)
        assert server.got == [
            b"GET /debian/pool?x HTTP/1.1\r\nHost: deb.test\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        ]
        assert (request.host, request.port, request.method, request.path) == ("deb.test", 80, "GET", "/debian/pool")
        assert (request.verdict, request.rule) == ("allowed", "network.allow: GET http://deb.test/debian/*")
        assert (request.bytes_up, request.bytes_down) == (len(server.got[0]), len(ANSWER))


async def test_a_body_is_carried_whole_with_its_head_and_behind_it(tmp_path: Path) -> None:
    async with open_site(tmp_path) as (rig, server):
        body = b"b" * 300_000
        head = get("/up", f"Content-Length: {len(body)}", method="POST")
        reader, writer = await rig.ask(head + body[:10])
        await writer.drain()
        writer.write(body[10:])
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.read() == ANSWER
        writer.close()
        await rig.wait_requests(1)
        assert server.got[0].endswith(b"\r\n\r\n" + body) and len(server.got) == 1


async def test_an_answer_in_pieces_arrives_to_its_end(tmp_path: Path) -> None:
    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(64):
            writer.write(b"x" * 65536)
            await writer.drain()

    async with open_rig(tmp_path, POLICY) as rig, serve(pour) as place:
        rig.put("deb.test", place, 80)
        assert len(await rig.get_answer(get("/debian/"))) == 64 * 65536


@pytest.mark.parametrize(
    ("request_", "rule"),
    [
        (get("/"), "network.allow"),
        (get("/debian"), "network.allow"),
        (get("/debian/x", method="DELETE"), "network.allow"),
        (get("/debian/x", host="deb.test:8080"), "network.allow"),
        (get("/debian/x", host="other.test"), "network.allow"),
        (get("/debian/../secret"), "request"),
        (get("/debian/%2e%2e/secret"), "request"),
        (get("/debian/..%2fsecret"), "request"),
    ],
)
async def test_what_is_not_listed_reaches_nobody(tmp_path: Path, request_: bytes, rule: str) -> None:
    async with open_site(tmp_path) as (rig, server):
        answer = await rig.get_answer(request_)
        assert answer.split(b" ")[1] in (b"403", b"400") and f"X-Hive-Rule: {rule}\r\n".encode() in answer
        [request] = await rig.wait_requests(1)
        assert (request.verdict, request.rule, server.got) == ("refused", rule, [])


async def test_a_tunnel_is_not_allowed_by_the_entry_of_a_plain_request(tmp_path: Path) -> None:
    async with open_site(tmp_path) as (rig, server):
        for target in ("deb.test:80", "any.test:8080", "deb.test:443"):
            assert (await rig.get_refusal(target)).startswith(b"HTTP/1.1 403 ")
        assert server.got == []


async def test_a_second_request_behind_the_first_reaches_nobody(tmp_path: Path) -> None:
    async with open_site(tmp_path) as (rig, server):
        secret = get("/secret", method="DELETE")
        assert await rig.get_answer(get("/debian/a") + secret) == ANSWER
        # And not behind a body, or as a later piece of the connection.
        reader, writer = await rig.ask(get("/up", "Content-Length: 3", method="POST") + b"abc" + secret)
        writer.write(secret)
        with contextlib.suppress(OSError):
            await writer.drain()
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.read() == ANSWER
        writer.close()
        await rig.wait_requests(2)
        assert len(server.got) == 2 and all(b"secret" not in got for got in server.got)
        assert server.got[1].endswith(b"\r\n\r\nabc")


async def test_a_server_that_answers_before_it_has_all_of_a_body_is_heard(tmp_path: Path) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\n\r\n")
        await writer.drain()
        writer.write_eof()
        await reader.read()

    async with open_rig(tmp_path, POLICY) as rig, serve(refuse) as place:
        rig.put("deb.test", place, 80)
        reader, writer = await rig.ask(get("/up", "Content-Length: 1000000", method="POST"))
        writer.write(b"b" * 1000)
        async with asyncio.timeout(DEADLINE_S):
            assert (await reader.read()).startswith(b"HTTP/1.1 413 ")
        writer.close()


async def test_a_request_whose_server_says_nothing_ends(tmp_path: Path) -> None:
    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with open_rig(tmp_path, POLICY, times=Times(idle_s=0.2)) as rig, serve(hang) as place:
        rig.put("deb.test", place, 80)
        reader, writer = await rig.ask(get("/debian/x"))
        # What is dropped keeps nothing open.
        writer.write(b"more")
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.read() == b""
        writer.close()
        await rig.wait_requests(1)


async def test_a_name_of_a_plain_request_is_looked_up_once_and_never_private(tmp_path: Path) -> None:
    asked: list[str] = []

    def rebind(name: str) -> list[str]:
        asked.append(name)
        return ["127.0.0.1"]

    async with open_rig(tmp_path, POLICY, look_up=rebind) as rig:
        answer = await rig.get_answer(get("/debian/x"))
        assert b"X-Hive-Rule: address\r\n" in answer and b"127.0.0.1" not in answer
        assert asked == ["deb.test"]
