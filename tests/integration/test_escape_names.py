"""Names that an agent may reach and that lead elsewhere, looked up by a hive with the machine's own resolver.

DNS rebinding and what is like it, from inside a container, while two other agents exchange messages. The network that
the daemon is in has a name server of the test's, and servers that would answer at every address that is tried: public
ones, the machine itself, its neighbours, and the metadata of a cloud.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from escape_rig import Yard, endure_while, open_yard, spawn
from name_rig import SEARCHED, Network, open_network

# A network of its own takes root.
KINDS = ("bubblewrap", "nspawn", "gvisor") if os.geteuid() == 0 else ()
PUBLIC, PUBLIC_6, AWAY = "93.184.216.34", "2606:4700::1111", "93.184.216.35"
MACHINE, NEIGHBOUR, METADATA = "127.0.0.1", "10.0.0.1", "169.254.169.254"
PRIVATE = (MACHINE, "::1", NEIGHBOUR, METADATA, "fd00:ec2::254", "fe80::a9fe:a9fe")
PORTS = (80, 443)
PLACES = [(address, port) for address in (PUBLIC, PUBLIC_6, *PRIVATE[:-1]) for port in PORTS]
TURNS = 10
RECORDS = {
    # First the one, then the other; the last for who goes on asking.
    "rebound.test": [[PUBLIC], [MACHINE]],
    "naive.test": [[PUBLIC], [MACHINE]],
    "turning.test": [[PUBLIC], [METADATA]] * TURNS,
    # Both at once, in either order, and one of each kind.
    "mixed.test": [[MACHINE, METADATA, PUBLIC, NEIGHBOUR]],
    "kinds.test": [[NEIGHBOUR, PUBLIC_6]],
    "other-kinds.test": [[PUBLIC, "::1"]],
    "away.test": [[AWAY, MACHINE, "::1"]],
    # Nothing but what nobody may reach, also as an address of the other kind and by way of another name.
    **{f"p{number}.test": [[address]] for number, address in enumerate(PRIVATE)},
    "mapped.test": [[f"::ffff:{MACHINE}", f"::ffff:{METADATA}"]],
    "alias.test": [["=printer.corp.test"]],
    "printer.corp.test": [[NEIGHBOUR]],
    # What a resolver finds for a name that is not known, if it may try.
    f"intern.test.{SEARCHED}": [[PUBLIC]],
}
REFUSED = (*(f"p{number}.test" for number in range(len(PRIVATE))), "mapped.test", "alias.test")
NAMES = (
    *("rebound.test", "turning.test", "mixed.test", "kinds.test", "other-kinds.test", "away.test", "intern.test"),
    *REFUSED,
)

# Says for each request what came back.
ASK = """
import json, socket, sys
answers = []
for request in json.loads(sys.argv[1]):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect("/run/hive/egress.sock")
        client.sendall(request.encode())
        answer = b""
        while piece := client.recv(65536):
            answer += piece
        answers.append(answer.decode("latin-1"))
print(json.dumps(answers))
"""
# The same without the proxy: what looks a name up again for each connection.
ASK_NAIVELY = """
import socket, sys
for _ in range(2):
    with socket.create_connection((sys.argv[1], 443), 20) as connection:
        connection.sendall(b"hello")
        print(connection.recv(65536).decode().rpartition("at ")[2])
"""


@dataclass
class Place:
    network: Network
    yard: Yard


@pytest.fixture(scope="module", params=KINDS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with (
        open_network(RECORDS, PLACES, [AWAY]) as network,
        open_yard(str(request.param), python=network.python) as yard,
    ):
        yield Place(network, yard)


@pytest.fixture
def mallory(place: Place) -> Iterator[str]:
    """May reach all names, by the operator's leave."""
    with spawn(place.yard) as name:
        for host in NAMES:
            for port in PORTS:
                place.yard.hive.post("/api/egress/grants", {"agent": name, "host": host, "port": port})
        place.network.forget()
        yield name


def connect(host: str) -> str:
    # What is behind the head is for the server.
    return f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\nhello"


def get(host: str) -> str:
    return f"GET http://{host}/latest/meta-data/ HTTP/1.1\r\nHost: {host}\r\n\r\n"


def ask(place: Place, name: str, *requests: str) -> list[str]:
    """What an agent gets for requests one after another, while the others exchange messages."""
    argv = (sys.executable, "-c", ASK, json.dumps(requests))
    return json.loads(endure_while(place.yard, "names that lead elsewhere", lambda: place.yard.ask(name, *argv)))


def is_refused(answer: str) -> bool:
    """For its address, and without a word of which that is."""
    assert not any(address in answer for address in PRIVATE)
    return answer.startswith("HTTP/1.1 403 ") and "X-Hive-Rule: address\r\n" in answer


def test_messages_while_a_name_turns_into_the_machine_itself(place: Place, mallory: str) -> None:
    first, second, third = ask(place, mallory, connect("rebound.test"), connect("rebound.test"), get("rebound.test"))
    assert first.endswith(f"at {PUBLIC} 443")
    assert is_refused(second) and is_refused(third)
    assert place.network.heard == [f"{PUBLIC} 443"]
    # Each request looked once, for both kinds of address: what was judged was not asked for again.
    assert sorted(place.network.asked) == sorted([["rebound.test", "A"], ["rebound.test", "AAAA"]] * 3)


def test_without_the_proxy_the_same_name_leads_to_the_machine(place: Place) -> None:
    """Or the attempts would show nothing."""
    place.network.forget()
    told = place.network.run(ASK_NAIVELY, "naive.test").split("\n")
    assert told[:2] == [f"{PUBLIC} 443", f"{MACHINE} 443"]


def test_messages_while_a_name_turns_to_and_fro(place: Place, mallory: str) -> None:
    answers = ask(place, mallory, *[connect("turning.test"), get("turning.test")] * TURNS)
    reached = [answer for answer in answers if answer.endswith((f"at {PUBLIC} 443", f"at {PUBLIC} 80"))]
    refused = [answer for answer in answers if is_refused(answer)]
    assert (len(reached), len(refused)) == (TURNS, TURNS)
    assert len(place.network.heard) == TURNS
    assert set(place.network.heard) <= {f"{PUBLIC} {port}" for port in PORTS}


def test_messages_while_names_are_public_and_private_at_once(place: Place, mallory: str) -> None:
    hosts = ("mixed.test", "kinds.test", "other-kinds.test", "away.test")
    *reached, away = ask(place, mallory, *map(connect, hosts))
    assert [answer.rpartition("at ")[2] for answer in reached] == [f"{PUBLIC} 443", f"{PUBLIC_6} 443", f"{PUBLIC} 443"]
    # Its public address takes no connection: the private ones, which would, are not tried.
    assert away.startswith("HTTP/1.1 502 ") and "X-Hive-Rule: connect\r\n" in away
    assert sorted(place.network.heard) == sorted([f"{PUBLIC} 443", f"{PUBLIC_6} 443", f"{PUBLIC} 443"])


def test_messages_while_names_stand_for_what_nobody_may_reach(place: Place, mallory: str) -> None:
    answers = ask(place, mallory, *map(connect, REFUSED), *map(get, REFUSED))
    assert [is_refused(answer) for answer in answers] == [True] * len(answers)
    assert place.network.heard == []
    assert {name for name, _ in place.network.asked} == {*REFUSED}


def test_messages_while_a_name_is_known_only_below_the_machines_own_domain(place: Place, mallory: str) -> None:
    [answer] = ask(place, mallory, connect("intern.test"))
    assert answer.startswith("HTTP/1.1 502 ") and "X-Hive-Rule: lookup\r\n" in answer
    assert {name for name, _ in place.network.asked} == {"intern.test"}
    assert place.network.heard == []
