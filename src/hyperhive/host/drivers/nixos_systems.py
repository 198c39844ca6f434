"""The systems of NixOS that containers have: evaluated, built, and handed to nixos-container."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hyperhive.core.errors import HiveError, InvalidInputError
from hyperhive.core.ports import find_agent_port
from hyperhive.host.drivers.nix_errors import parse_failure
from hyperhive.host.drivers.nix_evaluation import evaluate_agent, evaluate_packages
from hyperhive.host.drivers.nix_packages import parse_packages
from hyperhive.host.drivers.nix_store import COMPARE_LIMIT_S, compare_packages
from hyperhive.host.drivers.nixos_config import SystemRecord, load_system, plan_key, save_system
from hyperhive.host.drivers.nixos_flake import Identity, NixInputs, write_flake
from hyperhive.host.drivers.nixos_machines import Machines
from hyperhive.host.drivers.nixos_names import find_agent, plan_machine
from hyperhive.host.drivers.nixos_programs import NIX_OPTIONS, WORKING_PREFIX, Programs
from hyperhive.host.drivers.protocol import DriverError, Package, SizeDifference
from hyperhive.system.files import write_atomically
from hyperhive.system.process import Completed

_SYSTEM = "nixosConfigurations.container.config.system.build.toplevel"
# What is kept of the words of a build: the last.
_SAID_LIMIT_BYTES = 256 * 1024
_EVALUATION_PREFIX = ".evaluation-"

# Takes a flake; raises InvalidInputError and DriverError.
Evaluate = Callable[[Path], Awaitable[bytes]]
EvaluateFirst = Callable[[Path], Awaitable[object]]


class Systems:
    """`folder` has the folders of containers, which the names are those of."""

    def __init__(
        self,
        folder: Path,
        inputs: NixInputs,
        machines: Machines,
        programs: Programs,
        evaluate_first: EvaluateFirst,
    ) -> None:
        self._folder = folder
        self._inputs = inputs
        self._machines = machines
        self._programs = programs
        self._evaluate_first = evaluate_first

    def sweep(self) -> None:
        """Removes what a daemon left that ended at work."""
        for pattern in (f"{_EVALUATION_PREFIX}*", f"*/{WORKING_PREFIX}*"):
            for folder in self._folder.glob(pattern):
                shutil.rmtree(folder, ignore_errors=True)

    async def evaluate(self, name: str, files: Mapping[str, bytes]) -> bytes:
        """See `BuildsSystems`."""
        return await self._evaluate(name, files, evaluate_agent)

    async def list_packages(self, name: str, files: Mapping[str, bytes]) -> list[Package]:
        """See `BuildsSystems`."""
        return parse_packages(await self._evaluate(name, files, evaluate_packages))

    async def compare_packages(self, before: Sequence[str], after: Sequence[str]) -> SizeDifference:
        """See `BuildsSystems`."""
        return await compare_packages(self._ask_store, before, after)

    async def _ask_store(self, argv: Sequence[str]) -> Completed:
        return await self._programs.run(*argv, timeout_s=COMPARE_LIMIT_S)

    async def _evaluate(self, name: str, files: Mapping[str, bytes], evaluate: Evaluate) -> bytes:
        identity = plan_identity(name)
        try:
            with TemporaryDirectory(prefix=_EVALUATION_PREFIX, dir=self._folder) as text:
                folder = Path(text)
                await asyncio.to_thread(write_flake, folder / "flake", self._inputs, identity, files)
                return await evaluate(folder / "flake")
        except OSError as error:
            raise DriverError(f"{name} cannot be evaluated: {error}", "is the disk full?") from error

    async def build(self, name: str, files: Mapping[str, bytes]) -> None:
        """See `BuildsSystems`. A link to what was built keeps it until the container is made of it."""
        identity, place = plan_identity(name), make_place(self._folder, name)
        key, kept = plan_key(self._inputs, identity, files), load_system(place)
        link = place / "built"
        if (kept.made == key and self._machines.has_profile(name)) or (kept.built == key and link.exists()):
            return
        await asyncio.to_thread(write_flake, place / "next", self._inputs, identity, files)
        # nix, as root, will evaluate what an agent wrote: how that ends was seen before, without any right.
        await self._evaluate_first(place / "next")
        flake = f"path:{place / 'next'}#{_SYSTEM}"
        argv = ("nix", "build", "--print-build-logs", "--out-link", str(link), *NIX_OPTIONS, "--", flake)
        await self._run(argv, place, files)
        save_system(place, replace(load_system(place), built=key))

    async def make(self, name: str, files: Mapping[str, bytes]) -> None:
        """Has nixos-container make the container, or give it another system, if it has not the wanted one.

        Raises InvalidInputError if nix names a place in the config, and DriverError.
        """
        identity, place = plan_identity(name), make_place(self._folder, name)
        key = plan_key(self._inputs, identity, files)
        is_there = self._machines.is_there(name)
        if is_there and not self._machines.has_profile(name):
            # Somebody was ended while he made it: of that only the conf is left.
            await self._machines.remove(name)
            is_there = False
        kept = load_system(place)
        if is_there and kept.made == key:
            return
        await asyncio.to_thread(write_flake, place / "flake", self._inputs, identity, files)
        if kept.built != key:
            await self._evaluate_first(place / "flake")
        # Whatever comes of it, it is not known to be the one before.
        save_system(place, replace(kept, made="", revision=""))
        verb = "update" if is_there else "create"
        flake = f"{self._machines.plan_flake(name)}#container"
        try:
            await self._run(("nixos-container", verb, identity.machine, "--flake", flake, *NIX_OPTIONS), place, files)
        except HiveError:
            if not is_there and self._machines.is_there(name):
                # What cannot be removed now is removed by the next one.
                with contextlib.suppress(DriverError):
                    await self._machines.remove(name)
            raise
        save_system(place, SystemRecord(key, self._inputs.revision))
        # The container's own profile keeps it from now on.
        (place / "built").unlink(missing_ok=True)

    async def _run(self, argv: Sequence[str], place: Path, files: Mapping[str, bytes]) -> None:
        """Raises InvalidInputError if nix names a place in the config, else DriverError."""
        done = await self._programs.build(argv, place)
        said = place / "build.log"
        try:
            write_atomically(said, (done.stdout + done.stderr)[-_SAID_LIMIT_BYTES:], 0o600)
        except OSError as error:
            raise DriverError(f"{said} cannot be written: {error.strerror}", "is the disk full?") from error
        if done.ok:
            return
        failure = parse_failure(_drop_script(done.stderr), files, {self._folder: "the hive's folder"})
        hint = f"what nix said is in {said}"
        if failure.file is not None:
            raise InvalidInputError(failure.render(), hint)
        raise DriverError(f"its system cannot be built: {failure.text}", hint)


def plan_identity(container: str) -> Identity:
    """Raises DriverError for a name that no container of NixOS can have."""
    agent = find_agent(container)
    return Identity(agent, plan_machine(container), find_agent_port(agent), f"{os.uname().machine}-linux")


def make_place(folder: Path, name: str) -> Path:
    """The folder of a container, whose name was looked at. Raises DriverError."""
    place = folder / name
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DriverError(f"the container's folder cannot be written: {error}", "is the disk full?") from error
    return place


def _drop_script(stderr: bytes) -> bytes:
    """What nix said, without what nixos-container adds at the end."""
    return b"".join(line for line in stderr.splitlines(keepends=True) if b"nixos-container: " not in line)
