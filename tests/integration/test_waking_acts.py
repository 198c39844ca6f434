"""What an operator does to an agent that hibernates, or whose harness is away: it works, or says why not."""

import pytest

from hyperhive.core.errors import ConflictError, UnavailableError
from hyperhive.core.events import EventName
from hyperhive.core.names import OPERATOR
from hyperhive.core.parking import ParkKind
from hyperhive.host.rehearsal import run_stand_in
from lifecycle_rig import Hive, open_hive

SOON_S = 0.2


def read_model(hive: Hive) -> str:
    return (hive.roots.state_folder("alice") / "hyperhive-model").read_text()


async def test_compacting_wakes_it_does_what_was_asked_and_lets_it_sleep_again_later() -> None:
    async with run_stand_in() as upstream, open_hive(upstream=upstream, hibernate_s=SOON_S, look_every_s=0.05) as hive:
        hive.parts.lifecycle.pace.hold_s = 2
        await hive.agents.spawn("alice")
        await hive.send("hello")
        await hive.wait_row(lambda row: row.last_outcome == "ok", 60)
        await hive.wait_state("hibernated")
        asked_at_turns = (await hive.row()).turns
        assert await hive.parts.turn_acts.compact("alice")
        await hive.wait_row(lambda row: row.turns > asked_at_turns, 60)
        assert len(hive.list_events(EventName.AGENT_WOKEN)) == 1
        await hive.wait_event(EventName.AGENT_HIBERNATED, 2)
        await hive.wait_state("hibernated")
        kinds = [entry.kind for entry in await hive.parts.transcripts.after("alice", 0, 500)]
        assert kinds.count("turn.ended") >= 2


async def test_an_agent_without_a_conversation_says_so_after_it_was_woken() -> None:
    async with open_hive(hibernate_s=SOON_S, look_every_s=0.05) as hive:
        await hive.agents.spawn("alice")
        await hive.wait_state("hibernated")
        assert not await hive.parts.turn_acts.compact("alice")
        # It is held awake: the operator may go on.
        assert (await hive.row()).state == "idle"


async def test_one_that_is_parked_is_not_woken_to_compact_nothing() -> None:
    async with open_hive(hibernate_s=SOON_S, look_every_s=0.05) as hive:
        await hive.agents.spawn("alice")
        await hive.wait_state("hibernated")
        await hive.parts.parking.park("alice", ParkKind.PAUSED, "a test")
        with pytest.raises(ConflictError, match="parked"):
            await hive.parts.turn_acts.compact("alice")
        assert (await hive.row()).state == "hibernated"


async def test_one_that_is_stopped_is_not_started_to_compact() -> None:
    async with open_hive() as hive:
        await hive.agents.spawn("alice")
        await hive.wait_state("idle")
        await hive.agents.stop("alice", OPERATOR)
        await hive.wait_state("stopped")
        with pytest.raises(UnavailableError):
            await hive.parts.turn_acts.compact("alice")
        assert (await hive.row()).state == "stopped"


async def test_a_model_is_chosen_without_waking_it() -> None:
    async with open_hive(hibernate_s=SOON_S, look_every_s=0.05) as hive:
        await hive.agents.spawn("alice")
        await hive.wait_state("hibernated")
        await hive.parts.turn_acts.choose_model("alice", "claude-y")
        row = await hive.row()
        assert (row.state, row.chosen_model, read_model(hive)) == ("hibernated", "claude-y", "claude-y\n")
        assert hive.list_events(EventName.AGENT_WOKEN) == []


async def test_a_model_is_chosen_while_the_container_runs_and_its_harness_is_away() -> None:
    async with open_hive(look_every_s=0.05) as hive:
        await hive.agents.spawn("alice")
        row = await hive.wait_state("idle")
        live = hive.parts.roster.live("alice")
        live.warm, live.login, live.login_account = True, "own", "me@example.com"
        await hive.parts.links.close("alice")
        row = await hive.wait_state("unknown")
        # Of a harness that is away nobody knows what it has.
        assert (row.login, row.login_account, live.warm) == ("unknown", "", False)
        await hive.parts.turn_acts.choose_model("alice", "claude-y")
        assert ((await hive.row()).chosen_model, read_model(hive)) == ("claude-y", "claude-y\n")
        await hive.parts.links.open("alice", (await hive.record()).uid)
        row = await hive.wait_row(lambda row: row.state == "idle" and row.login != "unknown")
        # What the harness found there is what it tells.
        assert row.chosen_model == "claude-y"
