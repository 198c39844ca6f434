"""The operator's side of a login: what is believed of a harness, what is stored, what the agent's row tells after."""

import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hyperhive.core.errors import ConflictError, HiveError, InvalidInputError, NotFoundError, UnavailableError
from hyperhive.core.names import MANAGER
from hyperhive.core.parking import ParkKind
from hyperhive.host.agent_records import insert_agent
from hyperhive.host.logins import Logins
from hyperhive.host.park_records import park_in
from hyperhive.host.store.rows import Desired
from hyperhive.host.store.store import Store

URL = (
    "https://claude.com/cai/oauth/authorize?code_challenge=c&state=S"
    "&redirect_uri=https%3A%2F%2Fplatform.claude.com%2Foauth%2Fcode%2Fcallback"
)
OWN = {"kind": "own", "account": "me@example.com", "expires_at": "2026-12-21T19:00:00+00:00"}


class Harness:
    """Answers with `answer`, or refuses with it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, dict[str, Any]]] = []

    async def call(self, name: str, method: str, params: dict[str, Any]) -> Any:
        self.asked.append((name, method, params))
        if isinstance(self.answer, HiveError):
            raise self.answer
        return self.answer


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "hive.sqlite", "hive")
    yield store
    store.close()


async def spawn(store: Store, *names: str) -> None:
    for name in names:
        await store.write(lambda tx, name=name: insert_agent(tx, name, None))


def look(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(folder / "hive.sqlite")) as connection:
        return connection.execute(sql).fetchall()


async def test_the_link_of_a_harness_is_given_on(store: Store) -> None:
    await spawn(store, "alice")
    assert (await Logins(store, Harness({"url": URL}).call, "none").start("alice")).url == URL


@pytest.mark.parametrize(
    "answer",
    [None, [], {}, {"url": 7}, {"url": "https://evil.example/"}, {"url": URL.replace("claude.com", "evil.org")}],
)
async def test_a_link_that_an_agent_made_up_is_not(store: Store, answer: Any) -> None:
    await spawn(store, "alice")
    with pytest.raises(UnavailableError) as caught:
        await Logins(store, Harness(answer).call, "none").start("alice")
    assert "evil" not in caught.value.message + caught.value.hint


async def test_a_login_releases_the_agent_and_tells_the_manager_and_the_code_is_stored_nowhere(
    store: Store, tmp_path: Path
) -> None:
    await spawn(store, MANAGER, "alice")
    await store.write(lambda tx: park_in(tx, "alice", ParkKind.LOGIN, "dead"))
    await store.write(lambda tx: park_in(tx, "alice", ParkKind.PAUSED, "wait"))
    harness = Harness(OWN)
    login = await Logins(store, harness.call, "none").finish("alice", " canary-code#S\n")
    assert login.model_dump() == {
        "kind": "own",
        "account": "me@example.com",
        "expires_at": datetime(2026, 12, 21, 19, tzinfo=UTC),
    }
    assert harness.asked == [("alice", "login.finish", {"code": "canary-code#S"})]
    assert look(tmp_path, "select kind from parks where agent = 'alice'") == [("paused",)]
    ((body,),) = look(tmp_path, "select body from events where name = 'agent.logged_in'")
    assert json.loads(body) == {"account": "me@example.com", "expires_at": "2026-12-21T19:00:00+00:00"}
    told = [json.loads(text)["event"] for (text,) in look(tmp_path, "select body from bodies order by id")]
    assert "logged_in" in told
    assert b"canary-code" not in b"".join(path.read_bytes() for path in tmp_path.glob("hive.sqlite*"))


async def test_what_an_agent_says_of_its_account_is_one_safe_line(store: Store) -> None:
    await spawn(store, "alice")
    answer = {"kind": "own", "account": "\x1b[2Jme\n" + "x" * 300, "expires_at": "whenever"}
    login = await Logins(store, Harness(answer).call, "none").finish("alice", "a#b")
    assert login.account.startswith("\\x1b[2Jme x")
    assert len(login.account) == 200
    assert login.expires_at is None


@pytest.mark.parametrize(
    "answer",
    [None, {}, OWN | {"kind": "none"}, OWN | {"kind": "hive"}, OWN | {"account": "x" * 500}, OWN | {"more": 1}],
)
async def test_a_harness_that_does_not_say_that_it_is_logged_in_is_not(
    store: Store, tmp_path: Path, answer: Any
) -> None:
    await spawn(store, "alice")
    with pytest.raises(UnavailableError):
        await Logins(store, Harness(answer).call, "none").finish("alice", "a#b")
    assert look(tmp_path, "select 1 from events where name = 'agent.logged_in'") == []


async def test_a_code_that_is_not_whole_is_refused_here(store: Store) -> None:
    await spawn(store, "alice")
    harness = Harness(OWN)
    with pytest.raises(InvalidInputError):
        await Logins(store, harness.call, "none").finish("alice", "no code")
    assert harness.asked == []


async def test_with_a_credential_of_the_hives_nobody_is_asked(store: Store) -> None:
    await spawn(store, "alice")
    harness = Harness({"url": URL})
    for kind in ("api_key", "token"):
        with pytest.raises(ConflictError, match="the hive holds"):
            await Logins(store, harness.call, kind).start("alice")
    assert harness.asked == []


async def test_an_agent_without_a_container_says_how_to_start_one(store: Store) -> None:
    await spawn(store, "alice")
    logins = Logins(store, Harness(UnavailableError("alice is not connected")).call, "none")
    with pytest.raises(UnavailableError, match="not connected"):
        await logins.cancel("alice")
    await store.write(lambda tx: tx.list("set_desired", name="alice", desired=Desired.STOPPED))
    with pytest.raises(ConflictError, match="stopped") as caught:
        await logins.start("alice")
    assert caught.value.hint == "hive start alice"


@pytest.mark.parametrize(("name", "error"), [("nobody", NotFoundError), ("../x", InvalidInputError)])
async def test_only_an_agent_can_be_logged_in(store: Store, name: str, error: type[HiveError]) -> None:
    with pytest.raises(error):
        await Logins(store, Harness({"url": URL}).call, "none").start(name)
