"""No operator endpoint answers but to the operator. The paths come from the OpenAPI document: none is forgotten."""

import re
from typing import Any

import httpx
import pytest

from hive_process import HiveProcess

BODIES: dict[str, dict[str, Any]] = {
    "/api/agents": {"name": "intruder"},
    "/api/messages": {"to": "manager", "body": "I am the operator"},
    "/api/agent-config/manager/revert": {"to": 0},
    "/api/agent-config/manager/check": {"tool": "Bash"},
    "/api/notes/manager/restore": {"commit": "a" * 40},
    "/api/model/manager": {"model": "claude-x"},
}


def operations(hive: HiveProcess) -> list[tuple[str, str]]:
    document = hive.get("/api/openapi.json")
    found = [
        (method.upper(), re.sub(r"\{[a-z_]+\}", "1", path.replace("{act}", "stop").replace("{name}", "manager")))
        for path, methods in document["paths"].items()
        for method in methods
    ]
    assert len(found) > 20
    return [*found, ("GET", "/api/openapi.json"), ("GET", "/api/nothing"), ("POST", "/")]


def state_of(hive: HiveProcess) -> list[Any]:
    paths = ["/api/agents", "/api/messages", "/api/approvals", "/api/questions", "/api/drafts", "/api/kept"]
    rows = [hive.get(path) for path in paths]
    rows[0] = [row["name"] for row in rows[0]]
    return rows


def call(hive: HiveProcess, method: str, path: str, headers: dict[str, str], cookies: Any = None) -> httpx.Response:
    body = BODIES.get(path, {}) if method == "POST" else None
    with httpx.Client(base_url=hive.origin, cookies=cookies, timeout=10) as client:
        return client.request(method, path, json=body, headers=headers)


def test_without_a_session_everything_is_refused(shared_hive: HiveProcess) -> None:
    before = state_of(shared_hive)
    for method, path in operations(shared_hive):
        response = call(shared_hive, method, path, {"origin": shared_hive.origin})
        assert response.status_code in (401, 403), (method, path, response.status_code)
        assert response.json()["hint"]
    assert state_of(shared_hive) == before


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost:1", "127.0.0.1.:{port}", "127.0.0.1:{port}."])
def test_a_foreign_host_is_refused_even_with_a_session(shared_hive: HiveProcess, host: str) -> None:
    before = state_of(shared_hive)
    cookies = shared_hive.session_cookies()
    for method, path in [*operations(shared_hive), ("GET", "/"), ("GET", "/login"), ("GET", "/healthz")]:
        headers = {"host": host.format(port=shared_hive.port), "origin": shared_hive.origin}
        response = call(shared_hive, method, path, headers, cookies)
        assert response.status_code == 421, (method, path, response.status_code)
    assert state_of(shared_hive) == before


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "null"},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "https://127.0.0.1:{port}"},
        {"origin": "{origin}", "sec-fetch-site": "cross-site"},
        {"origin": "{origin}", "sec-fetch-site": "same-site"},
        {"origin": "{origin}", "sec-fetch-site": "none"},
    ],
)
def test_a_write_from_elsewhere_is_refused_even_with_a_session(
    shared_hive: HiveProcess, headers: dict[str, str]
) -> None:
    before = state_of(shared_hive)
    cookies = shared_hive.session_cookies()
    sent = {k: v.format(origin=shared_hive.origin, port=shared_hive.port) for k, v in headers.items()}
    for method, path in operations(shared_hive):
        if method == "GET":
            continue
        response = call(shared_hive, method, path, sent, cookies)
        assert response.status_code == 403, (method, path, response.status_code)
    assert state_of(shared_hive) == before


def test_a_foreign_page_cannot_read_the_api(shared_hive: HiveProcess) -> None:
    cookies = shared_hive.session_cookies()
    for method, path in operations(shared_hive):
        if method == "GET":
            response = call(shared_hive, method, path, {"sec-fetch-site": "cross-site"}, cookies)
            assert response.status_code == 403, path


def test_what_only_the_command_line_may_do_is_refused_to_a_browser(shared_hive: HiveProcess) -> None:
    with shared_hive.browser_session() as client:
        for path in ("/api/shutdown", "/api/login-links"):
            assert client.post(path).status_code == 403


def test_a_login_link_works_once(shared_hive: HiveProcess) -> None:
    url = shared_hive.post("/api/login-links")["url"]
    first = httpx.get(url)
    assert (first.status_code, first.headers["location"]) == (303, "/")
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    second = httpx.get(url)
    assert second.headers["location"] == "/?login=refused"
    assert "set-cookie" not in second.headers


def test_a_session_ends_with_the_logout(shared_hive: HiveProcess) -> None:
    url = shared_hive.post("/api/login-links")["url"]
    with httpx.Client(base_url=shared_hive.origin, headers={"origin": shared_hive.origin}) as client:
        client.get(url)
        assert client.get("/api/agents").status_code == 200
        cookies = dict(client.cookies)
        assert client.post("/api/logout").status_code == 204
        assert call(shared_hive, "GET", "/api/agents", {}, cookies).status_code == 401


def test_pages_carry_the_security_headers(shared_hive: HiveProcess) -> None:
    for path in ("/", "/agent/manager/", "/api/agents"):
        headers = httpx.get(shared_hive.origin + path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_a_path_cannot_climb_out_of_the_pages(shared_hive: HiveProcess) -> None:
    for path in ("/assets/..%2f..%2fapp.py", "/assets/%2e%2e/app.py", "/assets//etc/passwd", "/assets/..%5capp.py"):
        response = httpx.get(shared_hive.origin + path)
        assert response.status_code in (404, 401), path
        assert "import" not in response.text


BAD_NAMES = ["..", "-x", "a/b", "a%2fb", "Alice", "a_b", "operator", "system", "hm1nd", "x" * 64, "a%00b", "%2e%2e"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_agent_name_is_refused_wherever_one_is_taken(shared_hive: HiveProcess, name: str) -> None:
    before = state_of(shared_hive)
    calls: list[tuple[str, str, dict[str, Any] | None]] = [
        ("POST", "/api/agents", {"name": name}),
        ("POST", "/api/messages", {"to": name if name != "operator" else "", "body": "hello"}),
        *[("POST", f"/api/agents/{name}/{act}", {}) for act in ("start", "stop", "restart", "cancel")],
        # A client takes `..` out of a path by itself, and what is left of these two is the whole hive's.
        *[("POST", f"/api/agents/{name}/{act}", {}) for act in ("pause", "resume") if name != ".."],
        ("POST", f"/api/agents/{name}/compact", {}),
        ("POST", f"/api/model/{name}", {"model": "claude-x"}),
        ("POST", f"/api/agents/{name}/grant", {}),
        ("DELETE", f"/api/agents/{name}", None),
        ("DELETE", f"/api/kept/{name}", None),
        ("POST", f"/api/kept/{name}/revive", {}),
        ("DELETE", f"/api/drafts/{name}", None),
        ("GET", f"/api/agent-config/{name}", None),
        ("GET", f"/api/agent-config/{name}/history", None),
        ("POST", f"/api/agent-config/{name}/revert", {"to": 0}),
        ("POST", f"/api/agent-config/{name}/check", {"tool": "Read"}),
        ("GET", f"/api/notes/{name}", None),
        ("GET", f"/api/notes/{name}/{'a' * 40}", None),
        ("POST", f"/api/notes/{name}/restore", {"commit": "a" * 40}),
        ("GET", f"/api/agents/{name}/transcript", None),
        ("GET", f"/api/journal/{name}", None),
        ("GET", f"/api/stream?agent={name}", None),
    ]
    with shared_hive.client() as client:
        for method, path, body in calls:
            response = client.request(method, path, json=body)
            assert 400 <= response.status_code < 500, (method, path, response.status_code)
            assert response.json()["message"]
    assert state_of(shared_hive) == before


def test_bad_bodies_get_a_clear_error(shared_hive: HiveProcess) -> None:
    with shared_hive.client() as client:
        for content in (b"", b"{", b"[]", b'{"name": 1}', b'{"name": "a", "extra": 1}', b"\xff"):
            response = client.post("/api/agents", content=content, headers={"content-type": "application/json"})
            assert response.status_code == 400, content
            assert set(response.json()) == {"code", "message", "hint"}
