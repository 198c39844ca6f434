"""The rules of the OAuth stand-in: what it gives tokens for, and what it refuses."""

from typing import Any

import pytest

from hyperhive.testing.oauth.accounts import (
    CLIENT_ID,
    CODE_LIFETIME_S,
    Accounts,
    OAuthError,
    render_challenge,
)

VERIFIER = "a-verifier"
BACK = "https://platform.claude.com/oauth/code/callback"
QUERY = {
    "client_id": CLIENT_ID,
    "response_type": "code",
    "redirect_uri": BACK,
    "scope": "user:inference user:profile",
    "code_challenge": render_challenge(VERIFIER),
    "code_challenge_method": "S256",
    "state": "a-state",
}


class Clock:
    def __init__(self) -> None:
        self.at = 1_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(clock: Clock) -> Accounts:
    return Accounts(clock)


def make_exchange(accounts: Accounts, **changed: Any) -> dict[str, Any]:
    code, state = accounts.authorize(QUERY).split("#")
    return {
        "grant_type": "authorization_code",
        "client_id": CLIENT_ID,
        "code": code,
        "redirect_uri": BACK,
        "state": state,
        "code_verifier": VERIFIER,
        **changed,
    }


def log_in(accounts: Accounts) -> dict[str, Any]:
    return accounts.exchange(make_exchange(accounts))


def refresh(accounts: Accounts, token: object, **changed: Any) -> dict[str, Any]:
    return accounts.refresh({"client_id": CLIENT_ID, "refresh_token": token, **changed})


def test_a_challenge_is_that_of_the_standards_example() -> None:
    assert render_challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == (
        "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    )


def test_a_code_gives_tokens_that_are_valid(accounts: Accounts) -> None:
    tokens = log_in(accounts)
    assert accounts.is_valid(tokens["access_token"])
    assert tokens["scope"] == QUERY["scope"]


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"code": "wrong"}, "invalid_grant"),
        ({"code_verifier": "wrong"}, "invalid_grant"),
        ({"code_verifier": None}, "invalid_grant"),
        ({"redirect_uri": "https://evil.org"}, "invalid_grant"),
        ({"state": "wrong"}, "invalid_grant"),
        ({"client_id": "wrong"}, "invalid_client"),
    ],
)
def test_anything_wrong_with_an_exchange_refuses_it(accounts: Accounts, changed: dict[str, Any], error: str) -> None:
    with pytest.raises(OAuthError) as caught:
        accounts.exchange(make_exchange(accounts, **changed))
    assert caught.value.error == error


def test_a_code_is_good_once_and_for_ten_minutes(accounts: Accounts, clock: Clock) -> None:
    params = make_exchange(accounts)
    accounts.exchange(params)
    with pytest.raises(OAuthError):
        accounts.exchange(params)
    late = make_exchange(accounts)
    clock.at += CODE_LIFETIME_S
    with pytest.raises(OAuthError):
        accounts.exchange(late)


def test_refresh_tokens_rotate(accounts: Accounts) -> None:
    first = log_in(accounts)
    second = refresh(accounts, first["refresh_token"])
    assert accounts.is_valid(str(second["access_token"]))
    with pytest.raises(OAuthError) as caught:
        refresh(accounts, first["refresh_token"])
    assert caught.value.error == "invalid_grant"
    refresh(accounts, second["refresh_token"], scope="user:inference")


def test_a_refresh_gives_no_more_than_was_granted(accounts: Accounts) -> None:
    with pytest.raises(OAuthError) as caught:
        refresh(accounts, log_in(accounts)["refresh_token"], scope="org:everything")
    assert caught.value.error == "invalid_scope"


def test_access_tokens_end_by_time_or_when_they_are_made_to(accounts: Accounts, clock: Clock) -> None:
    accounts.access_s = 60
    token = str(log_in(accounts)["access_token"])
    assert accounts.valid_tokens() == {token: clock.at + 60}
    clock.at += 60
    assert not accounts.is_valid(token)
    token = str(log_in(accounts)["access_token"])
    accounts.expire_access_tokens()
    assert accounts.valid_tokens() == {}


def test_a_dead_refresh_token_leaves_the_access_token(accounts: Accounts) -> None:
    tokens = log_in(accounts)
    accounts.kill_refresh_tokens()
    assert accounts.is_valid(tokens["access_token"])
    with pytest.raises(OAuthError):
        refresh(accounts, tokens["refresh_token"])


@pytest.mark.parametrize("changed", [{"client_id": "x"}, {"code_challenge_method": "plain"}, {"state": ""}])
def test_a_page_opened_wrongly_gives_no_code(accounts: Accounts, changed: dict[str, str]) -> None:
    with pytest.raises(OAuthError):
        accounts.authorize(QUERY | changed)
