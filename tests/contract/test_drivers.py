"""Every driver keeps the contract; and the checks that say so catch a driver that does not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import bubblewrap_checks
import driver_checks
import gvisor_checks
import nspawn_checks
from driver_rig import Wrap, open_rig
from driver_runner import BUBBLEWRAP_KINDS, KINDS, OWN_KERNEL_KINDS, check_kind, unprivileged_place
from hyperhive.host.drivers.protocol import ContainerState, Driver, DriverError, Observation
from hyperhive.testing.bad_drivers import (
    BuildsAnything,
    DiesAtStart,
    DiesLater,
    Faithful,
    LeavesRunning,
    Lies,
    NeverBuilds,
    NeverStarts,
    Slow,
)

RUNNING = Observation(ContainerState.RUNNING, pid=1)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with unprivileged_place() as place:
        yield place


@pytest.mark.parametrize("kind", (*KINDS, *OWN_KERNEL_KINDS))
@pytest.mark.parametrize("name", driver_checks.CHECKS)
async def test_every_driver_keeps_the_contract(name: str, kind: str, place: Path, tmp_path: Path) -> None:
    await check_kind("driver_checks", name, kind, place, tmp_path)


@pytest.mark.parametrize("kind", BUBBLEWRAP_KINDS)
@pytest.mark.parametrize("name", bubblewrap_checks.CHECKS)
async def test_the_bubblewrap_driver_keeps_its_own_promises(name: str, kind: str, place: Path, tmp_path: Path) -> None:
    await check_kind("bubblewrap_checks", name, kind, place, tmp_path)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind == "nspawn"])
@pytest.mark.parametrize("name", nspawn_checks.CHECKS)
async def test_the_nspawn_driver_keeps_its_own_promises(name: str, kind: str, place: Path, tmp_path: Path) -> None:
    await check_kind("nspawn_checks", name, kind, place, tmp_path)


@pytest.mark.parametrize("kind", OWN_KERNEL_KINDS)
@pytest.mark.parametrize("name", gvisor_checks.CHECKS)
async def test_the_gvisor_driver_keeps_its_own_promises(name: str, kind: str, place: Path, tmp_path: Path) -> None:
    await check_kind("gvisor_checks", name, kind, place, tmp_path)


def refuse_to_start(driver: Driver) -> Driver:
    return NeverStarts(driver, error=DriverError("it never starts", "try another driver"))


def refuse_to_build(driver: Driver) -> Driver:
    return NeverBuilds(driver, error=DriverError("it never builds", "try another driver"))


def build_anything(driver: Driver) -> Driver:
    return BuildsAnything(driver)


def say_it_runs(driver: Driver) -> Driver:
    return Lies(driver, claim=RUNNING)


def say_it_is_gone(driver: Driver) -> Driver:
    return Lies(driver, claim=Observation(ContainerState.STOPPED))


def say_nothing_of_causes(driver: Driver) -> Driver:
    return Lies(
        driver, claim=Observation(ContainerState.EXITED, exit_code=42, reason="its command ended with status 42")
    )


def die_at_start(driver: Driver) -> Driver:
    return DiesAtStart(driver)


def leave_running(driver: Driver) -> Driver:
    return LeavesRunning(driver)


def only_wrap(driver: Driver) -> Driver:
    return Faithful(driver)


def be_slow(driver: Driver) -> Driver:
    return Slow(driver, delay_s=0.05)


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("no_packages_are_always_there", refuse_to_build),
        ("packages_that_are_not_there_are_refused_and_all_named", refuse_to_build),
        ("packages_that_are_not_there_are_refused_and_all_named", build_anything),
        ("what_cannot_be_the_name_of_a_package_is_refused", build_anything),
        ("a_container_goes_through_all_its_states", refuse_to_start),
        ("a_command_that_ends_at_once_was_started", refuse_to_start),
        ("a_container_goes_through_all_its_states", die_at_start),
        ("exec_returns_status_and_output", die_at_start),
        ("a_container_goes_through_all_its_states", say_it_runs),
        ("a_container_goes_through_all_its_states", say_it_is_gone),
        ("what_has_ended_tells_why", say_nothing_of_causes),
        ("what_has_ended_tells_why", leave_running),
        ("nothing_of_a_container_outlives_its_stop", leave_running),
        ("destroying_keeps_the_mounted_folders", leave_running),
        ("another_daemon_tells_exited_from_stopped", leave_running),
    ],
)
async def test_the_checks_catch_a_driver_that_misbehaves(name: str, wrap: Wrap, tmp_path: Path) -> None:
    async with open_rig(tmp_path, wrap) as rig:
        with pytest.raises((AssertionError, DriverError)):
            await driver_checks.CHECKS[name](rig)


@pytest.mark.parametrize("wrap", [only_wrap, be_slow])
async def test_the_checks_allow_a_driver_that_is_only_wrapped_or_slow(wrap: Wrap, tmp_path: Path) -> None:
    async with open_rig(tmp_path, wrap) as rig:
        await driver_checks.a_container_goes_through_all_its_states(rig)
        await driver_checks.packages_that_are_not_there_are_refused_and_all_named(rig)


async def test_a_driver_that_dies_later_is_seen_to(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        dying = DiesLater(rig.driver, life_s=0.05)
        spec = rig.spec("sleep", "1000")
        await dying.create(spec)
        await dying.start(spec)
        await rig.wait_state(ContainerState.EXITED)
        await dying.close()
