"""What an agent.nix costs to evaluate: shut in as the hive does it, beside nix alone, with nix's daemon and a store.

With the stand-in for nixpkgs; with all of NixOS where HIVE_NIXPKGS names a whole nixpkgs.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from benchmarks.measure import Context, Rounds, Row
from hyperhive.core.errors import HiveError
from hyperhive.host.drivers.nix_evaluation import (
    BOUNDS,
    FEATURES,
    Bounds,
    evaluate_agent,
    evaluate_packages,
    evaluate_system,
)
from hyperhive.host.drivers.nixos_flake import Identity, NixInputs, write_flake
from nix_machines import NixMachine, run_nix_machine
from nix_rig import NIXPKGS_VARIABLE, SYSTEM, Variant, make_inputs

_IDENTITY = Identity("alice", "h-alice", 8945, SYSTEM)
_CONFIG = b'{ hyperhive.allowedRecipients = [ "bob" ]; hyperhive.packages = [ "ripgrep" ]; }\n'
_MIB = 1024**2
_BARE = ("nix", "--extra-experimental-features", FEATURES, "eval", "--read-only", "--no-write-lock-file")
_EVALUATIONS: Final[dict[str, tuple[Callable[..., Awaitable[object]], tuple[str, ...]]]] = {
    "what an agent may do": (evaluate_agent, ("--json", "agentConfig")),
    "the packages of its system": (evaluate_packages, ("--json", "agentPackages")),
    "its whole system, named and not built": (
        evaluate_system,
        ("--raw", "nixosConfigurations.container.config.system.build.toplevel.drvPath"),
    ),
}


def measure(context: Context) -> list[Row]:
    named = os.environ.get(NIXPKGS_VARIABLE, "")
    whole = bool(named) and Path(named, "nixos").is_dir()
    made = make_inputs(context.folder / "inputs", Variant.WHOLE if whole else Variant.STAND_IN)
    with run_nix_machine(context.folder / "machine") as machine:
        # In the store, as the inputs of a machine's flake are.
        inputs = NixInputs(machine.add(made.hive), machine.add(made.nixpkgs))
        # The machine sees it as /nix/agent.
        flake = machine.folder / "agent"
        write_flake(flake, inputs, _IDENTITY, {"agent.nix": _CONFIG})
        scale = "all of NixOS" if whole else "a stand-in for nixpkgs"
        return [
            asyncio.run(_measure(context, machine, flake, f"agent.nix, with {scale}: {what}", evaluate, bare))
            for what, (evaluate, bare) in _EVALUATIONS.items()
        ]


async def _measure(
    context: Context,
    machine: NixMachine,
    flake: Path,
    what: str,
    evaluate: Callable[..., Awaitable[object]],
    bare: tuple[str, ...],
) -> Row:
    form, attribute = bare
    rounds = Rounds()
    # The first of each finds nothing in the disk's cache, and has the flake copied.
    for counts in [False] + [True] * context.choose(7, 3):
        began = time.perf_counter()
        done = await machine.ask([*_BARE, form, f"path:/nix/agent#{attribute}"])
        between = time.perf_counter()
        await evaluate(flake, nix=machine.nix)
        ended = time.perf_counter()
        if not done.ok:
            raise RuntimeError(done.error_text)
        if counts:
            rounds.add("bare", between - began)
            rounds.add("hive", ended - between)
    ours = f"{rounds.median('hive'):.2f} s, with {await _find_memory(machine, flake, evaluate)} MiB at most"
    goal = f"≤ {BOUNDS.timeout_s:g} s, {BOUNDS.memory_bytes // _MIB} MiB"
    return Row(what, ours, f"nix alone: {rounds.median('bare'):.2f} s", rounds.render_ratio("hive", "bare"), goal)


async def _find_memory(machine: NixMachine, flake: Path, evaluate: Callable[..., Awaitable[object]]) -> int:
    """The least of some sizes of address space that is enough, in MiB."""
    for mib in (256, 512, 768, 1024, 1536, 2048, 3072):
        with contextlib.suppress(HiveError):
            await evaluate(flake, nix=machine.nix, bounds=Bounds(memory_bytes=mib * _MIB))
            return mib
    return BOUNDS.memory_bytes // _MIB
