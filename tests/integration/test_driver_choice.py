"""Which driver a hive has, and what it refuses before it starts with one."""

import os
import sys
from pathlib import Path

import pytest

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.paths import Roots
from hyperhive.host.drivers.nixos_flake import parse_nix_inputs
from hyperhive.host.drivers.registry import NIXOS, check_driver, find_images, find_revision, make_driver
from hyperhive.system.process import Completed, run

INPUTS = "hyperhive=/nix/store/a-source nixpkgs=/nix/store/b-source"


async def start_daemon(data: Path, *flags: str) -> Completed:
    return await run(
        [sys.executable, "-m", "hyperhive.host.main", f"--data={data}", "--port=0", "--rehearsal", *flags],
        timeout_s=60,
        env={name: value for name, value in os.environ.items() if not name.startswith("HIVE_")},
    )


def test_there_is_a_driver_of_each_name(tmp_path: Path) -> None:
    roots = Roots(tmp_path / "data", tmp_path / "run")
    for name, has_images in (("bubblewrap", False), ("nspawn", True), ("gvisor", True), (NIXOS, False)):
        check_driver(name, INPUTS)
        driver = make_driver(name, roots, nix_inputs=INPUTS)
        assert driver.name == name and (find_images(driver) is not None) is has_images
        assert find_revision(driver) == (parse_nix_inputs(INPUTS).revision if name == NIXOS else "")
    # What they cannot use the others do not look at.
    check_driver("nspawn", "nonsense")
    with pytest.raises(InvalidInputError, match="there is no driver 'docker'"):
        make_driver("docker", roots)


@pytest.mark.parametrize("inputs", ["", "nonsense", "hyperhive=/a", "hyperhive=/a nixpkgs=b", f"{INPUTS} other=/c"])
def test_nothing_is_built_from_inputs_that_cannot_be(inputs: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_driver(NIXOS, inputs)
    assert "services.hyperhive" in caught.value.hint
    with pytest.raises(InvalidInputError):
        make_driver(NIXOS, Roots(tmp_path, tmp_path), nix_inputs=inputs)


@pytest.mark.parametrize("flags", [[], ["--nix-inputs=hyperhive=/a"], ["--keep-root", "--nix-inputs=hyperhive=/a"]])
async def test_a_daemon_does_not_start_with_inputs_that_cannot_be(flags: list[str], tmp_path: Path) -> None:
    done = await start_daemon(tmp_path, "--driver=nixos", *flags)
    assert done.status == 1 and done.error_text.startswith("hived: ")
    assert "services.hyperhive" in done.error_text
    assert not (tmp_path / "hive.sqlite").exists()


@pytest.mark.parametrize("flags", [[], ["--keep-root"]], ids=["by its helper", "itself"])
async def test_a_daemon_says_what_a_machine_lacks_that_is_no_nixos(flags: list[str], tmp_path: Path) -> None:
    done = await start_daemon(tmp_path, "--driver=nixos", f"--nix-inputs={INPUTS}", *flags)
    assert done.status == 1
    told = done.stderr.decode()
    assert told.splitlines()[-1].startswith("hint: the nixos driver is for NixOS")
