"""Budgets on a real hive: a program talks to model.sock in the harness's place, many requests at once, and hangs up.

The manager's container is stopped, so that nobody else asks for anything.
"""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from attack_rig import Arena, open_arena
from hive_process import HiveProcess, wait_for

AT_ONCE = 5
MAX_TOKENS = 500
BUDGET = 20_000
# What one of these requests reports: less than its body and its max_tokens together, as with the real service.
ANSWER = "%% usage input=300 output=500 cache_creation=100 cache_read=90000\n%% say hello"
COST = 900
MODEL = "claude-sonnet-4-5"


def body(text: str, **fields: Any) -> dict[str, Any]:
    padded = text + "\n" + "x" * COST
    asked = {"model": MODEL, "max_tokens": MAX_TOKENS, "messages": [{"role": "user", "content": padded}]}
    return asked | fields


def model_client(hive: HiveProcess, agent: str) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(uds=str(hive.run / "agents" / agent / "model.sock"))
    return httpx.AsyncClient(transport=transport, base_url="http://model.hive", timeout=60)


def budget_of(hive: HiveProcess, name: str) -> dict[str, Any]:
    return next(row for row in hive.get("/api/budget") if row["agent"] == name)


def recorded(hive: HiveProcess) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(hive.data / "telemetry.sqlite")) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("select * from model_requests order by id")]


def spawn_with_budget(arena: Arena, toml: str = f"budget.tokens_per_day = {BUDGET}") -> str:
    name = arena.spawn()
    arena.deploy(name, {"agent.toml": toml})
    return name


async def ask(client: httpx.AsyncClient, text: str = ANSWER, **fields: Any) -> httpx.Response:
    return await client.post("/v1/messages", json=body(text, **fields))


async def ask_until_refused(client: httpx.AsyncClient, **fields: Any) -> int:
    """One after the other, until the answer is 402; how many were answered."""
    answered = 0
    while (response := await ask(client, **fields)).status_code == 200:
        answered += 1
    assert response.status_code == 402, response.text
    assert response.json()["error"]["type"] == "billing_error"
    assert response.headers["x-should-retry"] == "false"
    return answered


async def hang_up_until_refused(client: httpx.AsyncClient) -> int:
    """As soon as the answer has begun it is not wanted any more."""
    begun = 0
    while True:
        asked = client.build_request("POST", "/v1/messages", json=body("%% say " + "word " * 400, stream=True))
        response = await client.send(asked, stream=True)
        if response.status_code != 200:
            assert response.status_code == 402
            return begun
        async for _ in response.aiter_bytes():
            break
        await response.aclose()
        begun += 1


def run_at_once(
    hive: HiveProcess, agents: list[str], work: Callable[[httpx.AsyncClient], Coroutine[Any, Any, int]]
) -> int:
    """`work` AT_ONCE times for each agent, side by side. The sum of what they return."""

    async def run() -> int:
        clients = [model_client(hive, agent) for agent in agents for _ in range(AT_ONCE)]
        try:
            return sum(await asyncio.gather(*(work(client) for client in clients)))
        finally:
            for client in clients:
                await client.aclose()

    return asyncio.run(run())


def wait_quiet(hive: HiveProcess, agent: str) -> dict[str, Any]:
    """The budget of an agent once everything that it asked for has ended: it is parked, and what ends is charged."""

    def is_quiet() -> dict[str, Any] | None:
        row = budget_of(hive, agent)
        rows = [request for request in recorded(hive) if request["agent"] == agent]
        return row if sum(request["charged_tokens"] for request in rows) == row["day_tokens"] else None

    return wait_for(is_quiet, "the ledger and the record to agree", hive=hive)


def test_five_at_once_pass_a_budget_by_one_request_at_most(arena: Arena) -> None:
    name = spawn_with_budget(arena)
    answered = run_at_once(arena.hive, [name], ask_until_refused)
    row = wait_quiet(arena.hive, name)
    assert row["day_tokens"] == answered * COST
    assert BUDGET <= row["day_tokens"] < BUDGET + COST
    park = wait_for(lambda: arena.hive.agent(name)["park"], "the park", hive=arena.hive)
    assert (park["kind"], park["hive"]) == ("budget", False)
    assert park["reason"] == f"{row['day_tokens']:,} of {BUDGET:,} tokens of the last 24 hours"
    assert park["until"]


def test_after_a_grant_it_goes_on_to_the_new_end(arena: Arena) -> None:
    name, hive = spawn_with_budget(arena), arena.hive
    run_at_once(hive, [name], ask_until_refused)
    wait_for(lambda: hive.agent(name)["park"], "the park", hive=hive)
    # Nothing named: half of the budget.
    granted = hive.post(f"/api/agents/{name}/grant")
    assert (granted["tokens_per_day"], granted["granted_tokens"]) == (BUDGET, BUDGET // 2)
    assert hive.agent(name)["park"] is None
    assert hive.agent(name)["budget_tokens"] == BUDGET * 3 // 2
    run_at_once(hive, [name], ask_until_refused)
    assert BUDGET * 3 // 2 <= wait_quiet(hive, name)["day_tokens"] < BUDGET * 3 // 2 + COST


def test_hanging_up_early_does_not_evade_a_budget(arena: Arena) -> None:
    name, hive = spawn_with_budget(arena), arena.hive
    begun = run_at_once(hive, [name], hang_up_until_refused)
    row = wait_quiet(hive, name)
    most = len(json.dumps(body("%% say " + "word " * 400, stream=True))) + MAX_TOKENS
    assert BUDGET <= row["day_tokens"] < BUDGET + most
    # Each was charged for what went in, at least.
    assert begun <= BUDGET / (len(json.dumps(body(""))) / 4) + AT_ONCE


def test_far_from_the_edge_five_are_on_their_way_at_once(arena: Arena) -> None:
    name = spawn_with_budget(arena)

    async def run() -> list[int]:
        async with model_client(arena.hive, name) as client, asyncio.timeout(30):
            hanging = body("%% hang always", stream=True)
            asked = [client.build_request("POST", "/v1/messages", json=hanging) for _ in range(AT_ONCE)]
            # None of these is ever answered to its end: all have begun side by side.
            responses = await asyncio.gather(*(client.send(request, stream=True) for request in asked))
            for response in responses:
                await response.aclose()
            return [response.status_code for response in responses]

    assert asyncio.run(run()) == [200] * AT_ONCE


def test_who_waits_for_its_turn_can_leave_and_what_counting_costs_is_nothing(arena: Arena) -> None:
    name = spawn_with_budget(arena)

    async def run() -> None:
        async with model_client(arena.hive, name) as client, asyncio.timeout(30):
            huge = body("%% hang always", stream=True, max_tokens=10**6)
            holding = await client.send(client.build_request("POST", "/v1/messages", json=huge), stream=True)
            with pytest.raises(httpx.ReadTimeout):
                await client.post("/v1/messages", json=huge, timeout=0.5)
            counted = await client.post("/v1/messages/count_tokens", json=body("how long?"))
            assert counted.status_code == 200
            waiting = asyncio.create_task(ask(client))
            await holding.aclose()
            assert (await waiting).status_code in {200, 402}

    asyncio.run(run())


def test_a_budget_of_nothing_refuses_everything_and_a_raised_one_lets_go_on(arena: Arena) -> None:
    name, hive = spawn_with_budget(arena, "budget.usd_per_day = 0"), arena.hive
    assert run_at_once(hive, [name], ask_until_refused) == 0
    assert wait_for(lambda: hive.agent(name)["park"], "the park", hive=hive)["until"] is None
    arena.deploy(name, {"agent.toml": "budget.usd_per_day = 5\n"})
    wait_for(lambda: hive.agent(name)["park"] is None, "the end of the park", hive=hive)

    async def once() -> int:
        async with model_client(hive, name) as client:
            return (await ask(client)).status_code

    assert asyncio.run(once()) == 200
    row = wait_quiet(hive, name)
    # 300 at 3, 500 at 15, 100 at 3.75 and 90,000 at 0.3 dollars a million.
    assert row["day_usd"] == pytest.approx(0.035775)
    assert not row["day_unpriced"]


def test_an_unknown_models_tokens_count_and_its_money_is_unknown(arena: Arena) -> None:
    name, hive = spawn_with_budget(arena, f"budget = {{tokens_per_day = {BUDGET}, usd_per_day = 0.01}}"), arena.hive
    run_at_once(hive, [name], lambda client: ask_until_refused(client, model="mystery-1"))
    row = wait_quiet(hive, name)
    assert row["day_unpriced"]
    assert row["day_usd"] == 0
    assert BUDGET <= row["day_tokens"] < BUDGET + COST
    assert hive.agent(name)["day_unpriced"]
    assert {request["micro_usd"] for request in recorded(hive) if request["agent"] == name} == {None}


def test_the_hives_budget_holds_for_all_agents_together_and_parks_them_all(arena: Arena) -> None:
    hive = arena.hive
    names = [arena.spawn(), arena.spawn()]
    before = budget_of(hive, "*")["day_tokens"]
    total = before + BUDGET
    with hive.client() as client:
        client.put("/api/budget", json={"tokens_per_day": total}).raise_for_status()
    try:
        answered = run_at_once(hive, names, ask_until_refused)
        assert answered * COST + before == budget_of(hive, "*")["day_tokens"]
        assert total <= budget_of(hive, "*")["day_tokens"] < total + COST
        for name in names:
            park = wait_for(lambda name=name: hive.agent(name)["park"], "the park", hive=hive)
            assert (park["kind"], park["hive"]) == ("budget", True)
    finally:
        with hive.client() as client:
            row = client.put("/api/budget", json={"tokens_per_day": None}).raise_for_status().json()
    assert (row["tokens_per_day"], row["usd_per_day"]) == (None, None)
    assert [hive.agent(name)["park"] for name in names] == [None, None]


def test_the_manager_is_warned_once_and_told_of_the_end(arena: Arena) -> None:
    name, hive = spawn_with_budget(arena), arena.hive
    run_at_once(hive, [name], ask_until_refused)
    wait_quiet(hive, name)

    def facts() -> list[str]:
        messages = [
            json.loads(row["body"]) for row in hive.get("/api/messages?agent=manager") if row["sender"] == "system"
        ]
        return [fact["event"] for fact in messages if fact.get("agent") == name and "budget" in fact["event"]]

    wait_for(lambda: "budget_exhausted" in facts(), "the manager to be told", hive=hive)
    assert facts().count("budget_warned") <= 1
    assert facts().count("budget_exhausted") == 1


def test_an_agent_without_a_budget_can_be_granted_nothing(arena: Arena) -> None:
    name = arena.spawn()
    with arena.hive.client() as client:
        for path, request in [
            (f"/api/agents/{name}/grant", {}),
            (f"/api/agents/{name}/grant", {"tokens": 5}),
            (f"/api/agents/{name}/grant", {"usd": 5}),
            ("/api/budget/grant", {}),
        ]:
            refused = client.post(path, json=request)
            assert (refused.status_code, bool(refused.json()["hint"])) == (409, True)
        assert client.post("/api/agents/nobody/grant", json={}).status_code == 404
        assert client.post(f"/api/agents/{name}/grant", json={"tokens": 0}).status_code == 400
        assert client.put("/api/budget", json={"tokens_per_day": -1}).status_code == 400


def test_prices_are_read_again_when_they_change_and_a_broken_file_keeps_the_last_good_one(arena: Arena) -> None:
    name, hive = spawn_with_budget(arena, "budget.usd_per_day = 100"), arena.hive
    file: Path = hive.data / "prices.toml"
    row = "[mystery]\ninput = 1000\noutput = 0\ncache_write = 0\ncache_read = 0\n"

    def spend() -> float:
        async def once() -> None:
            async with model_client(hive, name) as client:
                assert (await ask(client, model="mystery-1")).status_code == 200

        asyncio.run(once())
        return wait_quiet(hive, name)["day_usd"]

    try:
        file.write_text(row)
        assert budget_of(hive, "*")["problem"] == ""
        assert spend() == pytest.approx(0.3)
        file.write_text(row + "[other]\ninputs = 1\n")
        assert "line 7: 'inputs' of 'other'" in budget_of(hive, "*")["problem"]
        assert spend() == pytest.approx(0.6)
        file.unlink()
        file.mkdir()
        assert "not a plain file" in budget_of(hive, "*")["problem"]
        assert spend() == pytest.approx(0.9)
    finally:
        file.rmdir() if file.is_dir() else file.unlink()
    assert budget_of(hive, "*")["problem"] == ""
    assert spend() == pytest.approx(0.9)


def test_what_was_spent_and_granted_is_there_again_after_a_crash() -> None:
    with open_arena() as arena:
        name, hive = spawn_with_budget(arena), arena.hive
        run_at_once(hive, [name], ask_until_refused)
        hive.post(f"/api/agents/{name}/grant", {"tokens": COST})
        run_at_once(hive, [name], ask_until_refused)
        before = wait_quiet(hive, name)
        arena.manager.close()
        hive.kill()
        hive.start()
        hive.wait_state(name, "idle", "parked")
        assert budget_of(hive, name) == before
        assert hive.agent(name)["budget_tokens"] == BUDGET + COST
        assert hive.agent(name)["park"]["kind"] == "budget"
        assert run_at_once(hive, [name], ask_until_refused) == 0
