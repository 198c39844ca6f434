"""When an idle container may be stopped: nothing that is at work, or that may be, is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hyperhive.core.turns import TurnState, TurnStatus
from hyperhive.host.drivers.protocol import ContainerState, Observation
from hyperhive.host.hibernation import decide_hibernate_s, is_idle
from hyperhive.host.roster import Live, Phase
from hyperhive.host.store.rows import AgentRecord, Desired

AT = datetime(2026, 1, 1, tzinfo=UTC)
RECORD = AgentRecord("alice", None, 1, Desired.RUNNING, "", AT, None)


def make_live(state: TurnState = TurnState.IDLE, **fields: Any) -> Live:
    live = Live(Observation(ContainerState.RUNNING), turn=TurnStatus(state, AT))
    for name, value in fields.items():
        setattr(live, name, value)
    return live


@pytest.mark.parametrize(
    ("own_s", "default_s", "warm_s", "seconds"),
    [
        (None, 3600, 300, 3600),
        (None, 0, 300, None),
        (600, 3600, 300, 600),
        # An agent may ask for it where the daemon does not.
        (600, 0, 300, 600),
        # claude is closed first.
        (1, 3600, 300, 300),
        (None, 10, 300, 300),
    ],
)
def test_how_long_it_takes(own_s: float | None, default_s: float, warm_s: float, seconds: float | None) -> None:
    assert decide_hibernate_s(own_s, default_s, warm_s) == seconds


@pytest.mark.parametrize("state", TurnState)
def test_only_a_harness_that_runs_no_turn_is_idle(state: TurnState) -> None:
    resting = state in {TurnState.IDLE, TurnState.NEEDS_LOGIN, TurnState.PARKED}
    assert is_idle(RECORD, make_live(state), 60, AT + timedelta(seconds=60)) is resting


def test_it_is_idle_only_after_its_time() -> None:
    assert not is_idle(RECORD, make_live(), 60, AT + timedelta(seconds=59))


@pytest.mark.parametrize(
    "fields",
    [
        {"warm": True},
        {"turn": None},
        {"phase": Phase.STARTING},
        {"phase": Phase.STOPPING},
        {"observation": Observation(ContainerState.UNKNOWN)},
        {"observation": Observation(ContainerState.EXITED)},
    ],
)
def test_what_is_not_known_to_rest_does_not(fields: dict[str, Any]) -> None:
    assert not is_idle(RECORD, make_live(**fields), 60, AT + timedelta(days=1))


@pytest.mark.parametrize(
    "fields", [{"desired": Desired.STOPPED}, {"hibernated": True}, {"trying": True}, {"failure": "no bwrap"}]
)
def test_an_agent_that_is_not_simply_running_is_left_alone(fields: dict[str, Any]) -> None:
    assert not is_idle(replace(RECORD, **fields), make_live(), 60, AT + timedelta(days=1))
