"""The drivers that this machine can measure, each beside the bare program that it uses; what their containers hold."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.measure import Context
from benchmarks.processes import Memory, list_container, observe_memory
from hyperhive.core.limits import UNLIMITED
from hyperhive.core.names import container_name
from hyperhive.core.paths import Roots
from hyperhive.core.uids import FIRST_RANGED_UID, RANGE_WIDTH, range_start
from hyperhive.host.container_spec import HARNESS
from hyperhive.host.drivers.images import Images
from hyperhive.host.drivers.protocol import Driver, DriverError
from hyperhive.host.drivers.registry import make_driver
from hyperhive.system.cgroups import Group, Groups
from image_cache import find_folder, make_images

# Behind those that a hive gives out.
_PEER_UID = FIRST_RANGED_UID + 1000 * RANGE_WIDTH
_BWRAP = ("bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true")
_RUNSC = ("runsc", "--network=none", "--ignore-cgroups", "do", "true")
# As the harness begins, up to where it would connect.
HARNESS_IMPORTED = (HARNESS[0], "-I", "-c", f"import {HARNESS[-1]}")


@dataclass(frozen=True, slots=True)
class Kind:
    """A driver by its name, and the program that makes a container of `true` without us."""

    name: str
    peer: str

    @property
    def has_image(self) -> bool:
        return self.name != "bubblewrap"

    def flags(self) -> tuple[str, ...]:
        """Those of a hive with this driver. Nothing listens at its upstream: no turn is run."""
        return ("--driver", self.name, "--upstream", "http://127.0.0.1:9")

    def driver(self, data: Path) -> Driver:
        return make_driver(self.name, Roots(data, data / "run"))


_KINDS = (
    Kind("bubblewrap", "bwrap … true"),
    Kind("nspawn", "systemd-nspawn … true"),
    Kind("gvisor", "runsc do true"),
)
_PROGRAMS = {"bubblewrap": "bwrap", "nspawn": "systemd-nspawn", "gvisor": "runsc"}


def find_kinds() -> list[Kind]:
    """Those that this machine and this user can run, their images being there; says which are left out."""
    found: list[Kind] = []
    for kind in _KINDS:
        reason = _find_obstacle(kind)
        if reason:
            print(f"benchmarks: left out: {kind.name}: {reason}", file=sys.stderr, flush=True)
        else:
            found.append(kind)
    return found


def _find_obstacle(kind: Kind) -> str:
    if shutil.which(_PROGRAMS[kind.name]) is None:
        return f"{_PROGRAMS[kind.name]} is not installed"
    if not kind.has_image:
        return ""
    if os.geteuid() != 0:
        return "it needs root"
    try:
        get_images()
    except DriverError as error:
        return f"{error.message} ({error.hint})"
    return ""


@cache
def get_images() -> Images:
    """Those of tests: the base is built first if it is not there, and compared with its manifest if it is."""
    return make_images()


def find_root() -> Path:
    """The tree that containers of images have for their root."""
    return get_images().find_layers(())[0]


def make_place(context: Context, kind: Kind, purpose: str) -> Path:
    """The data folder of a hive to be, with an image that is there already: a warm base."""
    # Users of containers walk through it.
    context.folder.chmod(0o755)
    data = context.folder / f"{kind.name}-{purpose}"
    data.mkdir(mode=0o700)
    if kind.has_image:
        (data / "images").symlink_to(find_folder())
    return data


class Peers:
    """The bare programs, in a control group of their own as containers are: `systemd-nspawn` makes others below it."""

    def __init__(self, folder: Path) -> None:
        self._groups = Groups.observe(folder, as_root=os.geteuid() == 0)

    @contextmanager
    def open(self, kind: Kind, number: int = 0) -> Generator[list[str]]:
        """The argv of one that ends at once."""
        group = self._groups.make(f"peer{number}", UNLIMITED)
        try:
            yield group.wrap(_render_peer(kind, number))
        finally:
            group.remove()


def _render_peer(kind: Kind, number: int) -> Sequence[str]:
    if kind.name == "bubblewrap":
        return _BWRAP
    if kind.name == "gvisor":
        return _RUNSC
    # With what makes it as closed as ours, by its own means.
    base = range_start(_PEER_UID + number * RANGE_WIDTH)
    return (
        *("systemd-nspawn", "--quiet", "--settings=no", "--register=no", "--keep-unit", "--link-journal=no"),
        *("--resolv-conf=off", "--timezone=off", "--console=pipe", "--read-only", "--private-network"),
        *(f"--private-users={base}:{RANGE_WIDTH}", "--private-users-ownership=map", f"--machine=peer{number}"),
        *(f"--directory={find_root()}", "/bin/true"),
    )


def time_program(argv: Sequence[str]) -> float:
    """Milliseconds of a program that must end well."""
    began = time.perf_counter()
    status = start_silently(argv).wait()
    took_ms = (time.perf_counter() - began) * 1000
    if status != 0:
        raise RuntimeError(f"it ended with status {status}: {' '.join(argv)}")
    return took_ms


def start_silently(argv: Sequence[str]) -> "subprocess.Popen[bytes]":
    """A child whose end is waited for."""
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Containers:
    """What a hive's containers use, with what watches them from outside: by control groups, where there are any."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._groups = Groups.observe(run / "containers", as_root=os.geteuid() == 0)

    def list_processes(self, agent: str) -> list[int]:
        group = self._find(agent)
        pids = {pid for place in group.places for pid in place.list_pids()} if group else set[int]()
        return sorted(pids) or list_container(self._run, agent)

    def observe_memory(self, agent: str) -> Memory:
        """Raises ProcessLookupError if it does not run."""
        return observe_memory(self.list_processes(agent))

    def count_memory_mb(self, agent: str) -> float:
        """As the kernel counts it against the container's limit."""
        group = self._find(agent)
        return ((group.observe().memory_bytes if group else None) or 0) / 1024 / 1024

    def count_tasks(self, agent: str) -> int:
        group = self._find(agent)
        tasks = group.observe().tasks if group else None
        return len(list_container(self._run, agent)) if tasks is None else tasks

    def _find(self, agent: str) -> Group | None:
        return self._groups.find(container_name(agent))
