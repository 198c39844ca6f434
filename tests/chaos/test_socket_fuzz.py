"""Fuzzing of every socket: malformed, oversized, interleaved and slow, while others go on undisturbed.

`SOCKET_FUZZ_SECONDS` fuzzes each socket for longer, `SOCKET_FUZZ_SEED` differently; a fault names seed and round.
"""

import asyncio
import json
import os
import socket
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fuzz_corpus import (
    LINK_MARK,
    METHODS,
    OPERATOR_MARK,
    STRANGER_MARK,
    draw_connect_bytes,
    draw_desktop_bytes,
    draw_http_bytes,
    draw_link_bytes,
    encode,
)
from hive_process import HiveProcess, end_hive, wait_for
from hyperhive.host.link.connection import IN_FLIGHT_LIMIT
from hyperhive.host.link.server import LINKS_LIMIT
from hyperhive.wire import agent_link as wire
from socket_fuzz import (
    Bystander,
    Held,
    LinkClient,
    Outcome,
    Streams,
    Target,
    ask_raw,
    find_desktop_faults,
    find_http_faults,
    find_link_faults,
    fuzz,
    watch,
)

SEED = int(os.environ.get("SOCKET_FUZZ_SEED", "1"))
SECONDS = float(os.environ.get("SOCKET_FUZZ_SECONDS", "5"))
CLIENTS = 5
HELLO: dict[str, Any] = {"protocol": 1, "generation": 1, "holding": []}
# What is cached once, and what the allocator keeps; a leak of each of the thousands of connections is more.
GROWTH_LIMIT_BYTES = 64 * 1024 * 1024
# The pools of threads that read files and the store are filled by the first who need them.
THREADS_LIMIT = 12
PATIENCE_S = 5.0
MODEL = [("POST", "/v1/messages"), ("POST", "/v1/messages/count_tokens"), ("GET", "/v1/models"), ("GET", "/api/agents")]


@dataclass
class Arena:
    """A hive without a harness: `alice` is the adversary, `carol` and `dave` behave, and all three are ours."""

    hive: HiveProcess
    cookies: dict[str, str]
    targets: list[tuple[str, str]]
    before: Held

    @property
    def pid(self) -> int:
        assert self.hive.process is not None
        return self.hive.process.pid

    def observe(self) -> Held:
        return Held.observe(self.pid, self.hive.port)

    def socket(self, agent: str, name: str) -> str:
        return str(self.hive.run / "agents" / agent / name)

    async def link(self, agent: str) -> LinkClient:
        client = LinkClient(await asyncio.open_unix_connection(self.socket(agent, "hive.sock"), limit=2**24))
        await client.call(wire.HELLO, **HELLO)
        return client


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    environment = {"HIVE_MESSAGES_PER_MINUTE": "0", "HIVE_MESSAGES_PER_MINUTE_PAIR": "0"}
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        hive = HiveProcess(Path(folder) / "data", environment=environment).start()
        try:
            for name in ("alice", "carol", "dave"):
                hive.post("/api/agents", {"name": name})
            for name in ("manager", "alice", "carol", "dave"):
                hive.wait_state(name, "idle")
                hive.post(f"/api/agents/{name}/stop")
            for name in ("manager", "alice", "carol", "dave"):
                hive.wait_state(name, "stopped")
            paths = hive.get("/api/openapi.json")["paths"]
            targets = [(method.upper(), path) for path, methods in paths.items() for method in methods]
            targets = [one for one in targets if one[1] != "/api/shutdown"]
            targets += [("GET", path) for path in ("/", "/healthz", "/assets/x.js", "/agent/alice", "/favicon.svg")]
            assert hive.process is not None
            yield Arena(hive, hive.session_cookies(), targets, Held.observe(hive.process.pid, hive.port))
        finally:
            end_hive(hive)


def is_calm(arena: Arena) -> bool:
    held = arena.observe()
    return held.files <= arena.before.files and held.threads <= arena.before.threads + THREADS_LIMIT


def check_daemon(arena: Arena) -> None:
    """It lives, has failed at nothing, has given back what it used, and its store is whole."""
    assert arena.hive.process is not None
    assert arena.hive.process.poll() is None, arena.hive.log[-4000:]
    failed = ("link.failed", "api.failed", "egress.failed", "desktop.failed", "background_failed")
    for word in ("Traceback", *failed, "internal error"):
        assert word not in arena.hive.log, arena.hive.log[arena.hive.log.index(word) - 500 :][:6000]
    wait_for(lambda: is_calm(arena), f"files and threads to be given back: {arena.before}", 40, arena.hive)
    held = arena.observe()
    assert held.resident_bytes < arena.before.resident_bytes + GROWTH_LIMIT_BYTES, held
    with closing(sqlite3.connect(f"file:{arena.hive.data}/hive.sqlite?mode=ro", uri=True)) as store:
        assert store.execute("pragma integrity_check").fetchone() == ("ok",)


def check_senders(arena: Arena) -> None:
    """Whose text it is follows from the socket that it came through."""
    with closing(sqlite3.connect(f"file:{arena.hive.data}/hive.sqlite?mode=ro", uri=True)) as store:
        rows = store.execute("select m.sender, b.body from messages m join bodies b using (id)").fetchall()
    for sender, body in rows:
        assert STRANGER_MARK not in body
        if sender in {"carol", "dave"}:
            assert LINK_MARK not in body and OPERATOR_MARK not in body, (sender, body[:200])
            assert body.startswith("number "), (sender, body[:200])
        elif body.startswith(LINK_MARK):
            assert sender == "alice", (sender, body[:200])
        elif body.startswith(OPERATOR_MARK):
            assert sender == "operator", (sender, body[:200])


def is_open(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


async def open_tcp(port: int) -> Streams:
    return await asyncio.open_connection("127.0.0.1", port, limit=2**24)


def list_bystanders(arena: Arena, carol: LinkClient, dave: LinkClient) -> list[Bystander]:
    """One client of each socket that has done nothing."""
    count = 0

    async def send_and_receive() -> None:
        nonlocal count
        count += 1
        body = f"number {count}"
        sent = await carol.call(wire.SEND, to="dave", body=body, idempotency_key=f"key of {id(carol)} {count}")
        while True:
            # Alice's and the operator's come, too.
            got = await dave.call(wire.RECV, max=20, wait_s=20)
            await dave.call(wire.ACK, ids=[message["id"] for message in got["messages"]])
            mine = [message for message in got["messages"] if message["id"] == sent["id"]]
            if mine:
                assert (mine[0]["sender"], mine[0]["body"]) == ("carol", body)
                return

    def get(path: str, cookie: str = "") -> bytes:
        host = f"127.0.0.1:{arena.hive.port}"
        return f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{cookie}\r\n".encode()

    async def ask_page() -> None:
        cookie = "cookie: " + "; ".join(f"{name}={value}" for name, value in arena.cookies.items()) + "\r\n"
        answer = await ask_raw(await open_tcp(arena.hive.port), get("/api/agents", cookie))
        assert answer.startswith(b"HTTP/1.1 200 ") and b'"carol"' in answer, answer[:300]

    async def ask_operator() -> None:
        streams = await asyncio.open_unix_connection(str(arena.hive.run / "hive.sock"))
        answer = await ask_raw(streams, get("/api/agents"))
        assert answer.startswith(b"HTTP/1.1 200 ") and b'"carol"' in answer, answer[:300]

    async def ask_model() -> None:
        body = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
        head = b"POST /v1/messages/count_tokens HTTP/1.1\r\nhost: m\r\nconnection: close\r\n"
        framing = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        streams = await asyncio.open_unix_connection(arena.socket("carol", "model.sock"))
        answer = await ask_raw(streams, head + framing + body)
        assert answer.startswith(b"HTTP/1.1 200 ") and b"input_tokens" in answer, answer[:300]

    async def ask_egress() -> None:
        streams = await asyncio.open_unix_connection(arena.socket("carol", "egress.sock"))
        answer = await ask_raw(streams, b"CONNECT nobody.example:443 HTTP/1.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 403 "), answer[:300]

    return [
        Bystander("link", send_and_receive),
        Bystander("page", ask_page),
        Bystander("operator", ask_operator),
        Bystander("model", ask_model),
        Bystander("egress", ask_egress),
    ]


async def fuzz_beside_others(arena: Arena, target: Target, clients: int = CLIENTS) -> Outcome:
    """Checks all that has to hold after it, too."""
    carol, dave = await arena.link("carol"), await arena.link("dave")
    bystanders = list_bystanders(arena, carol, dave)
    try:
        async with watch(*bystanders):
            outcome = await fuzz(target, SEED, SECONDS, clients)
    finally:
        carol.close()
        dave.close()
    print(f"{target.name}: {outcome.rounds} rounds, {outcome.sent_bytes >> 20} MiB, {outcome.answered} answered")
    for bystander in bystanders:
        print(f"  {bystander.render()}")
    assert outcome.faults == []
    assert outcome.rounds > 20 and outcome.answered > 5
    for bystander in bystanders:
        assert bystander.took_s and max(bystander.took_s) < PATIENCE_S, bystander.render()
    await asyncio.to_thread(check_daemon, arena)
    check_senders(arena)
    return outcome


def test_the_fuzzer_knows_every_method_of_the_link() -> None:
    named = {value for name, value in vars(wire).items() if name.isupper() and isinstance(value, str)}
    to_harness = {wire.CANCEL_TURN, wire.SET_CONFIG, wire.SET_PARK, wire.SET_MODEL, wire.COMPACT, wire.LOGIN_START}
    to_harness |= {wire.LOGIN_FINISH, wire.LOGIN_CANCEL, wire.SET_NOTES}
    to_harness |= {wire.TERMINAL_OPEN, wire.TERMINAL_RESIZE, wire.TERMINAL_CLOSE}
    assert named - to_harness - {wire.COMMIT_REF, wire.NOTES_REF} == METHODS


@pytest.mark.slow
async def test_fuzzing_an_agents_link_harms_nobody_else(arena: Arena) -> None:
    hello = encode({"jsonrpc": "2.0", "id": 0, "method": wire.HELLO, "params": HELLO})
    target = Target(
        "link",
        lambda: asyncio.open_unix_connection(arena.socket("alice", "hive.sock"), limit=2**24),
        lambda rng: (hello if rng.randrange(5) else b"") + draw_link_bytes(rng),
        find_link_faults,
    )
    await fuzz_beside_others(arena, target)


@pytest.mark.slow
async def test_fuzzing_the_dashboards_port_without_a_session_harms_nobody(arena: Arena) -> None:
    host = f"127.0.0.1:{arena.hive.port}"
    target = Target(
        "port",
        lambda: open_tcp(arena.hive.port),
        lambda rng: draw_http_bytes(rng, arena.targets, host, STRANGER_MARK, f"origin: http://{host}\r\n"),
        find_http_faults,
    )
    await fuzz_beside_others(arena, target)


@pytest.mark.slow
async def test_fuzzing_the_operators_socket_harms_nobody(arena: Arena) -> None:
    target = Target(
        "operator",
        lambda: asyncio.open_unix_connection(str(arena.hive.run / "hive.sock"), limit=2**24),
        lambda rng: draw_http_bytes(rng, arena.targets, "hive", OPERATOR_MARK),
        find_http_faults,
    )
    await fuzz_beside_others(arena, target)


@pytest.mark.slow
async def test_fuzzing_the_desktop_clients_socket_harms_nobody(arena: Arena) -> None:
    target = Target(
        "desktop",
        lambda: asyncio.open_unix_connection(str(arena.hive.run / "host.sock"), limit=2**24),
        draw_desktop_bytes,
        find_desktop_faults,
    )
    await fuzz_beside_others(arena, target)


@pytest.mark.slow
async def test_fuzzing_an_agents_model_socket_harms_nobody_else(arena: Arena) -> None:
    target = Target(
        "model",
        lambda: asyncio.open_unix_connection(arena.socket("alice", "model.sock"), limit=2**24),
        lambda rng: draw_http_bytes(rng, MODEL, "model", STRANGER_MARK),
        find_http_faults,
    )
    await fuzz_beside_others(arena, target)


@pytest.mark.slow
async def test_fuzzing_an_agents_egress_socket_harms_nobody_else(arena: Arena) -> None:
    target = Target(
        "egress",
        lambda: asyncio.open_unix_connection(arena.socket("alice", "egress.sock"), limit=2**24),
        draw_connect_bytes,
        find_http_faults,
    )
    await fuzz_beside_others(arena, target)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["egress.sock", "model.sock"])
async def test_fuzzing_a_harnesss_own_port_leaves_it_as_it_was(arena: Arena, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = Path(__file__).parents[1] / "fuzzed_port.py"
    harness = await asyncio.create_subprocess_exec(sys.executable, str(program), str(port), arena.socket("alice", name))
    try:
        await asyncio.to_thread(wait_for, lambda: is_open(port), "the port")
        before = Held.observe(harness.pid)
        target = Target(
            f"port to {name}",
            lambda: open_tcp(port),
            lambda rng: draw_connect_bytes(rng) if name == "egress.sock" else draw_http_bytes(rng, MODEL, "m", "x"),
            find_http_faults,
        )
        await fuzz_beside_others(arena, target)
        wait_for(lambda: Held.observe(harness.pid).files <= before.files, "the port's connections to be gone")
        assert Held.observe(harness.pid).resident_bytes < before.resident_bytes + GROWTH_LIMIT_BYTES
        assert harness.returncode is None
    finally:
        harness.kill()
        await harness.wait()


async def answers(reader: asyncio.StreamReader, count: int) -> list[dict[str, Any]]:
    """So many answers, without what the daemon asks meanwhile."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < count:
            body = json.loads(await reader.readline())
            if "method" not in body:
                found.append(body)
    return found


async def open_link(arena: Arena) -> Streams:
    reader, writer = await asyncio.open_unix_connection(arena.socket("alice", "hive.sock"), limit=2**24)
    writer.write(encode({"jsonrpc": "2.0", "id": -1, "method": wire.HELLO, "params": HELLO}))
    # What fuzzing left in the queue is taken out of it.
    await answers(reader, 1)
    left = 1
    while left:
        writer.write(encode({"jsonrpc": "2.0", "id": -2, "method": wire.RECV, "params": {"max": 20, "wait_s": 0}}))
        left = (await answers(reader, 1))[0]["result"]["waiting"]
    return reader, writer


async def test_requests_answered_at_once_in_one_piece_are_each_answered_once(arena: Arena) -> None:
    reader, writer = await open_link(arena)
    wants = {"max": 1, "wait_s": 0}
    writer.write(
        b"".join(encode({"jsonrpc": "2.0", "id": n, "method": wire.RECV, "params": wants}) for n in range(900))
    )
    found = await answers(reader, 900)
    assert [body["id"] for body in found] == list(range(900))
    assert all("result" in body for body in found)
    writer.transport.abort()
    await asyncio.to_thread(check_daemon, arena)


async def test_what_waits_beyond_the_limit_is_answered_once_there_is_room(arena: Arena) -> None:
    reader, writer = await open_link(arena)
    for number in range(IN_FLIGHT_LIMIT + 5):
        wants = {"max": 1, "wait_s": 0.3 if number < IN_FLIGHT_LIMIT else 0}
        writer.write(encode({"jsonrpc": "2.0", "id": number, "method": wire.RECV, "params": wants}))
    found = await answers(reader, IN_FLIGHT_LIMIT + 5)
    assert {body["id"] for body in found} == set(range(IN_FLIGHT_LIMIT + 5))
    assert all("result" in body for body in found)
    writer.transport.abort()


async def test_a_hundred_thousand_empty_lines_end_the_connection_of_who_sends_them(arena: Arena) -> None:
    """At the rate of requests they would be looked at for minutes, and its end not be seen before."""
    carol = await arena.link("carol")
    for _ in range(5):
        reader, writer = await open_link(arena)
        writer.write(b"\n" * 100_000)
        async with asyncio.timeout(PATIENCE_S):
            refused = json.loads(await reader.readline())
            assert "too many lines" in refused["error"]["message"]
            assert await carol.call(wire.RECV, max=1, wait_s=0)
        writer.transport.abort()
    carol.close()
    await asyncio.to_thread(check_daemon, arena)


async def test_an_agent_that_opens_connections_without_end_gets_no_more_than_its_share(arena: Arena) -> None:
    opened: list[Streams] = []
    try:
        for name in ("hive.sock", "model.sock", "egress.sock", "terminal.sock"):
            path = arena.socket("alice", name)
            opened += [await asyncio.open_unix_connection(path) for _ in range(200)]
        async with asyncio.timeout(PATIENCE_S):
            refused = await opened[LINKS_LIMIT][0].readline()
        assert json.loads(refused)["error"]["data"]["code"] == "too_many"
        wait_for(lambda: arena.observe().files < arena.before.files + 160, "the others to be cut off")
        carol = await arena.link("carol")
        carol.close()
    finally:
        for _, writer in opened:
            writer.transport.abort()
    await asyncio.to_thread(check_daemon, arena)
