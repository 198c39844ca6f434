"""Attempts to get out of the egress proxy, by their names: each one is made through the agent's real socket."""

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from egress_attacks import INJECTED, INNER, MAPPED, METADATA, NUMBERS, SMUGGLED, connect
from egress_rig import CONNECTED, DEADLINE_S, Rig, echo, look_up_in, open_rig, serve
from hyperhive.core.egress import HEAD_LIMIT_BYTES, EgressPolicy, Target
from hyperhive.host import egress_dial
from hyperhive.host.egress_dial import Dialer, NoTunnelError

# Listed by somebody who did not think, or by name of what it stands for.
CARELESS = EgressPolicy(
    "proxied",
    (
        *("example.org", "*.example.org", "metadata.google.internal", "localhost", "metadata"),
        *("169.254.169.254", "127.0.0.1", "169.254.169.254:80", "GET http://169.254.169.254/*"),
        *("GET http://metadata.google.internal/*", "metadata.google.internal:80"),
    ),
)


async def refuse(rig: Rig, request: bytes) -> bytes:
    answer = await rig.get_answer(request)
    assert answer.split(b" ")[1] in (b"400", b"403", b"405", b"408", b"411"), answer[:100]
    return answer


# -- cloud metadata, and the machine itself ----------------------------------------------------------------


@pytest.mark.parametrize("host", METADATA)
async def test_cloud_metadata_is_not_reached_by_its_address(tmp_path: Path, host: str) -> None:
    async with open_rig(tmp_path, CARELESS) as rig:
        for port in (80, 443):
            await refuse(rig, connect(f"{host}:{port}"))
        await refuse(rig, f"GET http://{host}/latest/meta-data/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "fe80::1", "::ffff:169.254.169.254"])
async def test_cloud_metadata_is_not_reached_by_a_name(tmp_path: Path, address: str) -> None:
    table = {name: [address] for name in ("metadata.google.internal", "a.example.org")}
    async with open_rig(tmp_path, CARELESS, look_up=look_up_in(table)) as rig:
        for host in table:
            assert b"X-Hive-Rule: address" in await refuse(rig, connect(f"{host}:443"))
        plain = b"GET http://metadata.google.internal/ HTTP/1.1\r\nHost: metadata.google.internal\r\n"
        assert b"X-Hive-Rule: address" in await refuse(rig, plain + b"Metadata-Flavor: Google\r\n\r\n")


@pytest.mark.parametrize("host", NUMBERS)
async def test_decimal_octal_and_hexadecimal_addresses_are_no_hosts(tmp_path: Path, host: str) -> None:
    policy = EgressPolicy("proxied", (host,)) if not host.endswith(".") else CARELESS
    async with open_rig(tmp_path, policy, look_up=look_up_in({host: ["8.8.8.8"]})) as rig:
        await refuse(rig, connect(f"{host}:443"))
        await refuse(rig, f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())


@pytest.mark.parametrize("host", MAPPED)
async def test_ipv4_mapped_ipv6_is_refused(tmp_path: Path, host: str) -> None:
    async with open_rig(tmp_path, CARELESS) as rig:
        await refuse(rig, connect(f"{host}:443"))


@pytest.mark.parametrize("host", ["[fe80::1%eth0]", "[fe80::1%25eth0]", "[2606:4700::1111%lo]", "[::1%1]"])
async def test_ipv6_zones_are_refused(tmp_path: Path, host: str) -> None:
    async with open_rig(tmp_path, CARELESS) as rig:
        assert (await refuse(rig, connect(f"{host}:443"))).startswith(b"HTTP/1.1 400 ")


# -- DNS rebinding -----------------------------------------------------------------------------------------


async def test_dns_rebinding_does_not_reach_the_machine_itself(tmp_path: Path) -> None:
    """Public when it is first looked up, private ever after: only what was judged is connected to."""
    asked: list[str] = []
    tried: list[tuple[str, int]] = []

    def rebind(name: str) -> list[str]:
        asked.append(name)
        return ["127.0.0.1"] if len(asked) > 1 else ["8.8.8.8"]

    async def record(places: Sequence[tuple[str, int]]) -> socket.socket:
        tried.extend(places)
        raise NoTunnelError(502, "failed", "connect", "it takes no connection")

    async with open_rig(tmp_path, CARELESS, look_up=rebind, connect=record) as rig:
        assert b"X-Hive-Rule: connect" in await rig.get_refusal("example.org:443")
        assert (asked, tried) == (["example.org"], [("8.8.8.8", 443)])
        assert b"X-Hive-Rule: address" in await rig.get_refusal("example.org:443")
        assert (asked, tried) == (["example.org"] * 2, [("8.8.8.8", 443)])


async def test_a_name_is_pinned_to_the_addresses_of_its_one_lookup(tmp_path: Path) -> None:
    """Of a name with addresses of both kinds the private ones are never tried, also when no other answers."""
    tried: list[tuple[str, int]] = []

    async def record(places: Sequence[tuple[str, int]]) -> socket.socket:
        tried.extend(places)
        raise NoTunnelError(502, "failed", "connect", "it takes no connection")

    mixed = ["127.0.0.1", "8.8.8.8", "::1", "169.254.169.254", "2606:4700::1111", "10.0.0.1"]
    dialer = Dialer({}, look_up_in({"example.org": mixed}), connect=record)
    with pytest.raises(NoTunnelError):
        await dialer.connect("alice", Target("example.org", 8443))
    assert tried == [("8.8.8.8", 8443), ("2606:4700::1111", 8443)]
    assert len(tried) <= egress_dial.ADDRESSES_LIMIT


# -- CONNECT smuggling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", SMUGGLED)
async def test_a_connect_target_that_two_readers_may_read_otherwise_is_refused(tmp_path: Path, target: str) -> None:
    async with open_rig(tmp_path, CARELESS) as rig:
        assert (await refuse(rig, connect(target))).startswith(b"HTTP/1.1 400 ")


async def test_data_before_the_answer_goes_into_the_tunnel_and_nowhere_else(tmp_path: Path) -> None:
    """A second CONNECT behind the first is bytes for the server that was asked for, never a request."""
    async with open_rig(tmp_path, CARELESS) as rig, serve(echo) as place:
        rig.put("example.org", place)
        second = connect("evil.test:443", "Host: evil.test:443")
        reader, writer = await rig.ask(connect("example.org:443") + second)
        writer.write_eof()
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.read() == CONNECTED + second
        writer.close()
        [request] = await rig.wait_requests(1)
        assert (request.host, request.bytes_up) == ("example.org", len(second))


async def test_a_second_request_within_the_head_is_refused(tmp_path: Path) -> None:
    async with open_rig(tmp_path, CARELESS) as rig:
        for inner in INNER:
            await refuse(rig, f"CONNECT example.org:443 HTTP/1.1{inner}\r\n\r\n".encode())


async def test_after_a_refusal_nothing_more_is_read_as_a_request(tmp_path: Path) -> None:
    async with open_rig(tmp_path, CARELESS) as rig, serve(echo) as place:
        rig.put("example.org", place)
        answer = await refuse(rig, connect("evil.test:443") + connect("example.org:443"))
        assert answer.count(b"HTTP/1.1 ") == 1 and b"200" not in answer.split(b"\r\n")[0]


async def test_an_oversized_request_is_refused(tmp_path: Path) -> None:
    async with open_rig(tmp_path, CARELESS) as rig:
        await refuse(rig, connect("example.org:443", "X: " + "a" * HEAD_LIMIT_BYTES))
        await refuse(rig, b"CONNECT " + b"a" * HEAD_LIMIT_BYTES + b":443 HTTP/1.1\r\n\r\n")
        await refuse(rig, b"GET http://example.org/" + b"a" * HEAD_LIMIT_BYTES + b" HTTP/1.1\r\n\r\n")


# -- header injection --------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", INJECTED)
async def test_cr_lf_nul_and_folded_lines_in_a_head_are_refused(tmp_path: Path, head: bytes) -> None:
    policy = EgressPolicy("proxied", ("example.org", "* http://example.org/*"))
    async with open_rig(tmp_path, policy) as rig, serve(echo) as place:
        rig.put("example.org", place)
        rig.put("example.org", place, 80)
        answer = await refuse(rig, head)
        assert answer.startswith(b"HTTP/1.1 400 ")


async def test_a_refusal_repeats_nothing_that_could_be_read_as_a_header(tmp_path: Path) -> None:
    async with open_rig(tmp_path, CARELESS) as rig:
        for host in ("evil.test", "xn--evil-\xe9.test", "<script>.test"):
            head, _, body = (await refuse(rig, connect(f"{host}:443"))).partition(b"\r\n\r\n")
            assert host.encode("latin-1") not in head and b"<" not in body
