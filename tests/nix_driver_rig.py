"""A driver of the test's whose configs are agent.nix, evaluated as the nixos driver evaluates them.

The hive's own Nix files are read with the stand-in for nixpkgs: a second for each evaluation, and no NixOS.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperhive.host.drivers.nix_evaluation import evaluate_agent, evaluate_packages
from hyperhive.host.drivers.nix_packages import parse_packages
from hyperhive.host.drivers.nix_store import compare_packages
from hyperhive.host.drivers.nixos_flake import Identity, NixInputs, write_flake
from hyperhive.host.drivers.nixos_names import find_agent, plan_machine
from hyperhive.host.drivers.protocol import ContainerSpec, Driver, Observation, Package, SizeDifference
from hyperhive.testing.nix_driver import WrittenInNix
from nix_machines import NixMachine, ask_here
from nix_rig import SYSTEM, make_inputs

NixDriver = WrittenInNix[ContainerSpec, Observation, Package, SizeDifference]


@dataclass(frozen=True, slots=True)
class Evaluator:
    """`machine` is the one whose store packages are looked for in; None: this machine's, which may have none."""

    inputs: NixInputs
    machine: NixMachine | None = None

    async def __call__(self, name: str, files: Mapping[str, bytes]) -> bytes:
        return await self._evaluate(name, files, evaluate_agent)

    async def list_packages(self, name: str, files: Mapping[str, bytes]) -> list[Package]:
        return parse_packages(await self._evaluate(name, files, evaluate_packages))

    async def compare_packages(self, before: Sequence[str], after: Sequence[str]) -> SizeDifference:
        if self.machine is None:
            return await compare_packages(ask_here, before, after)
        return await compare_packages(self.machine.ask, before, after, store=self.machine.store)

    async def _evaluate(
        self, name: str, files: Mapping[str, bytes], evaluate: Callable[[Path], Awaitable[bytes]]
    ) -> bytes:
        identity = Identity(find_agent(name), plan_machine(name), 8945, SYSTEM)
        with tempfile.TemporaryDirectory(prefix="hive-flake-") as place:
            flake = Path(place) / "flake"
            await asyncio.to_thread(write_flake, flake, self.inputs, identity, files)
            return await evaluate(flake)


def make_evaluator(folder: Path, machine: NixMachine | None = None) -> Evaluator:
    """With inputs that are made below `folder`."""
    return Evaluator(make_inputs(folder).of_driver, machine)


def wrap(driver: Driver, evaluator: Evaluator) -> NixDriver:
    return NixDriver(
        driver,
        evaluator=evaluator,
        lister=evaluator.list_packages,
        comparer=evaluator.compare_packages,
        revision=evaluator.inputs.revision,
    )
