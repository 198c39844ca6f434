"""A hostile harness on the link and the gateway of a real hive: it meets its bounds, is told so, and others go on."""

import contextlib
import json
import sqlite3
import tempfile
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from hive_process import HiveProcess, end_hive, wait_for
from hyperhive.host.gateway_places import EACH_LIMIT
from hyperhive.host.link_quotas import ACTS
from hyperhive.host.settings import Settings
from hyperhive.wire.agent_link import PROTOCOL_VERSION
from link_lines import Link
from proposer import read_generation

PAIR_PER_MINUTE = Settings.model_fields["messages_per_minute_pair"].default


@pytest.fixture(scope="module")
def hive() -> Iterator[HiveProcess]:
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        Path(folder).chmod(0o755)
        hive = HiveProcess(Path(folder) / "data").start()
        try:
            hive.wait_state("manager", "idle")
            for name in ("mallory", "victim"):
                hive.post("/api/agents", {"name": name})
                hive.wait_state(name, "idle")
            # The test speaks in its place.
            hive.post("/api/agents/mallory/stop")
            hive.wait_state("mallory", "stopped")
            yield hive
        finally:
            end_hive(hive)


@pytest.fixture
def link(hive: HiveProcess) -> Iterator[Link]:
    with Link(hive, "mallory") as link:
        hello = link.call(
            "hello", protocol=PROTOCOL_VERSION, generation=read_generation(hive, "mallory"), holding=[], version="x"
        )
        assert hello["result"]["agent"] == "mallory"
        yield link


def find_use(hive: HiveProcess, quota: str) -> dict[str, Any]:
    row = hive.get("/api/quotas/mallory")
    return next(use for use in row["quotas"] if use["quota"] == quota)


def flood(link: Link, method: str, count: int, **params: Any) -> list[dict[str, Any]]:
    """Asks so often without waiting; the answers."""
    lines = [
        json.dumps(
            {
                "jsonrpc": "2.0",
                "id": number,
                "method": method,
                "params": {**params, **({} if "id" in params else {"idempotency_key": uuid.uuid4().hex})},
            }
        ).encode()
        for number in range(count)
    ]
    sender = threading.Thread(target=link.send, args=(b"\n".join(lines) + b"\n",))
    sender.start()
    answers = [link.answer() for _ in range(count)]
    sender.join()
    return answers


def list_codes(answers: list[dict[str, Any]]) -> dict[str, int]:
    codes = [answer["error"]["data"]["code"] if "error" in answer else "ok" for answer in answers]
    return {code: codes.count(code) for code in set(codes)}


def test_what_leaves_rows_is_bounded_by_the_minute_and_the_others_go_on(hive: HiveProcess, link: Link) -> None:
    answers = flood(link, "cancel_reminder", ACTS.burst + 400, id=1)
    codes = list_codes(answers)
    assert codes["too_many"] >= 300
    refused = next(answer["error"]["data"] for answer in answers if "too_many" in str(answer))
    assert "120 requests a minute" in refused["message"] and refused["hint"]
    # Of another one nothing is refused.
    sent = hive.post("/api/messages", {"to": "victim", "body": "hello"})
    wait_for(lambda: hive.get(f"/api/messages/{sent['id']}")["state"] == "acked", "a turn", hive=hive)
    assert find_use(hive, "acts")["used"] > ACTS.burst / 2
    # And what ends something is done all the same.
    assert "result" in link.call("turn.state", **TURN)


TURN: dict[str, Any] = {
    "state": "idle",
    "since": "2026-01-01T00:00:00+00:00",
    "reason": "",
    "model": "",
    "chosen_model": "",
    "context_tokens": 0,
    "context_limit": 0,
    "session_usd": None,
    "warm": False,
    "login": {"kind": "none", "account": "", "expires_at": ""},
}


def test_events_without_end_are_refused_with_a_time_to_wait(hive: HiveProcess, link: Link) -> None:
    body = {"text": "x" * 900_000}
    events = [{"seq": 1, "at": "2026-01-01T00:00:00+00:00", "kind": "notice", "body": body}]
    answers: list[dict[str, Any]] = []
    for _ in range(170):
        answers.append(link.call("events.append", events=events))
        if "error" in answers[-1]:
            break
    refused = answers[-1]["error"]["data"]
    assert (refused["code"], "MiB of events a minute" in refused["message"]) == ("too_many", True)
    assert find_use(hive, "transcript")["used"] < 2_000_000


def test_more_requests_at_once_than_may_be_are_told_to_come_again(hive: HiveProcess) -> None:
    socket = str(hive.run / "agents" / "mallory" / "model.sock")
    done = threading.Event()

    def body() -> Iterator[bytes]:
        yield b"{"
        # A request that never ends holds its place.
        done.wait(30)

    def begin(_: int) -> int:
        with httpx.Client(transport=httpx.HTTPTransport(uds=socket), timeout=60) as client:
            return client.post("http://model.hive/v1/messages", content=body()).status_code

    with ThreadPoolExecutor(EACH_LIMIT) as pool:
        running = [pool.submit(begin, number) for number in range(EACH_LIMIT)]
        try:
            wait_for(lambda: find_use(hive, "requests")["used"] == EACH_LIMIT, "all to be on their way", hive=hive)
            with httpx.Client(transport=httpx.HTTPTransport(uds=socket), timeout=60) as client:
                refused = client.post("http://model.hive/v1/messages", json={"model": "x"})
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
            assert refused.json()["error"]["type"] == "rate_limit_error"
            # Another agent's turn goes on meanwhile.
            sent = hive.post("/api/messages", {"to": "victim", "body": "hello"})
            wait_for(lambda: hive.get(f"/api/messages/{sent['id']}")["state"] == "acked", "a turn", hive=hive)
        finally:
            done.set()
        assert {task.result() for task in running} <= {200, 400}
    assert find_use(hive, "requests")["used"] == 0


def test_bodies_that_are_too_large_together_are_refused_before_they_are_held(hive: HiveProcess) -> None:
    socket = str(hive.run / "agents" / "mallory" / "model.sock")
    piece, done = b"x" * 1024 * 1024, threading.Event()

    def body() -> Iterator[bytes]:
        for _ in range(25):
            yield piece
        done.wait(30)

    def begin(_: int) -> int:
        try:
            with httpx.Client(transport=httpx.HTTPTransport(uds=socket), timeout=60) as client:
                return client.post("http://model.hive/v1/messages", content=body()).status_code
        except httpx.HTTPError:
            return 429

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(begin, number) for number in range(4)]
        try:
            # Two of them fit. Those that are refused send on, and are not listened to.
            wait_for(lambda: find_use(hive, "request_bytes")["used"] > 32 * 1024 * 1024, "some to be held", hive=hive)
            wait_for(lambda: find_use(hive, "requests")["used"] <= 2, "the others to be refused", hive=hive)
            assert find_use(hive, "request_bytes")["used"] <= 64 * 1024 * 1024
        finally:
            done.set()
        assert [task.result() for task in running].count(429) >= 2


def test_messages_are_bounded_by_the_minute_and_the_operator_has_room(hive: HiveProcess, link: Link) -> None:
    answers = flood(link, "send", 2 * PAIR_PER_MINUTE + 50, to="operator", body="again")
    assert list_codes(answers)["too_many"] >= 40
    refused = next(answer["error"]["data"] for answer in answers if "error" in answer)
    assert "to operator; the next can be sent in" in refused["message"] and refused["hint"]
    assert find_use(hive, "messages")["used"] > 0
    # It may still write to others, and the operator to both of them.
    assert "result" in link.call("send", to="victim", body="still here", idempotency_key=uuid.uuid4().hex)
    for name in ("mallory", "victim"):
        assert hive.post("/api/messages", {"to": name, "body": "hello"})["id"] > 0
    wait_for(lambda: list_refusals(hive, "message.refused"), "the event", hive=hive)
    assert [body["rule"] for body in list_refusals(hive, "message.refused")] == ["rate.pair"]


def list_refusals(hive: HiveProcess, name: str) -> list[dict[str, Any]]:
    """What the events of that name say of mallory."""
    with contextlib.closing(sqlite3.connect(hive.data / "hive.sqlite")) as database:
        rows = database.execute("select body from events where agent = 'mallory' and name = ?", (name,)).fetchall()
    return [json.loads(body) for (body,) in rows]


def test_what_was_refused_is_an_event_for_the_operator(hive: HiveProcess) -> None:
    """Last of all: what the others did."""
    told = {"acts", "event_bytes", "requests", "request_bytes"}
    wait_for(lambda: told <= {body["quota"] for body in list_refusals(hive, "agent.throttled")}, "them", hive=hive)
    with hive.client() as client:
        figures = client.get("/metrics").text
    assert 'hive_events_total{name="agent.throttled"}' in figures


def test_all_quotas_are_shown_of_all_agents(hive: HiveProcess) -> None:
    rows = {row["agent"]: row for row in hive.get("/api/quotas")}
    assert set(rows) == {"manager", "mallory", "victim"}
    uses = {use["quota"]: use for use in rows["victim"]["quotas"]}
    assert uses["disk"]["limit"] == 10 * 1024**3
    assert uses["disk"]["used"] > 0
    # Of a container only what the kernel counts here.
    counted = {"memory", "tasks"} - set(hive.get("/api/hive")["unlimited"])
    assert {"memory", "tasks"} & set(uses) == counted
    for key in counted:
        assert 0 < uses[key]["used"] <= uses[key]["limit"]
    assert uses["terminals"] == {"quota": "terminals", "unit": "count", "used": 0, "limit": 8}
    with hive.client() as client:
        assert client.get("/api/quotas/nobody").status_code == 404
        assert client.post("/api/quotas/victim/allow", json={"size_bytes": 0}).status_code == 400
    allowed = hive.post("/api/quotas/victim/allow", {"size_bytes": 20 * 1024**3, "for_s": 60})
    assert next(use["limit"] for use in allowed["quotas"] if use["quota"] == "disk") == 20 * 1024**3
    assert allowed["allowed_until"] is not None
