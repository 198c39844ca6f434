"""The real harness and the real claude CLI, between a stand-in daemon and a stand-in model service."""

import asyncio
import json
import os
import signal
import time

import pytest

from harness_rig import Rig, eventually

CLAUDE = "--output-format stream-json"
ENGINE = "hyperhive.harness.engine"


async def test_a_message_leads_to_a_turn_that_sends_an_answer_and_is_acked_after_it(rig: Rig) -> None:
    await rig.start_harness()
    number = await rig.put('%% tool send {"to": "operator", "body": "hi there", "in_reply_to": 1}')
    await rig.acked(number)
    log = [entry["method"] for entry in rig.observe()["log"]]
    assert log.index("send") < log.index("ack")
    (sent,) = rig.observe()["sent"].values()
    assert (sent["to"], sent["body"], sent["in_reply_to"]) == ("operator", "hi there", 1)
    assert len(sent["idempotency_key"]) >= 8


async def test_the_transcript_tells_the_turn_from_prompt_to_outcome(rig: Rig) -> None:
    await rig.start_harness()
    await rig.put("%% say all is well")
    (ended,) = await rig.turns_ended(1)
    (started,) = rig.events("turn.started")
    assert started["message_ids"] == [1]
    assert started["prompt"].startswith('<message id="1" from="operator" kind="operator">')
    assert ended["outcome"] == "ok"
    assert ended["duration_ms"] > 0
    assert ended["session_id"]
    assert ended["usage"]["output_tokens"] > 0
    kinds = {event["type"] for event in rig.events("claude")}
    assert kinds == {"system", "assistant", "result"}
    assert "all is well" in json.dumps(rig.events("claude"))
    await rig.in_state("idle")
    assert rig.states()[-2:] == ["thinking", "idle"]
    assert rig.calls("turn.state")[-1]["model"].startswith("claude-")


async def test_claude_is_offered_the_hives_tools_and_none_that_reach_around_it(rig: Rig) -> None:
    await rig.start_harness()
    await rig.put("%% say hello")
    await rig.turns_ended(1)
    (init,) = [event for event in rig.events("claude") if event.get("subtype") == "init"]
    tools = set(init["tools"])
    assert {"mcp__hyperhive__send", "mcp__hyperhive__recv", "mcp__hyperhive__ask_operator", "Bash"} <= tools
    assert not tools & {"SendMessage", "ListAgents", "CronCreate", "ScheduleWakeup", "ToolSearch", "AskUserQuestion"}
    assert "mcp__hyperhive__kill" not in tools
    assert init["mcp_servers"] == [{"name": "hyperhive", "status": "connected", "source": "sdk"}]
    assert rig.model is not None
    assert b'You are the agent \\"alice\\" in this hive.' in rig.model.said


async def test_the_second_turn_finds_claude_warm_and_sees_the_first(rig: Rig) -> None:
    await rig.start_harness()
    await rig.acked(await rig.put("%% say one"))
    engines, claudes = rig.processes(ENGINE), rig.processes(CLAUDE)
    assert (len(engines), len(claudes)) == (1, 1)
    await rig.acked(await rig.put("%% say two"))
    assert (rig.processes(ENGINE), rig.processes(CLAUDE)) == (engines, claudes)
    first, second = await rig.turns_ended(2)
    assert first["session_id"] == second["session_id"]


async def test_after_warm_s_claude_ends_and_the_next_turn_resumes_the_conversation(rig: Rig) -> None:
    await rig.start_harness(HIVE_WARM_S="0.3")
    await rig.acked(await rig.put("%% say the word is heron"))
    await eventually(lambda: not rig.processes(ENGINE) and not rig.processes(CLAUDE))
    assert rig.model is not None
    rig.model.said.clear()
    await rig.acked(await rig.put("%% say two"))
    assert b"the word is heron" in rig.model.said
    first, second = await rig.turns_ended(2)
    assert first["session_id"] == second["session_id"]


async def test_the_conversation_goes_on_after_a_restart_of_the_harness_and_events_have_no_gap(rig: Rig) -> None:
    await rig.start_harness()
    await rig.acked(await rig.put("%% say the word is heron"))
    assert await rig.stop_harness() == 0
    assert rig.model is not None
    rig.model.said.clear()
    await rig.start_harness(generation=2)
    await rig.acked(await rig.put("%% say two"))
    await rig.turns_ended(2)
    assert b"the word is heron" in rig.model.said
    numbers = [event["seq"] for event in rig.observe()["events"]]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_session_that_cannot_be_resumed_gets_one_fresh_start_and_a_notice(rig: Rig) -> None:
    await rig.start_harness(HIVE_WARM_S="0.1")
    await rig.acked(await rig.put("%% say one"))
    await eventually(lambda: not rig.processes(CLAUDE))
    for session in (rig.home / ".claude" / "projects").rglob("*.jsonl"):
        session.unlink()
    await rig.acked(await rig.put("%% say two"))
    first, second = await rig.turns_ended(2)
    assert second["outcome"] == "ok"
    assert first["session_id"] != second["session_id"]
    assert any(first["session_id"] in notice["text"] for notice in rig.events("notice"))


async def test_a_cancel_ends_the_turn_within_a_second_and_leaves_claude_alive(rig: Rig) -> None:
    await rig.start_harness()
    await rig.acked(await rig.put("%% say one"))
    claudes = rig.processes(CLAUDE)
    number = await rig.put('%% tool Bash {"command": "until [ -e never ]; do sleep 0.06; done", "description": "wait"}')
    await eventually(lambda: "until [" in json.dumps(rig.events("claude")))
    began_s = time.monotonic()
    assert await rig.tell_peer({"cancel": True}) == {"cancelled": True}
    _, ended = await rig.turns_ended(2)
    assert time.monotonic() - began_s < 1.0
    assert ended["outcome"] == "cancelled"
    await rig.acked(number)
    assert rig.processes(CLAUDE) == claudes
    assert await rig.tell_peer({"cancel": True}) == {"cancelled": False}
    await rig.acked(await rig.put("%% say three"))


async def test_a_cancel_before_claude_has_even_started_holds(rig: Rig) -> None:
    await rig.start_harness()
    number = await rig.put("%% hang")
    await eventually(lambda: rig.events("turn.started"))
    assert await rig.tell_peer({"cancel": True}) == {"cancelled": True}
    (ended,) = await rig.turns_ended(1)
    assert ended["outcome"] == "cancelled"
    await rig.acked(number)


async def test_messages_fetched_by_recv_are_settled_with_the_turn(rig: Rig) -> None:
    await rig.start_harness()
    first = await rig.put(
        '%% tool Bash {"command": "until [ -e go ]; do sleep 0.05; done", "description": "wait"}\n'
        "%% tool recv {}\n%% tool recv {}"
    )
    await eventually(lambda: rig.events("turn.started"))
    second = await rig.put("mid-turn news", sender="bob")
    (rig.state / "go").touch()
    await rig.acked(second)
    await rig.acked(first)
    transcript = json.dumps(rig.events("claude"))
    assert '<message id=\\"2\\" from=\\"bob\\" kind=\\"peer\\">\\nmid-turn news' in transcript
    assert "no messages" in transcript
    assert len(await rig.turns_ended(1)) == 1


async def test_a_message_that_reaches_an_abandoned_recv_goes_back_and_gets_a_turn(rig: Rig) -> None:
    await rig.start_harness()
    await rig.put('%% tool recv {"wait_seconds": 100}')
    await eventually(lambda: [call for call in rig.calls("recv") if call["wait_s"] == 100])
    await rig.tell_peer({"cancel": True})
    await rig.turns_ended(1)
    number = await rig.put("%% say two")
    await rig.acked(number)
    prompts = [started["prompt"] for started in rig.events("turn.started")]
    assert any(f'<message id="{number}"' in prompt for prompt in prompts)


async def test_the_daemon_is_killed_mid_turn_and_nothing_is_interrupted_lost_or_repeated(rig: Rig) -> None:
    await rig.start_harness()
    number = await rig.put(
        '%% tool Bash {"command": "until [ -e go ]; do sleep 0.05; done; echo went", "description": "wait"}\n'
        '%% tool send {"to": "operator", "body": "survived"}'
    )
    await eventually(lambda: "until [" in json.dumps(rig.events("claude")))
    await rig.kill_peer()
    (rig.state / "go").touch()
    store = rig.state / "hyperhive-events.sqlite-wal"
    size = store.stat().st_size
    await eventually(lambda: store.stat().st_size > size)
    await rig.start_peer()
    await rig.acked(number)
    (ended,) = await rig.turns_ended(1)
    assert ended["outcome"] == "ok"
    hello = rig.calls("hello")
    assert (hello[0]["holding"], hello[1]["holding"]) == ([], [number])
    assert [sent["body"] for sent in rig.observe()["sent"].values()] == ["survived"]
    assert rig.message(number)["deliveries"] == 1
    numbers = [event["seq"] for event in rig.observe()["events"]]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_an_api_error_requeues_the_message_and_the_next_try_waits(rig: Rig) -> None:
    await rig.start_harness()
    number = await rig.put("%% error 500 x1\n%% say at last")
    await eventually(lambda: "parked" in rig.states())
    parked_at_s = time.monotonic()
    (parked,) = [call for call in rig.calls("turn.state") if call["state"] == "parked"]
    assert "api_error" in parked["reason"]
    await rig.acked(number)
    assert time.monotonic() - parked_at_s > 1.0
    first, second = await rig.turns_ended(2)
    assert (first["outcome"], second["outcome"]) == ("api_error", "ok")
    # A service that fails says nothing about the message.
    assert rig.message(number)["failures"] == 0
    assert rig.message(number)["deliveries"] == 2
    assert 'redelivered="true"' in rig.events("turn.started")[1]["prompt"]


async def test_a_refused_login_is_told_and_costs_the_message_no_attempt(rig: Rig) -> None:
    await rig.start_harness()
    number = await rig.put("%% error 401 always")
    await rig.in_state("needs_login")
    await eventually(lambda: rig.message(number)["state"] == "queued")
    assert rig.message(number)["failures"] == 0
    assert (await rig.turns_ended(1))[0]["outcome"] == "login"


async def test_a_usage_limit_parks_and_costs_the_message_no_attempt(rig: Rig) -> None:
    await rig.start_harness()
    number = await rig.put("%% error 429 always")
    await rig.in_state("parked")
    await eventually(lambda: rig.message(number)["state"] == "queued")
    assert rig.message(number)["failures"] == 0


@pytest.mark.parametrize("line", [b"not json\n", b"[1,2]\n", b"\xff\xfe\n", b"{" * 99 + b"\n", b"x" * (1 << 21)])
async def test_garbage_and_oversized_lines_from_the_daemon_make_it_reconnect(rig: Rig, line: bytes) -> None:
    await rig.start_harness()
    await eventually(lambda: rig.calls("recv"))
    await rig.write_raw(line)
    await eventually(lambda: len(rig.calls("hello")) == 2)
    await eventually(lambda: len(rig.calls("recv")) == 2)
    assert rig.harness is not None
    assert rig.harness.returncode is None


async def test_an_unknown_method_of_the_daemon_is_refused_and_nothing_else_happens(rig: Rig) -> None:
    await rig.start_harness()
    await eventually(lambda: rig.calls("recv"))
    await rig.write_raw(b'{"jsonrpc":"2.0","method":"nonsense","params":{}}\n')
    await rig.acked(await rig.put("%% say hello"))
    assert len(rig.calls("hello")) == 1


async def test_an_older_generation_ends_by_itself_with_status_0(rig: Rig) -> None:
    await rig.kill_peer()
    await rig.start_peer("--conflict")
    await rig.start_harness()
    assert rig.harness is not None
    assert await asyncio.wait_for(rig.harness.wait(), 10) == 0


async def test_sigterm_in_a_turn_leaves_no_claude_and_gives_the_message_back(rig: Rig) -> None:
    await rig.start_harness()
    number = await rig.put('%% tool Bash {"command": "until [ -e never ]; do sleep 0.07; done", "description": "wait"}')
    await eventually(lambda: rig.processes("until [ -e never ]"))
    assert await rig.stop_harness() == 0
    assert rig.processes("") == []
    assert rig.message(number)["state"] == "queued"
    assert rig.message(number)["failures"] == 0
    (ended,) = await rig.turns_ended(1)
    assert ended["outcome"] == "crash"


async def test_a_killed_harness_takes_claude_along_and_its_successor_closes_the_turn(rig: Rig) -> None:
    await rig.start_harness()
    number = await rig.put("%% hang first-delivery\n%% say two")
    await eventually(lambda: rig.processes(CLAUDE))
    assert rig.harness is not None
    rig.harness.kill()
    await rig.harness.wait()
    await eventually(lambda: not rig.processes(""))
    await rig.start_harness(generation=2)
    await rig.acked(number)
    crashed, ended = await rig.turns_ended(2)
    assert (crashed["outcome"], ended["outcome"]) == ("crash", "ok")


async def test_a_killed_claude_fails_the_turn_and_the_next_one_resumes(rig: Rig) -> None:
    await rig.start_harness()
    number = await rig.put("%% hang first-delivery\n%% say two")
    (claude,) = await eventually(lambda: rig.processes(CLAUDE))
    await eventually(lambda: rig.events("claude"))
    os.kill(claude, signal.SIGKILL)
    await rig.acked(number)
    first, second = await rig.turns_ended(2)
    assert (first["outcome"], second["outcome"]) == ("crash", "ok")
    assert len(rig.processes(ENGINE)) == 1


async def test_a_stopped_engine_is_killed_when_a_cancel_does_not_reach_it(rig: Rig) -> None:
    await rig.start_harness()
    number = await rig.put("%% hang")
    (engine,) = await eventually(lambda: rig.processes(ENGINE))
    await eventually(lambda: rig.events("claude"))
    os.kill(engine, signal.SIGSTOP)
    await rig.tell_peer({"cancel": True})
    (ended,) = await rig.turns_ended(1)
    assert ended["outcome"] == "cancelled"
    await rig.acked(number)
    assert not rig.processes(ENGINE)
    assert not rig.processes(CLAUDE)


async def test_a_claude_that_cannot_start_is_told_and_tried_again(rig: Rig) -> None:
    await rig.start_harness(HIVE_CLAUDE="/nonexistent/claude")
    number = await rig.put("%% say hello")
    await rig.in_state("parked")
    assert "/nonexistent/claude" in rig.calls("turn.state")[-1]["reason"]
    await eventually(lambda: rig.message(number)["failures"] == 1)


async def test_work_that_ends_in_the_background_is_shown_and_disturbs_no_turn(rig: Rig) -> None:
    await rig.start_harness()
    await rig.acked(
        await rig.put(
            '%% tool Bash {"command": "until [ -e go ]; do sleep 0.05; done", "run_in_background": true, '
            '"description": "wait"}\n%% say it runs'
        )
    )
    await rig.in_state("idle")
    before = len(rig.states())
    (rig.state / "go").touch()
    # On a busy machine claude tells of the end and answers it in two pieces.
    await eventually(lambda: (states := rig.states()[before:])[:1] == ["thinking"] and states[-1] == "idle")
    assert set(rig.states()[before:]) == {"thinking", "idle"}
    await rig.acked(await rig.put("%% say mine"))
    assert len(await rig.turns_ended(2)) == 2


async def test_the_managers_tools_reach_the_daemon_and_refusals_come_back_as_text(rig: Rig) -> None:
    await rig.kill_peer()
    await rig.start_peer("--manager")
    await rig.start_harness()
    await rig.acked(await rig.put('%% tool start {"name": "bob"}'))
    assert rig.calls("start") == [{"name": "bob"}]
    transcript = json.dumps(rig.events("claude"))
    assert "there is no agent 'bob' (list_agents shows who there is)" in transcript


async def test_a_damaged_event_store_is_moved_aside_and_numbering_goes_on_after_the_daemons(rig: Rig) -> None:
    await rig.start_harness()
    await rig.acked(await rig.put("%% say one"))
    await rig.turns_ended(1)
    await rig.stop_harness()
    store = rig.state / "hyperhive-events.sqlite"
    store.write_bytes(b"not a database" * 1000)
    await rig.start_harness(generation=2)
    await rig.acked(await rig.put("%% say two"))
    await rig.turns_ended(2)
    numbers = [event["seq"] for event in rig.observe()["events"]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert any("damaged" in notice["text"] for notice in rig.events("notice"))
    (aside,) = [path for path in rig.state.iterdir() if "damaged" in path.name]
    assert aside.read_bytes().startswith(b"not a database")
