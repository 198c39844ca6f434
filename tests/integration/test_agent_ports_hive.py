"""A hive whose agents have ports of their own: where they lead, and which names are refused for them."""

import asyncio
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli_process import call
from hive_process import HiveProcess, end_hive, wait_for
from hyperhive.core.ports import find_agent_port
from port_names import find_free_name, find_twins


@pytest.fixture
def hive() -> Iterator[HiveProcess]:
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        hive = HiveProcess(Path(folder) / "data", environment={"HIVE_AGENT_PORTS": "true"})
        hive.start()
        try:
            yield hive
        finally:
            end_hive(hive)


def is_open(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


def refuse(hive: HiveProcess, path: str, body: dict[str, Any] | None = None) -> dict[str, str]:
    with hive.client() as client:
        answer = client.post(path, json=body or {})
    assert answer.status_code == 409, answer.text
    return answer.json()


def restart(hive: HiveProcess, *, with_ports: bool) -> None:
    hive.stop()
    hive.environment["HIVE_AGENT_PORTS"] = str(with_ports).lower()
    hive.start()


def test_the_port_leads_to_the_page_and_follows_the_agent(hive: HiveProcess) -> None:
    name = find_free_name()
    port = find_agent_port(name)
    assert not is_open(port)
    hive.post("/api/agents", {"name": name})
    wait_for(lambda: is_open(port), "the agent's port", hive=hive)

    with httpx.Client() as browser:
        sent = browser.get(f"http://localhost:{port}/")
        assert (sent.status_code, sent.headers["location"]) == (307, f"http://localhost:{hive.port}/agent/{name}/")
        page = browser.get(f"http://127.0.0.1:{port}/api/agents", follow_redirects=True)
        assert (page.status_code, str(page.url)) == (200, f"{hive.origin}/agent/{name}/")
        assert "<html" in page.text
        # What a foreign page has the browser ask comes no further than our own address, and writes nothing there.
        foreign = browser.get(f"http://127.0.0.1:{port}/", headers={"host": f"evil.example:{port}"})
        assert foreign.headers["location"] == f"{hive.origin}/agent/{name}/"
        assert "evil" not in str(foreign.headers)
        written = browser.post(f"http://127.0.0.1:{port}/api/agents", json={"name": "spy"}, follow_redirects=True)
        assert written.status_code in {403, 405}

    hive.wait_state(name, "idle")
    hive.post(f"/api/agents/{name}/stop")
    hive.wait_state(name, "stopped")
    assert is_open(port)
    with hive.client() as client:
        client.delete(f"/api/agents/{name}").raise_for_status()
    wait_for(lambda: not is_open(port), "the port to be free", hive=hive)
    hive.post(f"/api/kept/{name}/revive")
    wait_for(lambda: is_open(port), "the agent's port again", hive=hive)


def test_a_second_agent_with_the_same_port_is_refused_in_every_way(hive: HiveProcess) -> None:
    one, other = find_twins()
    message = f"{one} and {other} would have the same port, {find_agent_port(one)}"
    hive.post("/api/agents", {"name": one})
    assert refuse(hive, "/api/agents", {"name": other})["message"] == message
    told = asyncio.run(call(hive.data, "spawn", other))
    assert told.status == 1
    assert message in told.error_text and "choose another name" in told.error_text
    # The manager's request is refused to its face: it can choose another name.
    hive.wait_state("manager", "idle")
    script = f'%% tool request_spawn {{"name": "{other}", "description": "a twin"}}\n%% say asked'
    hive.post("/api/messages", {"to": "manager", "body": script})
    wait_for(lambda: message in str(hive.get("/api/agents/manager/transcript")), "the refusal", hive=hive)
    assert hive.get("/api/approvals") == []
    # Kept state whose port another took meanwhile.
    with hive.client() as client:
        client.delete(f"/api/agents/{one}").raise_for_status()
    hive.post("/api/agents", {"name": other})
    refused = refuse(hive, f"/api/kept/{one}/revive")
    assert refused["message"] == f"{other} and {one} would have the same port, {find_agent_port(one)}"


def test_agents_from_before_the_setting_are_told_of(hive: HiveProcess) -> None:
    one, other = find_twins()
    restart(hive, with_ports=False)
    for name in (one, other):
        hive.post("/api/agents", {"name": name})
        hive.wait_state(name, "idle")
    assert hive.get("/api/hive")["port_problems"] == []
    assert not is_open(find_agent_port(one))

    restart(hive, with_ports=True)
    problems = wait_for(lambda: hive.get("/api/hive")["port_problems"], "the collision", hive=hive)
    assert any(f"{one} and {other} have the same port, {find_agent_port(one)}" in problem for problem in problems)
    location = httpx.get(f"http://127.0.0.1:{find_agent_port(one)}/").headers["location"]
    assert location == f"{hive.origin}/agent/{one}/"
    told = asyncio.run(call(hive.data, "doctor"))
    assert f"{one} and {other} have the same port" in told.stdout.decode()

    with hive.client() as client:
        client.delete(f"/api/agents/{one}").raise_for_status()
    wait_for(lambda: hive.get("/api/hive")["port_problems"] == [], "the collision to be gone", hive=hive)
    location = httpx.get(f"http://127.0.0.1:{find_agent_port(one)}/").headers["location"]
    assert location == f"{hive.origin}/agent/{other}/"


def test_at_the_dashboards_own_port_no_agent_is_spawned(hive: HiveProcess) -> None:
    name = find_free_name()
    hive.stop()
    hive.port = find_agent_port(name)
    hive.start()
    refused = refuse(hive, "/api/agents", {"name": name})
    assert refused["message"] == f"{name} would have port {hive.port}, which is the dashboard's"
