"""A driver of the test's whose configs are agent.nix, evaluated as the nixos driver evaluates them.

The hive's own Nix files are read with the stand-in for nixpkgs: a second for each evaluation, and no NixOS.
"""

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hyperhive.host.drivers.nix_evaluation import evaluate_agent
from hyperhive.host.drivers.nixos_flake import Identity, NixInputs, write_flake
from hyperhive.host.drivers.nixos_names import find_agent, plan_machine
from hyperhive.host.drivers.protocol import ContainerSpec, Driver, Observation
from hyperhive.testing.nix_driver import WrittenInNix
from nix_rig import SYSTEM, make_inputs

NixDriver = WrittenInNix[ContainerSpec, Observation]


@dataclass(frozen=True, slots=True)
class Evaluator:
    inputs: NixInputs

    async def __call__(self, name: str, files: Mapping[str, bytes]) -> bytes:
        identity = Identity(find_agent(name), plan_machine(name), 8945, SYSTEM)
        with tempfile.TemporaryDirectory(prefix="hive-flake-") as place:
            flake = Path(place) / "flake"
            await asyncio.to_thread(write_flake, flake, self.inputs, identity, files)
            return await evaluate_agent(flake)


def make_evaluator(folder: Path) -> Evaluator:
    """With inputs that are made below `folder`."""
    made = make_inputs(folder)
    return Evaluator(NixInputs(made.hive, made.nixpkgs, made.unstable))


def wrap(driver: Driver, evaluator: Evaluator) -> NixDriver:
    return NixDriver(driver, evaluator=evaluator, revision=evaluator.inputs.revision)
