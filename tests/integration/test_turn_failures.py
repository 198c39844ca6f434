"""Each way in which the model service fails, seen with the real CLI: the turn's class, the agent's state, what becomes
of the message, and whether and when it is tried again. The rows are those of facts about the CLI's errors.

Where claude would retry ten times over three minutes it is told to retry twice: `api_retry` tells each.
"""

import time
from collections.abc import Mapping
from typing import Any

import pytest

from harness_rig import Rig, eventually

# As it is by default.
PATIENT = {"CLAUDE_CODE_MAX_RETRIES": "10"}
RETRYING = {"CLAUDE_CODE_MAX_RETRIES": "2"}
# As a login of one's own does it, rather than an API key.
WITH_TOKEN = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "of-the-account"}


def retries(rig: Rig) -> list[dict[str, Any]]:
    return [event for event in rig.events("claude") if event.get("subtype") == "api_retry"]


async def fail_once(rig: Rig, script: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """The end of the first turn with a message that is `script`."""
    await rig.start_harness(1, **environment)
    await rig.put(script)
    return (await rig.turns_ended(1))[0]


@pytest.mark.parametrize("environment", [RETRYING, WITH_TOKEN], ids=["api key", "token"])
async def test_a_dead_login_is_waited_for_and_never_retried_by_itself(rig: Rig, environment: dict[str, str]) -> None:
    ended = await fail_once(rig, "%% error 401 always", environment)
    assert ended["outcome"] == "login"
    await rig.in_state("needs_login")
    await eventually(lambda: rig.message(1)["state"] == "queued")
    assert retries(rig)
    assert rig.message(1)["failures"] == 0
    (park,) = rig.parks()
    assert (park["kind"], park["until"]) == ("login", "")
    # claude reads a login only when it starts: it does not stay open with the dead one.
    await eventually(lambda: not rig.processes("--output-format stream-json"))


async def test_after_a_login_the_same_message_gets_its_turn(rig: Rig) -> None:
    await fail_once(rig, "%% error 401 x1\n%% say I am back", {})
    await rig.in_state("needs_login")
    await rig.set_park(None)
    await rig.acked(1)
    await rig.turns_ended(2)
    assert [ended["outcome"] for ended in rig.events("turn.ended")] == ["login", "ok"]
    await rig.in_state("idle")


async def test_too_many_requests_are_a_limit_without_a_known_end(rig: Rig) -> None:
    ended = await fail_once(rig, "%% error 429 always", RETRYING)
    assert ended["outcome"] == "limit"
    await rig.in_state("parked")
    await eventually(lambda: rig.message(1)["state"] == "queued")
    assert len(retries(rig)) == 2
    assert rig.message(1)["failures"] == 0
    (park,) = rig.parks()
    assert (park["kind"], park["until"]) == ("limit", "")


async def test_a_long_retry_after_fails_at_once(rig: Rig) -> None:
    began_s = time.monotonic()
    ended = await fail_once(rig, "%% error 429 always retry-after=7200", PATIENT)
    assert (ended["outcome"], retries(rig)) == ("limit", [])
    assert time.monotonic() - began_s < 20


async def test_a_service_that_forbids_retries_is_not_asked_again_by_claude(rig: Rig) -> None:
    ended = await fail_once(rig, "%% error 529 x1 should-retry=false\n%% say fine", PATIENT)
    assert (ended["outcome"], retries(rig)) == ("api_error", [])
    await rig.acked(1)


async def test_a_usage_limit_is_waited_for_until_the_moment_the_service_names(rig: Rig) -> None:
    ends_at = int(time.time()) + 3600
    ended = await fail_once(rig, f"%% ratelimit rejected always resets={ends_at}", WITH_TOKEN)
    assert ended["outcome"] == "limit"
    await rig.in_state("parked")
    await eventually(lambda: rig.message(1)["state"] == "queued")
    (park,) = rig.parks()
    assert park["kind"] == "limit"
    assert park["until"] == time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(ends_at))
    assert rig.message(1)["failures"] == 0
    assert any(event["type"] == "rate_limit_event" for event in rig.events("claude"))


async def test_a_warning_of_a_usage_limit_stops_nothing(rig: Rig) -> None:
    ends_at = int(time.time()) + 3600
    await rig.start_harness(1, **WITH_TOKEN)
    await rig.put(f"%% ratelimit allowed_warning resets={ends_at}\n%% say still here")
    await rig.acked(1)
    assert rig.parks() == []
    assert any(event["type"] == "rate_limit_event" for event in rig.events("claude"))


@pytest.mark.parametrize("status", [500, 529])
async def test_a_service_in_trouble_is_retried_by_claude_and_then_by_the_harness(rig: Rig, status: int) -> None:
    ended = await fail_once(rig, f"%% error {status} x3\n%% say at last", RETRYING)
    assert ended["outcome"] == "api_error"
    assert [event["error_status"] for event in retries(rig)] == [status, status]
    told = [call["reason"] for call in rig.calls("turn.state") if call["state"] == "thinking"]
    assert any(f"answers {status}: retry 1 of 2" in reason for reason in told)
    parked = await eventually(lambda: [call for call in rig.calls("turn.state") if call["state"] == "parked"])
    assert "api_error" in parked[0]["reason"]
    assert "next try at" in parked[0]["reason"]
    await rig.acked(1)
    # It says nothing about the message, and nobody has to act.
    assert rig.message(1)["failures"] == 0
    assert rig.parks() == []


@pytest.mark.parametrize(("status", "failures"), [(400, 1), (413, 1), (404, 0)])
async def test_a_refused_request_fails_at_once_and_counts_against_the_message_unless_it_is_about_the_model(
    rig: Rig, status: int, failures: int
) -> None:
    ended = await fail_once(rig, f"%% error {status} always first-delivery\n%% say fine", PATIENT)
    assert (ended["outcome"], retries(rig)) == ("api_error", [])
    await rig.acked(1)
    assert rig.message(1)["failures"] == failures
    assert rig.parks() == []


async def test_a_forbidden_request_is_about_the_login(rig: Rig) -> None:
    ended = await fail_once(rig, "%% error 403 always", PATIENT)
    assert (ended["outcome"], retries(rig)) == ("login", [])
    await rig.in_state("needs_login")
    await eventually(lambda: rig.message(1)["state"] == "queued")
    assert rig.message(1)["failures"] == 0


@pytest.mark.parametrize(
    "script",
    [
        "%% error 402 always",
        '%% error 400 always message="Your credit balance is too low to access the Anthropic API."',
    ],
    ids=["402", "no credit"],
)
async def test_no_money_left_is_a_limit_and_not_the_messages_fault(rig: Rig, script: str) -> None:
    ended = await fail_once(rig, script, PATIENT)
    assert (ended["outcome"], retries(rig)) == ("limit", [])
    await rig.in_state("parked")
    await eventually(lambda: rig.message(1)["state"] == "queued")
    assert rig.message(1)["failures"] == 0
    assert [park["kind"] for park in rig.parks()] == ["limit"]


@pytest.mark.parametrize("trouble", ["cut", "sse-error"])
async def test_a_broken_stream_is_asked_for_again_within_the_turn(rig: Rig, trouble: str) -> None:
    ended = await fail_once(rig, f"%% {trouble} x1\n%% say whole", RETRYING)
    assert ended["outcome"] == "ok"
    await rig.acked(1)
    assert rig.message(1)["deliveries"] == 1


async def test_after_ten_failures_in_a_row_the_operator_is_needed(rig: Rig) -> None:
    await rig.start_harness()
    await rig.put("%% say hello")
    await rig.acked(1)
    await rig.stop_harness()
    # Nine are behind it: they count over restarts, as only progress resets them.
    rig.save_meta("failures", "[9, 0]")
    await rig.start_harness(generation=2)
    await rig.put("%% error 404 always")
    await rig.in_state("parked")
    (park,) = await eventually(rig.parks)
    assert (park["kind"], park["until"]) == ("failing", "")
    assert park["reason"].startswith("10 turns failed in a row, the last: api_error:")
    await rig.set_park(None)
    assert len(await eventually(lambda: parks if len(parks := rig.parks()) == 2 else None)) == 2


async def test_a_request_that_its_conversation_makes_impossible_is_made_in_a_fresh_one(rig: Rig) -> None:
    await rig.start_harness()
    await rig.put("%% say one")
    await rig.turns_ended(1)
    await rig.put("%% error 400 always in-conversation\n%% say two")
    await rig.acked(2)
    first, failed, last = await rig.turns_ended(3)
    assert [end["outcome"] for end in (first, failed, last)] == ["ok", "api_error", "ok"]
    assert first["session_id"] == failed["session_id"] != last["session_id"]


async def test_a_conversation_is_given_up_once_and_then_the_failure_surfaces(rig: Rig) -> None:
    await rig.start_harness()
    await rig.put("%% error 400 always")
    first, *others = await rig.turns_ended(3)
    assert {end["outcome"] for end in (first, *others)} == {"api_error"}
    assert {first["session_id"]} != {end["session_id"] for end in others}
    assert len({end["session_id"] for end in others}) == 1
    assert len([text for text in rig.notices() if "a new conversation begins" in text]) == 1
