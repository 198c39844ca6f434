"""API tokens on a real store: made once, hashed, checked in memory, throttled, expired, revoked."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hyperhive.core.errors import (
    ConflictError,
    HiveError,
    InvalidInputError,
    NotFoundError,
    RefusedError,
    TooManyError,
)
from hyperhive.core.events import Event, EventName
from hyperhive.core.tokens import Token, TokenScope, parse_lifetime, parse_scopes, parse_token_name
from hyperhive.host.store.store import Store
from hyperhive.host.tokens import PREFIX, TOKENS_LIMIT, WRONG_LIMIT, WRONG_WINDOW_S, Tokens
from hyperhive.system.log import redact_text


@dataclass
class Desk:
    path: Path
    store: Store
    tokens: Tokens
    events: list[Event]
    at_s: list[float] = field(default_factory=lambda: [0.0])

    async def reload(self) -> None:
        """As a daemon's restart."""
        self.tokens = Tokens(self.store, lambda: self.at_s[0])
        await self.tokens.load()

    async def refusals(self, count: int) -> list[str]:
        """The codes that so many wrong secrets get."""
        codes: list[str] = []
        for number in range(count):
            try:
                await self.tokens.identify(f"{PREFIX}wrong-{number}")
            except HiveError as error:
                codes.append(error.code)
        return codes


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    events: list[Event] = []
    store = Store(tmp_path / "hive.sqlite", "hive", events.extend)
    desk = Desk(tmp_path / "hive.sqlite", store, Tokens(store), events)
    await desk.reload()
    yield desk
    store.close()


async def test_a_secret_is_known_again_also_by_the_next_daemon_and_stands_nowhere(desk: Desk) -> None:
    made, secret = await desk.tokens.create("deploys", ["send", "read"], timedelta(days=1))
    assert secret.startswith(PREFIX)
    for _ in range(2):
        token = await desk.tokens.identify(secret)
        assert (token.id, token.name, token.scopes) == (made.id, "deploys", {TokenScope.SEND, TokenScope.READ})
        await desk.reload()
    desk.store.close()
    kept = b"".join(path.read_bytes() for path in desk.path.parent.iterdir())
    assert b"deploys" in kept
    assert secret.encode() not in kept
    assert secret.removeprefix(PREFIX).encode() not in kept


async def test_making_and_revoking_are_told_without_the_secret(desk: Desk) -> None:
    _, secret = await desk.tokens.create("ci", ["read"], None)
    await desk.tokens.revoke("ci")
    assert [event.name for event in desk.events] == [EventName.TOKEN_CREATED, EventName.TOKEN_REVOKED]
    assert desk.events[0].body == {"name": "ci", "scopes": ["read"], "expires_at": ""}
    assert secret not in str(desk.events)


async def test_a_revoked_token_is_refused_at_once_and_its_name_is_free(desk: Desk) -> None:
    _, secret = await desk.tokens.create("ci", ["read"], None)
    with pytest.raises(ConflictError):
        await desk.tokens.create("ci", ["read"], None)
    await desk.tokens.revoke("ci")
    with pytest.raises(RefusedError):
        await desk.tokens.identify(secret)
    with pytest.raises(NotFoundError):
        await desk.tokens.revoke("ci")
    await desk.tokens.create("ci", ["read"], None)


async def test_a_token_that_is_too_old_is_refused(desk: Desk) -> None:
    made, secret = await desk.tokens.create("ci", ["read"], timedelta(milliseconds=1))
    assert made.expires_at is not None
    while datetime.now(UTC) <= made.expires_at:
        await asyncio.sleep(0.001)
    with pytest.raises(RefusedError):
        await desk.tokens.identify(secret)
    assert [token.name for token in desk.tokens.list_tokens()] == ["ci"]


async def test_many_wrong_ones_are_counted_out_and_a_right_one_passes_all_the_same(desk: Desk) -> None:
    _, secret = await desk.tokens.create("ci", ["read"], None)
    assert await desk.refusals(WRONG_LIMIT + 3) == ["refused"] * WRONG_LIMIT + ["too_many"] * 3
    assert (await desk.tokens.identify(secret)).name == "ci"
    desk.at_s[0] = WRONG_WINDOW_S
    assert await desk.refusals(1) == ["refused"]


async def test_when_it_was_used_is_kept_to_the_hour_and_written_once(desk: Desk) -> None:
    _, secret = await desk.tokens.create("ci", ["read"], None)
    assert desk.tokens.list_tokens()[0].last_used_at is None
    found = await asyncio.gather(*(desk.tokens.identify(secret) for _ in range(20)))
    assert {token.name for token in found} == {"ci"}
    used_at = desk.tokens.list_tokens()[0].last_used_at
    assert used_at is not None
    assert (used_at.minute, used_at.second, used_at.microsecond) == (0, 0, 0)
    await desk.reload()
    assert desk.tokens.list_tokens()[0].last_used_at == used_at


async def test_there_are_only_so_many(desk: Desk) -> None:
    for number in range(TOKENS_LIMIT):
        await desk.tokens.create(f"n{number}", ["read"], None)
    with pytest.raises(TooManyError):
        await desk.tokens.create("one-more", ["read"], None)


def test_each_scope_allows_itself_alone_and_admin_all() -> None:
    def allowed(*scopes: TokenScope) -> set[TokenScope]:
        token = Token(1, "x", frozenset(scopes), datetime.now(UTC), None, None)
        return {scope for scope in TokenScope if token.may(scope)}

    for scope in (TokenScope.READ, TokenScope.SEND, TokenScope.DECIDE):
        assert allowed(scope) == {scope}
    assert allowed(TokenScope.ADMIN) == set(TokenScope)


@pytest.mark.parametrize("name", ["", "Deploys", "a b", "-a", "a-", "a--b", "../x", "a" * 41, "é"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_token_name(name)


@pytest.mark.parametrize("scopes", [[], ["write"], ["read", ""], ["READ"]])
def test_scopes_that_there_are_not_are_refused(scopes: list[str]) -> None:
    with pytest.raises(InvalidInputError):
        parse_scopes(scopes)


@pytest.mark.parametrize("text", ["", "0d", "30", "d", "-1d", "1y", "99999999d", "1.5h", "4000d"])
def test_a_lifetime_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_lifetime(text)


def test_a_lifetime_is_read() -> None:
    assert [parse_lifetime(text) for text in ("90m", "12h", "30d", "8w")] == [
        timedelta(minutes=90),
        timedelta(hours=12),
        timedelta(days=30),
        timedelta(weeks=8),
    ]


def test_a_secret_never_reaches_the_log() -> None:
    text = redact_text(f"authorization: Bearer {PREFIX}abcdefghijkl and {PREFIX}abcdefghijkl")
    assert "abcdefgh" not in text
