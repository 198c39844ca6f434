"""Control groups by way of systemd, where it is pid 1: a scope for each container, all in a slice of the hive's.

systemd owns the tree then, and what it does not know of it may remove or move. Its own files are read as any group's.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperhive.core.limits import Limits
from hyperhive.system.cgroup_trees import CONTROLLERS, GroupError, Tree, read_words

SCOPE = ".scope"
# Made by systemd where it is pid 1, see sd_booted(3).
SYSTEMD_RUNS = Path("/run/systemd/system")
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Manager:
    """A systemd that makes scopes for us: the machine's, or without root the user's own.

    `root` is its group in every tree.
    """

    hive: str
    as_root: bool
    root: str

    @property
    def slice(self) -> Path:
        """The hive's slice, relative to `root`: below the one of all hives."""
        return Path("hive.slice") / self.slice_name

    @property
    def prefix(self) -> str:
        """What the names of the scopes begin with."""
        return f"hyperhive-{self.hive}-"

    @property
    def slice_name(self) -> str:
        return f"hive-{self.hive}.slice"

    def plan_trees(self, trees: Sequence[Tree]) -> list[Tree]:
        """The trees as the scopes are in them, with the controllers that systemd hands on to a scope."""
        planned: list[Tree] = []
        for tree in trees:
            base = tree.mount / self.root.lstrip("/")
            if tree.version == 2:
                planned.append(Tree(tree.mount, base, 2, read_words(base / "cgroup.controllers") & CONTROLLERS))
            elif self.as_root:
                planned.append(Tree(tree.mount, base, 1, tree.controllers))
        return planned

    def explain(self, trees: Sequence[Tree]) -> dict[str, str]:
        """Why a controller may not be among those of `plan_trees`."""
        if self.as_root:
            return {}
        version_1 = frozenset[str]().union(*(tree.controllers for tree in trees if tree.version == 1))
        ungiven = dict.fromkeys(CONTROLLERS, "the user's systemd was not given this controller")
        return ungiven | dict.fromkeys(version_1, "in control groups of version 1 it is root's alone")

    def bound_slice(self, weight_percent: int, memory_percent: int, tasks_percent: int) -> None:
        """Bounds all scopes together until the machine is started anew. Raises GroupError."""
        bounds = (f"CPUWeight={weight_percent}", f"MemoryMax={memory_percent}%", f"TasksMax={tasks_percent}%")
        _run([*_tool("systemctl", self.as_root), "set-property", "--runtime", self.slice_name, *bounds])


@dataclass(frozen=True, slots=True)
class Scope:
    """The scope of one container: to be made with `limits`, or without any one that may be there."""

    manager: Manager
    name: str
    limits: Limits | None

    @property
    def is_joinable(self) -> bool:
        """Whether it is there and we may put processes into it: into a user's only systemd may."""
        return self.limits is None and self.manager.as_root

    @property
    def unit(self) -> str:
        return f"{self.manager.prefix}{self.name}{SCOPE}"

    def wrap(self, argv: Sequence[str]) -> list[str]:
        """The argv that makes the scope, goes into it and executes `argv`; of one that is there, in one more beside."""
        # Handed over, its processes are not systemd's business: from version 253 on one that is killed for memory would
        # otherwise end all of the scope. OOMPolicy= says the same, and older ones refuse it for scopes.
        settings = ["Delegate=yes", *render_properties(self.limits or Limits())]
        unit = [f"--unit={self.unit}"] if self.limits is not None else list[str]()
        place = ["--quiet", "--scope", "--collect", f"--slice={self.manager.slice_name}"]
        properties = [f"--property={setting}" for setting in settings]
        return [*_tool("systemd-run", self.manager.as_root), *place, *unit, *properties, "--", *argv]

    def stop(self) -> None:
        """Has systemd end and forget it. One that it does not know is none."""
        with contextlib.suppress(GroupError):
            _run([*_tool("systemctl", self.manager.as_root), "stop", self.unit])


def find_manager(hive: str, *, as_root: bool, running: Path = SYSTEMD_RUNS) -> Manager | None:
    """The systemd that makes scopes for us; None if none does. Raises GroupError if it is there and fails."""
    if not running.is_dir() or shutil.which("systemd-run") is None:
        return None
    if not as_root and not (_runtime_folder() / "systemd/private").exists():
        return None
    root = _run([*_tool("systemctl", as_root), "show", "--property=ControlGroup", "--value"])
    return Manager(hive, as_root, root.strip())


def render_properties(limits: Limits) -> list[str]:
    properties: list[str] = []
    if limits.memory_bytes is not None:
        properties += [f"MemoryMax={limits.memory_bytes}", "MemorySwapMax=0"]
    if limits.cpus is not None:
        properties.append(f"CPUQuota={max(1, round(limits.cpus * 100))}%")
    if limits.tasks is not None:
        properties.append(f"TasksMax={limits.tasks}")
    return properties


def _tool(program: str, as_root: bool) -> list[str]:
    """The beginning of an argv for systemd. Its environment is in it: what starts it may have none."""
    if as_root:
        return [program]
    return ["env", f"XDG_RUNTIME_DIR={_runtime_folder()}", program, "--user"]


def _runtime_folder() -> Path:
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}")


def _run(argv: Sequence[str]) -> str:
    """What a program of systemd's says. Raises GroupError if it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, timeout=_TIMEOUT_S, check=True, stdin=subprocess.DEVNULL)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip()
        raise GroupError(
            f"{' '.join(argv)} failed: {said[-300:]}", "is systemd well? see `systemctl status`"
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GroupError(f"{argv[0]} cannot be run: {error}", "is systemd well? see `systemctl status`") from error
    return done.stdout.decode("utf-8", "replace")
