"""The harness's pure rules: settings, what fits into a prompt, how a turn ended, what an agent is told."""

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hyperhive.core.claude_events import ClaudeView
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.messages import BODY_LIMIT_BYTES, Message, MessageState, render_wake_prompt
from hyperhive.core.turns import Failures, TurnOutcome, TurnPurpose
from hyperhive.harness.engine_wire import TurnResult
from hyperhive.harness.events import EventStore
from hyperhive.harness.failures import load_failures, save_failures
from hyperhive.harness.park import find_resting_state, plan_park
from hyperhive.harness.prompt import render_system_prompt
from hyperhive.harness.settings import ROWS, load_settings, observe_model
from hyperhive.harness.turn import COMPACT, TurnEnd, TurnRequest, fail_turn, is_recorded, read_turn_end, render_ended
from hyperhive.harness.wake import plan_wake
from hyperhive.wire.agent_link import ParkFields
from hyperhive.wire.jsonrpc import LINE_LIMIT_BYTES, Request, encode_request


def _message(number: int, body: str) -> Message:
    return Message(number, "bob", "alice", body, datetime.now(UTC), MessageState.LEASED, 1)


# -- settings ----------------------------------------------------------------------------------------------


def test_without_any_variable_the_settings_are_those_of_a_container() -> None:
    settings = load_settings({})
    assert (settings.sockets, settings.state) == (Path("/run/hive"), Path("/state"))
    assert (settings.generation, settings.warm_s, settings.claude) == (0, 300.0, None)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("HIVE_SOCKETS", "relative"),
        ("HIVE_GENERATION", "-1"),
        ("HIVE_GENERATION", "one"),
        ("HIVE_WARM_S", "nan"),
        ("HIVE_WARM_S", "-5"),
        ("HIVE_CLAUDE", "claude"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(variable: str, text: str) -> None:
    assert variable in {row.variable for row in ROWS}
    with pytest.raises(InvalidInputError, match=variable):
        load_settings({variable: text})


def test_the_kept_model_goes_before_the_configs_and_rubbish_counts_as_none(tmp_path: Path) -> None:
    assert observe_model(tmp_path, "config-model") == "config-model"
    kept = tmp_path / "hyperhive-model"
    kept.write_text("kept-model[1m]\n")
    assert observe_model(tmp_path, "config-model") == "kept-model[1m]"
    for rubbish in ("--flag", "a b", "x" * 5000, "", "\x1b[31m"):
        kept.write_text(rubbish)
        assert observe_model(tmp_path, "config-model") == "config-model"
    kept.unlink()
    os.mkfifo(kept)
    assert observe_model(tmp_path, "config-model") == "config-model"
    kept.unlink()
    kept.mkdir()
    assert observe_model(tmp_path, "config-model") == "config-model"


# -- what fits into a prompt -------------------------------------------------------------------------------


def test_small_messages_fit_together() -> None:
    messages = [_message(n, "hello") for n in range(8)]
    assert plan_wake(messages) == (messages, [])


@pytest.mark.parametrize("char", ["x", "\0", "<", '"', "\\", "ä", "𝄞"])
def test_the_largest_messages_are_split_in_order_and_each_part_fits_a_line(char: str) -> None:
    left = [_message(n, char * (BODY_LIMIT_BYTES // len(char.encode()))) for n in range(8)]
    taken: list[int] = []
    while left:
        fitting, left = plan_wake(left)
        line = encode_request(Request("turn.run", {"prompt": render_wake_prompt(fitting, 1), "model": ""}, 1))
        assert len(line) <= LINE_LIMIT_BYTES
        taken += [message.id for message in fitting]
    assert taken == list(range(8))


def test_nothing_overtakes_a_message_that_did_not_fit() -> None:
    large = "\0" * BODY_LIMIT_BYTES
    fitting, rest = plan_wake([_message(1, large), _message(2, large), _message(3, "small")])
    assert ([m.id for m in fitting], [m.id for m in rest]) == ([1], [2, 3])


# -- how a turn ended --------------------------------------------------------------------------------------

MESSAGES = TurnRequest(TurnPurpose.MESSAGES, "hello", [1])
ABORTED = {"is_error": True, "terminal_reason": "aborted_tools"}
API_ERROR = {"subtype": "success", "is_error": True, "terminal_reason": "api_error", "result": "Not logged in"}


@pytest.mark.parametrize(
    ("result", "api_error", "interrupted", "outcome", "reason"),
    [
        ({"is_error": False, "terminal_reason": "completed", "result": "Not logged in"}, "", None, "ok", ""),
        (API_ERROR, "authentication_failed", None, "login", "Not logged in"),
        (API_ERROR | {"api_error_status": 401}, "", None, "login", "Not logged in"),
        (API_ERROR | {"api_error_status": 429}, "", None, "limit", "Not logged in"),
        (API_ERROR | {"api_error_status": 529}, "overloaded", None, "api_error", "Not logged in"),
        (ABORTED, "", TurnOutcome.CANCELLED, "cancelled", "cancelled by the operator"),
        (ABORTED, "", TurnOutcome.TIMEOUT, "timeout", "claude said nothing any more and was interrupted"),
        (ABORTED, "", None, "crash", "aborted_tools"),
        ({"is_error": True, "terminal_reason": "max_turns", "errors": ["too many"]}, "", None, "api_error", "too many"),
        ({"is_error": True}, "", None, "api_error", "no reason given"),
    ],
)
def test_the_outcome_follows_from_structured_fields(
    result: dict[str, Any], api_error: str, interrupted: TurnOutcome | None, outcome: str, reason: str
) -> None:
    end = read_turn_end(MESSAGES, {"result": result, "api_error": api_error}, interrupted, ClaudeView())
    assert (end.outcome, end.reason) == (outcome, reason)


def test_a_compaction_went_well_only_if_claude_says_so() -> None:
    answer = TurnResult(result={"is_error": False}, api_error="")
    assert read_turn_end(COMPACT, answer, None, ClaudeView(compacted=True)).outcome == "ok"
    failed = read_turn_end(COMPACT, answer, None, ClaudeView(compact_error="Not enough messages to compact."))
    assert (failed.outcome, failed.reason) == ("api_error", "Not enough messages to compact.")


@pytest.mark.parametrize(
    ("interrupted", "outcome", "reason"),
    [
        (None, "crash", "the engine ended"),
        (TurnOutcome.CANCELLED, "cancelled", "cancelled by the operator: the engine ended"),
        (TurnOutcome.TIMEOUT, "timeout", "claude said nothing any more and was interrupted: the engine ended"),
    ],
)
def test_the_end_of_a_turn_without_claude_is_told_all_the_same(
    interrupted: TurnOutcome | None, outcome: str, reason: str
) -> None:
    event = render_ended(MESSAGES, fail_turn("the engine ended", interrupted), 12, ClaudeView(), 0)
    assert (event["outcome"], event["reason"], event["duration_ms"]) == (outcome, reason, 12)
    assert (event["purpose"], event["usage"], event["total_cost_usd"]) == ("messages", None, None)


# -- parks -------------------------------------------------------------------------------------------------


def test_only_a_rejected_limit_has_a_known_end() -> None:
    end = TurnEnd(TurnOutcome.LIMIT, "too many requests")
    ends_at = datetime(2026, 11, 21, 13, tzinfo=UTC)
    rejected = ClaudeView(limit_status="rejected", limit_ends_at=ends_at)
    warned = ClaudeView(limit_status="allowed_warning", limit_ends_at=ends_at)
    assert plan_park(end, Failures(), rejected) == {
        "kind": "limit", "until": "2026-11-21T13:00:00+00:00", "reason": "too many requests",
    }  # fmt: skip
    assert plan_park(end, Failures(), warned) == {"kind": "limit", "until": "", "reason": "too many requests"}


def test_a_failure_parks_only_when_there_were_enough() -> None:
    end = TurnEnd(TurnOutcome.CRASH, "claude ended")
    assert plan_park(end, Failures(own=9), ClaudeView()) is None
    park = plan_park(end, Failures(own=10), ClaudeView())
    assert park is not None
    assert (park["kind"], park["until"]) == ("failing", "")


def test_the_state_between_turns_follows_from_the_park() -> None:
    park = ParkFields(kind="limit", since="", until="13:00", reason="the limit is reached")
    assert find_resting_state(None) == ("idle", "")
    assert find_resting_state(park) == ("parked", "the limit is reached; until 13:00")
    assert find_resting_state({**park, "kind": "login", "until": ""}) == ("needs_login", "the limit is reached")


# -- failures in a row --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "null", "[1]", "[-1, 0]", '["a", 2]', "[" * 100_000, "{}", "[1.5, 2]"])
def test_failures_that_cannot_be_read_are_none(tmp_path: Path, text: str) -> None:
    with contextlib.closing(EventStore(tmp_path)) as store:
        store.save_meta("failures", text)
        assert load_failures(store) == Failures()


def test_failures_are_kept_over_restarts(tmp_path: Path) -> None:
    with contextlib.closing(EventStore(tmp_path)) as store:
        save_failures(store, Failures(3, 4))
    with contextlib.closing(EventStore(tmp_path)) as store:
        assert load_failures(store) == Failures(3, 4)


def test_the_transcript_keeps_what_tells_something() -> None:
    assert is_recorded({"type": "assistant"})
    assert is_recorded({"type": "system", "subtype": "compact_boundary"})
    assert is_recorded({"type": "never seen before"})
    assert not is_recorded({"type": "system", "subtype": "session_state_changed"})
    assert not is_recorded({"type": "command_lifecycle"})


# -- what an agent is told ---------------------------------------------------------------------------------


def test_the_first_line_names_the_agent_and_only_the_manager_is_told_its_role() -> None:
    plain, manager = render_system_prompt("alice", manager=False), render_system_prompt("manager", manager=True)
    assert plain.splitlines()[0] == 'You are the agent "alice" in this hive.'
    assert manager.splitlines()[0] == 'You are the agent "manager" in this hive.'
    assert "request_spawn" not in plain
    assert "request_spawn" in manager
    assert "{" not in plain + manager
