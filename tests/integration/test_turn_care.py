"""What keeps an agent productive for days, with the real CLI: full contexts, hung claudes, cancels, models, parks."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from harness_rig import Rig, eventually
from hyperhive.wire import agent_link

CLAUDE = "--output-format stream-json"
FULL = "%% usage input=900000\n"
PARK = {"kind": "paused", "since": "2026-11-21T12:00:00+00:00", "until": "", "reason": "paused by the operator"}


def ends(rig: Rig) -> list[tuple[str, str]]:
    return [(end["purpose"], end["outcome"]) for end in rig.events("turn.ended")]


def boundaries(rig: Rig) -> list[dict[str, Any]]:
    return [event for event in rig.events("claude") if event.get("subtype") == "compact_boundary"]


# -- context ---------------------------------------------------------------------------------------------------


async def test_context_and_cost_are_told_after_each_turn(rig: Rig) -> None:
    await rig.start_harness()
    await rig.put("%% usage input=5000 cache_read=20000 output=7\n%% say hello")
    await rig.acked(1)
    told = await eventually(lambda: [call for call in rig.calls("turn.state") if call["context_limit"]])
    assert told[-1]["context_tokens"] == 25_000
    assert told[-1]["context_limit"] == 1_000_000
    assert told[-1]["session_usd"] > 0
    assert told[-1]["warm"] is True
    (ended,) = await rig.turns_ended(1)
    assert (ended["purpose"], ended["context_tokens"], ended["tools"]) == ("messages", 25_000, {})


async def test_over_the_mark_the_agent_writes_its_notes_and_the_conversation_is_compacted(rig: Rig) -> None:
    await rig.start_harness()
    await rig.put(f"{FULL}%% say full")
    await rig.turns_ended(3)
    assert ends(rig) == [("messages", "ok"), ("checkpoint", "ok"), ("compact", "ok")]
    assert len(boundaries(rig)) == 1
    checkpoint = rig.events("turn.started")[1]
    assert "/state/notes.md" in checkpoint["prompt"]
    assert checkpoint["message_ids"] == []
    await rig.in_state("idle")
    states = [(event["state"], event["reason"]) for event in rig.events("state")]
    assert states[1:] == [
        ("thinking", ""), ("idle", ""), ("compacting", "writes its notes first"), ("compacting", ""), ("idle", ""),
    ]  # fmt: skip
    # It goes on in the same conversation, which is small again.
    await rig.put("%% say on")
    await rig.acked(2)
    sessions = {end["session_id"] for end in rig.events("turn.ended")}
    assert len(sessions) == 1
    assert rig.events("turn.ended")[-1]["context_tokens"] < 100_000


async def test_below_the_mark_of_its_config_nothing_is_compacted(rig: Rig) -> None:
    await rig.put_config(compact_at=0.95)
    await rig.start_harness()
    await rig.put(f"{FULL}%% say nearly full")
    await rig.acked(1)
    await rig.put("%% say next")
    await rig.turns_ended(2)
    assert ends(rig) == [("messages", "ok"), ("messages", "ok")]


async def test_a_prompt_that_is_too_long_is_tried_again_with_a_compacted_conversation(rig: Rig) -> None:
    await rig.start_harness()
    await rig.put("%% say one")
    await rig.acked(1)
    # claude compacts by itself once, and gives up when that did not help.
    await rig.put("%% prompt-too-long x2\n%% say two")
    await rig.acked(2)
    await rig.turns_ended(3)
    assert ends(rig) == [("messages", "ok"), ("messages", "compact_retry"), ("messages", "ok")]
    assert rig.message(2)["deliveries"] == 1
    assert len({end["session_id"] for end in rig.events("turn.ended")}) == 1


async def test_where_claude_does_not_compact_by_itself_the_harness_does(rig: Rig) -> None:
    await rig.start_harness()
    # Twice in each conversation. Of a single exchange nothing can be compacted; when it comes again claude by itself
    # finds too little to compact, and compacts when told to.
    await rig.put("%% prompt-too-long x2\n%% say at last")
    await rig.acked(1)
    await rig.turns_ended(6)
    assert ends(rig) == [
        ("messages", "compact_retry"), ("compact", "api_error"), ("messages", "compact_retry"),
        ("messages", "compact_retry"), ("compact", "ok"), ("messages", "ok"),
    ]  # fmt: skip
    assert "Not enough messages to compact." in rig.events("turn.ended")[1]["reason"]
    assert rig.message(1)["deliveries"] == 2
    assert len([text for text in rig.notices() if "a new conversation begins" in text]) == 1


async def test_a_conversation_that_cannot_be_compacted_is_begun_anew(rig: Rig) -> None:
    await rig.start_harness()
    await rig.put("%% say one")
    await rig.acked(1)
    await rig.put("%% prompt-too-long always in-conversation\n%% say at last")
    await rig.acked(2)
    await rig.turns_ended(4)
    assert ends(rig) == [
        ("messages", "ok"), ("messages", "compact_retry"), ("messages", "compact_retry"), ("messages", "ok"),
    ]  # fmt: skip
    assert rig.message(2)["deliveries"] == 1
    assert len([text for text in rig.notices() if "a new conversation begins" in text]) == 1
    # What cannot be compacted is no failure of the service, and nobody has to act.
    assert rig.parks() == []


async def test_a_message_that_is_too_long_for_any_conversation_fails_and_counts(rig: Rig) -> None:
    await rig.start_harness()
    await rig.put("%% prompt-too-long always first-delivery\n%% say shorter")
    await rig.acked(1)
    assert rig.message(1)["failures"] == 1
    await eventually(lambda: ends(rig)[-1] == ("messages", "ok"))


async def test_the_operator_can_have_it_compacted(rig: Rig) -> None:
    await rig.start_harness()
    await rig.in_state("idle")
    assert await rig.ask(agent_link.COMPACT) == {"answer": {"accepted": False}}
    await rig.put("%% say one")
    await rig.acked(1)
    await rig.in_state("idle")
    assert await rig.ask(agent_link.COMPACT) == {"answer": {"accepted": True}}
    await rig.turns_ended(3)
    assert ends(rig) == [("messages", "ok"), ("checkpoint", "ok"), ("compact", "ok")]
    # A message that comes meanwhile gets its turn after it.
    await rig.put("%% say two")
    await rig.acked(2)


async def test_messages_that_a_checkpoint_fetches_are_settled_with_it(rig: Rig) -> None:
    await rig.start_harness()
    await rig.put(f"%% sleep 1\n{FULL}%% say full")
    await rig.turns_ended(3)
    await rig.put("%% say after")
    await rig.acked(2)
    assert rig.message(2)["deliveries"] == 1


async def test_a_cancel_ends_a_compaction_too(rig: Rig) -> None:
    await rig.start_harness()
    await rig.put(f"{FULL}%% say full")
    await eventually(lambda: "compacting" in rig.states())
    await rig.tell_peer({"cancel": True})
    await rig.in_state("idle")
    await rig.put("%% say alive")
    await rig.acked(2)


# -- hung, cancelled --------------------------------------------------------------------------------------------


async def test_a_cancel_says_so_in_the_transcript_within_a_second(rig: Rig) -> None:
    await rig.start_harness()
    await rig.put("%% hang")
    await eventually(lambda: rig.events("claude"))
    began_s = time.monotonic()
    await rig.tell_peer({"cancel": True})
    (ended,) = await rig.turns_ended(1)
    assert time.monotonic() - began_s < 1.0
    assert (ended["outcome"], ended["reason"]) == ("cancelled", "cancelled by the operator")
    assert "the operator cancels the turn" in rig.notices()


async def test_a_claude_that_says_nothing_is_interrupted_and_the_message_comes_again(rig: Rig) -> None:
    await rig.start_harness(HIVE_SILENCE_S="2")
    await rig.put("%% hang always first-delivery\n%% say awake")
    await rig.acked(1)
    first, second = await rig.turns_ended(2)
    assert (first["outcome"], second["outcome"]) == ("timeout", "ok")
    assert rig.message(1)["failures"] == 1
    assert [text for text in rig.notices() if "has said nothing for 2 s" in text]
    # It took the interrupt: so it was not ended.
    assert not [text for text in rig.notices() if "it is ended" in text]


async def test_a_claude_that_does_not_even_take_the_interrupt_is_ended(rig: Rig) -> None:
    await rig.start_harness(HIVE_SILENCE_S="2")
    await rig.put("%% hang always first-delivery\n%% say awake")
    (claude,) = await eventually(lambda: rig.processes(CLAUDE))
    await eventually(lambda: rig.events("claude"))
    os.kill(claude, signal.SIGSTOP)
    await rig.acked(1)
    await rig.turns_ended(2)
    assert [end["outcome"] for end in rig.events("turn.ended")] == ["timeout", "ok"]
    assert "claude does not stop: it is ended" in rig.notices()
    assert claude not in rig.processes(CLAUDE)


async def test_waiting_for_the_operators_permission_is_not_hanging(rig: Rig) -> None:
    await rig.put_config(bash_ask=["date"])
    await rig.start_harness(HIVE_SILENCE_S="4")
    await rig.put('%% tool Bash {"command": "date"}\n%% say done')
    await eventually(lambda: rig.calls("ask_permission"))
    await asyncio.sleep(5)  # longer than it may be silent
    await rig.decide("allow_once")
    await rig.turns_ended(1)
    assert ends(rig) == [("messages", "ok")]


# -- model, parks -----------------------------------------------------------------------------------------------


async def test_a_chosen_model_counts_from_the_next_turn_on_and_over_restarts(rig: Rig) -> None:
    await rig.start_harness()
    await rig.put("%% say one")
    await rig.acked(1)
    assert await rig.ask(agent_link.SET_MODEL, model="claude-sonnet-4-6") == {"answer": {}}
    await rig.put("%% say two")
    await rig.acked(2)
    assert rig.calls("turn.state")[-1]["chosen_model"] == "claude-sonnet-4-6"
    await rig.stop_harness()
    await rig.start_harness(generation=2)
    await rig.put("%% say three")
    await rig.acked(3)
    await rig.ask(agent_link.SET_MODEL, model="")
    await rig.put("%% say four")
    await rig.acked(4)
    models = [event["model"] for event in rig.events("claude") if event.get("subtype") == "init"]
    assert models == [models[0], "claude-sonnet-4-6", "claude-sonnet-4-6", models[0]]
    assert models[0] != "claude-sonnet-4-6"


async def test_what_is_no_model_is_refused_and_nothing_changes(rig: Rig) -> None:
    await rig.start_harness()
    await rig.in_state("idle")
    assert "refused" in await rig.ask(agent_link.SET_MODEL, model="--dangerous\n")
    assert not (rig.state / "hyperhive-model").exists()


async def test_a_link_in_the_models_place_is_replaced_and_not_written_through(rig: Rig, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    for name in ("hyperhive-model", "hyperhive-model.new"):
        (rig.state / name).symlink_to(victim)
    await rig.start_harness()
    await rig.in_state("idle")
    await rig.ask(agent_link.SET_MODEL, model="opus")
    assert (rig.state / "hyperhive-model").read_text() == "opus\n"
    assert victim.read_text() == "untouched"


async def test_a_park_is_shown_between_turns_and_interrupts_none(rig: Rig) -> None:
    await rig.start_harness()
    await rig.put("%% sleep 1\n%% say done")
    await rig.in_state("thinking")
    await rig.set_park(PARK)
    await rig.acked(1)
    await rig.in_state("parked")
    assert rig.calls("turn.state")[-1]["reason"] == "paused by the operator"
    await rig.put("%% say later")
    await rig.set_park(PARK | {"kind": "login", "reason": "its login is dead"})
    await rig.in_state("needs_login")
    assert rig.message(2)["state"] == "queued"
    await rig.set_park(None)
    await rig.acked(2)


async def test_a_harness_that_starts_parked_says_so(rig: Rig) -> None:
    await rig.tell_peer({"park": PARK})
    await rig.start_harness()
    await rig.in_state("parked")
    assert "refused" in await rig.ask(agent_link.COMPACT)


async def test_a_park_that_is_none_is_refused(rig: Rig) -> None:
    await rig.start_harness()
    await rig.in_state("idle")
    assert "refused" in await rig.ask(agent_link.SET_PARK, park={"kind": 5})
    await rig.put("%% say fine")
    await rig.acked(1)


# -- notes ------------------------------------------------------------------------------------------------------

LONG_NOTES = "# open\n" + "".join(f"- [ ] task {number} of many\n" for number in range(200))


async def test_notes_over_their_limit_are_rewritten_after_the_turn(rig: Rig) -> None:
    (rig.state / "notes.md").write_text(LONG_NOTES)
    await rig.put_config(notes_limit=1000)
    await rig.start_harness()
    await rig.put("%% say done")
    await rig.acked(1)
    (proposed,) = await eventually(lambda: rig.calls("notes.compacted"))
    assert proposed["before"] == LONG_NOTES
    await eventually(lambda: (rig.state / "notes.md").read_text() == proposed["after"])
    await rig.in_state("idle")
    told = [(event["state"], event["reason"]) for event in rig.events("state")]
    assert ("compacting", "rewrites its notes") in told
    # The conversation itself knows nothing of it.
    assert {end["session_id"] for end in rig.events("turn.ended")} == {rig.events("turn.ended")[0]["session_id"]}
    await rig.put("%% say on")
    await rig.turns_ended(2)
    sessions = {end["session_id"] for end in rig.events("turn.ended")}
    assert len(sessions) == 1


async def test_a_cancel_ends_the_rewriting_of_notes_and_leaves_them(rig: Rig) -> None:
    (rig.state / "notes.md").write_text("%% hang always\n" + LONG_NOTES)
    await rig.put_config(notes_limit=1000)
    await rig.start_harness()
    await rig.put("%% say done")
    await rig.acked(1)
    await rig.in_state("compacting")
    assert await rig.tell_peer({"cancel": True}) == {"cancelled": True}
    await rig.in_state("idle")
    assert (rig.state / "notes.md").read_text() == "%% hang always\n" + LONG_NOTES
    assert "the operator cancels: the notes stay" in rig.notices()
    await rig.put("%% say alive")
    await rig.acked(2)
