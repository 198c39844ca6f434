"""The kick: when an agent is told that its container was started anew, and in which words."""

import json

import pytest

from hyperhive.core.messages import MessageState
from hyperhive.host.kick import NOTES, Start, Why, decide_kick, render_kick

TOLD = (Why.CRASHED, Why.RESTARTED, Why.STARTED, Why.CONFIGURED, Why.FELL_BACK, Why.UPDATED, Why.BOOTED)


@pytest.mark.parametrize("why", TOLD)
def test_a_start_is_told_to_an_agent_that_was_given_a_message_before(why: Why) -> None:
    assert decide_kick(Start(why, "x", 1), True, None)
    assert not decide_kick(Start(why, "x", 1), False, None)


@pytest.mark.parametrize("why", [why for why in Why if why not in TOLD])
def test_waking_and_a_first_start_are_not_told(why: Why) -> None:
    assert not decide_kick(Start(why), True, None)


@pytest.mark.parametrize(
    ("crashes", "last", "told"),
    [
        (1, None, True),
        (1, MessageState.ACKED, True),
        (1, MessageState.QUEUED, True),
        (1, MessageState.DEAD, False),
        (2, None, False),
        (2, MessageState.ACKED, False),
        (9, MessageState.DEAD, False),
    ],
)
def test_what_crashes_again_and_again_is_not_told_each_time(
    crashes: int, last: MessageState | None, told: bool
) -> None:
    assert decide_kick(Start(Why.CRASHED, "x", crashes), True, last) is told


def test_a_kick_that_died_keeps_no_other_start_from_being_told() -> None:
    assert decide_kick(Start(Why.RESTARTED, "the operator"), True, MessageState.DEAD)


@pytest.mark.parametrize("why", TOLD)
def test_the_message_says_what_happened_and_where_the_notes_are(why: Why) -> None:
    body = json.loads(render_kick(Start(why, 'killed {by} "somebody"')))
    assert (body["event"], body["notes"]) == ("started", NOTES)
    assert "container" in body["reason"]
    assert ("{by}" in body["reason"]) is (why not in {Why.CONFIGURED, Why.FELL_BACK, Why.UPDATED})
