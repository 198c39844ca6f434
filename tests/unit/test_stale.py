"""What needs an update, and what a park reads like."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hyperhive import __version__
from hyperhive.core.parking import EVERYONE, Park, ParkKind, describe_park
from hyperhive.host.drivers.protocol import ContainerState, Observation
from hyperhive.host.roster import Live, Phase, find_stale
from hyperhive.host.store.rows import AgentRecord, Desired

AT = datetime(2026, 9, 1, 17, 0, tzinfo=UTC)
RECORD = AgentRecord("alice", None, 1, Desired.RUNNING, "", AT, None, deployed_commit="a" * 40, started_commit="a" * 40)


def make_live(state: ContainerState = ContainerState.RUNNING, version: str | None = __version__) -> Live:
    return Live(Observation(state), harness_version=version)


def test_what_runs_as_it_is_deployed_needs_no_update() -> None:
    assert find_stale(RECORD, make_live()) == ""
    # Nobody said anything yet: that is not known, and no reason.
    assert find_stale(RECORD, make_live(version=None)) == ""


def test_a_harness_of_another_version_needs_an_update() -> None:
    assert (
        find_stale(RECORD, make_live(version="0.0.9"))
        == f"its harness is of hyperhive 0.0.9, the hive of {__version__}"
    )
    assert "of an older hyperhive" in find_stale(RECORD, make_live(version=""))
    assert "\x1b" not in find_stale(RECORD, make_live(version="\x1b[2J"))


def test_a_system_of_another_revision_needs_an_update() -> None:
    live = make_live()
    live.see(Observation(ContainerState.RUNNING, revision="0123"))
    assert find_stale(RECORD, live, "0123") == ""
    assert find_stale(RECORD, live, "4567") == "the hive's flake has moved"
    # Nobody knows what it was built from: that is no reason.
    assert find_stale(RECORD, make_live(), "4567") == ""
    live.see(Observation(ContainerState.STOPPED, revision="0123"))
    assert find_stale(RECORD, live, "4567") == ""


def test_a_change_that_counts_from_the_next_turn_needs_no_update() -> None:
    assert find_stale(replace(RECORD, started_commit="b" * 40), make_live()) == ""


def test_what_is_being_tried_or_started_is_not_stale_yet() -> None:
    assert find_stale(replace(RECORD, trying=True), make_live(version="0.0.9")) == ""
    starting = make_live(version="0.0.9")
    starting.phase = Phase.STARTING
    assert find_stale(RECORD, starting) == ""


@pytest.mark.parametrize("state", [state for state in ContainerState if state is not ContainerState.RUNNING])
def test_what_does_not_run_takes_the_newest_at_its_next_start(state: ContainerState) -> None:
    assert find_stale(RECORD, make_live(state, "0.0.9")) == ""


def test_a_config_that_failed_and_an_update_that_failed_need_one_whatever_runs() -> None:
    live = make_live(ContainerState.STOPPED)
    assert "approved last" in find_stale(replace(RECORD, config_error="approval 3 failed: no jq"), live)
    live.update_failure = "jq is not there"
    assert find_stale(RECORD, live) == "it could not be built anew: jq is not there"


@pytest.mark.parametrize(
    ("kind", "until", "reason", "agent", "text"),
    [
        (ParkKind.LIMIT, AT + timedelta(hours=1), "", "alice", "until 18:00 UTC: usage limit"),
        (ParkKind.LIMIT, AT + timedelta(days=1), "", "alice", "until 2026-09-02 17:00 UTC: usage limit"),
        (ParkKind.BUDGET, AT + timedelta(hours=1), "9 of 8", "alice", "until 18:00 UTC: its budget is spent (9 of 8)"),
        (ParkKind.LOGIN, None, "401", "alice", "login needed (401)"),
        (ParkKind.FAILING, None, "ten in a row", "alice", "keeps failing (ten in a row)"),
        (ParkKind.PAUSED, None, "lunch", "alice", "paused (lunch)"),
        (ParkKind.PAUSED, None, "", EVERYONE, "the whole hive: paused"),
    ],
)
def test_a_park_reads_as_until_when_and_what_for(
    kind: ParkKind, until: datetime | None, reason: str, agent: str, text: str
) -> None:
    assert describe_park(Park(agent, kind, AT, until, reason), AT) == text
