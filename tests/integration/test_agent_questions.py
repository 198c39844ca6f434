"""Questions between agents in a running hive, with real harnesses and the real claude CLI on the stand-in's service.

What the model does stands in the messages (`%%`): alice asks bob, and bob answers with the tool that the envelope
names.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from attack_rig import Arena
from hive_process import HiveProcess, wait_for
from link_lines import Link

KEY = "key-12345"


class Speaker:
    """A stopped agent, for which the test speaks on its link."""

    def __init__(self, arena: Arena) -> None:
        self.hive: HiveProcess = arena.hive
        self.name = arena.spawn()
        self._generation = arena.stop(self.name)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        with Link(self.hive, self.name) as link:
            assert "result" in link.call("hello", protocol=1, generation=self._generation, holding=[])
            return link.call(method, **params)

    def ask(self, to: str, question: str = "which?", key: str = KEY, **fields: Any) -> int:
        answer = self.call("ask", to=to, question=question, idempotency_key=key, **fields)
        return answer["result"]["id"]

    def take(self) -> list[dict[str, Any]]:
        with Link(self.hive, self.name) as link:
            assert "result" in link.call("hello", protocol=1, generation=self._generation, holding=[])
            messages = link.call("recv", max=32, wait_s=0)["result"]["messages"]
            link.call("ack", ids=[message["id"] for message in messages])
            return messages


@pytest.fixture
def alice(arena: Arena) -> Iterator[Speaker]:
    yield Speaker(arena)


@pytest.fixture
def bob(arena: Arena) -> Iterator[Speaker]:
    yield Speaker(arena)


def find_question(hive: HiveProcess, asker: str) -> dict[str, Any] | None:
    rows = hive.get("/api/questions?everyone=true")
    return next((row for row in rows if row["agent"] == asker), None)


def wait_question(hive: HiveProcess, asker: str, status: str) -> dict[str, Any]:
    return wait_for(
        lambda: (row := find_question(hive, asker)) is not None and row["status"] == status and row,
        f"the question of {asker} to be {status}",
        60,
        hive,
    )


def script(**arguments: Any) -> str:
    return json.dumps(arguments)


def test_alice_asks_bob_who_answers_with_the_tool_and_alice_reads_the_answer(arena: Arena) -> None:
    hive = arena.hive
    alice, bob = arena.spawn(), arena.spawn()
    next_id = 1 + max((row["id"] for row in hive.get("/api/questions?everyone=true")), default=0)
    # The same claude that is asked answers: no other way leads to the asker.
    question = "which colour?\n%% tool answer " + script(id=next_id, options=["mauve"], text="as ever")
    order = "%% tool ask " + script(to=bob, question=question, options=["amber", "mauve"])
    hive.post("/api/messages", {"to": alice, "body": order})
    row = wait_question(hive, alice, "answered")
    assert (row["id"], row["asked"], row["answer"]) == (next_id, bob, "mauve\nas ever")
    answer = wait_for(
        lambda: next(
            (m for m in hive.get(f"/api/messages?agent={alice}") if m["sender"] == bob and m["state"] == "acked"), None
        ),
        "the answer to be read by the asker",
        60,
        hive,
    )
    assert answer["body"].endswith('Chosen: ["mauve"]\n\nas ever')
    prompts = json.dumps(hive.get(f"/api/agents/{alice}/transcript"))
    assert f'from=\\\\\\"{bob}\\\\\\"' in prompts or f'from=\\"{bob}\\"' in prompts
    assert f'answer_to=\\"{next_id}\\"' in prompts
    assert f'question=\\"{next_id}\\"' in json.dumps(hive.get(f"/api/agents/{bob}/transcript"))
    assert hive.get("/api/questions?status=open") == []


def test_over_the_link_a_question_waits_for_a_stopped_agent_and_survives_the_daemon(
    arena: Arena, alice: Speaker, bob: Speaker
) -> None:
    number = alice.ask(bob.name, "which?", options=["a", "b"])
    assert alice.ask(bob.name, "which?", options=["a", "b"]) == number
    arena.hive.kill()
    arena.hive.start()
    [message] = bob.take()
    assert (message["sender"], message["question"]) == (alice.name, number)
    assert bob.call("answer", id=number, options=["b"])["result"] == {}
    arena.hive.kill()
    arena.hive.start()
    # For the tests that follow.
    arena.manager.connect()
    assert bob.call("answer", id=number, options=["b"])["result"] == {}
    assert bob.call("answer", id=number, options=["a"])["error"]["data"]["code"] == "conflict"
    [answer] = alice.take()
    assert (answer["sender"], answer["answer_to"], "question" in answer) == (bob.name, number, False)


def test_ids_that_were_not_given_to_the_caller_lead_nowhere(arena: Arena, alice: Speaker, bob: Speaker) -> None:
    mallory = Speaker(arena)
    number = alice.ask(bob.name)
    for one in (number, 0, 2**62):
        assert mallory.call("answer", id=one, text="me")["error"]["data"]["code"] == "not_found"
        assert mallory.call("cancel_question", id=one)["error"]["data"]["code"] == "not_found"
    assert bob.call("cancel_question", id=number)["error"]["data"]["code"] == "not_found"
    for bad in (-1, 2**63, "1", None, True, 1.5):
        assert mallory.call("answer", id=bad, text="me")["error"]["data"]["code"] == "invalid_input"
    lone = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "answer", "params": {"id": number, "text": "\ud800"}})
    with Link(arena.hive, bob.name) as link:
        link.call("hello", protocol=1, generation=arena.generation(bob.name), holding=[])
        link.send(lone.encode() + b"\n")
        assert "error" in link.answer()
    question = find_question(arena.hive, alice.name)
    assert question is not None
    assert question["status"] == "open"
    assert alice.call("cancel_question", id=number)["result"] == {}


def test_the_operator_sees_cancels_and_does_not_answer_what_agents_ask_one_another(
    arena: Arena, alice: Speaker, bob: Speaker
) -> None:
    number = alice.ask(bob.name)
    hive = arena.hive
    assert all(row["id"] != number for row in hive.get("/api/questions"))
    assert all(need["ref"] != str(number) for need in hive.get("/api/needs") if need["kind"] == "question")
    with hive.client() as client:
        refused = client.post(f"/api/questions/{number}/answer", json={"text": "x"})
        assert (refused.status_code, refused.json()["code"]) == (403, "refused")
        assert bob.name in refused.json()["message"]
        shown = client.post(f"/api/questions/{number}/cancel").json()
    assert (shown["status"], shown["asked"]) == ("cancelled", bob.name)
    [told] = alice.take()
    assert (told["sender"], json.loads(told["body"])["reason"]) == ("system", "the operator cancelled it")
    assert bob.take() == []


def test_a_config_that_lists_recipients_is_kept_and_the_refusal_says_what_to_do(
    arena: Arena, alice: Speaker, bob: Speaker
) -> None:
    arena.deploy(alice.name, {"agent.toml": 'allowed_recipients = ["nobody-else"]\n'})
    refused = alice.call("ask", to=bob.name, question="may i?", idempotency_key=KEY)["error"]
    assert refused["data"]["code"] == "refused"
    assert bob.name in refused["message"]
    assert refused["data"]["hint"] == "the manager can propose a change of your config"
    assert bob.call("ask", to=alice.name, question="?", idempotency_key=KEY)["error"]["data"]["code"] == "refused"
    assert alice.ask("manager", "may i?") > 0
    assert alice.ask("operator", "may i?", key="another-key") > 0
    assert bob.take() == []


def test_a_question_to_an_agent_that_is_destroyed_comes_back(arena: Arena, alice: Speaker, bob: Speaker) -> None:
    number = alice.ask(bob.name)
    with arena.hive.client() as client:
        client.delete(f"/api/agents/{bob.name}").raise_for_status()
    [told] = alice.take()
    body = json.loads(told["body"])
    assert (told["answer_to"], body["event"], body["reason"]) == (
        number,
        "question_ended",
        f"{bob.name} was destroyed",
    )


def test_a_purged_agent_leaves_no_question_whose_answer_the_next_of_its_name_would_get(
    arena: Arena, alice: Speaker
) -> None:
    number = alice.ask("operator")
    hive = arena.hive
    with hive.client() as client:
        client.delete(f"/api/agents/{alice.name}?purge=true").raise_for_status()
        refused = client.post(f"/api/questions/{number}/answer", json={"text": "secret"})
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    arena.spawn(alice.name)
    assert hive.get(f"/api/messages?agent={alice.name}") == []
    assert all(need["agent"] != alice.name for need in hive.get("/api/needs"))


def test_what_became_of_a_message_is_told_to_its_sender_alone(alice: Speaker, bob: Speaker) -> None:
    number = alice.call("send", to=bob.name, body="hi", priority="high", ttl_seconds=60, idempotency_key=KEY)
    message = number["result"]["id"]
    [receipt] = alice.call("message_status", id=message)["result"]["receipts"]
    assert (receipt["to"], receipt["state"], receipt["settled_at"]) == (bob.name, "queued", "")
    bob.take()
    [receipt] = alice.call("message_status", id=message)["result"]["receipts"]
    assert receipt["state"] == "acked"
    assert bob.call("message_status", id=message)["error"]["data"]["code"] == "not_found"
