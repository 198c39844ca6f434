"""What is wanted and what is seen decide what is done; what is not known is left alone."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from hyperhive.core.turns import TurnState, TurnStatus
from hyperhive.host.drivers.protocol import ContainerState, Observation
from hyperhive.host.plan import Action, plan_action
from hyperhive.host.roster import Live, Phase, decide_state
from hyperhive.host.store.rows import AgentRecord, Desired

AT = datetime(2026, 1, 1, tzinfo=UTC)


def make_record(desired: Desired = Desired.RUNNING, failure: str = "") -> AgentRecord:
    return AgentRecord("alice", None, 1, desired, failure, AT, None)


@pytest.mark.parametrize(
    ("desired", "state", "action"),
    [
        ("running", "absent", Action.START),
        ("running", "stopped", Action.START),
        ("running", "exited", Action.START),
        ("running", "running", Action.ADOPT),
        ("running", "unknown", Action.NONE),
        ("stopped", "running", Action.STOP),
        ("stopped", "stopped", Action.NONE),
        ("stopped", "absent", Action.NONE),
        ("stopped", "exited", Action.NONE),
        ("stopped", "unknown", Action.NONE),
    ],
)
def test_the_plan_for_every_case(desired: str, state: str, action: Action) -> None:
    assert plan_action(make_record(Desired(desired)), ContainerState(state)) is action


@pytest.mark.parametrize(
    ("desired", "state", "action"),
    [
        ("running", "running", Action.RESTART),
        ("running", "exited", Action.START),
        ("running", "unknown", Action.NONE),
        ("stopped", "running", Action.STOP),
    ],
)
def test_a_container_that_was_only_tried_does_not_stay(desired: str, state: str, action: Action) -> None:
    record = replace(make_record(Desired(desired)), trying=True)
    assert plan_action(record, ContainerState(state)) is action


def test_what_is_not_known_is_shown_as_unknown() -> None:
    assert decide_state(make_record(), Live())[0] == "unknown"


def test_a_running_container_without_its_harness_is_not_called_idle() -> None:
    state, reason = decide_state(make_record(), Live(Observation(ContainerState.RUNNING)))
    assert (state, bool(reason)) == ("unknown", True)


def test_the_turn_state_shows_while_the_harness_is_connected() -> None:
    live = Live(Observation(ContainerState.RUNNING), turn=TurnStatus(TurnState.THINKING, AT))
    assert decide_state(make_record(), live) == ("thinking", "")


def test_a_failure_shows_with_its_reason() -> None:
    live = Live(Observation(ContainerState.EXITED, reason="exit status 1"))
    assert decide_state(make_record(failure="no bwrap"), live) == ("failed", "no bwrap")
    assert decide_state(make_record(), live) == ("crashed", "exit status 1")


def test_what_the_daemon_does_comes_first() -> None:
    live = Live(Observation(ContainerState.RUNNING), phase=Phase.STOPPING)
    assert decide_state(make_record(), live)[0] == "stopping"
