"""The login of an agent's claude: the real CLI in a real container, the real daemon and its egress proxy, between the
stand-ins of OAuth and of the Messages API. The one refuses what the other has not given a token for."""

import contextlib
import json
import sqlite3
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hive_process import HiveProcess, end_hive, find_processes, wait_for
from oauth_rig import OAuth, run_messages, run_oauth

NO_CREDENTIAL = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": ""}
AGENT = "alice"
LOGIN = f"/api/agents/{AGENT}/login"
ACCOUNT = "operator@example.com"


@pytest.fixture(scope="module")
def oauth() -> Iterator[OAuth]:
    with tempfile.TemporaryDirectory(prefix="oauth-") as folder:
        yield from run_oauth(Path(folder) / "oauth")


@pytest.fixture(scope="module")
def upstream(oauth: OAuth) -> Iterator[str]:
    yield from run_messages("--tokens", str(oauth.tokens))


@contextlib.contextmanager
def hive_with(oauth: OAuth, upstream: str, environment: dict[str, str]) -> Generator[HiveProcess]:
    """A hive whose agents find the stand-in where the account's hosts are, with one agent."""
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        # Beside the key it was made in a folder of the test's own; agents have to be able to read it.
        ca = Path(folder) / "ca.pem"
        ca.write_bytes(oauth.ca.read_bytes())
        ca.chmod(0o644)
        flags = ("--upstream", upstream, "--egress-map", oauth.egress_map, "--ca-file", str(ca))
        hive = HiveProcess(Path(folder) / "data", flags, NO_CREDENTIAL | environment).start()
        try:
            hive.post("/api/agents", {"name": AGENT})
            hive.wait_state(AGENT, "idle")
            yield hive
        finally:
            end_hive(hive)


@pytest.fixture(scope="module")
def hive(oauth: OAuth, upstream: str) -> Iterator[HiveProcess]:
    """Without a credential of its own. The tests of this module leave the agent logged in and idle."""
    with hive_with(oauth, upstream, {}) as hive:
        yield hive


def begin(hive: HiveProcess) -> str:
    return str(hive.post(LOGIN)["url"])


def log_in(hive: HiveProcess, oauth: OAuth) -> dict[str, Any]:
    with hive.client() as client:
        response = client.post(f"{LOGIN}/code", json={"code": oauth.get_code(begin(hive))})
    assert response.status_code == 200, response.text + hive.get(f"/api/journal/{AGENT}")["text"][-1500:]
    login: dict[str, Any] = response.json()
    return login


def wait_login(hive: HiveProcess, *kinds: str) -> str:
    """The row is idle once the harness has said hello; what login it has comes with what it says next."""
    return wait_for(
        lambda: (kind := hive.agent(AGENT)["login"]) in kinds and kind,
        f"the row to tell of the login: {' or '.join(kinds)}",
        hive=hive,
    )


def ensure_logged_in(hive: HiveProcess, oauth: OAuth) -> None:
    if wait_login(hive, "own", "none") == "none":
        log_in(hive, oauth)
        wait_login(hive, "own")
    hive.wait_state(AGENT, "idle")


def refuse(hive: HiveProcess, path: str, body: dict[str, Any] | None = None) -> tuple[int, str, str]:
    """The status, the code and the message of a request that is refused."""
    with hive.client() as client:
        response = client.post(path, json=body or {})
    answer = response.json()
    return response.status_code, answer["code"], answer["message"]


def say(hive: HiveProcess, text: str) -> None:
    hive.post("/api/messages", {"to": AGENT, "body": text})


def run_turn(hive: HiveProcess, text: str) -> None:
    before = hive.agent(AGENT)["turns"]
    say(hive, text)
    wait_for(lambda: hive.agent(AGENT)["turns"] > before, f"a turn with {text!r} to end", 60, hive)
    row = hive.wait_state(AGENT, "idle")
    assert row["last_outcome"] == "ok", row


def read_credentials(hive: HiveProcess) -> dict[str, Any]:
    oauth: dict[str, Any] = json.loads(credentials(hive).read_text())["claudeAiOauth"]
    return oauth


def credentials(hive: HiveProcess) -> Path:
    return hive.data / "agents" / AGENT / "claude" / ".credentials.json"


def last_bearer(upstream: str) -> str:
    requests = httpx.get(f"{upstream}/_requests").json()["requests"]
    return str(requests[-1]["authorization"]).removeprefix("Bearer ")


def facts(hive: HiveProcess) -> list[tuple[str, str]]:
    """The names and bodies of the events about the agent."""
    with contextlib.closing(sqlite3.connect(hive.data / "hive.sqlite")) as connection:
        rows = connection.execute("select name, body from events where agent = ? order by id", (AGENT,)).fetchall()
    return [(str(name), str(body)) for name, body in rows]


def find_logins(hive: HiveProcess) -> list[int]:
    """The processes of a login that is under way."""
    found: list[int] = []
    for pid in find_processes(hive, AGENT):
        with contextlib.suppress(OSError):
            if b"auth\0login" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


# -- without a login ---------------------------------------------------------------------------------------


def test_an_agent_without_a_login_waits_for_one_and_goes_on_by_itself(
    hive: HiveProcess, oauth: OAuth, upstream: str
) -> None:
    say(hive, "hello before the login")
    hive.wait_state(AGENT, "needs_login")
    row = wait_for(lambda: (row := hive.agent(AGENT))["park"] and row, "the agent to be parked", hive=hive)
    assert (row["login"], row["park"]["kind"], row["waiting"]) == ("none", "login", 1)
    assert log_in(hive, oauth)["account"] == ACCOUNT
    wait_for(lambda: hive.agent(AGENT)["last_outcome"] == "ok", "the message that waited to be handled", 60, hive)
    assert last_bearer(upstream) == read_credentials(hive)["accessToken"]
    row = hive.wait_state(AGENT, "idle")
    assert (row["login"], row["login_account"], row["park"], row["waiting"]) == ("own", ACCOUNT, None, 0)
    assert row["login_expires_at"]
    names = [name for name, _ in facts(hive)]
    assert names.index("agent.parked") < names.index("agent.logged_in") < names.index("agent.resumed")


def test_the_container_never_asks_another_host_than_the_accounts(hive: HiveProcess, oauth: OAuth) -> None:
    ensure_logged_in(hive, oauth)
    asked = {request["host"] for request in oauth.list_requests() if request["path"] != "/cai/oauth/authorize"}
    assert asked <= {"platform.claude.com", "api.anthropic.com"}


# -- the flow ----------------------------------------------------------------------------------------------


def test_a_wrong_code_is_refused_in_claudes_words_and_the_login_can_be_begun_again(
    hive: HiveProcess, oauth: OAuth
) -> None:
    code = oauth.get_code(begin(hive))
    status, kind, message = refuse(hive, f"{LOGIN}/code", {"code": f"wrong{code}"})
    assert (status, kind) == (400, "invalid_input")
    assert "That code wasn't accepted" in message
    assert refuse(hive, f"{LOGIN}/code", {"code": code})[:2] == (409, "conflict")
    assert log_in(hive, oauth)["kind"] == "own"


def test_a_code_that_is_not_whole_or_of_another_link_spends_nothing(hive: HiveProcess, oauth: OAuth) -> None:
    url = begin(hive)
    code = oauth.get_code(url)
    before = oauth.count_grants("authorization_code")
    for wrong in (code.partition("#")[0], f"{code} and", f"{code}x", "#", "\x1b[2J#x"):
        status, kind, message = refuse(hive, f"{LOGIN}/code", {"code": wrong})
        assert (status, kind) == (400, "invalid_input")
        assert code.partition("#")[0] not in message
    assert begin(hive) == url
    assert oauth.count_grants("authorization_code") == before
    assert hive.post(f"{LOGIN}/code", {"code": code})["kind"] == "own"


def test_beginning_twice_gives_the_same_link_and_giving_up_ends_it(hive: HiveProcess) -> None:
    first = begin(hive)
    assert begin(hive) == first
    assert len(find_logins(hive)) >= 1
    with hive.client() as client:
        assert client.delete(LOGIN).status_code == 204
    assert find_logins(hive) == []
    with hive.client() as client:
        assert client.delete(LOGIN).status_code == 204
    assert begin(hive) != first
    with hive.client() as client:
        client.delete(LOGIN)


def test_no_login_begins_while_a_turn_runs_and_none_ends_in_one(hive: HiveProcess, oauth: OAuth) -> None:
    ensure_logged_in(hive, oauth)
    code = oauth.get_code(begin(hive))
    say(hive, '%% tool Bash {"command": "while [ ! -e /state/go-on ]; do sleep 0.1; done"}\n%% say done')
    hive.wait_state(AGENT, "thinking")
    assert refuse(hive, f"{LOGIN}/code", {"code": code})[:2] == (409, "conflict")
    with hive.client() as client:
        client.delete(LOGIN)
    status, kind, message = refuse(hive, LOGIN)
    assert (status, kind, message) == (409, "conflict", "a turn runs")
    (hive.data / "agents" / AGENT / "state" / "go-on").touch()
    hive.wait_state(AGENT, "idle")


def test_the_code_and_the_tokens_are_nowhere_but_in_the_agents_own_folder(hive: HiveProcess, oauth: OAuth) -> None:
    code = oauth.get_code(begin(hive))
    hive.post(f"{LOGIN}/code", {"code": code})
    tokens = read_credentials(hive)
    secrets = [code.partition("#")[0], tokens["accessToken"], tokens["refreshToken"]]
    hive.wait_state(AGENT, "idle")
    kept = b"".join(path.read_bytes() for path in hive.data.glob("*.sqlite*")) + hive.log.encode()
    kept += json.dumps([hive.get("/api/agents"), hive.get(f"/api/journal/{AGENT}")]).encode()
    assert not [secret for secret in secrets if secret.encode() in kept]


def test_a_stopped_agent_says_what_to_do(hive: HiveProcess, oauth: OAuth) -> None:
    hive.post(f"/api/agents/{AGENT}/stop")
    hive.wait_state(AGENT, "stopped")
    with hive.client() as client:
        answer = client.post(LOGIN, json={}).json()
    assert (answer["code"], answer["hint"]) == ("conflict", f"hive start {AGENT}")
    hive.post(f"/api/agents/{AGENT}/start")
    hive.wait_state(AGENT, "idle", "needs_login")
    ensure_logged_in(hive, oauth)


def test_a_login_wakes_an_agent_that_hibernates(oauth: OAuth, upstream: str) -> None:
    with hive_with(oauth, upstream, {"HIVE_HIBERNATE_S": "3", "HIVE_WARM_S": "0"}) as hive:
        hive.wait_state(AGENT, "hibernated")
        # Nothing is left there of a login.
        with hive.client() as client:
            answer = client.delete(LOGIN).json()
        assert (answer["code"], hive.agent(AGENT)["state"]) == ("conflict", "hibernated")
        assert log_in(hive, oauth)["account"] == ACCOUNT
        assert hive.wait_state(AGENT, "idle")["login"] == "own"
        names = [name for name, _ in facts(hive)]
        assert names.index("agent.hibernated") < names.index("agent.woken") < names.index("agent.logged_in")
        assert names.count("agent.hibernated") == 1


def test_an_agent_that_never_was_is_not_found(hive: HiveProcess) -> None:
    assert refuse(hive, "/api/agents/nobody/login")[:2] == (404, "not_found")


# -- tokens that end ---------------------------------------------------------------------------------------


def expire_locally(hive: HiveProcess) -> None:
    """Makes claude think that its access token is over, as hours would."""
    whole = json.loads(credentials(hive).read_text())
    whole["claudeAiOauth"]["expiresAt"] = round((time.time() - 60) * 1000)
    credentials(hive).write_text(json.dumps(whole))


def restart(hive: HiveProcess) -> None:
    """So that no claude is open that has tokens in memory."""
    hive.post(f"/api/agents/{AGENT}/stop")
    hive.wait_state(AGENT, "stopped")
    hive.post(f"/api/agents/{AGENT}/start")
    hive.wait_state(AGENT, "idle", "needs_login")


def test_an_expired_access_token_is_refreshed_by_claude_itself(hive: HiveProcess, oauth: OAuth, upstream: str) -> None:
    ensure_logged_in(hive, oauth)
    before, grants = read_credentials(hive), oauth.count_grants("refresh_token")
    restart(hive)
    oauth.control(expire=True)
    expire_locally(hive)
    run_turn(hive, "after the token's end")
    after = read_credentials(hive)
    assert oauth.count_grants("refresh_token") == grants + 1
    assert after["accessToken"] != before["accessToken"]
    assert after["refreshToken"] != before["refreshToken"]
    assert last_bearer(upstream) == after["accessToken"]


def test_a_token_that_the_service_ended_early_is_refreshed_too(hive: HiveProcess, oauth: OAuth, upstream: str) -> None:
    ensure_logged_in(hive, oauth)
    run_turn(hive, "so that a claude is open")
    oauth.control(expire=True)
    run_turn(hive, "with a token that is over")
    assert last_bearer(upstream) == read_credentials(hive)["accessToken"]


def test_a_dead_refresh_token_asks_for_a_login_which_heals_it(hive: HiveProcess, oauth: OAuth, upstream: str) -> None:
    ensure_logged_in(hive, oauth)
    restart(hive)
    oauth.control(expire=True, kill_refresh=True)
    expire_locally(hive)
    say(hive, "with a dead login")
    hive.wait_state(AGENT, "needs_login")
    wait_login(hive, "none")
    row = wait_for(lambda: (row := hive.agent(AGENT))["park"] and row, "the agent to be parked", hive=hive)
    assert (row["last_outcome"], row["park"]["kind"]) == ("login", "login")
    assert read_credentials(hive)["accessToken"] == ""
    log_in(hive, oauth)
    wait_for(lambda: hive.agent(AGENT)["last_outcome"] == "ok", "the message to be handled", 60, hive)
    assert last_bearer(upstream) == read_credentials(hive)["accessToken"]
    hive.wait_state(AGENT, "idle")


# -- where the login is ------------------------------------------------------------------------------------


def test_a_login_is_kept_over_destroy_and_gone_with_purge(hive: HiveProcess, oauth: OAuth) -> None:
    ensure_logged_in(hive, oauth)
    with hive.client() as client:
        client.delete(f"/api/agents/{AGENT}").raise_for_status()
    (kept,) = hive.get("/api/kept")
    assert kept["credentials"]
    assert refuse(hive, LOGIN)[:2] == (404, "not_found")
    hive.post(f"/api/kept/{AGENT}/revive")
    hive.wait_state(AGENT, "idle")
    wait_login(hive, "own")
    run_turn(hive, "with the login of before")
    with hive.client() as client:
        client.delete(f"/api/agents/{AGENT}", params={"purge": True}).raise_for_status()
    assert not credentials(hive).exists()
    hive.post("/api/agents", {"name": AGENT})
    hive.wait_state(AGENT, "idle")
    wait_login(hive, "none")


def test_with_a_credential_of_the_hives_no_agent_logs_in_or_holds_it(oauth: OAuth, upstream: str) -> None:
    key = "sk-ant-api03-canary-of-the-login-test"
    with hive_with(oauth, upstream, {"ANTHROPIC_API_KEY": key}) as hive:
        status, kind, message = refuse(hive, LOGIN)
        assert (status, kind) == (409, "conflict")
        assert "the hive holds the credential" in message
        wait_login(hive, "hive")
        for pid in find_processes(hive, AGENT):
            with contextlib.suppress(OSError):
                assert key.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
        # A login that lies there from other times is not used.
        credentials(hive).write_text(json.dumps({"claudeAiOauth": {"accessToken": "sk-ant-oat01-theirs"}}))
        say(hive, "whose credential?")
        wait_for(
            lambda: httpx.get(f"{upstream}/_requests").json()["requests"][-1]["x_api_key"] == key,
            "the hive's key to be used",
            60,
            hive,
        )
        assert httpx.get(f"{upstream}/_requests").json()["requests"][-1]["authorization"] is None
