"""Pausing, resuming and choosing a model through the API of a real hive, with its restarts and with hostile agents."""

import json
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from hive_process import HiveProcess, wait_for
from hyperhive.wire.agent_link import PROTOCOL_VERSION
from link_lines import Link

LOGIN = {"kind": "none", "account": "", "expires_at": ""}
STATE: dict[str, Any] = {
    "state": "idle",
    "since": "2026-01-01T00:00:00Z",
    "reason": "",
    "model": "claude-x",
    "chosen_model": "",
    "context_tokens": 10,
    "context_limit": 200_000,
    "session_usd": 0.5,
    "warm": True,
    "login": LOGIN,
}


@contextmanager
def harness(hive: HiveProcess, agent: str = "manager") -> Generator[tuple[Link, dict[str, Any]]]:
    """A harness of the test's in the place of the container's, and what hello answered."""
    hive.wait_state(agent, "idle")
    # Or the container's would take the connection back.
    hive.post(f"/api/agents/{agent}/stop")
    hive.wait_state(agent, "stopped")
    with Link(hive, agent) as link:
        hello = link.call("hello", protocol=PROTOCOL_VERSION, generation=1, holding=[])
        yield link, hello["result"]


@contextmanager
def answered_meanwhile(hive: HiveProcess, path: str, body: dict[str, Any]) -> Generator["Future[httpx.Response]"]:
    """Posts while the block answers what the daemon then asks."""

    def post() -> httpx.Response:
        with hive.client() as client:
            return client.post(path, json=body)

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(post)


def park_by_link(link: Link, **params: str) -> list[dict[str, Any]]:
    """Parks as a harness does. The answer, and what the daemon tells of it, in the order they come."""
    link.send(json.dumps({"jsonrpc": "2.0", "id": 7, "method": "park", "params": params}).encode() + b"\n")
    return [link.answer(), link.answer()]


def refuse(hive: HiveProcess, path: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
    with hive.client() as client:
        response = client.post(path, json=body or {})
    return response.status_code, response.json()["code"]


def message_states(hive: HiveProcess) -> list[str]:
    return [message["state"] for message in hive.get("/api/messages") if message["recipient"] == "manager"]


def test_a_paused_agent_gets_nothing_until_it_is_resumed_whatever_the_daemon_does(hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    park = hive.post("/api/agents/manager/pause", {"reason": "lunch\x1b[2J"})
    assert (park["kind"], park["reason"], park["until"], park["hive"]) == ("paused", "lunch\\x1b[2J", None, False)
    hive.post("/api/messages", {"to": "manager", "body": "%% say hello there"})
    assert hive.agent("manager")["waiting"] == 1
    hive.kill()
    hive.start()
    wait_for(lambda: hive.agent("manager")["state"] not in {"unknown", "starting"}, "the harness to be back", hive=hive)
    assert hive.agent("manager")["park"] == park
    hive.post("/api/messages", {"to": "manager", "body": "%% say and more"})
    assert message_states(hive) == ["queued", "queued"]
    hive.post("/api/agents/manager/resume")
    assert hive.agent("manager")["park"] is None
    wait_for(lambda: set(message_states(hive)) == {"acked"}, "both messages to be handled", hive=hive)
    # Again is no error.
    hive.post("/api/agents/manager/resume")


def test_pausing_the_hive_holds_everyone_and_an_agent_cannot_be_resumed_out_of_it(hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    assert hive.get("/api/hive")["park"] is None
    park = hive.post("/api/pause", {"reason": "night"})
    assert park["hive"] is True
    assert hive.get("/api/hive")["park"] == park == hive.agent("manager")["park"]
    hive.post("/api/messages", {"to": "manager", "body": "%% say hello there"})
    assert refuse(hive, "/api/agents/manager/resume") == (409, "conflict")
    hive.kill()
    hive.start()
    assert hive.get("/api/hive")["park"] == park
    assert message_states(hive) == ["queued"]
    hive.post("/api/resume")
    assert hive.get("/api/hive")["park"] is None
    wait_for(lambda: message_states(hive) == ["acked"], "the message to be handled", hive=hive)
    told = [event["event"] for event in map(json.loads, system_bodies(hive))]
    assert told == []


def system_bodies(hive: HiveProcess) -> list[str]:
    return [message["body"] for message in hive.get("/api/messages?limit=500") if message["sender"] == "system"]


def test_who_is_unknown_can_be_neither_paused_nor_resumed(shared_hive: HiveProcess) -> None:
    for act in ("pause", "resume", "compact"):
        assert refuse(shared_hive, f"/api/agents/nobody/{act}") == (404, "not_found")
    assert refuse(shared_hive, "/api/model/nobody", {"model": "x"}) == (404, "not_found")
    assert refuse(shared_hive, "/api/agents/manager/pause", {"reason": 1}) == (400, "invalid_input")
    assert refuse(shared_hive, "/api/agents/manager/pause", {"reason": "x" * 2001}) == (400, "invalid_input")


def test_a_harness_is_told_why_it_gets_nothing_with_its_hello_and_at_every_change(hive: HiveProcess) -> None:
    with harness(hive) as (link, hello):
        assert hello["park"] is None
        park = hive.post("/api/agents/manager/pause", {"reason": "lunch"})
        request = link.take_request()
        assert request["method"] == "park.set"
        told = request["params"]["park"]
        assert (told["kind"], told["until"], told["reason"]) == ("paused", "", "lunch")
        assert datetime.fromisoformat(told["since"]) == datetime.fromisoformat(park["since"])
        hive.post("/api/pause")
        assert link.take_request()["params"]["park"]["reason"] == "by the operator"
        hive.post("/api/resume")
        assert link.take_request()["params"]["park"] == told
        hive.post("/api/agents/manager/resume")
        assert link.take_request()["params"] == {"park": None}


def test_a_harness_parks_its_own_agent_and_no_other_and_only_for_what_it_may(hive: HiveProcess) -> None:
    hive.post("/api/agents", {"name": "alice"})
    until = (datetime.now(UTC) + timedelta(minutes=30)).isoformat()
    with harness(hive, "alice") as (link, _):
        for kind in ("paused", "budget", "*", ""):
            answer = link.call("park", kind=kind, until="", reason="x")
            assert answer["error"]["data"]["code"] == "invalid_input", answer
        for params in ({"kind": "limit"}, {"kind": "limit", "until": "", "reason": "", "agent": "manager"}):
            assert link.call("park", **params)["error"]["data"]["code"] == "invalid_input"
        lines = park_by_link(link, kind="limit", until=until, reason="five_hour")
        [answer] = [line["result"] for line in lines if "result" in line]
        [push] = [line["params"]["park"] for line in lines if line.get("method") == "park.set"]
        assert answer == push
        assert answer["kind"] == "limit"
        assert hive.agent("alice")["park"]["hive"] is False
        assert hive.agent("manager")["park"] is None
    facts = [json.loads(body) for body in system_bodies(hive)]
    [told] = [fact for fact in facts if fact["event"] == "parked"]
    assert (told["agent"], told["kind"], told["reason"]) == ("alice", "limit", "five_hour")


@pytest.mark.parametrize("act", ["start", "restart"])
def test_starting_an_agent_says_try_again(hive: HiveProcess, act: str) -> None:
    with harness(hive) as (link, _):
        for kind in ("login", "failing"):
            park_by_link(link, kind=kind, until="", reason="x")
        # The login is what a person can do something about: it is told first.
        assert hive.agent("manager")["park"]["kind"] == "login"
    hive.post("/api/agents/manager/pause")
    hive.post(f"/api/agents/manager/{act}")
    assert hive.agent("manager")["park"]["kind"] == "paused"
    resumed = [event["body"] for event in hive_events(hive) if event["name"] == "agent.resumed"]
    assert resumed == [{"kinds": ["failing", "login"], "hive": False}]
    hive.post("/api/agents/manager/resume")
    assert hive.agent("manager")["park"] is None


def hive_events(hive: HiveProcess) -> list[dict[str, Any]]:
    """All facts of the hive so far, as the stream tells them."""
    found: list[dict[str, Any]] = []
    with hive.client() as client, client.stream("GET", "/api/stream", headers={"last-event-id": "0:0"}) as stream:
        for line in stream.iter_lines():
            if line.startswith((": alive", "event: state")):
                break
            if line.startswith("data: ") and '"name"' in line:
                found.append(json.loads(line.removeprefix("data: ")))
                if found[-1]["name"] == "agent.resumed":
                    break
    return found


def test_what_a_harness_tells_of_its_turn_is_on_the_row_if_it_can_be_true(hive: HiveProcess) -> None:
    with harness(hive) as (link, _):
        own = {"kind": "own", "account": "me\x1b[2J\n" + "x" * 380, "expires_at": "2026-06-01T00:00:00"}
        link.call("turn.state", **STATE | {"chosen_model": "claude-y", "login": own})
        row = hive.agent("manager")
        assert (row["model"], row["chosen_model"], row["context_tokens"], row["session_usd"]) == (
            *("claude-x", "claude-y", 10, 0.5),
        )
        assert row["login"] == "own"
        assert row["login_account"].startswith("me\\x1b[2J x")
        assert len(row["login_account"]) == 200
        assert datetime.fromisoformat(row["login_expires_at"]) == datetime(2026, 6, 1, tzinfo=UTC)
        for expires_at in ("soon", "0001-01-01T00:00:00+23:59", ""):
            odd = {"kind": "root", "account": "", "expires_at": expires_at}
            link.call("turn.state", **STATE | {"chosen_model": "-x; rm", "login": odd})
            row = hive.agent("manager")
            assert (row["login"], row["login_expires_at"], row["chosen_model"]) == ("unknown", None, "")
        for wrong in ({"context_tokens": -1}, {"context_limit": 2**60}, {"session_usd": 1e300}, {"warm": "yes"}):
            assert link.call("turn.state", **STATE | wrong)["error"]["data"]["code"] == "invalid_input"


# -- the model -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["-x", "a b", "x\n", "x" * 101, "\x1b[2J", "$(id)"])
def test_what_names_no_model_is_refused(shared_hive: HiveProcess, model: str) -> None:
    assert refuse(shared_hive, "/api/model/manager", {"model": model}) == (400, "invalid_input")


def test_the_model_of_a_connected_agent_is_its_harnesss_to_keep(hive: HiveProcess) -> None:
    with harness(hive) as (link, _):
        with answered_meanwhile(hive, "/api/model/manager", {"model": "claude-y"}) as answer:
            request = link.take_request()
        assert (request["method"], request["params"]) == ("model.set", {"model": "claude-y"})
        assert answer.result().status_code == 204
        assert hive.agent("manager")["chosen_model"] == "claude-y"
        with answered_meanwhile(hive, "/api/agents/manager/compact", {}) as answer:
            assert link.take_request()["method"] == "turn.compact"
        # An empty result accepts nothing.
        assert answer.result().json() == {"accepted": False}


def test_the_model_of_a_stopped_agent_is_kept_for_its_next_start(hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    hive.post("/api/agents/manager/stop")
    hive.wait_state("manager", "stopped")
    state = hive.data / "agents/manager/state"
    kept = state / "hyperhive-model"
    secret = hive.data.with_name("secret")
    secret.write_text("the operator's")
    kept.symlink_to(secret)
    hive.post("/api/model/manager", {"model": "claude-y"})
    assert not kept.is_symlink()
    assert kept.read_text() == "claude-y\n"
    assert kept.stat().st_uid == state.stat().st_uid
    assert secret.read_text() == "the operator's"
    assert hive.agent("manager")["chosen_model"] == "claude-y"
    assert refuse(hive, "/api/agents/manager/compact") == (503, "unavailable")
    hive.kill()
    hive.start()
    assert hive.agent("manager")["chosen_model"] == "claude-y"
    hive.post("/api/model/manager", {"model": ""})
    assert kept.read_text() == ""
    kept.unlink()
    kept.mkdir()
    (kept / "x").touch()
    assert refuse(hive, "/api/model/manager", {"model": "claude-z"}) == (507, "storage_failed")
    assert hive.agent("manager")["chosen_model"] == ""
    (kept / "x").unlink()
    kept.rmdir()


# -- a limit of the service --------------------------------------------------------------------------------------


def ask_the_model(hive: HiveProcess, agent: str, text: str) -> int:
    """The status of one request as claude makes it, through the agent's gateway."""
    body = {"model": "claude-x", "max_tokens": 100, "messages": [{"role": "user", "content": text}]}
    sockets = httpx.HTTPTransport(uds=str(hive.run / "agents" / agent / "model.sock"))
    with httpx.Client(transport=sockets, base_url="http://model.hive", timeout=30) as client:
        return client.post("/v1/messages", json=body).status_code


def test_a_limit_that_the_gateway_saw_stops_the_hive_until_its_reset_and_no_longer(hive: HiveProcess) -> None:
    resets_at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    with harness(hive) as (link, _):
        park_by_link(link, kind="limit", until="", reason="nobody saw this")
        assert hive.get("/api/hive")["park"] is None
        assert hive.agent("manager")["park"]["reason"] == "nobody saw this"
        assert ask_the_model(hive, "manager", f"%% ratelimit rejected resets={int(resets_at.timestamp())}") == 429
        week = (datetime.now(UTC) + timedelta(days=7)).isoformat()
        park_by_link(link, kind="limit", until=week, reason="five_hour")
        park = hive.get("/api/hive")["park"]
        assert (park["kind"], park["hive"]) == ("limit", True)
        assert "manager" in park["reason"]
        assert timedelta(seconds=4) < datetime.fromisoformat(park["until"]) - resets_at < timedelta(seconds=61)
        assert ask_the_model(hive, "manager", "hello") == 200
    hive.post("/api/resume")
    assert hive.get("/api/hive")["park"] is None
