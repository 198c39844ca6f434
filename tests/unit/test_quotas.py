"""The rules of quotas: who is over, who filled the disk, what is left free; and what follows for a container."""

from datetime import UTC, datetime

import pytest

from hyperhive.core.quotas import (
    ENTRIES_LIMIT,
    GIB,
    MIB,
    DiskUse,
    find_excess,
    find_grower,
    is_near,
    plan_reserve_bytes,
    render_bytes,
)
from hyperhive.host.disk_quotas import parse_disk_settings
from hyperhive.host.drivers.protocol import ContainerState, Observation
from hyperhive.host.plan import Action, Look, plan_action, plan_look
from hyperhive.host.roster import Live, decide_state
from hyperhive.host.store.rows import AgentRecord, Desired

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HELD = AgentRecord(
    name="alice",
    uid=None,
    generation=3,
    desired=Desired.RUNNING,
    failure="an older failure",
    spawned_at=NOW,
    destroyed_at=None,
    over_quota="its folders hold 12.0 GiB of 10.0 GiB",
)


@pytest.mark.parametrize(
    ("total", "reserve"), [(64 * MIB, 64 * MIB // 10), (20 * GIB, GIB), (500 * GIB, 10 * GIB), (5 * GIB, GIB // 2)]
)
def test_what_is_left_free_fits_the_disk(total: int, reserve: int) -> None:
    assert plan_reserve_bytes(total, None) == reserve
    assert plan_reserve_bytes(total, 7) == 7
    assert plan_reserve_bytes(total, 0) == 0


def test_one_is_over_by_bytes_or_by_files_and_told_which() -> None:
    assert find_excess(DiskUse(GIB, 5), GIB) == ""
    assert find_excess(DiskUse(12 * GIB, 5), 10 * GIB) == "its folders hold 12.0 GiB of 10.0 GiB"
    assert find_excess(DiskUse(12 * GIB, 5), None) == ""
    assert "1,000,000 files or more" in find_excess(DiskUse(0, ENTRIES_LIMIT), None)
    assert is_near(DiskUse(8 * GIB, 5), 10 * GIB) and not is_near(DiskUse(7 * GIB, 5), 10 * GIB)
    assert is_near(DiskUse(0, ENTRIES_LIMIT * 9 // 10), None)


def test_who_filled_the_disk_is_who_grew_most_if_that_is_a_good_part_of_what_is_gone() -> None:
    assert find_grower({"alice": 800 * MIB, "bob": 100 * MIB}, 1000 * MIB) == "alice"
    assert find_grower({"alice": 100 * MIB, "bob": 90 * MIB}, 1000 * MIB) is None
    assert find_grower({"alice": 100}, 0) is None
    assert find_grower({"alice": -5 * MIB}, 0) is None
    assert find_grower({}, 1000 * MIB) is None


def test_sizes_are_told_in_units_that_fit() -> None:
    shown = [render_bytes(size) for size in (0, 1023, 1024, 1.5 * MIB, 12 * GIB, 2048 * GIB)]
    assert shown == ["0 bytes", "1023 bytes", "1.0 KiB", "1.5 MiB", "12.0 GiB", "2.0 TiB"]


def test_settings_of_the_disk_are_sizes_none_or_left_to_the_hive() -> None:
    settings = parse_disk_settings("20G", "")
    assert (settings.limit_bytes, settings.reserve_bytes) == (20 * GIB, None)
    settings = parse_disk_settings("0", "0")
    assert (settings.limit_bytes, settings.reserve_bytes) == (None, 0)
    assert parse_disk_settings("10G", "512M").reserve_bytes == 512 * MIB


def test_what_was_stopped_for_the_disk_is_started_by_nothing_and_says_why() -> None:
    live = Live(observation=Observation(ContainerState.STOPPED))
    assert decide_state(HELD, live) == ("stopped", HELD.over_quota)
    assert plan_action(HELD, ContainerState.STOPPED, needed=True) is Action.NONE
    assert plan_action(HELD, ContainerState.EXITED, needed=True) is Action.NONE
    assert plan_action(HELD, ContainerState.RUNNING, needed=True) is Action.STOP
    assert plan_look(HELD, ContainerState.RUNNING, ContainerState.EXITED, ran=True) is Look.NOTHING
    assert plan_look(HELD, ContainerState.UNKNOWN, ContainerState.RUNNING, ran=False) is Look.CONVERGE
