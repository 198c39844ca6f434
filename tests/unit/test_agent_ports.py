"""The port of an agent's page: which it is, who may have it, and what listens there."""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from config_rig import open_config_rig
from hyperhive.core.approvals import ApprovalStatus
from hyperhive.core.errors import ConflictError
from hyperhive.core.names import MANAGER
from hyperhive.core.ports import FIRST_PORT, MANAGER_PORT, PORTS, Collision, find_agent_port, find_collisions
from hyperhive.host.agent_ports import AgentPorts
from hyperhive.host.agent_records import insert_agent, mark_destroyed
from hyperhive.host.approvals import Approvals
from hyperhive.host.budgets import Spending
from hyperhive.host.drafts import Drafts
from hyperhive.host.feed import Feed, Subscription
from hyperhive.host.kept import Kept
from hyperhive.host.parking import Parking
from hyperhive.host.roster import Roster
from hyperhive.host.store.store import Store, Transaction
from hyperhive.system.redirects import HEAD_LIMIT_BYTES, Redirects
from port_names import find_free_name, find_twins


def test_the_port_is_the_one_that_the_name_has_had_since_the_first_hyperhive() -> None:
    assert find_agent_port("test") == 8945
    # FNV-1a-32 of "a" is 0xE40C292C, of "foobar" 0xBF9CF968 (the authors' own test vectors).
    assert find_agent_port("a") == 8100 + 0xE40C292C % 900
    assert find_agent_port("foobar") == 8100 + 0xBF9CF968 % 900
    assert find_agent_port(MANAGER) == 8000


def test_every_name_has_a_port_in_the_range_and_none_has_the_managers() -> None:
    names = ["".join(letters) for letters in itertools.product("abcdefghij", repeat=3)] + ["z" * 63, "a-0"]
    ports = {find_agent_port(name) for name in names}
    assert min(ports) >= FIRST_PORT > MANAGER_PORT
    assert max(ports) < FIRST_PORT + PORTS
    assert len(ports) > 500


def test_names_that_share_a_port_are_found_in_the_order_they_came() -> None:
    one, other = find_twins()
    collision = Collision(find_agent_port(one), (other, one))
    assert find_collisions([MANAGER, other, "test", one]) == [collision]
    assert find_collisions([MANAGER, "test", one]) == []
    assert find_collisions([]) == []


# -- who may have a port -----------------------------------------------------------------------------------


@dataclass
class Rig:
    store: Store
    feed: Feed
    ports: AgentPorts
    told: Subscription

    async def spawn(self, name: str, later_ms: int = 0) -> None:
        def insert(tx: Transaction) -> None:
            tx.at_ms += later_ms
            insert_agent(tx, name, None)

        await self.store.write(insert)

    async def destroy(self, name: str) -> None:
        await self.store.write(lambda tx: mark_destroyed(tx, name))

    async def count_told(self) -> int:
        return len(await self.told.take(0.01))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        feed = Feed()
        store = Store(tmp_path / "hive.sqlite", "hive", feed.publish_events)
        stack.callback(store.close)
        ports = AgentPorts(store, feed, enabled=True, retry_s=0.05)
        ports.place(7000)
        stack.push_async_callback(ports.close)
        yield Rig(store, feed, ports, feed.subscribe(lambda item: item.kind == "ports"))


async def test_a_name_whose_port_another_agent_has_is_refused_with_both_names(rig: Rig) -> None:
    one, other = find_twins()
    await rig.spawn(one)
    with pytest.raises(ConflictError) as refused:
        await rig.store.read(lambda view: rig.ports.check_new(view, other))
    assert refused.value.message == f"{one} and {other} would have the same port, {find_agent_port(one)}"
    assert refused.value.hint == "choose another name"
    await rig.store.read(lambda view: rig.ports.check_new(view, find_free_name()))
    await rig.destroy(one)
    await rig.store.read(lambda view: rig.ports.check_new(view, other))


async def test_a_name_whose_port_is_the_dashboards_is_refused(rig: Rig) -> None:
    rig.ports.place(find_agent_port("test"))
    with pytest.raises(ConflictError, match="test would have port 8945, which is the dashboard's"):
        await rig.store.read(lambda view: rig.ports.check_new(view, "test"))


async def test_neither_of_two_that_share_a_port_is_rebuilt(rig: Rig) -> None:
    one, other = find_twins()
    await rig.spawn(one)
    await rig.store.read(lambda view: rig.ports.check_rebuild(view, one))
    await rig.spawn(other)
    for name, twin in ((one, other), (other, one)):
        with pytest.raises(ConflictError, match=f"{name} and {twin} have the same port") as refused:
            await rig.store.read(lambda view, name=name: rig.ports.check_rebuild(view, name))
        assert "another name" in refused.value.hint


async def test_nothing_new_of_an_agent_that_shares_its_port_is_approved(tmp_path: Path) -> None:
    one, other = find_twins()
    async with open_config_rig(tmp_path) as rig:
        ports = AgentPorts(rig.store, Feed(), enabled=True)
        woken: list[str] = []
        approvals = Approvals(
            rig.store,
            rig.configs,
            rig.roots,
            None,
            lambda: woken.append("woken"),
            ports.check_new,
            ports.check_rebuild,
        )
        await rig.spawn(one, {"prompt.md": "be good"})
        request = await rig.approvals.request_spawn(other, "a twin", MANAGER)
        change = await rig.propose(one, {"prompt.md": "be better"})
        with pytest.raises(ConflictError, match="would have the same port"):
            await approvals.approve(request.id)
        await rig.spawn(other)
        with pytest.raises(ConflictError, match=f"{one} and {other} have the same port"):
            await approvals.approve(change.id)
        with pytest.raises(ConflictError, match=f"{one} and {other} have the same port"):
            await approvals.revert(one, 0)
        # Nothing was decided: it can be approved once one of them is gone.
        assert (await rig.status(change))[0] is ApprovalStatus.PENDING
        assert woken == []
        await rig.destroy(other)
        assert (await approvals.approve(change.id)).status is ApprovalStatus.APPROVED


async def test_a_draft_and_a_revival_need_a_port_of_their_own(tmp_path: Path) -> None:
    one, other = find_twins()
    async with open_config_rig(tmp_path) as rig:
        ports = AgentPorts(rig.store, Feed(), enabled=True)
        drafts = Drafts(rig.store, rig.roots, rig.configs, ports.check_new)
        roster = Roster(rig.store, Feed(), "none", Parking(rig.store), lambda _: Spending(0, 0.0, False, None, None))
        kept = Kept(rig.store, rig.roots, rig.configs, roster, rig.woken.append, (), ports.check_new)
        await rig.spawn(one)
        await rig.destroy(one)
        await rig.spawn(other)
        with pytest.raises(ConflictError, match=f"{other} and {one} would have the same port"):
            await kept.revive(one)
        await rig.destroy(other)
        await kept.revive(one)
        names = (f"third-{number}" for number in range(10**5))
        third = next(name for name in names if find_agent_port(name) == find_agent_port(one))
        with pytest.raises(ConflictError, match=f"{one} and {third} would have the same port"):
            await drafts.create(third, MANAGER)


async def test_without_the_setting_nothing_is_refused(rig: Rig) -> None:
    one, other = find_twins()
    ports = AgentPorts(rig.store, rig.feed, enabled=False)
    ports.place(find_agent_port(other))
    await rig.spawn(one)
    await rig.store.read(lambda view: ports.check_new(view, other))
    await rig.spawn(other)
    await rig.store.read(lambda view: ports.check_rebuild(view, other))


# -- what listens ------------------------------------------------------------------------------------------


async def ask(port: int, request: bytes) -> bytes:
    """All that is answered on a port of the loopback, until the other side hangs up."""
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


async def find_location(port: int, host: str, path: str = "/") -> str:
    answer = await ask(port, f"GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
    head = answer.decode("ascii").split("\r\n")
    assert head[0].split()[1] == "307"
    [location] = [line.split(": ", 1)[1] for line in head if line.lower().startswith("location: ")]
    return location


async def test_each_agent_has_a_listener_and_nobody_else(rig: Rig) -> None:
    name = find_free_name()
    port = find_agent_port(name)
    await rig.spawn(name)
    assert await rig.ports.converge()
    assert await find_location(port, f"localhost:{port}") == f"http://localhost:7000/agent/{name}/"
    assert await find_location(port, f"127.0.0.1:{port}", "/else?x=1") == f"http://127.0.0.1:7000/agent/{name}/"
    await rig.destroy(name)
    assert await rig.ports.converge()
    with pytest.raises(ConnectionRefusedError):
        await ask(port, b"")


async def test_of_the_host_that_was_asked_for_only_our_own_names_come_back(rig: Rig) -> None:
    name = find_free_name()
    port = find_agent_port(name)
    await rig.spawn(name)
    assert await rig.ports.converge()
    for host in ("evil.example", f"evil.example:{port}", "localhost", "localhost:7000", f"localhost:{port}.evil", ""):
        assert await find_location(port, host) == f"http://127.0.0.1:7000/agent/{name}/", host


async def test_the_older_of_two_has_the_port_and_the_other_gets_it_when_that_is_gone(rig: Rig) -> None:
    one, other = find_twins()
    port = find_agent_port(one)
    # By age, not by name.
    older, younger = max(one, other), min(one, other)
    await rig.spawn(older)
    await rig.spawn(younger, later_ms=1)
    assert await rig.ports.converge()
    assert (await find_location(port, "")).endswith(f"/agent/{older}/")
    [problem] = rig.ports.list_problems()
    assert f"{older} and {younger} have the same port, {port}" in problem
    assert await rig.count_told() == 1
    assert await rig.ports.converge()
    assert await rig.count_told() == 0
    await rig.destroy(older)
    assert await rig.ports.converge()
    assert (await find_location(port, "")).endswith(f"/agent/{younger}/")
    assert rig.ports.list_problems() == []
    assert await rig.count_told() == 1


async def test_the_dashboards_port_is_left_to_it_and_told(rig: Rig) -> None:
    await rig.spawn(MANAGER)
    rig.ports.place(MANAGER_PORT)
    assert await rig.ports.converge()
    [problem] = rig.ports.list_problems()
    assert "manager has no page at its port 8000, which is the dashboard's" in problem
    await rig.store.read(lambda view: rig.ports.check_rebuild(view, MANAGER))


async def test_a_port_that_another_program_has_is_told_and_tried_again(rig: Rig) -> None:
    name = find_free_name()
    port = find_agent_port(name)
    await rig.spawn(name)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert not await rig.ports.converge()
        [problem] = rig.ports.list_problems()
        assert f"{name} has no page at its port {port} (" in problem
        running = asyncio.create_task(rig.ports.run_forever())
    async with asyncio.timeout(20):
        while rig.ports.list_problems():
            await rig.told.take(1)
    assert (await find_location(port, "")).endswith(f"/agent/{name}/")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_listener_follows_an_agent_that_comes_and_goes(rig: Rig) -> None:
    name = find_free_name()
    port = find_agent_port(name)
    rig.feed.listen(rig.ports.on_event, traffic=False)
    running = asyncio.create_task(rig.ports.run_forever())
    await rig.spawn(name)
    async with asyncio.timeout(20):
        while not await is_open(port):
            await asyncio.sleep(0.01)
        await rig.destroy(name)
        while await is_open(port):
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def is_open(port: int) -> bool:
    try:
        await ask(port, b"GET / HTTP/1.0\r\n\r\n")
    except ConnectionRefusedError:
        return False
    return True


# -- the bounds of a listener ------------------------------------------------------------------------------


@pytest.fixture
async def redirects() -> AsyncIterator[tuple[Redirects, int]]:
    redirects = Redirects(connections_limit=2, answer_timeout_s=0.3)
    listener = redirects.listen(0, lambda hosts: "http://127.0.0.1:7000/")
    yield redirects, listener.port
    listener.close()
    await redirects.close()


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nhost:"])
async def test_a_request_that_does_not_come_to_an_end_is_cut_off(
    redirects: tuple[Redirects, int], start: bytes
) -> None:
    assert await ask(redirects[1], start) == b""


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"x" * 2 * HEAD_LIMIT_BYTES, b"431"),
        (b"GET / HTTP/1.0\r\n\r\n", b"307"),
        (b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n", b"307"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc", b"307"),
        (b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", b"307"),
    ],
)
async def test_whatever_is_asked_the_answer_is_short_and_the_last(
    redirects: tuple[Redirects, int], request_text: bytes, status: bytes
) -> None:
    answer = await ask(redirects[1], request_text)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert (head.split()[1], body) == (status, b"")
    assert b"connection: close" in head.lower()


async def test_one_connection_too_many_is_not_answered(redirects: tuple[Redirects, int]) -> None:
    held = [await asyncio.open_connection("127.0.0.1", redirects[1]) for _ in range(2)]
    assert await ask(redirects[1], b"GET / HTTP/1.0\r\n\r\n") == b""
    for reader, writer in held:
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()
    assert b" 307 " in await ask(redirects[1], b"GET / HTTP/1.0\r\n\r\n")
