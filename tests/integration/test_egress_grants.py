"""What the operator lets an agent reach for a while: what it allows, when it ends, and what ends with it."""

import asyncio
import contextlib
import time
from collections.abc import Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from egress_rig import DEADLINE_S, Rig, echo, open_rig, serve
from hyperhive.core.egress import EgressPolicy
from hyperhive.core.errors import ConflictError, HiveError, InvalidInputError, NotFoundError, TooLargeError
from hyperhive.host.agent_records import mark_destroyed
from hyperhive.host.clock_jumps import ClockJumps
from hyperhive.host.egress_grants import GRANTS_EACH_LIMIT
from hyperhive.host.egress_log import EVENT_EVERY_S, OTHERS, REFUSED_HOSTS_LIMIT
from hyperhive.host.store.store import Store
from hyperhive.system.clock import SteadyClock, now, read_time_from

CLOSED = EgressPolicy("proxied")


@contextlib.contextmanager
def set_clock() -> Generator[list[float]]:
    """The time that the daemon reads, to be set."""
    at = [now().timestamp()]
    read_time_from(lambda: at[0])
    try:
        yield at
    finally:
        read_time_from(time.time)


async def is_allowed(rig: Rig, target: str = "example.org:443") -> bool:
    reader, writer = await rig.ask(f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())
    async with asyncio.timeout(DEADLINE_S):
        line = await reader.readline()
    writer.close()
    return line.startswith(b"HTTP/1.1 200 ")


async def wait_event(rig: Rig, name: str, host: str = "") -> dict[str, Any]:
    """The body of the first event of that name, and about that host if one is named."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            for event in rig.events:
                if event.name == name and host in {"", event.body.get("host")}:
                    return event.body
            await asyncio.sleep(0.01)


def names(rig: Rig) -> list[str]:
    return [event.name.value for event in rig.events if event.name.value.startswith("egress.")]


async def test_a_refused_host_that_is_granted_is_reached_until_it_is_revoked(tmp_path: Path) -> None:
    async with open_rig(tmp_path, CLOSED) as rig, serve(echo) as place:
        rig.put("example.org", place)
        assert not await is_allowed(rig)
        grant = await rig.grants.grant("alice", "Example.org", 443, 30)
        assert (grant.agent, grant.host, grant.port) == ("alice", "example.org", 443)
        assert grant.until - grant.granted_at == timedelta(minutes=30)
        assert await is_allowed(rig)
        assert not await is_allowed(rig, "example.org:8443")
        assert not await is_allowed(rig, "a.example.org:443")
        await rig.grants.revoke(grant.id)
        assert not await is_allowed(rig) and await rig.grants.list_grants("alice") == []
        assert (await wait_event(rig, "egress.granted"))["grant"]["host"] == "example.org"
        ended = await wait_event(rig, "egress.revoked")
        assert (ended["grant"]["host"], ended["why"]) == ("example.org", "revoked")
        await wait_event(rig, "egress.refused", "example.org")
        assert [request.rule for request in await rig.log.list_requests("alice", 10)].count(
            "granted: example.org:443"
        ) == 1
        with pytest.raises(NotFoundError):
            await rig.grants.revoke(grant.id)


async def test_a_grant_ends_at_its_time_with_what_goes_on_by_it(tmp_path: Path) -> None:
    with set_clock() as at:
        async with open_rig(tmp_path, CLOSED) as rig, serve(echo) as place:
            rig.put("example.org", place)
            rig.put("other.org", place)
            await rig.grants.grant("alice", "example.org", 443, 30)
            await rig.grants.grant("alice", "other.org", 443, 60)
            reader, writer = await rig.connect("example.org:443")
            kept, kept_writer = await rig.connect("other.org:443")
            ending = asyncio.create_task(rig.grants.run_forever())
            at[0] += 30 * 60 - 1
            await rig.grants.end_due()
            writer.write(b"x")
            async with asyncio.timeout(DEADLINE_S):
                assert await reader.readexactly(1) == b"x"
            at[0] += 2
            # Refused from that moment on, whoever has looked.
            assert not await is_allowed(rig)
            await rig.grants.end_due()
            async with asyncio.timeout(DEADLINE_S):
                assert await reader.read() == b""
            kept_writer.write(b"y")
            async with asyncio.timeout(DEADLINE_S):
                assert await kept.readexactly(1) == b"y"
            assert [grant.host for grant in await rig.grants.list_grants("")] == ["other.org"]
            assert (await wait_event(rig, "egress.revoked"))["why"] == "over"
            ending.cancel()
            writer.close()
            kept_writer.close()


async def test_revoking_ends_what_goes_on_by_the_grant_and_nothing_else(tmp_path: Path) -> None:
    async with open_rig(tmp_path, EgressPolicy("proxied", ("listed.org",))) as rig, serve(echo) as place:
        for host in ("example.org", "listed.org"):
            rig.put(host, place)
        grant = await rig.grants.grant("alice", "example.org", 443, 1)
        granted, granted_writer = await rig.connect("example.org:443")
        listed, listed_writer = await rig.connect("listed.org:443")
        await rig.grants.revoke(grant.id)
        async with asyncio.timeout(DEADLINE_S):
            assert await granted.read() == b""
            listed_writer.write(b"x")
            assert await listed.readexactly(1) == b"x"
        for writer in (granted_writer, listed_writer):
            writer.close()
        rules = {request.rule for request in await rig.wait_requests(2)}
        assert rules == {"granted: example.org:443", "network.allow: listed.org"}


async def test_a_plain_request_is_granted_by_host_and_port(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()

    async with open_rig(tmp_path, EgressPolicy("none")) as rig, serve(answer) as place:
        rig.put("example.org", place, 80)
        request = b"PUT http://example.org/a HTTP/1.1\r\nHost: example.org\r\n\r\n"
        assert b"403" in await rig.get_answer(request)
        await rig.grants.grant("alice", "example.org", 80, 5)
        assert (await rig.get_answer(request)).startswith(b"HTTP/1.1 204 ")


async def test_a_grant_survives_the_daemon(tmp_path: Path) -> None:
    async with open_rig(tmp_path, CLOSED) as rig:
        made = await rig.grants.grant("alice", "example.org", 443, 30)
    async with open_rig(tmp_path, CLOSED) as rig, serve(echo) as place:
        rig.put("example.org", place)
        assert await rig.grants.list_grants("alice") == [made]
        assert await is_allowed(rig)


async def test_granting_again_sets_the_end_anew(tmp_path: Path) -> None:
    async with open_rig(tmp_path, CLOSED) as rig:
        first = await rig.grants.grant("alice", "example.org", 443, 5)
        again = await rig.grants.grant("alice", "example.org", 443, 60)
        assert again.id == first.id and again.until > first.until
        assert await rig.grants.list_grants("") == [again]


async def test_a_clock_that_is_set_neither_prolongs_nor_ends_a_grant(tmp_path: Path) -> None:
    wall, elapsed = [1_000_000.0], [0.0]
    clock = SteadyClock(lambda: wall[0], lambda: elapsed[0])
    read_time_from(clock.read_s)
    try:
        async with open_rig(tmp_path, CLOSED) as rig:
            await rig.grants.grant("alice", "example.org", 443, 30)
            for jump_s in (7200.0, -86400.0):
                wall[0] += jump_s
                await ClockJumps(rig.hive, clock).look()
                assert len(await rig.grants.list_grants("alice")) == 1
            wall[0] += 1801
            elapsed[0] += 1801
            assert await rig.grants.list_grants("alice") == []
    finally:
        read_time_from(time.time)


async def test_a_clock_that_was_set_back_while_no_daemon_ran_ends_grants(tmp_path: Path) -> None:
    with set_clock() as at:
        async with open_rig(tmp_path, CLOSED) as rig:
            await rig.grants.grant("alice", "example.org", 443, 30)
        at[0] -= 86400
        async with open_rig(tmp_path, CLOSED) as rig:
            assert await rig.grants.list_grants("alice") == []
            await rig.grants.end_due()
            at[0] += 86400
            assert await rig.grants.list_grants("alice") == []


async def test_a_grant_ends_with_its_agent_and_is_no_later_ones(tmp_path: Path) -> None:
    async with open_rig(tmp_path, CLOSED) as rig:
        await rig.grants.grant("alice", "example.org", 443, 30)
        await rig.hive.write(lambda tx: mark_destroyed(tx, "alice"))
        assert await rig.grants.list_grants("") == []
        with pytest.raises(NotFoundError):
            await rig.grants.grant("alice", "example.org", 443, 30)
        await rig.hive.write(lambda tx: tx.list("revive_agent", name="alice"))
        assert await rig.grants.list_grants("") == []
        await rig.grants.grant("alice", "example.org", 443, 30)
        await rig.hive.write(lambda tx: tx.list("delete_agent", name="alice"))
        assert await rig.grants.list_grants("") == []


@pytest.mark.parametrize(
    ("host", "port"),
    [
        *(("127.0.0.1", 443), ("169.254.169.254", 80), ("::1", 443), ("[fe80::1]", 443), ("10.0.0.1", 22)),
        *(("*.example.org", 443), ("*", 443), ("example.org:443", 443), ("user@example.org", 443), ("", 443)),
        *(("example.org/", 443), ("http://example.org", 80), ("example.org\n", 443), ("127.1", 443)),
    ],
)
async def test_what_is_no_host_or_is_never_reached_cannot_be_granted(tmp_path: Path, host: str, port: int) -> None:
    async with open_rig(tmp_path, CLOSED) as rig:
        with pytest.raises(InvalidInputError):
            await rig.grants.grant("alice", host, port, 30)
        assert names(rig) == []


async def test_grants_are_for_agents_that_are_there_and_use_the_proxy_and_not_without_end(tmp_path: Path) -> None:
    async with open_rig(tmp_path, CLOSED) as rig:
        for agent, kind in (("nobody", NotFoundError), ("../alice", HiveError)):
            with pytest.raises(kind):
                await rig.grants.grant(agent, "example.org", 443, 30)
        for number in range(GRANTS_EACH_LIMIT):
            await rig.grants.grant("alice", f"a{number}.org", 443, 30)
        with pytest.raises(TooLargeError):
            await rig.grants.grant("alice", "example.org", 443, 30)
        rig.policy = EgressPolicy("host")
        with pytest.raises(ConflictError):
            await rig.grants.grant("alice", "example.org", 443, 30)


async def test_a_granted_name_at_a_private_address_is_still_refused(tmp_path: Path) -> None:
    async with open_rig(tmp_path, CLOSED, look_up=lambda _: ["169.254.169.254", "127.0.0.1"]) as rig:
        await rig.grants.grant("alice", "metadata.example.org", 443, 30)
        assert b"X-Hive-Rule: address\r\n" in await rig.get_refusal("metadata.example.org:443")


async def test_what_is_refused_again_and_again_is_one_event_in_a_while(tmp_path: Path) -> None:
    async with open_rig(tmp_path, CLOSED) as rig:
        for _ in range(5):
            assert not await is_allowed(rig)
            rig.clock[0] += 60
        told = await wait_event(rig, "egress.refused")
        assert told == {"host": "example.org", "port": 443, "rule": "network.allow"}
        for number in range(REFUSED_HOSTS_LIMIT + 10):
            await rig.get_refusal(f"a{number}.org:443")
        await wait_event(rig, "egress.refused", OTHERS)
        hosts = [event.body["host"] for event in rig.events if event.name == "egress.refused"]
        assert len(hosts) == len(set(hosts)) == REFUSED_HOSTS_LIMIT + 1
        rig.events.clear()
        rig.clock[0] += EVENT_EVERY_S
        assert not await is_allowed(rig)
        await wait_event(rig, "egress.refused", "example.org")


async def test_the_store_of_a_purged_agent_keeps_no_grant(tmp_path: Path) -> None:
    async with open_rig(tmp_path, CLOSED) as rig:
        await rig.grants.grant("alice", "example.org", 443, 30)
        await rig.hive.write(lambda tx: tx.list("delete_agent", name="alice"))
    store = Store(tmp_path / "hive.sqlite", "hive")
    row = await store.read(lambda view: view.get("next_egress_end"))
    store.close()
    assert row["until"] is None
