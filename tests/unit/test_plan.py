"""What is wanted and what is seen decide what is done; what is not known is left alone."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from hyperhive.core.turns import TurnState, TurnStatus
from hyperhive.host.drivers.protocol import ContainerState, Observation
from hyperhive.host.plan import Action, Look, plan_action, plan_look
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


@pytest.mark.parametrize(
    ("desired", "state", "needed", "action"),
    [
        ("running", "stopped", False, Action.NONE),
        ("running", "absent", False, Action.NONE),
        ("running", "exited", False, Action.NONE),
        # The daemon ended between the mark and the stop.
        ("running", "running", False, Action.STOP),
        ("running", "running", True, Action.ADOPT),
        ("running", "stopped", True, Action.START),
        ("running", "exited", True, Action.START),
        ("running", "unknown", True, Action.NONE),
        ("stopped", "running", True, Action.STOP),
        ("stopped", "stopped", True, Action.NONE),
    ],
)
def test_of_an_agent_that_hibernates_nothing_runs_that_is_not_needed(
    desired: str, state: str, needed: bool, action: Action
) -> None:
    record = replace(make_record(Desired(desired)), hibernated=True)
    assert plan_action(record, ContainerState(state), needed) is action


def test_nothing_but_hibernation_asks_whether_it_is_needed() -> None:
    for state in ContainerState:
        for desired in Desired:
            record = make_record(desired)
            assert plan_action(record, state, needed=False) is plan_action(record, state, needed=True)


@pytest.mark.parametrize(
    ("before", "seen", "ran", "look"),
    [
        ("running", "exited", True, Look.CRASHED),
        # The driver knew nothing of it for a while.
        ("unknown", "exited", True, Look.CRASHED),
        # It had ended before the first look.
        ("unknown", "exited", False, Look.CONVERGE),
        ("exited", "exited", False, Look.NOTHING),
        ("unknown", "running", True, Look.CONVERGE),
        ("unknown", "stopped", False, Look.CONVERGE),
        ("running", "running", True, Look.NOTHING),
        ("running", "stopped", True, Look.NOTHING),
        ("running", "unknown", True, Look.NOTHING),
    ],
)
def test_what_a_look_leads_to(before: str, seen: str, ran: bool, look: Look) -> None:
    assert plan_look(make_record(), ContainerState(before), ContainerState(seen), ran) is look


def test_what_failed_waits_for_its_next_try_and_what_is_stopped_does_not_crash() -> None:
    exited, running = ContainerState.EXITED, ContainerState.RUNNING
    assert plan_look(make_record(failure="no bwrap"), running, exited, True) is Look.NOTHING
    assert plan_look(make_record(Desired.STOPPED), running, exited, True) is Look.NOTHING


def test_a_hibernated_agent_does_not_crash_and_is_stopped_if_it_runs() -> None:
    record = replace(make_record(), hibernated=True)
    assert plan_look(record, ContainerState.RUNNING, ContainerState.EXITED, True) is Look.NOTHING
    assert plan_look(record, ContainerState.STOPPED, ContainerState.RUNNING, False) is Look.CONVERGE


def test_a_hibernated_agent_is_shown_as_that_once_its_container_is_gone() -> None:
    record = replace(make_record(), hibernated=True)
    assert decide_state(record, Live(Observation(ContainerState.STOPPED))) == ("hibernated", "")
    idle = Live(Observation(ContainerState.RUNNING), turn=TurnStatus(TurnState.IDLE, AT))
    assert decide_state(record, idle) == ("idle", "")


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
    assert decide_state(make_record(failure="no bwrap"), live) == ("failed", "not running: no bwrap")
    assert decide_state(make_record(), live) == ("crashed", "not running: exit status 1")


def test_what_the_daemon_does_comes_first() -> None:
    live = Live(Observation(ContainerState.RUNNING), phase=Phase.STOPPING)
    assert decide_state(make_record(), live)[0] == "stopping"
