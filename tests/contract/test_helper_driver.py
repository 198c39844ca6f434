"""The driver that asks root's helper keeps the contract, too: the helper's driver at the other end is a real one."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import uvloop

import driver_checks
from driver_rig import Rig, open_rig
from driver_runner import KINDS
from helper_rig import open_helper_rig
from hyperhive.core.errors import InvalidInputError
from hyperhive.host.drivers.bubblewrap import BubblewrapDriver
from hyperhive.host.drivers.protocol import ContainerState, SizeDifference
from hyperhive.host.drivers.registry import find_images, find_revision
from hyperhive.host.separation.client import HelperBuilder, HelperDriver, HelperImages
from nix_driver_rig import make_evaluator, wrap
from nix_machines import run_nix_machine
from nix_rig import STAND_IN, SYSTEM
from nixos_rig import AGENT, open_nixos_rig

# All that has a spec, or an answer of its own: the rest of the suite is about what a driver does with them.
WITH_IMAGES = (
    "a_package_that_is_there_is_reported_with_its_version",
    "packages_that_are_not_there_are_refused_and_all_named",
    "a_container_goes_through_all_its_states",
    "exec_returns_status_and_output",
    "logs_are_read_by_offset",
)


@contextlib.asynccontextmanager
async def open_asking_rig(folder: Path, kind: str) -> AsyncGenerator[Rig]:
    """A rig whose driver asks a helper for what the one of `kind` does."""
    async with open_rig(folder, kind=kind) as rig:
        asked = rig.driver
        async with open_helper_rig(folder, asked, find_images(asked)) as helper_rig:
            helper = helper_rig.open_helper()
            rig.driver = HelperDriver(kind, helper, None if find_images(asked) is None else HelperImages(helper))
            await rig.driver.prepare()
            assert rig.driver.unlimited == asked.unlimited
            yield rig


def check(name: str, kind: str, folder: Path) -> None:
    async def run() -> None:
        async with open_asking_rig(folder, kind) as rig:
            await driver_checks.CHECKS[name](rig)

    # The loop of both programs.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


@pytest.mark.parametrize("name", driver_checks.CHECKS)
def test_a_driver_behind_the_helper_keeps_the_contract(name: str, tmp_path: Path) -> None:
    check(name, "bubblewrap", tmp_path)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind == "nspawn"])
@pytest.mark.parametrize("name", WITH_IMAGES)
def test_so_does_one_with_images(name: str, kind: str, tmp_path: Path) -> None:
    check(name, kind, tmp_path)


async def test_a_driver_without_images_has_none_behind_the_helper_either(tmp_path: Path) -> None:
    async with open_helper_rig(tmp_path, BubblewrapDriver(tmp_path / "containers")) as rig:
        assert find_images(HelperDriver("bubblewrap", rig.open_helper(), None)) is None


async def test_so_does_the_one_of_nixos_whose_containers_have_systems_of_their_own(tmp_path: Path) -> None:
    async with open_nixos_rig(tmp_path) as rig, open_helper_rig(tmp_path, rig.driver) as helper_rig:
        driver = HelperBuilder("nixos", helper_rig.open_helper(), None)
        await driver.prepare()
        assert find_revision(driver) == rig.inputs.revision
        files = {"agent.nix": AGENT, "notes/a.txt": b"\0\xff"}
        rig.write_config(files)
        await driver.build_system("alice", files)
        assert {path: (rig.place() / "next/config" / path).read_bytes() for path in files} == files
        spec = rig.spec()
        await driver.create(spec)
        await driver.start(spec)
        seen = await driver.observe("alice")
        assert (seen.state, seen.revision) == (ContainerState.RUNNING, rig.inputs.revision)
        assert seen == await rig.driver.observe("alice")
        with pytest.raises(InvalidInputError, match=r"no agent\.nix"):
            await driver.build_system("alice", {"agent.toml": b""})
        with pytest.raises(InvalidInputError, match=r"no agent\.nix"):
            await driver.list_packages("alice", {"agent.toml": b""})
        await driver.destroy("alice")
        assert (await driver.observe("alice")).state is ContainerState.ABSENT


async def test_packages_are_told_and_measured_behind_the_helper_as_before_it(tmp_path: Path) -> None:
    with run_nix_machine(tmp_path / "nix") as machine:
        asked = wrap(BubblewrapDriver(tmp_path / "containers"), make_evaluator(tmp_path / "inputs", machine))
        async with open_helper_rig(tmp_path, asked) as helper_rig:
            driver = HelperBuilder("nixos", helper_rig.open_helper(), None)
            plain, more = [
                {"agent.nix": b"{ }"},
                {"agent.nix": b'{ hyperhive.packages = [ "hello" "jq" ]; }'},
            ]
            before, after = [await driver.list_packages("alice", files) for files in (plain, more)]
            assert (before, after) == (
                await asked.list_packages("alice", plain),
                await asked.list_packages("alice", more),
            )
            paths = {package.name: package.path for package in after}
            # What was told before is where it is when it was built.
            assert machine.build(STAND_IN / "default.nix", "hello", {"system": SYSTEM}) == paths["hello"]
            sides = [[package.path for package in packages] for packages in (before, after)]
            assert await driver.compare_packages(*sides) == SizeDifference(0, 0, 0, 0, (paths["jq"],))
            found = await driver.compare_packages(*reversed(sides))
            assert found == await asked.compare_packages(*reversed(sides))
            assert found.removed > 0
