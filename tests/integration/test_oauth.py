"""The OAuth stand-in as a program, over TLS with its own certificates."""

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hyperhive.testing.oauth.accounts import CLIENT_ID, EMAIL, render_challenge
from hyperhive.testing.oauth.certificates import make_certificates
from oauth_rig import OAuth, run_messages, run_oauth

BACK = "https://platform.claude.com/oauth/code/callback"
PAGE = (
    f"https://claude.com/cai/oauth/authorize?client_id={CLIENT_ID}&response_type=code&redirect_uri={BACK}"
    f"&code_challenge={render_challenge('v')}&code_challenge_method=S256&state=s&scope=user:inference"
)
TOKEN = "/v1/oauth/token"


@pytest.fixture
def oauth(tmp_path: Path) -> Iterator[OAuth]:
    yield from run_oauth(tmp_path / "oauth")


def log_in(oauth: OAuth) -> dict[str, str]:
    code, state = oauth.get_code(PAGE).split("#")
    body = {"code": code, "state": state, "code_verifier": "v", "redirect_uri": BACK, "client_id": CLIENT_ID}
    response = oauth.call("POST", TOKEN, "platform.claude.com", json={"grant_type": "authorization_code", **body})
    response.raise_for_status()
    return response.json()


def ask(oauth: OAuth, path: str, token: str) -> httpx.Response:
    return oauth.call("GET", path, headers={"authorization": f"Bearer {token}"})


def test_a_login_from_the_page_to_the_profile(oauth: OAuth) -> None:
    tokens = log_in(oauth)
    assert ask(oauth, "/api/oauth/profile", tokens["access_token"]).json()["account"]["email"] == EMAIL
    assert ask(oauth, "/api/oauth/claude_cli/roles", tokens["access_token"]).json()["organization_role"] == "admin"
    assert ask(oauth, "/api/oauth/profile", "wrong").status_code == 401
    assert oauth.count_grants("authorization_code") == 1


def test_its_record_holds_no_secret(oauth: OAuth) -> None:
    tokens = log_in(oauth)
    assert not any(
        secret in str(oauth.list_requests()) for secret in (tokens["access_token"], "code_verifier", "state")
    )


def test_trouble_is_made_on_demand(oauth: OAuth) -> None:
    tokens = log_in(oauth)
    refresh = {"grant_type": "refresh_token", "client_id": CLIENT_ID, "refresh_token": tokens["refresh_token"]}
    oauth.control(expire=True, kill_refresh=True, access_s=5)
    assert ask(oauth, "/api/oauth/profile", tokens["access_token"]).status_code == 401
    refused = oauth.call("POST", TOKEN, json=refresh)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert log_in(oauth)["expires_in"] == 5


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"grant_type": "password"}', b'{"x": "' + b"y" * 70_000 + b'"}'])
def test_a_request_that_makes_no_sense_is_refused(oauth: OAuth, body: bytes) -> None:
    assert oauth.call("POST", TOKEN, content=body).status_code == 400


def test_the_messages_stand_in_takes_the_tokens_that_count_and_no_other(oauth: OAuth) -> None:
    for url in run_messages("--tokens", str(oauth.tokens)):
        token = log_in(oauth)["access_token"]
        assert [say(url, bearer) for bearer in (token, "wrong", token[:-1])] == [200, 401, 401]
        oauth.control(expire=True)
        assert say(url, token) == 401


def say(url: str, token: str) -> int:
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
    return httpx.post(f"{url}/v1/messages", json=body, headers={"authorization": f"Bearer {token}"}).status_code


def test_a_client_that_does_not_know_the_authority_refuses_it(oauth: OAuth) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"https://127.0.0.1:{oauth.port}/_requests", verify=ssl.create_default_context())


def test_a_certificate_is_for_its_hosts_alone_and_its_key_for_its_owner(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "c", ["a.example", "b.example"])
    check = ["openssl", "verify", "-CAfile", str(made.ca), "-verify_hostname"]
    assert subprocess.run([*check, "b.example", str(made.certificate)], capture_output=True).returncode == 0
    assert subprocess.run([*check, "c.example", str(made.certificate)], capture_output=True).returncode != 0
    assert made.key.stat().st_mode & 0o077 == 0
