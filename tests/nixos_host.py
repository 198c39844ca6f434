"""A machine as a host of NixOS containers: a booted Debian with nix, and systems that nix builds there and that boot.

What a system is made of is Debian's, put in the store beside it (see nixos_unit/system): no other can be had without
the network. nix, systemd, machined and nspawn are real; so is the command `nixos-container`, where one is named.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson
from packaging.requirements import Requirement

import hyperhive
from booted import PACKAGES, Booted, find_base
from nix_rig import NIXPKGS_VARIABLE, STAND_IN, copy_hive

# Names the command of nixpkgs: only with it there are containers by command.
COMMAND_VARIABLE = "HIVE_NIXOS_CONTAINER"
# Names a folder with the unit of its containers; without it a folder `unit` beside the command is taken, then ours.
UNIT_VARIABLE = "HIVE_NIXOS_UNIT"
NIXOS_PACKAGES = (
    *PACKAGES,
    *("nix-bin", "nix-setup-systemd", "perl", "libfile-slurp-perl", "iproute2", "bash-static", "busybox-static"),
)
# As on NixOS: builds see what they are made from and a shell, and everybody may ask the daemon.
_NIX_CONF = "sandbox = true\nsubstituters =\nextra-sandbox-paths = /bin/sh=/usr/bin/busybox{tools}\n"
_SOCKET_MODE = "[Service]\nExecStartPre=chmod 755 /nix/var/nix/daemon-socket\n"
_TOOLS = ("cat", "chmod", "chown", "cp", "cut", "grep", "ln", "mkdir", "mount", "mv", "readlink", "rm", "sed")
_DISK = "hive-nixos-disk-"
_DISK_BYTES = 16 * 1024**3
_HERE = Path(__file__).parent
# Compiled Python files: bytes 4 to 8 are flags. 1 means: never compared with the source, whose date the store changes.
_UNCHECKED = (1).to_bytes(4, "little")


class NixosHost:
    """`machine` runs. `inputs` is what the daemon's setting `nix_inputs` would say there."""

    def __init__(self, machine: Booted, inputs: str) -> None:
        self.machine = machine
        self.inputs = inputs

    def run(self, *argv: str, timeout_s: float = 120, **environment: str) -> str:
        return self.machine.run(*argv, check=True, timeout_s=timeout_s, **environment)

    def show(self, unit: str, name: str) -> str:
        return self.run("systemctl", "show", f"--property={name}", "--value", unit)

    def write(self, path: str, text: str) -> None:
        """A file of the machine."""
        file = self.machine.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def read(self, path: str) -> str:
        return (self.machine.root / path.lstrip("/")).read_text()


def find_command() -> Path | None:
    """The command that containers are made by, if the one who tests has it."""
    named = os.environ.get(COMMAND_VARIABLE, "")
    return Path(named).resolve() if named else None


@contextlib.contextmanager
def nixos_host(folder: Path, command: Path | None = None) -> Generator[NixosHost]:
    """A running one for as long as the context lasts, with `command` as its nixos-container. Raises RigError."""
    with _disk(folder):
        machine = Booted(folder, find_base(NIXOS_PACKAGES))
        try:
            _prepare(machine.root)
            machine.boot()
            tools = _add_tools(machine)
            inputs = _add_sources(machine, tools)
            _install_units(machine, command, tools)
            yield NixosHost(machine, inputs)
        finally:
            machine.cut_power()


@contextlib.contextmanager
def _disk(folder: Path) -> Generator[None]:
    """A disk for the machine's root: its 80,000 files are gone at once with it, and take a minute one by one."""
    _end_orphans()
    root, image = folder / "root", folder / f"{_DISK}{os.getpid()}"
    root.mkdir(parents=True)
    try:
        with image.open("wb") as file:
            file.truncate(_DISK_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", str(image)], check=True, timeout=60)
        subprocess.run(["mount", "-o", "loop,noatime", str(image), str(root)], check=True, timeout=60)
        yield
    finally:
        # Lazily: a process of this machine that looks around in there is none of ours to end.
        subprocess.run(["umount", "--lazy", str(root)], check=False, timeout=60)
        image.unlink(missing_ok=True)


def _end_orphans() -> None:
    """Disks of tests that were killed."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, device = line.split()[4], line.partition(" - ")[2].split()[1]
        backing = Path("/sys/block", Path(device).name, "loop/backing_file")
        name = Path(backing.read_text().strip()).name if backing.exists() else ""
        if name.startswith(_DISK) and not Path("/proc", name.removeprefix(_DISK)).exists():
            subprocess.run(["umount", "--lazy", mount], check=False, timeout=60)


def _prepare(root: Path) -> None:
    (root / "etc/nix/nix.conf").write_text(_NIX_CONF.format(tools=""))
    drop_in = root / "etc/systemd/system/nix-daemon.service.d/mode.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text(_SOCKET_MODE)
    for name in ("etc/nixos-containers", "nix/var/nix/profiles/per-container", "nix/var/nix/gcroots/per-container"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "var/lib/nixos-containers").mkdir(mode=0o700)
    (root / "nix/store").mkdir(parents=True, exist_ok=True)
    tools = root / "srv/tools/bin"
    tools.mkdir(parents=True)
    shutil.copy(root / "usr/bin/bash-static", tools / "bash")
    shutil.copy(root / "usr/bin/busybox", tools / "busybox")
    for name in _TOOLS:
        (tools / name).symlink_to("busybox")
    _copy_etc(root)
    _copy_python(root / "srv/python")
    _copy_sources(root / "srv")


def _copy_etc(root: Path) -> None:
    """What a container has as /etc at its first start, with no unit switched on and no name."""
    target = root / "srv/etc"
    # Of each container's own, or nspawn's: it brings its time zone.
    own = ("machine-id", "hostname", "resolv.conf", "os-release", "localtime")
    left_out = shutil.ignore_patterns("nix", "nixos-containers", *own)
    shutil.copytree(root / "etc", target, symlinks=True, ignore=left_out)
    shutil.rmtree(target / "systemd/system")
    (target / "systemd/system").mkdir()


def _copy_sources(target: Path) -> None:
    """The flakes that agents' systems are built from: the hive's own, and a nixpkgs of ours whose systems boot.

    Its lib is that of nixpkgs where one is named.
    """
    copy_hive(target / "hyperhive")
    shutil.copytree(_HERE / "nixos_unit/system", target / "nixpkgs")
    base = target / "nixpkgs/base"
    shutil.copytree(STAND_IN, base)
    if named := os.environ.get(NIXPKGS_VARIABLE, ""):
        shutil.rmtree(base / "lib")
        shutil.copytree(Path(named, "lib"), base / "lib")


def _add(machine: Booted, path: str) -> str:
    """Its place in the machine's store, where it is put."""
    return machine.run("nix-store", "--add", path)


def _add_tools(machine: Booted) -> str:
    """What systems are built with, and become what they are with: without a library, so that they run anywhere."""
    tools = _add(machine, "/srv/tools")
    (machine.root / "etc/nix/nix.conf").write_text(_NIX_CONF.format(tools=f" {tools}"))
    machine.run("systemctl", "restart", "nix-daemon.service")
    return tools


def _add_sources(machine: Booted, tools: str) -> str:
    """Returns the inputs of systems."""
    python = _add(machine, "/srv/python") if (machine.root / "srv/python").exists() else "/usr"
    _make_program(machine.root / "srv/program", python)
    program = _add(machine, "/srv/program")
    paths = {
        "tools": tools,
        "usr": _add(machine, "/usr"),
        "etc": _add(machine, "/srv/etc"),
        "python": python,
        "program": program,
        "claude": f"{program}/{_find_site()}/claude_agent_sdk/_bundled/claude",
    }
    (machine.root / "srv/nixpkgs/paths.json").write_bytes(orjson.dumps(paths))
    return f"hyperhive={_add(machine, '/srv/hyperhive')} nixpkgs={_add(machine, '/srv/nixpkgs')}"


# -- the program that runs in containers ---------------------------------------------------------------------


def _find_site() -> str:
    return f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


def _copy_python(target: Path) -> None:
    """The interpreter that the tests run with, unless it is the system's and so Debian's there, too."""
    base = Path(sys.base_prefix)
    if base == Path("/usr"):
        return
    (target / "bin").mkdir(parents=True)
    version = Path(_find_site()).parts[1]
    shutil.copy(base / "bin" / version, target / "bin" / version)
    ignored = shutil.ignore_patterns("site-packages", "test", "tests", "idlelib", "lib2to3", "ensurepip", "config-*")
    shutil.copytree(base / "lib" / version, target / "lib" / version, ignore=ignored)
    for library in (base / "lib").glob("libpython*.so*"):
        shutil.copy(library, target / "lib")
    _freeze(target)


def _make_program(target: Path, python: str) -> None:
    """The package with what it needs, as an environment of the interpreter `python`/bin."""
    version = Path(_find_site()).parts[1]
    site = target / _find_site()
    site.mkdir(parents=True)
    for distribution in _list_distributions():
        for file in distribution.files or ():
            # What is installed elsewhere is programs, and what an editable one has is a path.
            if ".." not in file.parts and file.suffix != ".pth":
                place = site / file
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(distribution.locate_file(file)), place)
    shutil.copytree(Path(hyperhive.__file__).parent, site / "hyperhive", dirs_exist_ok=True)
    _freeze(site)
    (target / "pyvenv.cfg").write_text(f"home = {python}/bin\n")
    (target / "bin").mkdir()
    (target / "bin" / "python").symlink_to(f"{python}/bin/{version}")
    script = target / "bin/hive-harness"
    # It is found by a link.
    script.write_text(
        '#!/bin/sh\nexec "$(readlink -f "$0" | sed s/hive-harness$/python/)" -I -m hyperhive.harness.main\n'
    )
    script.chmod(0o755)


def _list_distributions() -> list[metadata.Distribution]:
    """Of the package itself and all that it needs to run."""
    wanted: list[tuple[str, frozenset[str]]] = [("hyperhive", frozenset())]
    found: dict[str, metadata.Distribution] = {}
    seen: set[Any] = set()
    while wanted:
        name, extras = wanted.pop()
        if (name.lower(), extras) in seen:
            continue
        seen.add((name.lower(), extras))
        distribution = metadata.distribution(name)
        found[distribution.name.lower()] = distribution
        for line in distribution.requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                wanted.append((needed.name, frozenset(needed.extras)))
    return list(found.values())


def _freeze(folder: Path) -> None:
    for file in folder.rglob("*.pyc"):
        with file.open("r+b") as compiled:
            compiled.seek(4)
            compiled.write(_UNCHECKED)


# -- units -------------------------------------------------------------------------------------------------

_UNITS = Path("/usr/local/lib")


def _install_units(machine: Booted, command: Path | None, tools: str) -> None:
    """`own-container@`, and as `container@` that of the command, if there is one, else ours again."""
    ours = _HERE / "nixos_unit"
    _install_unit(machine, ours, "own-container@.service", tools)
    _install_unit(machine, _find_unit(command) or ours, "container@.service", tools)
    if command is not None:
        installed = machine.root / "usr/local/bin/nixos-container"
        shutil.copy(command, installed)
        installed.chmod(0o755)
    machine.run("systemctl", "daemon-reload")


def _find_unit(command: Path | None) -> Path | None:
    if named := os.environ.get(UNIT_VARIABLE, ""):
        return Path(named).resolve(strict=True)
    beside = command.parent / "unit" if command else None
    return beside if beside and beside.is_dir() else None


def _install_unit(machine: Booted, source: Path, name: str, tools: str) -> None:
    """A folder with `container@.service`, which has @UNIT@ for the folder.

    In its `start` @INIT@ is `container-init`, which runs in containers, by @TOOLS@/bin/bash.
    """
    place = _UNITS / name.removesuffix("@.service")
    target = machine.root / str(place).lstrip("/")
    target.mkdir(parents=True)
    for file in source.iterdir():
        if file.is_file():
            shutil.copy(file, target)
    if (target / "container-init").exists():
        _replace(target / "container-init", "@TOOLS@", tools)
        _replace(target / "start", "@INIT@", _add(machine, f"{place}/container-init"))
    _replace(target / "container@.service", "@UNIT@", str(place))
    shutil.copy(target / "container@.service", machine.root / "etc/systemd/system" / name)


def _replace(file: Path, placeholder: str, value: str) -> None:
    file.write_text(file.read_text().replace(placeholder, value))
