"""From the container of an agent that shares the host's network: what it reaches, and what is closed to it still."""

import json
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from egress_container_rig import Quiet, Swarm, run_swarm
from hive_process import HiveProcess

TOML = '[network]\nmode = "host"\n'

# Asks each (method, path, headers, body) of its argument, and says the status of each.
CALLS = """
import http.client, json, sys
port, calls = json.loads(sys.argv[1])
for method, path, headers, body in calls:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    print(method, path, answer.status, len(answer.read()))
    connection.close()
"""
SOCKETS = """
import socket, sys
def try_to(family, place):
    with socket.socket(family) as it:
        it.settimeout(5)
        try:
            it.connect(place)
        except OSError as error:
            return type(error).__name__
        return "connected"
for path in sys.argv[1:]:
    print(try_to(socket.AF_UNIX, path))
"""


@pytest.fixture(scope="module")
def swarm() -> Iterator[Swarm]:
    with run_swarm({"web.test": Quiet}, {}, TOML) as swarm:
        yield swarm


def list_operations(hive: HiveProcess) -> list[tuple[str, str]]:
    document = hive.get("/api/openapi.json")
    found = [
        (method.upper(), re.sub(r"\{[a-z_]+\}", "1", path.replace("{act}", "stop").replace("{name}", "alice")))
        for path, methods in document["paths"].items()
        for method in methods
    ]
    assert len(found) > 60
    return [*found, ("GET", "/api/openapi.json"), ("POST", "/")]


def ask_all(swarm: Swarm, port: int, headers: dict[str, str]) -> list[list[str]]:
    calls: list[Any] = []
    for method, path in list_operations(swarm.hive):
        body = None if method == "GET" else json.dumps({"name": "intruder", "agent": "alice", "host": "a.org"})
        calls.append([method, path, {"Content-Type": "application/json", **headers}, body])
    said = swarm.ask(sys.executable, "-I", "-c", CALLS, json.dumps([port, calls]), timeout_s=120)
    rows = [line.split(" ") for line in said.splitlines()]
    assert len(rows) == len(calls)
    return rows


def test_its_network_is_the_hosts_and_the_proxy_is_not_there(swarm: Swarm) -> None:
    devices = swarm.ask("cat", "/proc/net/dev")
    names = re.findall(r"^ *([^ :]+):", devices, re.MULTILINE)
    assert sorted(names) == sorted(name for _, name in socket.if_nameindex())
    variables = swarm.ask("env")
    assert "PROXY" not in variables.upper().replace("NO_PROXY", "") and "HIVE_EGRESS_PORT=0" in variables
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5).sendall(b'x')"
        swarm.ask(sys.executable, "-I", "-c", code)
        listener.settimeout(10)
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(1) == b"x"


def test_names_are_looked_up_as_the_host_does(swarm: Swarm) -> None:
    assert swarm.ask("cat", "/etc/resolv.conf") == Path("/etc/resolv.conf").read_text()


def test_its_claude_reaches_the_model_all_the_same(swarm: Swarm) -> None:
    assert "a word" in swarm.tell("echo a word")


def test_no_operator_endpoint_answers_it(swarm: Swarm) -> None:
    origin = {"Origin": swarm.hive.origin}
    forged = {"Cookie": "hive_session=" + "a" * 43, **origin}
    for headers in ({}, origin, forged):
        for method, path, status, _ in ask_all(swarm, swarm.hive.port, headers):
            assert status in {"401", "403"}, (method, path, status, headers)
    # Who guesses tokens is soon not listened to any more.
    guessed = {"Authorization": "Bearer hive_" + "a" * 43}
    for method, path, status, _ in ask_all(swarm, swarm.hive.port, guessed):
        assert status in {"401", "403", "429"}, (method, path, status)
    assert [row["name"] for row in swarm.hive.get("/api/agents")] == ["manager", "alice"]


def test_a_name_that_leads_to_the_hives_port_is_refused_as_a_foreign_host(swarm: Swarm) -> None:
    for host in ("evil.test", f"localhost.evil.test:{swarm.hive.port}", "127.0.0.1"):
        for method, path, status, _ in ask_all(swarm, swarm.hive.port, {"Host": host, "Origin": f"http://{host}"}):
            assert status == "421", (method, path, status, host)


def test_the_sockets_of_the_hive_and_of_other_agents_are_not_there(swarm: Swarm) -> None:
    run = swarm.hive.run
    paths = [str(path) for path in (run / "hive.sock", run / "host.sock", run / "agents/hm1nd/hive.sock")]
    said = swarm.ask(sys.executable, "-I", "-c", SOCKETS, *paths).split()
    assert set(said) <= {"FileNotFoundError", "PermissionError"}


def test_no_port_of_its_harness_is_open_to_other_programs_of_the_machine(swarm: Swarm) -> None:
    inodes = set(re.findall(r"socket:\[(\d+)\]", swarm.ask("sh", "-c", "ls -l /proc/[0-9]*/fd 2>/dev/null || true")))
    listening = [line.split() for line in swarm.ask("cat", "/proc/net/tcp").splitlines()[1:]]
    assert not [row for row in listening if row[3] == "0A" and row[9] in inodes]


def test_the_rest_of_its_sandbox_is_as_ever(swarm: Swarm) -> None:
    status = dict(line.split(":\t", 1) for line in swarm.ask("cat", "/proc/self/status").splitlines() if ":\t" in line)
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0 and status["NoNewPrivs"] == "1"
    assert swarm.run_inside("unshare", "--user", "true").ok is False
    assert swarm.run_inside("ip", "link", "add", "dummy0", "type", "dummy").ok is False
    assert swarm.ask("sh", "-c", "ls /proc | grep -c '^[0-9]'").strip().isdigit()
    assert not swarm.run_inside("ls", str(swarm.hive.data)).ok


def test_it_cannot_be_granted_what_it_has(swarm: Swarm) -> None:
    with swarm.hive.client() as client:
        for path, body in (
            ("/api/egress/grants", {"agent": "alice", "host": "a.org"}),
            ("/api/egress/proposals", {"agent": "alice", "entry": "a.org"}),
        ):
            assert client.post(path, json=body).status_code == 409


def test_its_permissions_say_so(swarm: Swarm) -> None:
    rows = swarm.hive.get("/api/agent-config/alice")["permissions"]
    [row] = [row for row in rows if row["rule"] == "network.mode: host"]
    assert row["verdict"] == "allow" and "any host" in row["subject"]


def test_it_runs_on_over_the_daemon_and_is_entered_again(swarm: Swarm) -> None:
    swarm.hive.kill()
    swarm.hive.start()
    swarm.hive.wait_state("alice", "idle")
    assert swarm.ask("echo", "there") == "there\n"
