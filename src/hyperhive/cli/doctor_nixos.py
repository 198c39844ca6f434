"""What the nixos driver needs: a NixOS that can have containers, nix with flakes, and what systems are built from."""

import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from hyperhive.cli.doctor_checks import PROBE_TIMEOUT_S, Check, missing, ok
from hyperhive.cli.doctor_kernel import NIXOS_FEATURES, check_features
from hyperhive.cli.units.place import SERVICE, is_nixos
from hyperhive.cli.units.systemctl import Systemctl
from hyperhive.core.errors import HiveError
from hyperhive.core.text import render_safe_line
from hyperhive.system.cgroup_scopes import SYSTEMD_RUNS
from hyperhive.system.process import ProcessError, run

INPUTS_VARIABLE = "HIVE_NIX_INPUTS"
# What of the service's environment says how its containers are made.
_VARIABLES = ("HIVE_DRIVER", INPUTS_VARIABLE)
_NEEDED_INPUTS = ("hyperhive", "nixpkgs")
_PROGRAMS = ("nixos-container", "machinectl", "nsenter", "bwrap")
# Roots of containers and what NixOS binds into them: the kernel has to show their files by each one's own ids.
_MAPPED = (Path("/var/lib/nixos-containers"), Path("/nix/store"))
_MEND = "services.hyperhive.enable = true on a NixOS, then nixos-rebuild switch"
# Each container is built from a flake; the version of nix, if it knows these.
_PROBE = (
    *("nix", "--extra-experimental-features", "nix-command flakes", "eval", "--store", "dummy://"),
    *("--raw", "--expr", 'if builtins ? getFlake then builtins.nixVersion else ""'),
)


async def check_nixos_machine(environment: Mapping[str, str], *, is_used: bool) -> list[Check]:
    """`is_used`: a hive runs with this driver, so that it has what systems are built from."""
    return [
        check_system(),
        *(check_found(program, shutil.which(program)) for program in _PROGRAMS),
        *await _check_kernel(),
        await _check_nix(),
        check_inputs(environment.get(INPUTS_VARIABLE, ""), is_used=is_used),
    ]


def check_system() -> Check:
    """Whether this is a NixOS that systemd has started: containers are units of its."""
    if not is_nixos():
        return missing("NixOS", "this machine is none: for others there is the nspawn driver", _MEND)
    if not SYSTEMD_RUNS.is_dir():
        return missing("NixOS", "systemd does not run this machine", "boot it: its containers are systemd's")
    return ok("NixOS", "run by systemd")


def check_found(program: str, found: str | None) -> Check:
    return ok(program, found) if found is not None else missing(program, "not installed", _MEND)


async def _check_kernel() -> list[Check]:
    # Only root may try it.
    places = _MAPPED if os.geteuid() == 0 else ()
    found = [check for place in places for check in await check_features(place, NIXOS_FEATURES)]
    # Not all of it depends on the place.
    return list(dict.fromkeys(found))


async def _check_nix() -> Check:
    try:
        done = await run(_PROBE, timeout_s=PROBE_TIMEOUT_S)
    except ProcessError as error:
        return missing("nix", str(error), _MEND)
    version = done.stdout.decode("utf-8", "replace").strip()
    if not done.ok or not version:
        return missing("nix", f"without flakes: {done.error_text or 'too old'}", "install nix 2.8 or later")
    return ok("nix", f"{render_safe_line(version)}, with flakes")


def check_inputs(text: str, *, is_used: bool) -> Check:
    """What systems are built from, as `HIVE_NIX_INPUTS` names it; whether that is there."""
    name = "nix inputs"
    if not text:
        told = "those of the running hive, which are not seen from here"
        return ok(name, told) if is_used else missing(name, f"{INPUTS_VARIABLE} is not set", _MEND)
    paths = {word.partition("=")[0]: Path(word.partition("=")[2]) for word in text.split()}
    lacking = [needed for needed in _NEEDED_INPUTS if needed not in paths]
    if lacking:
        return missing(name, f"{INPUTS_VARIABLE} does not name {' and '.join(lacking)}", _MEND)
    gone = [str(path) for path in paths.values() if not path.is_dir()]
    if gone:
        return missing(name, f"not there: {render_safe_line(', '.join(gone))}", _MEND)
    return ok(name, render_safe_line(", ".join(paths)))


async def add_service_environment(environment: Mapping[str, str]) -> Mapping[str, str]:
    """`environment`, and on NixOS what the service is told of containers: no file has that there."""
    if not is_nixos():
        return environment
    try:
        shown = await Systemctl(user=False).attempt("show", "--property=Environment", SERVICE)
    except HiveError:
        return environment
    return {**parse_service_environment(shown.stdout.decode("utf-8", "replace")), **environment}


def parse_service_environment(shown: str) -> dict[str, str]:
    """What `systemctl show --property=Environment` says of how containers are made."""
    try:
        words = shlex.split(shown.strip().removeprefix("Environment="))
    except ValueError:
        return {}
    found = dict(word.split("=", 1) for word in words if "=" in word)
    return {name: found[name] for name in _VARIABLES if name in found}
