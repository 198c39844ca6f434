"""Tokens at a real daemon: what each may do, and what none may."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from hive_process import HiveProcess, wait_for
from hyperhive.core.tokens import TokenScope
from hyperhive.host.api.scopes import SCOPES, get_scope

Shown = Callable[..., httpx.Client]


@pytest.fixture
def show(shared_hive: HiveProcess) -> Iterator[Shown]:
    """Makes a token with the scopes, and a client that shows it."""
    clients: list[httpx.Client] = []

    def make(*scopes: str, **headers: str) -> httpx.Client:
        made = shared_hive.post("/api/tokens", {"name": f"t{len(clients)}", "scopes": list(scopes)})
        bearer = {"authorization": f"Bearer {made['secret']}"}
        clients.append(httpx.Client(base_url=shared_hive.origin, headers=bearer | headers, timeout=30))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
    with shared_hive.client() as local:
        for row in shared_hive.get("/api/tokens"):
            local.delete(f"/api/tokens/{row['name']}").raise_for_status()


def list_operations(hive: HiveProcess) -> list[tuple[str, str]]:
    document = hive.get("/api/openapi.json")
    return [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]


def fill(path: str) -> str:
    """A path that does no harm should it be let in: of an agent and of things that there are not."""
    return re.sub(r"\{[a-z_]+\}", "1", path.replace("{act}", "stop").replace("{name}", "nobody"))


def test_every_route_says_what_a_token_needs_and_no_other_does(shared_hive: HiveProcess) -> None:
    declared = {route for route in SCOPES if not route.startswith("WS ")}
    assert declared == {f"{method} {path}" for method, path in list_operations(shared_hive)}


def test_a_token_does_what_its_scope_says_and_nothing_else(shared_hive: HiveProcess, show: Shown) -> None:
    for scope in TokenScope:
        with show(scope) as client:
            for method, path in list_operations(shared_hive):
                needed = get_scope(method, path)
                if path == "/api/stream" or (scope is TokenScope.ADMIN and needed is not None):
                    continue
                body = None if method == "GET" else {"unknown": "field"}
                status = client.request(method, fill(path), json=body).status_code
                if needed is scope:
                    assert status not in (401, 403), (scope, method, path, status)
                else:
                    assert status == 403, (scope, method, path, status)


def test_no_token_makes_tokens_or_login_links_or_ends_the_hive(shared_hive: HiveProcess, show: Shown) -> None:
    with show("admin") as client:
        before = shared_hive.get("/api/tokens")
        for method, path in (
            ("POST", "/api/tokens"),
            ("GET", "/api/tokens"),
            ("DELETE", "/api/tokens/t0"),
            ("POST", "/api/login-links"),
            ("POST", "/api/shutdown"),
            ("POST", "/api/logout"),
        ):
            body = {"name": "another", "scopes": ["admin"]} if method == "POST" else None
            assert client.request(method, path, json=body).status_code == 403, path
        assert [row["name"] for row in shared_hive.get("/api/tokens")] == [row["name"] for row in before]
        assert client.get("/api/hive").status_code == 200


def test_a_session_makes_no_tokens_either(shared_hive: HiveProcess) -> None:
    with shared_hive.browser_session() as client:
        assert client.post("/api/tokens", json={"name": "x", "scopes": ["admin"]}).status_code == 403
        assert client.get("/api/tokens").status_code == 403


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Basic aGl2ZTpoaXZl", "Bearer {secret}x", "{secret}", "Bearer {secret},x"]
)
def test_what_is_no_token_of_ours_is_refused(shared_hive: HiveProcess, show: Shown, value: str) -> None:
    secret = show("admin").headers["authorization"].removeprefix("Bearer ")
    sent = {"authorization": value.format(secret=secret)}
    response = httpx.get(f"{shared_hive.origin}/api/hive", headers=sent)
    assert response.status_code in (401, 429)
    assert secret not in response.text + shared_hive.log


def test_two_tokens_are_none(shared_hive: HiveProcess, show: Shown) -> None:
    one, other = show("read").headers["authorization"], show("admin").headers["authorization"]
    headers = [("authorization", one), ("authorization", other)]
    assert httpx.get(f"{shared_hive.origin}/api/hive", headers=headers).status_code == 401


def test_a_token_beside_a_session_is_refused_whichever_is_good(shared_hive: HiveProcess, show: Shown) -> None:
    cookies = shared_hive.session_cookies()
    good = show("admin").headers["authorization"]
    bad = dict.fromkeys(cookies, "stale")
    for jar, value in ((cookies, good), (cookies, "Bearer wrong"), (cookies, "x"), (bad, good)):
        with httpx.Client(base_url=shared_hive.origin, cookies=jar) as client:
            sent = {"authorization": value, "origin": shared_hive.origin}
            assert client.get("/api/hive", headers=sent).status_code == 400
            assert client.post("/api/pause", json={}, headers=sent).status_code == 400
    assert shared_hive.get("/api/hive")["park"] is None


def test_a_header_of_any_kind_does_not_let_a_foreign_page_use_the_session(shared_hive: HiveProcess) -> None:
    """What turns the check of the origin off must turn the cookie off, too."""
    cookies = shared_hive.session_cookies()
    for value in ("", "x", "Bearer x", "Basic x"):
        sent = {"authorization": value, "origin": "http://evil.example"}
        with httpx.Client(base_url=shared_hive.origin, cookies=cookies) as client:
            assert client.post("/api/pause", json={}, headers=sent).status_code in (400, 401, 403), value
    assert shared_hive.get("/api/hive")["park"] is None


def test_the_host_counts_with_a_token_too(shared_hive: HiveProcess, show: Shown) -> None:
    with show("admin", host="evil.example") as client:
        assert client.get("/api/hive").status_code == 421


def test_what_a_token_changes_is_told_apart_from_the_operator(shared_hive: HiveProcess, show: Shown) -> None:
    acts: list[Any] = []
    with (
        shared_hive.browser_session() as watcher,
        watcher.stream("GET", "/api/stream") as stream,
        show("send") as client,
    ):
        lines = stream.iter_lines()
        next(lines)
        assert client.post("/api/messages", json={"to": "manager", "body": "hello"}).status_code == 201

        def found() -> bool:
            acts.append(next(lines))
            return '"token.acted"' in acts[-1]

        wait_for(found, "the act in the stream")
    assert '"path":"/api/messages"' in acts[-1]
    assert '"name":"t0"' in acts[-1]


def test_a_token_outlives_the_daemon(hive: HiveProcess) -> None:
    made = hive.post("/api/tokens", {"name": "ci", "scopes": ["read"], "expires_s": 3600})
    headers = {"authorization": f"Bearer {made['secret']}"}
    hive.kill()
    hive.start()
    assert httpx.get(f"{hive.origin}/api/hive", headers=headers).status_code == 200
    with hive.client() as client:
        assert client.delete("/api/tokens/ci").status_code == 204
    assert httpx.get(f"{hive.origin}/api/hive", headers=headers).status_code == 401
