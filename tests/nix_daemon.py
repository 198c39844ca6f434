"""The daemon, with agents that are written in Nix: `python nix_daemon.py PLACE FLAGS`.

PLACE has the inputs of systems, as `nix_rig.make_inputs` makes them, and a machine's store in `machine`.
"""

import runpy
import sys
from pathlib import Path
from typing import Any

from doors import replace_function
from hyperhive.host.drivers import registry
from hyperhive.host.drivers.nixos_flake import NixInputs
from hyperhive.host.drivers.protocol import Driver
from nix_driver_rig import Evaluator, wrap
from nix_machines import NixMachine

_place = Path(sys.argv[1])
_make_driver = registry.make_driver


def make_driver_of_nix(*arguments: Any, **options: Any) -> Driver:
    inputs = NixInputs(_place / "hive", _place / "nixpkgs", _place / "unstable")
    return wrap(_make_driver(*arguments, **options), Evaluator(inputs, NixMachine(_place / "machine")))


replace_function(_make_driver, make_driver_of_nix)

if __name__ == "__main__":
    sys.argv = ["hived", *sys.argv[2:]]
    runpy.run_module("hyperhive.host.main", run_name="__main__", alter_sys=True)
