"""The egress proxy between real sockets: what is carried, what is refused, what is recorded, and what it costs."""

import asyncio
import contextlib
import os
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from egress_rig import CONNECTED, DEADLINE_S, Rig, echo, look_up_in, open_rig, serve
from hyperhive.core.egress import HEAD_LIMIT_BYTES, EgressPolicy, Target
from hyperhive.core.errors import NotFoundError
from hyperhive.host.egress import TUNNELS_LIMIT, Times
from hyperhive.host.egress_dial import LOOKUPS_EACH_LIMIT
from hyperhive.host.egress_log import OTHERS, REFUSED_EVERY_S, REFUSED_HOSTS_LIMIT, REQUESTS_LIMIT, TRIM_EVERY
from hyperhive.host.store.store import Transaction
from hyperhive.testing.oauth.certificates import make_certificates

MIB = 1024 * 1024
TARGET = "example.org:443"


async def read_all(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(DEADLINE_S):
        return await reader.read()


def read_rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# -- what is carried ---------------------------------------------------------------------------------------


async def test_a_tunnel_carries_tls_both_ways_and_its_end(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "tls", ["example.org"])
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain(made.certificate, made.key)
    client_tls = ssl.create_default_context(cafile=os.fspath(made.ca))
    content = os.urandom(MIB)
    async with open_rig(tmp_path) as rig, serve(echo, server_tls) as place:
        rig.put("example.org", place)
        reader, writer = await rig.connect("Example.ORG.:443")
        await writer.start_tls(client_tls, server_hostname="example.org")
        writer.write(content)
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.readexactly(MIB) == content
        writer.close()
        [request] = await rig.wait_requests(1)
        assert (request.agent, request.host, request.port) == ("alice", "example.org", 443)
        assert (request.verdict, request.rule) == ("allowed", "network.allow: example.org")
        assert MIB < request.bytes_up < 1.1 * MIB and MIB < request.bytes_down < 1.1 * MIB


async def test_the_end_of_one_side_is_passed_on_and_the_other_may_go_on(tmp_path: Path) -> None:
    async def answer_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"got %d" % len(await reader.read()))
        await writer.drain()

    async with open_rig(tmp_path) as rig, serve(answer_late) as place:
        rig.put("example.org", place)
        reader, writer = await rig.connect(TARGET)
        writer.write(b"x" * MIB)
        writer.write_eof()
        assert await read_all(reader) == b"got %d" % MIB
        writer.close()
        [request] = await rig.wait_requests(1)
        assert (request.bytes_up, request.bytes_down) == (MIB, 11)


async def test_what_is_sent_with_the_request_reaches_the_other_side(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig, serve(echo) as place:
        rig.put("example.org", place)
        reader, writer = await rig.ask(f"CONNECT {TARGET} HTTP/1.1\r\n\r\nearly".encode())
        writer.write(b" and late")
        writer.write_eof()
        assert await read_all(reader) == CONNECTED + b"early and late"
        writer.close()
        [request] = await rig.wait_requests(1)
        assert (request.bytes_up, request.bytes_down) == (14, 14)


async def test_a_reader_that_is_slow_is_sent_to_slowly_and_costs_no_memory(tmp_path: Path) -> None:
    sent = 0

    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.transport.set_write_buffer_limits(high=MIB)
        while True:
            writer.write(b"x" * MIB)
            await writer.drain()
            sent += MIB

    async with open_rig(tmp_path) as rig, serve(pour) as place:
        rig.put("example.org", place)
        before = read_rss_bytes()
        opened = [await rig.connect(TARGET) for _ in range(8)]
        async with asyncio.timeout(DEADLINE_S):
            known = -1
            while known < sent:
                known = sent
                await asyncio.sleep(0.2)
        # Most of it is the server's own, which is in this process.
        assert read_rss_bytes() - before < 64 * MIB
        reader, _ = opened[0]
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.readexactly(8 * MIB) == b"x" * (8 * MIB)
        for _, writer in opened:
            writer.transport.abort()
        await rig.wait_requests(8)


async def test_a_tunnel_that_is_silent_ends(tmp_path: Path) -> None:
    async with open_rig(tmp_path, times=Times(idle_s=0.3)) as rig, serve(echo) as place:
        rig.put("example.org", place)
        reader, writer = await rig.connect(TARGET)
        # While something moves, however little, it stays.
        for _ in range(6):
            writer.write(b"x")
            async with asyncio.timeout(DEADLINE_S):
                assert await reader.readexactly(1) == b"x"
            await asyncio.sleep(0.1)
        assert await read_all(reader) == b""
        writer.close()
        [request] = await rig.wait_requests(1)
        assert request.elapsed_ms >= 800


async def test_a_tunnel_that_carries_much_does_not_stop_the_daemon(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig, serve(echo) as place:
        rig.put("example.org", place)

        def flood() -> None:
            # In a thread of its own, as an agent is a process of its own: both ends are always ready.
            asyncio.run(_exchange(rig, 32 * MIB))

        flooding = [threading.Thread(target=flood) for _ in range(2)]
        for thread in flooding:
            thread.start()
        worst_s = 0.0
        while any(thread.is_alive() for thread in flooding):
            began = time.monotonic()
            await asyncio.sleep(0.01)
            worst_s = max(worst_s, time.monotonic() - began)
        assert worst_s < 1.0


async def _exchange(rig: Rig, size: int) -> None:
    reader, writer = await rig.connect(TARGET)

    async def send() -> None:
        for _ in range(size // MIB):
            writer.write(b"x" * MIB)
            await writer.drain()
        writer.write_eof()

    async with asyncio.timeout(60):
        sending = asyncio.ensure_future(send())
        left = size
        while piece := await reader.read(65536):
            left -= len(piece)
        await sending
    writer.close()
    assert left == 0


# -- what is refused ---------------------------------------------------------------------------------------


async def test_a_host_that_is_not_listed_is_refused_with_the_rule_and_what_to_do(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        head, _, body = (await rig.get_refusal("evil.test:443")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert b"X-Hive-Rule: network.allow\r\n" in head + b"\r\n"
        assert b"evil.test:443" in body and b"the manager can propose network.allow" in body
        [request] = await rig.wait_requests(1)
        assert (request.host, request.port, request.verdict, request.rule) == (
            "evil.test",
            443,
            "refused",
            "network.allow",
        )


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n", b"403 Forbidden"),
        (b"TRACE http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n", b"405 Method Not Allowed"),
        (b"CONNECT example.org:443@evil.test:443 HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"CONNECT example.org:80 HTTP/1.1\r\n\r\n", b"403 Forbidden"),
        (b"CONNECT [::1]:443 HTTP/1.1\r\n\r\n", b"403 Forbidden"),
        (b"nonsense\r\n\r\n", b"400 Bad Request"),
        (b"X" * (HEAD_LIMIT_BYTES + 1), b"400 Bad Request"),
        (b"CONNECT example.org:443 HTTP/1.1\r\nA: " + b"b" * HEAD_LIMIT_BYTES, b"400 Bad Request"),
    ],
)
async def test_a_request_of_another_kind_gets_its_reason(tmp_path: Path, request_: bytes, status: bytes) -> None:
    async with open_rig(tmp_path) as rig:
        answer = await rig.get_answer(request_)
        assert answer.split(b"\r\n")[0] == b"HTTP/1.1 " + status
        assert answer.partition(b"\r\n\r\n")[2].startswith(b"egress: alice")
        await rig.wait_requests(1)


async def test_a_request_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    async with open_rig(tmp_path, times=Times(head_s=0.2)) as rig:
        assert (await rig.get_answer(b"CONNECT example.org:443")).startswith(b"HTTP/1.1 408 ")
        assert (await rig.get_answer(b"")).startswith(b"HTTP/1.1 408 ")


async def test_without_a_config_that_can_be_used_nothing_is_reached(tmp_path: Path) -> None:
    async with open_rig(tmp_path, NotFoundError("no such agent")) as rig, serve(echo) as place:
        rig.put("example.org", place)
        assert (await rig.get_refusal(TARGET)).startswith(b"HTTP/1.1 503 ")
        # Each request is judged by what counts then.
        rig.policy = EgressPolicy("proxied", ("example.org",))
        _, writer = await rig.connect(TARGET)
        writer.close()
        rig.policy = EgressPolicy("none", ("example.org",))
        assert b"network.mode: none" in await rig.get_refusal(TARGET)


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        ["10.0.0.1", "192.168.1.1"],
        ["169.254.169.254"],
        ["::ffff:127.0.0.1"],
        ["fe80::1%lo"],
        ["0.0.0.0"],
        [],
    ],
)
async def test_a_name_that_stands_for_no_public_address_is_refused(tmp_path: Path, addresses: list[str]) -> None:
    touched = False

    async def touch(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        nonlocal touched
        touched = True

    async with serve(touch), open_rig(tmp_path, look_up=look_up_in({"example.org": addresses})) as rig:
        answer = await rig.get_refusal(TARGET)
        assert answer.startswith(b"HTTP/1.1 403 ") and b"X-Hive-Rule: address" in answer
        # What the names of this machine's network stand for is not told.
        assert not any(address.encode() in answer for address in addresses)
        [request] = await rig.wait_requests(1)
        assert (request.verdict, request.rule, touched) == ("refused", "address", False)


async def test_a_name_is_looked_up_once_for_each_request(tmp_path: Path) -> None:
    asked: list[str] = []

    def rebind(name: str) -> list[str]:
        # Public for whoever checks, the machine itself for whoever looks again.
        asked.append(name)
        return ["127.0.0.1"] if len(asked) > 1 else ["240.0.0.1"]

    async with open_rig(tmp_path, look_up=rebind) as rig:
        assert b"X-Hive-Rule: address" in await rig.get_refusal(TARGET)
        assert asked == ["example.org"]
        assert b"X-Hive-Rule: address" in await rig.get_refusal("EXAMPLE.org.:443")
        assert asked == ["example.org"] * 2


async def test_an_address_is_never_looked_up_and_never_this_machine(tmp_path: Path) -> None:
    policy = EgressPolicy("proxied", ("127.0.0.1", "10.0.0.1", "localhost"))
    async with open_rig(tmp_path, policy, look_up=look_up_in({"localhost": ["127.0.0.1", "::1"]})) as rig:
        for host in ("127.0.0.1", "10.0.0.1", "localhost"):
            assert b"X-Hive-Rule: address" in await rig.get_refusal(f"{host}:443")


async def test_a_name_that_nobody_knows_and_a_server_that_is_away_are_told(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        assert (await rig.get_refusal(TARGET)).startswith(b"HTTP/1.1 502 ")
        async with serve(echo) as place:
            pass
        rig.put("a.example.org", place)
        assert (await rig.get_refusal("a.example.org:443")).startswith(b"HTTP/1.1 502 ")
        assert [(request.verdict, request.rule) for request in await rig.wait_requests(2)] == [
            ("failed", "connect"),
            ("failed", "lookup"),
        ]


# -- bounds ------------------------------------------------------------------------------------------------


async def test_no_more_tunnels_than_so_many_are_open_at_once(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig, serve(echo) as place:
        rig.put("example.org", place)
        handles = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        opened = [await rig.connect(TARGET) for _ in range(TUNNELS_LIMIT)]
        for _ in range(200):
            # What the agent sends after it was turned away breaks its connection.
            with contextlib.suppress(OSError):
                answer = await rig.get_answer(b"CONNECT example.org:443 HTTP/1.1\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 503 ")
        opened[0][1].close()
        await rig.wait_requests(1)
        reader, writer = await rig.connect(TARGET)
        writer.write(b"again")
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.readexactly(5) == b"again"
        for _, other in [*opened[1:], (reader, writer)]:
            other.transport.abort()
        await rig.wait_requests(TUNNELS_LIMIT + 1)
        assert len(os.listdir("/proc/self/fd")) <= handles + 4  # noqa: PTH208


async def test_connections_that_say_nothing_keep_nobody_out_for_long(tmp_path: Path) -> None:
    async with open_rig(tmp_path, times=Times(head_s=0.3)) as rig, serve(echo) as place:
        rig.put("example.org", place)
        silent = [await rig.ask(b"CONN") for _ in range(TUNNELS_LIMIT)]
        for reader, writer in silent:
            assert (await read_all(reader)).startswith(b"HTTP/1.1 408 ")
            writer.close()
        _, writer = await rig.connect(TARGET)
        writer.close()


async def test_lookups_that_hang_hold_no_more_threads_than_so_many(tmp_path: Path) -> None:
    release = threading.Event()
    started: list[str] = []

    def hang(name: str) -> list[str]:
        started.append(name)
        release.wait(DEADLINE_S)
        return []

    async with open_rig(tmp_path, look_up=hang) as rig:
        asking = [asyncio.create_task(rig.get_refusal(f"h{n}.example.org:443")) for n in range(20)]
        async with asyncio.timeout(DEADLINE_S):
            while len(started) < LOOKUPS_EACH_LIMIT:
                await asyncio.sleep(0.01)
        # The daemon goes on meanwhile, and no further lookup begins.
        assert b"X-Hive-Rule: network.allow" in await rig.get_refusal("evil.test:443")
        assert len(started) == LOOKUPS_EACH_LIMIT
        release.set()
        answers = await asyncio.gather(*asking)
        assert all(b"X-Hive-Rule: address" in answer for answer in answers)
        assert len(started) == 20


async def test_refusals_are_recorded_once_in_a_while_however_many_there_are(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        for _ in range(20):
            await rig.get_refusal("evil.test:443")
        assert [request.host for request in await rig.wait_requests(1)] == ["evil.test"]
        rig.clock[0] += REFUSED_EVERY_S
        await rig.get_refusal("evil.test:443")
        await rig.wait_requests(2)
        for number in range(3 * REFUSED_HOSTS_LIMIT):
            await rig.get_refusal(f"x{number}.test:443")
        requests = await rig.wait_requests(2 + REFUSED_HOSTS_LIMIT)
        assert (requests[0].host, requests[0].port) == (OTHERS, 0)


async def test_no_more_requests_are_kept_than_so_many(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        sizes: dict[str, Any] = {"bytes_up": 0, "bytes_down": 0, "elapsed_ms": 0}
        row = {
            "agent": "alice",
            "at": 0,
            "host": "h",
            "port": 443,
            "verdict": "allowed x",
            **sizes,
            "method": "",
            "path": "",
        }

        def fill(tx: Transaction) -> None:
            for _ in range(2 * REQUESTS_LIMIT):
                tx.list("insert_egress_request", **row)

        await rig.store.write(fill)
        for _ in range(TRIM_EVERY):
            await rig.log.record("alice", Target("example.org", 443), verdict="allowed", rule="x", **sizes)
        rows = await rig.store.read(lambda view: view.list("list_egress_requests_of", agent="alice", limit=10**6))
        assert len(rows) <= REQUESTS_LIMIT + TRIM_EVERY
        await rig.log.purge("alice")
        assert await rig.log.list_requests("", 10) == []


async def test_what_is_open_when_the_daemon_ends_is_recorded(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig, serve(echo) as place:
        rig.put("example.org", place)
        reader, writer = await rig.connect(TARGET)
        writer.write(b"hello")
        async with asyncio.timeout(DEADLINE_S):
            await reader.readexactly(5)
        await rig.listener.close()
        assert await read_all(reader) == b""
        writer.close()
        [request] = await rig.wait_requests(1)
        assert (request.verdict, request.bytes_up, request.bytes_down) == ("allowed", 5, 5)
        with contextlib.suppress(OSError):
            assert await rig.get_answer(b"CONNECT example.org:443 HTTP/1.1\r\n\r\n") == b""
