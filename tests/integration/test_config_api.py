"""The routes about configs, drafts and kept state on a running hive, as the page and the command use them."""

import httpx
import pytest

from hive_process import HiveProcess


def refused(hive: HiveProcess, method: str, path: str, body: dict[str, object] | None = None) -> tuple[int, str]:
    """Status and code of a request that is to be refused."""
    with hive.client() as client:
        response = client.request(method, path, json=body)
    assert response.json()["hint"], response.text
    return response.status_code, response.json()["code"]


def test_the_config_of_an_agent_is_shown_with_its_first_version(shared_hive: HiveProcess) -> None:
    shared_hive.wait_state("manager", "idle")
    view = shared_hive.get("/api/agent-config/manager")
    assert {file["path"] for file in view["files"]} == {"agent.toml", "prompt.md"}
    assert view["commit"] == shared_hive.agent("manager")["commit"]
    assert (view["problem"], view["config"]["network"]["mode"]) == ("", "proxied")
    assert {row["area"] for row in view["permissions"]} == {"run", "reach", "read", "message", "spend"}
    [first] = shared_hive.get("/api/agent-config/manager/history")
    assert (first["tag"], first["commit"], first["current"]) == ("deployed/0", view["commit"], True)


def test_a_question_about_the_policy_is_answered(shared_hive: HiveProcess) -> None:
    shared_hive.wait_state("manager", "idle")
    answer = shared_hive.post("/api/agent-config/manager/check", {"bash": "git status"})
    assert answer["verdict"] == "allow"
    path = "/api/agent-config/manager/check"
    assert refused(shared_hive, "POST", path, {}) == (400, "invalid_input")
    assert refused(shared_hive, "POST", path, {"tool": "Read", "bash": "ls"}) == (400, "invalid_input")
    assert refused(shared_hive, "POST", path, {"bash": "x" * 20_001}) == (400, "invalid_input")


def test_the_schema_of_a_config_is_published(shared_hive: HiveProcess) -> None:
    schema = shared_hive.get("/api/config-schema")
    assert {"allowed_tools", "bash", "mcp_servers", "packages"} <= set(schema["properties"])


@pytest.mark.parametrize("path", ["/api/agent-config/nobody", "/api/agent-config/nobody/history"])
def test_what_is_no_agent_has_no_config(shared_hive: HiveProcess, path: str) -> None:
    assert refused(shared_hive, "GET", path) == (404, "not_found")


def test_what_is_not_there_is_not_found(shared_hive: HiveProcess) -> None:
    assert refused(shared_hive, "GET", "/api/approvals/1") == (404, "not_found")
    assert refused(shared_hive, "GET", "/api/approvals/1/review") == (404, "not_found")
    assert refused(shared_hive, "GET", "/api/approvals/1/system") == (404, "not_found")
    assert refused(shared_hive, "GET", f"/api/approvals/{2**63}/review") == (400, "invalid_input")
    assert refused(shared_hive, "DELETE", "/api/drafts/nobody") == (404, "not_found")
    assert refused(shared_hive, "POST", "/api/kept/nobody/revive") == (404, "not_found")
    assert refused(shared_hive, "POST", "/api/kept/manager/revive") == (409, "conflict")


@pytest.mark.parametrize("to", [-1, 99, 2**63, 10**400, "x", None])
def test_a_revert_to_what_was_never_deployed_is_refused(shared_hive: HiveProcess, to: object) -> None:
    shared_hive.wait_state("manager", "idle")
    status, _ = refused(shared_hive, "POST", "/api/agent-config/manager/revert", {"to": to})
    assert status in (400, 404)
    assert shared_hive.get("/api/approvals") == []


def test_a_destroyed_agent_is_revived_with_its_state_and_config(hive: HiveProcess) -> None:
    hive.post("/api/agents", {"name": "alice"})
    commit = hive.wait_state("alice", "idle")["commit"]
    notes = hive.data / "agents" / "alice" / "state" / "notes.md"
    notes.write_text("remember\n")
    with hive.client() as client:
        client.delete("/api/agents/alice").raise_for_status()
        [kept] = hive.get("/api/kept")
        assert (kept["name"], kept["credentials"], kept["size_bytes"] > 0) == ("alice", False, True)
        assert refused(hive, "GET", "/api/agent-config/alice") == (404, "not_found")
        revived = client.post("/api/kept/alice/revive")
    assert (revived.status_code, revived.json()["name"]) == (201, "alice")
    assert hive.wait_state("alice", "idle")["commit"] == commit
    assert notes.read_text() == "remember\n"
    assert hive.get("/api/kept") == []


def test_a_purge_leaves_nothing_on_the_disk(hive: HiveProcess) -> None:
    hive.post("/api/agents", {"name": "alice"})
    hive.wait_state("alice", "idle")
    with hive.client() as client:
        client.delete("/api/agents/alice", params={"purge": True}).raise_for_status()
    left = [path for path in hive.data.rglob("alice*") if path.is_relative_to(hive.data)]
    assert left == []
    assert refused(hive, "POST", "/api/kept/alice/revive") == (404, "not_found")


def test_a_browser_without_a_session_sees_no_config(shared_hive: HiveProcess) -> None:
    for path in ("/api/agent-config/manager", "/api/config-schema", "/api/drafts", "/api/kept"):
        assert httpx.get(shared_hive.origin + path).status_code == 401
