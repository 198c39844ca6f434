"""Nix for tests: evaluation without a daemon, and what the hive's flake needs beside itself.

Nothing is built and nothing fetched: the store is that of a machine of the tests' own, and holds the inputs.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from hyperhive.host.drivers.nixos_flake import NixInputs
from nix_machines import NixMachine, make_nix_machine

ROOT = Path(__file__).parents[1]
STAND_IN = ROOT / "tests/nix/nixpkgs"
# A copy of nixpkgs, or of its lib alone: the same tests run with it, too.
NIXPKGS_VARIABLE = "HIVE_NIXPKGS"
SYSTEM = "x86_64-linux"
_PARSE_TIMEOUT_S = 120.0

_OPTIONS = {
    "experimental-features": "nix-command flakes",
    "allow-import-from-derivation": "false",
    "flake-registry": "",
}
_PIECES = ("flake.nix", "nix", "pyproject.toml", "LICENSE", "README.md", "hatch_build.py", "web/package-lock.json")
_FLAKE = """\
{
  inputs = {
    nixpkgs.url = "path:@nixpkgs@";
    unstable.url = "path:@unstable@";
    hyperhive.url = "path:@hive@";
    hyperhive.inputs.nixpkgs.follows = "nixpkgs";
    hyperhive.inputs.unstable.follows = "unstable";
  };
  outputs = { self, nixpkgs, unstable, hyperhive }: @outputs@;
}
"""


class EvaluationError(Exception):
    """Nix refused; with all it said."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The folders that a flake of a test is made of."""

    hive: Path
    nixpkgs: Path
    unstable: Path

    @property
    def of_driver(self) -> NixInputs:
        """As the driver of NixOS has them."""
        return NixInputs(self.hive, self.nixpkgs, self.unstable)


class Variant(StrEnum):
    """What the hive's modules are evaluated with."""

    STAND_IN = "the stand-in"
    # nixpkgs' own lib, with the stand-in's options and packages.
    LIB = "nixpkgs' lib"
    # nixpkgs as it is.
    WHOLE = "nixpkgs"


def copy_hive(folder: Path) -> Path:
    """The hive's flake with what its evaluation reads, in a folder of its own: a checkout holds far more."""
    for piece in _PIECES:
        target = folder / piece
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / piece).is_dir():
            shutil.copytree(ROOT / piece, target)
        else:
            shutil.copy(ROOT / piece, target)
    (folder / "src").mkdir()
    return folder


def make_inputs(folder: Path, variant: Variant = Variant.STAND_IN) -> Inputs:
    """Inputs, made below `folder`. Leaves a test out if it needs a nixpkgs that nobody named."""
    named = os.environ.get(NIXPKGS_VARIABLE)
    nixpkgs = Path(named).resolve() if named else None
    if variant is not Variant.STAND_IN and nixpkgs is None:
        pytest.skip(f"{NIXPKGS_VARIABLE} names no copy of nixpkgs")
    if variant is Variant.WHOLE:
        assert nixpkgs is not None
        if not (nixpkgs / "nixos").is_dir():
            pytest.skip(f"{nixpkgs} has no nixos/: the modules of NixOS itself were left out")
        return Inputs(copy_hive(folder / "hive"), nixpkgs, nixpkgs)
    made = folder / "nixpkgs"
    shutil.copytree(STAND_IN, made)
    if nixpkgs is not None and variant is Variant.LIB:
        shutil.rmtree(made / "lib")
        shutil.copytree(nixpkgs / "lib", made / "lib")
    unstable = folder / "unstable"
    shutil.copytree(made, unstable)
    # As nixpkgs' own branches differ: the newer one has another claude-code.
    packages = unstable / "default.nix"
    packages.write_text(packages.read_text().replace('claudeVersion ? "1.0"', 'claudeVersion ? "2.0"'))
    return Inputs(copy_hive(folder / "hive"), made, unstable)


def write_flake(folder: Path, inputs: Inputs, outputs: str, files: Mapping[str, str] | None = None) -> Path:
    """A flake whose outputs are the expression `outputs` of nixpkgs, unstable and hyperhive."""
    folder.mkdir(parents=True, exist_ok=True)
    text = _FLAKE.replace("@outputs@", outputs)
    for name in ("nixpkgs", "unstable", "hive"):
        text = text.replace(f"@{name}@", str(getattr(inputs, name)))
    for name, content in {"flake.nix": text, **(files or {})}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@dataclass(frozen=True, slots=True)
class Bench:
    """A machine with inputs in its store, as it sees them, and room for flakes."""

    inputs: Inputs
    machine: NixMachine
    variant: Variant

    def evaluate(self, outputs: str, attribute: str, files: Mapping[str, str] | None = None) -> Any:
        """The value of an attribute of a flake with these outputs and files. Raises EvaluationError."""
        flake = self.machine.folder / "flake"
        shutil.rmtree(flake, ignore_errors=True)
        write_flake(flake, self.inputs, outputs, files)
        options = [word for name, value in _OPTIONS.items() for word in ("--option", name, value)]
        command = ("nix", *options, "eval", "--json", "--no-write-lock-file", f"path:/nix/flake#{attribute}")
        done = self.machine.attempt(*command)
        if done.returncode != 0:
            raise EvaluationError(re.sub(r"\x1b\[[0-9;]*m", "", done.stderr))
        return json.loads(done.stdout)


def open_bench(folder: Path, variant: Variant) -> Bench:
    made, machine = make_inputs(folder / "inputs", variant), make_nix_machine(folder / "machine")
    nixpkgs = machine.add(made.nixpkgs)
    # The whole one is large: it is added once.
    unstable = nixpkgs if made.unstable == made.nixpkgs else machine.add(made.unstable)
    return Bench(Inputs(machine.add(made.hive), nixpkgs, unstable), machine, variant)


def parse_nix_file(file: Path, store: Path) -> str:
    """What Nix reads in a file. Raises EvaluationError if it is not Nix."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(store), "NIX_REMOTE": str(store)}
    done = subprocess.run(
        ["nix-instantiate", "--parse", str(file)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_PARSE_TIMEOUT_S,
    )
    if done.returncode != 0:
        raise EvaluationError(done.stderr)
    return done.stdout
