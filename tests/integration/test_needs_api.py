"""Needs you through the API of a real hive: what is listed, what streams are told, what is done about dead letters."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import httpx

from hive_process import HiveProcess, wait_for
from hyperhive.core.messages import DELIVERY_ATTEMPTS
from hyperhive.wire.agent_link import PROTOCOL_VERSION
from link_lines import Link


def list_keys(hive: HiveProcess) -> list[str]:
    return [need["key"] for need in hive.get("/api/needs")]


@contextmanager
def harness(hive: HiveProcess) -> Generator[Link]:
    """A harness of the test's in the place of the manager's container."""
    hive.wait_state("manager", "idle")
    hive.post("/api/agents/manager/stop")
    hive.wait_state("manager", "stopped")
    with Link(hive, "manager") as link:
        link.call("hello", protocol=PROTOCOL_VERSION, generation=1, holding=[])
        yield link


def ask(link: Link, question: str, ttl_s: int = 3600, **more: Any) -> int:
    answer = link.call(
        "ask_operator", question=question, ttl_seconds=ttl_s, idempotency_key=f"key of {question}", **more
    )
    assert "result" in answer, answer
    return answer["result"]["id"]


def kill_letter(hive: HiveProcess, link: Link, body: str) -> int:
    """A message to the manager whose every turn failed."""
    id_ = hive.post("/api/messages", {"to": "manager", "body": body})["id"]
    for _ in range(DELIVERY_ATTEMPTS):
        link.call("recv", max=8, wait_s=0)
        link.call("requeue", ids=[id_], reason="the turn failed", failed=True)
    return id_


def test_a_question_is_listed_until_it_is_answered_and_streams_are_told_both_times(hive: HiveProcess) -> None:
    with harness(hive) as link, hive.browser_session() as session, session.stream("GET", "/api/stream") as stream:
        lines = stream.iter_lines()
        assert list_keys(hive) == []
        id_ = ask(link, "which?", options=["red", "blue"])
        wait_event(lines)
        [need] = hive.get("/api/needs")
        assert need["key"] == f"question-{id_}"
        assert need["link"] == f"/#need-question-{id_}"
        assert (need["kind"], need["ref"], need["agent"], need["acts"]) == ("question", str(id_), "manager", ["answer"])
        assert need["deadline"] > need["since"]
        hive.post(f"/api/questions/{id_}/answer", {"options": ["red"]})
        wait_event(lines)
        assert list_keys(hive) == []


def wait_event(lines: Any) -> None:
    """Reads up to the next time that the stream says that the queue is another."""
    assert next(line for line in lines if line == "event: needs")
    assert json.loads(next(lines).removeprefix("data: ")) == {}


def test_the_queue_is_the_same_after_a_crash_of_the_daemon(hive: HiveProcess) -> None:
    with harness(hive) as link:
        ask(link, "which?")
        kill_letter(hive, link, "hello")
    hive.post("/api/agents/manager/start")
    before = hive.get("/api/needs")
    assert len(before) == 2
    hive.kill()
    hive.start()
    assert [need["key"] for need in hive.get("/api/needs")] == [need["key"] for need in before]


def test_a_question_that_expires_needs_nobody(hive: HiveProcess) -> None:
    with harness(hive) as link:
        id_ = ask(link, "quick?", ttl_s=1)
        assert list_keys(hive) == [f"question-{id_}"]
        wait_for(lambda: list_keys(hive) == [], "the question to expire", hive=hive)


def test_what_agents_ask_one_another_needs_nobody(hive: HiveProcess) -> None:
    hive.post("/api/agents", {"name": "bob"})
    with harness(hive) as link:
        asked = link.call("ask", to="bob", question="which?", idempotency_key="a key of its own")
        assert "result" in asked, asked
        ask(link, "and you?")
        assert [need["detail"] for need in hive.get("/api/needs") if need["kind"] == "question"] == ["and you?"]


def test_a_dead_letter_is_delivered_after_all_or_dismissed(hive: HiveProcess) -> None:
    with harness(hive) as link:
        first, second = kill_letter(hive, link, "one"), kill_letter(hive, link, "two")
        assert list_keys(hive) == [f"dead_letter-{first}", f"dead_letter-{second}"]
        need = hive.get("/api/needs")[0]
        assert (need["acts"], "the turn failed" in need["detail"]) == (["requeue", "dismiss"], True)

        again = hive.post(f"/api/messages/{first}/requeue")
        assert (again["id"], again["state"]) == (first, "queued")
        [message] = link.call("recv", max=8, wait_s=0)["result"]["messages"]
        assert (message["id"], message["body"]) == (first, "one")

        for _ in range(2):
            hive.post(f"/api/messages/{second}/dismiss")
        assert list_keys(hive) == []
        states = {message["id"]: message["state"] for message in hive.get("/api/messages")}
        assert states[second] == "dead"
        with hive.client() as client:
            refused = [client.post(f"/api/messages/{first}/{act}").status_code for act in ("requeue", "dismiss")]
            unknown = [client.post(f"/api/messages/999/{act}").status_code for act in ("requeue", "dismiss")]
        assert (refused, unknown) == ([404, 409], [404, 404])


def test_no_agent_reads_the_queue(hive: HiveProcess) -> None:
    assert httpx.get(f"{hive.origin}/api/needs").status_code == 401
    with harness(hive) as link:
        assert "error" in link.call("needs")
